//! What the texts say of the tree is true: the tour in `src/lib.rs`, the table of incidents, the unit.

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
fn every_row_of_what_is_supported_names_a_test_that_exists() {
    let support = text("docs/support.md");
    let lines: Vec<&str> = support.lines().collect();
    let mut count = 0;
    for pair in lines.windows(2) {
        let [row, next] = [pair[0], pair[1]];
        let is_head = next.starts_with("| ---") || row.starts_with("| ---");
        if is_head || !row.starts_with('|') {
            continue;
        }
        let named = !tests_named_in(row).is_empty();
        assert!(named || row.contains("untested"), "no test: {row}");
        count += 1;
    }
    assert!(count > 10, "{count} rows");
    tests_named_in(&support);
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
