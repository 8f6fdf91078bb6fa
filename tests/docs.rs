//! What the documents say about the repository is true: the tour in `src/lib.rs`, links, names of tests, the unit.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(file: impl AsRef<Path>) -> String {
    let file = root().join(file);
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// What stands between backquotes.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The crate's documentation.
fn tour() -> String {
    let lib = text("src/lib.rs");
    let lines = lib.lines().filter_map(|line| line.strip_prefix("//!"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The Rust files of a module, or all below a directory.
fn files_of(place: &str) -> Vec<PathBuf> {
    let place = root().join(place);
    let mut found = Vec::from_iter(Some(place.with_extension("rs")).filter(|it| it.is_file()));
    let mut open = Vec::from_iter(Some(place).filter(|it| it.is_dir()));
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty());
    found
}

#[test]
fn the_tour_names_files_that_exist() {
    let tour = tour();
    let named: Vec<_> = quoted(&tour)
        .into_iter()
        .filter(|it| it.ends_with(".rs"))
        .collect();
    assert!(named.len() > 10, "the tour names no more than {named:?}");
    for file in named {
        assert!(root().join("src").join(file).is_file(), "src/{file}");
    }
}

#[test]
fn the_tour_leaves_no_module_out() {
    let tour = tour();
    let named = quoted(&tour);
    let lib = text("src/lib.rs");
    let modules: Vec<_> = lib
        .lines()
        .filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod "))
        .map(|line| line.trim_end_matches(';'))
        .collect();
    assert!(modules.len() > 5, "{modules:?}");
    for module in modules {
        let (file, inside) = (format!("{module}.rs"), format!("{module}/"));
        assert!(
            named
                .iter()
                .any(|it| *it == file || it.starts_with(&inside)),
            "the tour does not come to {module}"
        );
    }
}

#[test]
fn no_module_uses_what_the_tour_says_it_does_not_know() {
    for (place, strangers) in [
        ("src/bundle", ["tokio::", "notify::", "nix::"].as_slice()),
        ("src/config", &["tokio::", "notify::", "nix::"]),
        (
            "src/trust",
            &["tokio::", "notify::", "nix::", "crate::server"],
        ),
        ("src/lineage", &["crate::server"]),
        ("src/server", &["crate::lineage"]),
        ("src/deploy", &["notify::", "crate::cli", "super::cli"]),
    ] {
        for file in files_of(place) {
            // `std::os::unix::` is not `nix::`.
            let text = text(&file).replace("unix::", "");
            for stranger in strangers {
                let file = file.display();
                assert!(!text.contains(stranger), "{file} has {stranger}");
            }
        }
    }
}

#[test]
fn the_incidents_name_tests_that_exist() {
    let incidents = text("docs/incidents.md");
    assert!(tests_named_in(&incidents).len() > 10);
}

#[test]
fn every_row_of_the_threat_model_names_a_test_that_exists() {
    let model = text("docs/threat-model.md");
    let rows: Vec<&str> = model
        .lines()
        .filter(|line| line.starts_with("| "))
        .collect();
    let is_head = |row: &&&str| {
        row.starts_with("| What ") || row.starts_with("| ---") || row.starts_with("| Who ")
    };
    for row in rows.iter().filter(|row| !is_head(row)) {
        assert!(!tests_named_in(row).is_empty(), "no test: {row}");
    }
    assert!(rows.len() > 20, "{} rows", rows.len());
}

#[test]
fn every_section_of_what_is_supported_names_a_test_that_exists() {
    let support = text("docs/support.md");
    let sections: Vec<&str> = support.split("\n## ").skip(1).collect();
    for section in &sections {
        let heading = section.lines().next();
        assert!(!tests_named_in(section).is_empty(), "no test: {heading:?}");
    }
    assert!(sections.len() > 10, "{} sections", sections.len());
}

#[test]
fn the_cells_of_tables_are_short() {
    for page in pages() {
        let rows = page.text.lines().filter(|line| line.starts_with("| "));
        for cell in rows.flat_map(|row| row.split(" | ")) {
            let words = cell
                .split(' ')
                .filter(|word| !word.starts_with('`'))
                .count();
            assert!(
                words <= 45,
                "{}: {words} words in a cell: {cell}",
                page.name.display()
            );
        }
    }
}

#[test]
fn the_readme_is_short_and_its_commands_are_in_the_manual() {
    let readme = text("README.md");
    let words = readme.split_whitespace().count();
    assert!(words <= 900, "README.md has {words} words");
    // `tests/machine/readme.rs` types what the manual has into a fresh Debian.
    let manual = text("docs/manual.md");
    let blocks = readme.split("```").skip(1).step_by(2);
    let commands = blocks.filter_map(|block| block.strip_prefix("sh\n"));
    let commands: Vec<&str> = commands.flat_map(str::lines).collect();
    assert!(commands.len() > 5, "{commands:?}");
    for command in commands {
        let is_development = ["make demo", "make test"].contains(&command);
        let in_manual = manual.lines().any(|line| line == command);
        assert!(in_manual || is_development, "{command}");
    }
}

#[test]
fn every_link_in_the_documents_leads_somewhere() {
    let pages = pages();
    let mut count = 0;
    for page in &pages {
        for link in page.links() {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let file = match file {
                "" => page.name.clone(),
                file => normal(&page.name.parent().unwrap().join(file)),
            };
            let place = page.name.display();
            assert!(root().join(&file).exists(), "{place}: {link}");
            let target = pages.iter().find(|page| page.name == file);
            let there = anchor.is_empty() || target.is_some_and(|page| page.has_anchor(anchor));
            assert!(there, "{place}: {link}");
            count += 1;
        }
    }
    assert!(count > 50, "{count} links");
}

/// A document in Markdown, by its path in the repository.
struct Page {
    name: PathBuf,
    text: String,
}

fn pages() -> Vec<Page> {
    let directories = ["", "docs", "packaging", "packaging/container"].map(Path::new);
    let mut pages = Vec::new();
    for directory in directories {
        for entry in fs::read_dir(root().join(directory)).unwrap() {
            let name = directory.join(entry.unwrap().file_name());
            if name.extension().is_some_and(|extension| extension == "md") {
                let text = text(&name);
                pages.push(Page { name, text });
            }
        }
    }
    pages
}

impl Page {
    /// What its links lead to, within the repository.
    fn links(&self) -> impl Iterator<Item = &str> {
        let links = self.text.split("](").skip(1);
        links
            .filter_map(|link| link.split(')').next())
            .filter(|link| !link.starts_with("http"))
    }

    /// Whether one of its headings has this anchor, as GitHub makes them.
    fn has_anchor(&self, anchor: &str) -> bool {
        let headings = self.text.lines().filter(|line| line.starts_with('#'));
        let mut anchors = headings.map(|heading| {
            let heading = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = |c: &char| c.is_alphanumeric() || [' ', '-', '_'].contains(c);
            heading.chars().filter(kept).collect::<String>()
        });
        anchors.any(|heading| heading.replace(' ', "-") == anchor)
    }
}

/// A path without `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => _ = normal.pop(),
            part => normal.push(part),
        }
    }
    normal
}

