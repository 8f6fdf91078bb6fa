//! README.md is typed into a fresh server, from the top to the removal, and does what it says.

use std::collections::VecDeque;

use crate::{
    acme::{DOMAIN, ENDPOINT, ROOT},
    machine::{LATER, Machine},
    postgres::{CONFIG, MAIN},
    world::process::Done,
};

/// The commands of README.md in their order: the lines of its shell blocks, and what stands behind a
/// prompt in others. README's host has PostgreSQL 16, the machine Debian's 15.
fn commands() -> VecDeque<String> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let mut commands = VecDeque::new();
    let mut block = None;
    for line in text.lines().map(str::trim) {
        match (line.strip_prefix("```"), block) {
            (Some(kind), None) => block = Some(kind.to_owned()),
            (Some(_), Some(_)) => block = None,
            (None, Some(ref kind)) => {
                let typed = match kind.as_str() {
                    "sh" => Some(line).filter(|it| !it.is_empty() && !it.starts_with('#')),
                    _ => line.strip_prefix("$ "),
                };
                commands.extend(typed.map(|it| it.replace("16-main", "15-main")));
                block = Some(kind.clone());
                continue;
            }
            (None, None) => {}
        }
    }
    commands
}

/// Someone who types what README.md has, a line at a time, as root.
struct Reader {
    machine: Machine,
    commands: VecDeque<String>,
}

impl Reader {
    /// Types the next command, which is this one.
    #[track_caller]
    fn types(&mut self, command: &str) -> Done {
        self.comes_to(command);
        let done = self.machine.run_within(LATER, self.shell(command));
        println!("$ {command}\n{}{}", done.stdout, done.stderr);
        done
    }

    /// Types the next command, which ends well; gives what it shows.
    #[track_caller]
    fn does(&mut self, command: &str) -> String {
        let done = self.types(command);
        assert_eq!(done.code(), 0, "{command}: {done:?}");
        done.stdout
    }

    /// Types the next command at a terminal, and says yes to what it asks.
    #[track_caller]
    fn agrees_to(&mut self, command: &str) -> String {
        self.comes_to(command);
        let typed = format!("printf 'y\\n' | script -qec '{command}' /dev/null");
        let done = self.machine.run_within(LATER, self.shell(&typed));
        println!("$ {command}\n{}{}", done.stdout, done.stderr);
        assert_eq!(done.code(), 0, "{command}: {done:?}");
        done.stdout
    }

    /// Passes over the next command, which another test runs.
    #[track_caller]
    fn leaves_to(&mut self, test: &str, command: &str) {
        self.comes_to(command);
        let tests = ["tests/e2e/journal.rs", "tests/packages.rs", "tests/machine/package.rs"]
            .map(|file| std::fs::read_to_string(format!("{}/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap());
        let there = tests.iter().any(|it| it.contains(&format!("fn {test}(")));
        assert!(there, "no test is named {test}");
    }

    #[track_caller]
    fn comes_to(&mut self, command: &str) {
        assert_eq!(self.commands.pop_front().as_deref(), Some(command));
    }

    /// A shell whose certbot trusts the test's authority, and whose apt asks nothing.
    fn shell<'a>(&self, command: &'a str) -> [&'a str; 6] {
        const TRUST: &str = "REQUESTS_CA_BUNDLE=/srv/pebble/cert.pem";
        ["env", TRUST, "DEBIAN_FRONTEND=noninteractive", "sh", "-ec", command]
    }
}
