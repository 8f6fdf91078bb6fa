//! Commands and files in the machine.

use std::time::Duration;

use super::{LATER, Machine};
use crate::world::{
    SOON,
    process::{Done, run, run_reading},
};

impl Machine {
    /// Runs a command as root to its end.
    #[track_caller]
    pub fn run<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Done {
        self.run_within(SOON, words)
    }

    /// As [`Machine::run`], for one that may take longer.
    #[track_caller]
    pub fn run_within<'a>(
        &self,
        deadline: Duration,
        words: impl IntoIterator<Item = &'a str>,
    ) -> Done {
        let mut words = words.into_iter();
        let mut command = self.command(words.next().expect("a program"));
        run(command.args(words), deadline)
    }

    /// Runs a command that must succeed; gives its standard output.
    #[track_caller]
    pub fn ok<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> String {
        let words: Vec<&str> = words.into_iter().collect();
        let done = self.run_within(LATER, words.iter().copied());
        let stdout = done.stdout.clone();
        done.result()
            .unwrap_or_else(|error| panic!("{words:?}: {error}\n{stdout}"))
    }

    /// Runs a script of sh that must succeed, line by line; gives its standard output.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        self.ok(["sh", "-euc", script])
    }

    /// Runs a command as another user, which must succeed; gives its standard output.
    #[track_caller]
    pub fn ok_as<'a>(&self, user: &'a str, words: impl IntoIterator<Item = &'a str>) -> String {
        self.ok(["runuser", "-u", user, "--"].into_iter().chain(words))
    }

    /// The content of a file.
    #[track_caller]
    pub fn read(&self, path: &str) -> String {
        self.ok(["cat", "--", path])
    }

    /// Writes a file, and makes the directories on the way, as root.
    #[track_caller]
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let mut command = self.command("sh");
        command.args([
            "-euc",
            r#"mkdir -p "$(dirname "$1")"; cat >"$1""#,
            "sh",
            path,
        ]);
        let content = content.as_ref();
        if let Err(error) = run_reading(&mut command, content, SOON).result() {
            panic!("{path}: {error}");
        }
    }

    /// Adds text to the end of a file.
    #[track_caller]
    pub fn append(&self, path: &str, text: &str) {
        let content = self.read(path);
        self.write(path, format!("{content}\n{text}"));
    }

    /// Copies a file of the host into the machine.
    #[track_caller]
    pub fn copy_in(&self, from: &std::path::Path, to: &str, mode: u32) {
        let content =
            std::fs::read(from).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
        self.write(to, content);
        self.ok(["chmod", &format!("{mode:o}"), to]);
    }

    /// Whether something is at this path.
    pub fn exists(&self, path: &str) -> bool {
        self.run(["test", "-e", path]).code() == 0
    }

    /// One SQL statement as the superuser of the server on this port.
    #[track_caller]
    pub fn sql(&self, port: u16, statement: &str) -> String {
        let port = port.to_string();
        self.ok_as(
            "postgres",
            [
                "psql",
                "-XAtq",
                "-v",
                "ON_ERROR_STOP=1",
                "-p",
                &port,
                "-c",
                statement,
            ],
        )
    }
}
