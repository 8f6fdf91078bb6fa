//! The completions in the shells themselves, and the pages in the programs that show them.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::testing::skipped::Skipped;

/// Runs a program in the repository; nothing where it is not installed, which is said.
fn run(program: &str, arguments: &[&str]) -> Option<Output> {
    let here = env!("CARGO_MANIFEST_DIR");
    let ran = Command::new(program)
        .args(arguments)
        .current_dir(here)
        .output();
    match ran {
        Ok(output) => Some(output),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Skipped::because(format!("{program} is not installed")).count();
            None
        }
        Err(error) => panic!("{program}: {error}"),
    }
}

/// Asserts that a script completes `pgcertd sync --config FILE` to the instances of the file and its fragment.
#[expect(clippy::expect_used, reason = "a test without its files cannot go on")]
fn completes(shell: &str, arguments: &[&str]) {
    let directory = TempDir::new().expect("a directory");
    let config = directory.path().join("c.toml");
    fs::create_dir(directory.path().join("conf.d")).expect("a directory");
    let text = "# name = \"shown\"\n[[instance]]\nname = \"16-main\"  # \"x\"\n[[instance]]\n name=\"a.b_c\"\n";
    fs::write(&config, text).expect("a file");
    fs::write(
        directory.path().join("conf.d/a.toml"),
        "[[instance]]\nname = \"fragment\"\n",
    )
    .expect("a file");
    let config = config.display().to_string();
    let arguments: Vec<String> = arguments
        .iter()
        .map(|text| text.replace("FILE", &config))
        .collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let Some(output) = run(shell, &arguments) else {
        return;
    };
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(errors, "");
    let words: Vec<&str> = said
        .lines()
        .filter_map(|line| line.split('\t').next())
        .filter(|word| !word.starts_with('-'))
        .collect();
    assert_eq!(words, ["16-main", "a.b_c", "fragment"], "{said}");
}

#[test]
fn bash_completes_the_names_of_instances() {
    let complete = "source completions/pgcertd; COMP_WORDS=(pgcertd sync --config FILE ''); COMP_CWORD=4; \
                    _pgcertd pgcertd '' FILE; printf '%s\\n' \"${COMPREPLY[@]}\"";
    completes("bash", &["--norc", "-c", complete]);
    let complete = complete
        .replace("--config FILE", "--config = FILE")
        .replace("CWORD=4", "CWORD=5");
    completes("bash", &["--norc", "-c", &complete]);
}

#[test]
fn zsh_completes_the_names_of_instances() {
    // Without a terminal there is no completion; what it would call is called here.
    let complete = "compdef() {}; compadd() { print -l -- ${@:2} }; source completions/_pgcertd; \
                    LBUFFER='pgcertd sync --config FILE '; _pgcertd_instances";
    completes("zsh", &["--no-rcs", "-c", complete]);
    let complete = complete.replace("--config FILE", "--config=FILE");
    completes("zsh", &["--no-rcs", "-c", &complete]);
}

#[test]
fn fish_completes_the_names_of_instances() {
    for option in ["--config FILE", "--config=FILE"] {
        let complete =
            format!("source completions/pgcertd.fish; complete -C 'pgcertd sync {option} '");
        completes("fish", &["--no-config", "-c", &complete]);
    }
}

#[expect(clippy::expect_used, reason = "the pages are part of the repository")]
fn pages() -> Vec<String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("man");
    let entries = fs::read_dir(directory).expect("the pages");
    let pages = entries.map(|dir_entry| dir_entry.expect("a page").path().display().to_string());
    let pages: Vec<String> = pages.collect();
    assert!(pages.len() > 6, "{pages:?}");
    pages
}

#[test]
fn mandoc_has_nothing_to_say_of_the_pages() {
    for page in pages() {
        let Some(output) = run("mandoc", &["-Tlint", "-Wall", &page]) else {
            return;
        };
        assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    }
}

#[test]
fn groff_has_nothing_to_say_of_the_pages() {
    for page in pages() {
        let Some(output) = run("groff", &["-ww", "-man", "-Tutf8", "-z", &page]) else {
            return;
        };
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    }
}