/// The tests that a text names; each must exist.
#[track_caller]
fn tests_named_in(text_with_names: &str) -> Vec<&str> {
    let tests: String = ["src", "tests"]
        .into_iter()
        .flat_map(files_of)
        .map(text)
        .collect();
    let named: Vec<_> = quoted(text_with_names)
        .into_iter()
        .filter(|it| it.matches('_').count() > 2 && !it.contains(['/', ' ', '.']))
        .collect();
    for test in &named {
        assert!(
            tests.contains(&format!("fn {test}()")),
            "no test is named {test}"
        );
    }
    named
}

#[test]
fn systemd_takes_the_units() {
    // The second runs mail programs with setgid, which rules out what most of the first's rests on; the third is
    // the second where it need not.
    let strict = text("systemd/examples/notify-strict.conf");
    let strict = strict.split_once("[Service]\n").unwrap().1;
    for (unit, more, worst) in [
        ("pgcertd", "", 16),
        ("pgcertd-notify", "", 61),
        ("pgcertd-notify", strict, 14),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(format!("{unit}.service"));
        // systemd looks for the program that the unit starts.
        let program = env!("CARGO_BIN_EXE_pgcertd");
        let here = text(format!("systemd/{unit}.service")).replace("/usr/bin/pgcertd", program);
        assert!(here.contains(program));
        fs::write(
            &file,
            here.replace("[Install]", &format!("{more}\n[Install]")),
        )
        .unwrap();
        let analyze = |arguments: &[&str]| {
            let mut command = Command::new("systemd-analyze");
            command.args(arguments).arg(&file).output()
        };
        let Ok(verified) = analyze(&["verify", "--man=no", "--recursive-errors=no"]) else {
            eprintln!("skipped: systemd-analyze is not here");
            return;
        };
        let said = String::from_utf8_lossy(&verified.stderr);
        assert!(
            verified.status.success() && said.trim().is_empty(),
            "{said}"
        );
        let threshold = format!("--threshold={worst}");
        let secured = analyze(&["security", "--offline=yes", &threshold, "--no-pager"]).unwrap();
        let said = String::from_utf8_lossy(&secured.stdout);
        let exposure = f64::from(worst) / 10.0;
        assert!(
            secured.status.success(),
            "{unit}: exposure above {exposure}:\n{said}"
        );
    }
}
