//! A real systemd-journald with a journal of its own, which this host's never sees.

use std::{fs, path::Path, process::Stdio};

use serde_json::Value;

use super::{
    SOON, World, command, eventually,
    process::{Process, run},
    skipped::Skipped,
};

/// Becomes journald in a mount namespace where /run and the catalogs are its own. Kernel messages
/// and the audit switch are the host's, and are left alone. Argument: a catalog.
const BECOME_JOURNALD: &str = r#"
set -e
catalog=$(cat "$1")
mount -t tmpfs -o mode=0755 tmpfs /run
mount -t tmpfs -o mode=0755 tmpfs /var/log
mkdir -p /run/systemd/journal /run/systemd/journald.conf.d
cat >/run/systemd/journald.conf.d/test.conf <<END
[Journal]
Storage=volatile
ReadKMsg=no
Audit=no
RateLimitIntervalSec=0
END
mount -t tmpfs -o mode=0755 tmpfs /usr/lib/systemd/catalog
printf '%s\n' "$catalog" >/usr/lib/systemd/catalog/pgcertd.catalog
mount -t tmpfs -o mode=0755 tmpfs /var/lib/systemd/catalog
journalctl --update-catalog
exec /lib/systemd/systemd-journald
"#;

/// Executes its arguments with standard error as systemd gives it to a service.
const AS_A_SERVICE: &str =
    r#"export JOURNAL_STREAM=$(stat --dereference --format=%d:%i /dev/fd/2); exec "$@""#;

/// See the module.
pub struct Journal {
    journald: Process,
}

impl Journal {
    /// Starts it, if there is a journald.
    pub fn start(world: &World) -> Result<Self, Skipped> {
        if !Path::new("/lib/systemd/systemd-journald").exists() {
            return Err(Skipped::because(
                "systemd-journald is missing: `make deps` installs it",
            ));
        }
        let catalog = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/pgcertd.catalog");
        let log = world.path().join("journald.log");
        let mut journald = Process::spawn(
            command("unshare")
                .args(["--mount", "--propagation", "private"])
                .args(["sh", "-c", BECOME_JOURNALD, "sh"])
                .arg(catalog)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(fs::File::create(&log).unwrap()),
        );
        eventually(SOON, "journald listens", || {
            if let Some(status) = journald.ended() {
                let said = fs::read_to_string(&log).unwrap();
                panic!("journald ended, {status}: {said}");
            }
            let pid = journald.pid();
            let mut ask = Self::inside(pid);
            ask.args(["systemd-cat", "true"]);
            // Before it has its own /run, this would be the host's journald.
            Path::new(&format!(
                "/proc/{pid}/root/run/systemd/journald.conf.d/test.conf"
            ))
            .exists()
                && run(&mut ask, SOON).status.success()
        });
        Ok(Self { journald })
    }

    fn inside(pid: u32) -> std::process::Command {
        let mut inside = command("nsenter");
        inside.args(["--target", &pid.to_string(), "--mount"]);
        inside
    }

    /// What a program is to be started through so that it finds itself a service of this journal.
    pub fn prefix(&self) -> Vec<String> {
        let pid = self.journald.pid().to_string();
        [
            "nsenter",
            "--target",
            &pid,
            "--mount",
            "systemd-cat",
            "--identifier=stream",
            "sh",
            "-c",
            AS_A_SERVICE,
            "sh",
        ]
        .map(str::to_owned)
        .to_vec()
    }

    /// What a line of shell says, as an operator types it; it must succeed.
    #[track_caller]
    pub fn typed(&self, line: &str) -> String {
        let mut shell = Self::inside(self.journald.pid());
        shell.args(["sh", "-c", line]);
        run(&mut shell, SOON).result().unwrap()
    }

    /// What journalctl says with these arguments.
    #[track_caller]
    pub fn journalctl(&self, arguments: &[&str]) -> String {
        let mut ask = Self::inside(self.journald.pid());
        ask.args(["journalctl", "--quiet", "--no-pager"])
            .args(arguments);
        run(&mut ask, SOON).result().unwrap()
    }

    /// The records that match, oldest first.
    #[track_caller]
    pub fn records(&self, matches: &[&str]) -> Vec<Value> {
        let all = [&["--output=json", "--all"], matches].concat();
        let lines = self.journalctl(&all);
        lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Waits for the `count`th event of this name, and gives it.
    #[track_caller]
    pub fn event(&self, name: &str, count: usize) -> Value {
        eventually(SOON, &format!("the journal has {name}, {count}"), || {
            let matching = format!("PGCERTD_EVENT={name}");
            let found = self.records(&[&matching]).into_iter().nth(count - 1);
            found.ok_or_else(|| self.journalctl(&["--lines=30"]))
        })
    }

    /// The names of all events so far, in order, but those about servers of other tests.
    #[track_caller]
    pub fn events(&self) -> Vec<String> {
        self.records(&["SYSLOG_IDENTIFIER=pgcertd"])
            .iter()
            .map(|record| record["PGCERTD_EVENT"].as_str().unwrap().to_owned())
            .filter(|name| !name.ends_with("uncovered"))
            .collect()
    }

    /// What was written to standard output or standard error.
    #[track_caller]
    pub fn streamed(&self) -> String {
        self.journalctl(&[
            "--output=cat",
            "_TRANSPORT=stdout",
            "SYSLOG_IDENTIFIER=stream",
        ])
    }
}
