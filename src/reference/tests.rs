//! The files that are made of the definitions are those in the repository.

use std::fs;
use std::path::Path;

use super::config_page::EXAMPLES;
use super::page::DAY;
use super::schema::OF_CONFIG;
use super::{Made, all};
use crate::config::Config;
use crate::deploy::state::State;

/// Set by `make reference`: write what differs.
const WRITE: &str = "PGCERTD_REFERENCE";

/// What the file is to be, with its own day where nothing else changed.
fn wanted(made: &Made, there: &str) -> String {
    let day = there
        .lines()
        .find_map(|line| line.strip_prefix(".TH "))
        .and_then(|title| title.split(' ').nth(2));
    let same = made.content.replace(DAY, day.unwrap_or(DAY));
    if same == there {
        return same;
    }
    let today = jiff::Zoned::now().date().to_string();
    made.content.replace(DAY, &today)
}

#[test]
fn man_pages_completions_and_schemas_are_those_of_the_definitions() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut stale = Vec::new();
    for made in all() {
        let file = root.join(&made.path);
        let there = fs::read_to_string(&file).unwrap_or_default();
        let wanted = wanted(&made, &there);
        if there == wanted {
            continue;
        }
        if std::env::var_os(WRITE).is_some() {
            let written = fs::create_dir_all(root.join(&file).parent().unwrap_or(root))
                .and_then(|()| fs::write(&file, wanted));
            assert!(written.is_ok(), "{}: {written:?}", made.path);
        } else {
            stale.push(made.path);
        }
    }
    assert!(
        stale.is_empty(),
        "{} no longer fit the definitions they are made of; `make reference` makes them anew",
        stale.join(", ")
    );
}

#[test]
fn every_variable_that_is_read_is_in_a_page() {
    let mut named = Vec::new();
    let mut open = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let text = fs::read_to_string(path).unwrap_or_default();
            for call in ["env::var(\"", "env::var_os(\"", "from_env(\""] {
                let read = text
                    .split(call)
                    .skip(1)
                    .filter_map(|word| word.split('"').next());
                named.extend(read.map(str::to_owned));
            }
        }
    }
    named.retain(|name| {
        name.bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte == b'_')
            && !name.is_empty()
    });
    assert!(named.contains(&"PGCERTD_LOG".to_owned()), "{named:?}");
    let pages: String = all().into_iter().map(|made| made.content).collect();
    for name in named {
        assert!(
            pages.contains(&name),
            "ENVIRONMENT in src/reference/pages.rs lacks {name}"
        );
    }
}

#[test]
fn the_examples_of_the_config_page_are_taken() {
    for (does, text) in EXAMPLES {
        let directory = tempfile::tempdir();
        let file = directory
            .as_ref()
            .map(|dir| dir.path().join("pgcertd.toml"));
        let Ok(file) = file else {
            panic!("no directory: {directory:?}")
        };
        assert!(fs::write(&file, text).is_ok());
        let loaded = Config::load(&file)
            .map(|_| ())
            .map_err(|error| error.to_string());
        assert_eq!(loaded, Ok(()), "{does}");
        assert_eq!(OF_CONFIG.objection(text), None, "{does}");
    }
}

#[test]
fn the_readme_tells_states_as_the_manual_does() {
    let readme = include_str!("../../docs/manual.md");
    for state in State::ALL {
        let row = format!(
            "| `{}` | {} | {} |",
            state.as_str(),
            state.meaning(),
            state.remedy()
        );
        assert!(readme.contains(&row), "docs/manual.md should say: {row}");
    }
    let known = serde_json::from_str::<State>("\"none\"").map_err(|error| error.to_string());
    let known = known.err().unwrap_or_default();
    let count = known.matches('`').count() / 2;
    assert_eq!(count, State::ALL.len() + 1, "{known}");
}
