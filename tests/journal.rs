//! The texts about the journal agree with the code: `docs/journal.md` and the catalog.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use pgcertd::testing::report::{EventKind, Field};

#[macro_use]
#[path = "e2e/world/skipped.rs"]
mod skipped;

use skipped::Skipped;

/// Fields that every event carries.
const EVERYWHERE: [Field; 2] = [Field::Event, Field::Topic];

fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

fn text(file: &str) -> String {
    fs::read_to_string(path(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The rows of the table of `docs/journal.md` that begins with this heading row.
#[track_caller]
fn rows(heading: &str) -> Vec<String> {
    let docs = text("docs/journal.md");
    let (_, table) = docs
        .split_once(&format!("{heading}\n"))
        .unwrap_or_else(|| panic!("docs/journal.md has no table {heading}"));
    table
        .lines()
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(str::to_owned)
        .collect()
}

/// Compares line by line; what is expected is printed whole, to be copied.
#[track_caller]
fn agree(documented: &[String], expected: &[String]) {
    if documented != expected {
        println!("docs/journal.md should have:\n{}", expected.join("\n"));
    }
    for (documented, expected) in documented.iter().zip(expected) {
        assert_eq!(documented, expected);
    }
    assert_eq!(documented.len(), expected.len());
}

fn named(fields: &[Field]) -> String {
    let names = fields.iter().map(|field| format!("`{}`", field.as_str()));
    let names = names.map(|name| name.replace("PGCERTD_", ""));
    names.collect::<Vec<_>>().join(" ")
}

#[test]
fn the_table_of_events_is_that_of_the_code() {
    let expected: Vec<String> = EventKind::ALL
        .iter()
        .map(|kind| {
            format!(
                "| `{}` | {} | {} | {} | {} | {} |",
                kind.as_str(),
                kind.priority().as_str(),
                kind.when(),
                named(kind.always()),
                named(kind.may()),
                kind.id(),
            )
        })
        .collect();
    let heading = "| event | priority | when | carries | and where it applies | MESSAGE_ID |";
    agree(&rows(heading), &expected);
}

#[test]
fn the_table_of_fields_is_that_of_the_code() {
    let expected: Vec<String> = Field::ALL
        .iter()
        .map(|field| format!("| `{}` | {} |", field.as_str(), field.meaning()))
        .collect();
    agree(&rows("| field | holds |"), &expected);
}

#[test]
fn no_field_is_documented_that_nothing_carries() {
    for field in Field::ALL {
        let carried = EventKind::ALL
            .iter()
            .any(|kind| kind.always().contains(field) || kind.may().contains(field));
        assert!(carried || EVERYWHERE.contains(field), "{field:?}");
    }
}

/// An entry of the catalog.
struct Entry {
    headers: BTreeMap<String, String>,
    text: String,
}

impl Entry {
    /// What stands between two `@`.
    fn substituted(&self) -> BTreeSet<String> {
        let all = format!("{}\n{}", self.headers["Subject"], self.text);
        assert_eq!(all.matches('@').count() % 2, 0, "{all}");
        all.split('@')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect()
    }
}

/// The catalog's entries by their ids.
fn catalog() -> BTreeMap<String, Entry> {
    let catalog = text("systemd/pgcertd.catalog");
    let lines = catalog.lines().filter(|line| !line.starts_with('#'));
    let catalog: Vec<&str> = lines.collect();
    let catalog = catalog.join("\n");
    let mut entries = BTreeMap::new();
    for entry in catalog.split("\n-- ").skip(1) {
        let (id, rest) = entry.split_once('\n').unwrap();
        let (headers, text) = rest.split_once("\n\n").unwrap();
        let headers = headers
            .lines()
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let entry = Entry {
            headers,
            text: text.trim().to_owned(),
        };
        let doubled = entries.insert(id.to_owned(), entry);
        assert!(doubled.is_none(), "{id} stands there twice");
    }
    entries
}

#[test]
fn the_catalog_explains_every_event_once_and_nothing_else() {
    let explained: BTreeSet<String> = catalog().into_keys().collect();
    let said: BTreeSet<String> = EventKind::ALL
        .iter()
        .map(|kind| kind.id().to_owned())
        .collect();
    assert_eq!(explained, said);
}

#[test]
fn the_catalog_names_the_event_above_each_entry() {
    let text = text("systemd/pgcertd.catalog");
    for kind in EventKind::ALL {
        let beginning = format!("\n# {}\n-- {}\nSubject: ", kind.as_str(), kind.id());
        assert!(text.contains(&beginning), "{kind:?}");
    }
}

#[test]
fn the_catalog_shows_only_fields_that_the_event_always_carries() {
    let catalog = catalog();
    for kind in EventKind::ALL {
        let entry = &catalog[kind.id()];
        assert!(!entry.text.is_empty(), "{kind:?}");
        assert_eq!(entry.headers["Defined-By"], "pgcertd", "{kind:?}");
        for header in ["Support", "Documentation"] {
            assert!(entry.headers.contains_key(header), "{kind:?}: {header}");
        }
        for name in entry.substituted() {
            let always = kind.always().iter().chain(&EVERYWHERE);
            assert!(
                always.clone().any(|field| field.as_str() == name),
                "{kind:?}: @{name}@, of {always:?}"
            );
        }
    }
}

/// With `-x` the text is drawn with three columns before it.
#[test]
fn the_catalog_fits_a_terminal() {
    for (id, entry) in catalog() {
        for line in entry.text.lines() {
            assert!(line.chars().count() <= 80 - 3, "{id}: {line}");
        }
    }
}

/// A command of pgcertd that the catalog has somebody type exists, with its flags.
#[test]
fn the_commands_in_the_catalog_are_there() {
    let catalog = text("systemd/pgcertd.catalog");
    let typed = catalog
        .lines()
        .filter_map(|line| line.strip_prefix("    pgcertd "));
    let typed: BTreeSet<&str> = typed.collect();
    assert!(typed.len() > 5, "{typed:?}");
    for line in typed {
        let mut words = line.split(' ');
        let command = words.next().unwrap();
        let mut help = Command::new(env!("CARGO_BIN_EXE_pgcertd"));
        let helped = help.args([command, "--help"]).output().unwrap();
        assert!(helped.status.success(), "pgcertd {command}");
        let help = String::from_utf8_lossy(&helped.stdout);
        for flag in words.filter(|word| word.starts_with('-')) {
            assert!(help.contains(flag), "pgcertd {command} {flag}");
        }
    }
}

/// A root directory with the catalog in it, taken in by journalctl.
fn taken_in(catalog: &str) -> Result<(bool, String, tempfile::TempDir), Skipped> {
    let root = tempfile::tempdir().unwrap();
    for directory in ["usr/lib/systemd/catalog", "var/lib/systemd/catalog"] {
        fs::create_dir_all(root.path().join(directory)).unwrap();
    }
    let file = root.path().join("usr/lib/systemd/catalog/pgcertd.catalog");
    fs::write(file, catalog).unwrap();
    let mut update = Command::new("journalctl");
    update
        .arg("--root")
        .arg(root.path())
        .arg("--update-catalog");
    let updated = update.output();
    let updated = updated.map_err(|error| Skipped::because(format!("journalctl: {error}")))?;
    let said = String::from_utf8_lossy(&updated.stderr).into_owned();
    Ok((updated.status.success(), said, root))
}

#[test]
fn journalctl_takes_the_catalog() {
    let (taken, said, root) = or_skip!(taken_in(&text("systemd/pgcertd.catalog")));
    assert!(taken && said.trim().is_empty(), "{said}");
    for kind in EventKind::ALL {
        let mut dump = Command::new("journalctl");
        dump.arg("--root").arg(root.path());
        let dumped = dump.arg("--dump-catalog").arg(kind.id()).output().unwrap();
        let shown = String::from_utf8_lossy(&dumped.stdout).into_owned();
        let entry = &catalog()[kind.id()];
        assert!(
            shown.contains(&entry.headers["Subject"]),
            "{kind:?}: {shown}"
        );
        assert!(shown.contains(&entry.text), "{kind:?}: {shown}");
    }
}

/// All that is said at `info` and above is an event of `report`.
#[test]
fn nothing_is_said_beside_the_events() {
    let mut open = vec![path("src")];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let source = fs::read_to_string(&path).unwrap();
            for beside in ["tracing::info!", "tracing::warn!", "tracing::error!"] {
                assert!(!source.contains(beside), "{beside} in {}", path.display());
            }
        }
    }
}
