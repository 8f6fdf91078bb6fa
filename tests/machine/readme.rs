//! docs/manual.md is typed into a fresh server, from the top to the removal, and does what it says.

use std::collections::VecDeque;

use crate::{
    acme::{DOMAIN, ROOT},
    machine::{LATER, Machine},
    postgres::MAIN,
    world::process::Done,
};

/// The commands of the manual in their order: the lines of its shell blocks, and what stands behind a
/// prompt in others. The manual's host has PostgreSQL 16, the machine Debian's 15.
fn commands() -> VecDeque<String> {
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/manual.md")).unwrap();
    let mut commands = VecDeque::new();
    // Every second part lies between fences, and begins with its kind.
    for block in text.split("```").skip(1).step_by(2) {
        let (kind, lines) = block.split_once('\n').unwrap_or_default();
        let lines = lines.lines().map(str::trim);
        commands.extend(lines.filter_map(|line| match kind {
            "sh" => (!line.is_empty() && !line.starts_with('#')).then(|| line.to_owned()),
            _ => line.strip_prefix("$ ").map(str::to_owned),
        }));
    }
    for command in &mut commands {
        *command = command.replace("16-main", "15-main");
    }
    commands
}

/// Someone who types what the manual has, a line at a time, as root.
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
        let tests = [
            "tests/e2e/journal.rs",
            "tests/packages.rs",
            "tests/machine/package.rs",
        ]
        .map(|file| {
            std::fs::read_to_string(format!("{}/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap()
        });
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
        [
            "env",
            TRUST,
            "DEBIAN_FRONTEND=noninteractive",
            "sh",
            "-ec",
            // Who types here is root already, and the machine has no sudo.
            command.trim_start_matches("sudo "),
        ]
    }
}

#[test]
fn every_command_of_the_manual_does_what_it_says() {
    let machine = or_skip!(Machine::boot());
    let mut reader = Reader {
        machine,
        commands: commands(),
    };
    reader.a_host_with_a_name_and_clients(&[DOMAIN]);
    reader.installs();
    reader.gets_a_certificate();
    reader.has_postgres_use_it();
    reader.demands_tls();
    reader.keeps_it_running();
    reader.looks_and_verifies();
    reader.sees_who_is_encrypted();
    reader.renews();
    reader.is_told();
    reader.reads_the_journal();
    reader.removes_it();
    assert!(reader.commands.is_empty(), "{:?}", reader.commands);
}

impl Reader {
    /// The reader's server: it listens, and lets everybody in who knows a password.
    fn a_host_with_a_name_and_clients(&self, names: &[&str]) {
        self.machine.name(names);
        self.machine.start_pebble();
        self.machine.sh(&format!(
            "cp {ROOT} /usr/local/share/ca-certificates/pebble.crt
            update-ca-certificates >/dev/null 2>&1
            echo 'host all all 0.0.0.0/0 scram-sha-256' >>/etc/postgresql/15/main/pg_hba.conf"
        ));
        self.machine.configure("main", "listen_addresses = '*'\n");
        self.machine.ok(["systemctl", "restart", MAIN]);
        self.machine.set_password(5432);
        self.machine
            .sql(5432, "CREATE ROLE app LOGIN PASSWORD 'for-tests-alone'");
        self.machine.sql(5432, "CREATE DATABASE app OWNER app");
    }

    fn installs(&mut self) {
        self.leaves_to(
            "install_deb",
            "make deb && sudo apt install ./target/debian/pgcertd_*.deb",
        );
        self.machine.install_deb();
        assert_eq!(self.machine.property("pgcertd", "ActiveState"), "inactive");
    }

    fn gets_a_certificate(&mut self) {
        self.does("apt install certbot");
        self.does("certbot certonly --standalone --domain pg.example.com");
        assert_eq!(
            self.machine.sh("stat -c '%U %a' /etc/letsencrypt/live"),
            "root 700"
        );
    }

    fn has_postgres_use_it(&mut self) {
        let postmaster = self.machine.number(MAIN, "MainPID");
        let before = self.machine.served(5432);
        self.does("pgcertd setup --dry-run");
        let printed = self.does("pgcertd setup --print");
        let named = "ssl_cert_file = '/var/lib/pgcertd/15-main/server.pem'";
        assert!(printed.contains(named), "{printed}");
        assert_eq!(self.machine.served(5432), before);
        let shown = self.agrees_to("pgcertd setup");
        // Debian 12's psql has no sslrootcert=system.
        assert!(shown.contains("sslmode=verify-full"), "{shown}");
        let leaf = self.machine.live_leaf();
        assert_eq!(self.machine.served(5432), Ok(leaf.clone()));
        self.agrees_to("pgcertd setup --undo 15-main");
        assert_eq!(
            self.machine.served(5432),
            before,
            "the pair of before is back"
        );
        assert!(!self.machine.exists("/etc/pgcertd/conf.d/15-main.toml"));
        self.machine.ok(["pgcertd", "setup", "--yes"]);
        self.machine.wait_served(5432, &leaf);
        assert_eq!(self.machine.number(MAIN, "MainPID"), postmaster);
    }

    fn demands_tls(&mut self) {
        let shown = self.agrees_to("pgcertd setup --instance 15-main --require-tls");
        assert!(shown.contains("+hostssl"), "{shown}");
    }

    fn keeps_it_running(&mut self) {
        self.does("systemctl enable --now pgcertd");
        self.machine.wait_well();
        let shown = self.does("pgcertd status");
        assert!(shown.contains("in_sync"), "{shown}");
        let checked = self.does("pgcertd check");
        assert!(checked.contains("all is well"), "{checked}");
    }

    fn looks_and_verifies(&mut self) {
        let shown = self.does("pgcertd probe pg.example.com");
        assert!(shown.contains("verify-full  accepts"), "{shown}");
        // What psql is told to do, it does; and it asks for the password.
        self.machine.sh("install -m 0600 /dev/null /root/.pgpass
            echo '*:*:*:app:for-tests-alone' >/root/.pgpass");
        let refused = self.machine.run([
            "psql", "-Xc", "", "host=pg.example.com dbname=app user=app sslmode=verify-full sslrootcert=/srv/pebble/cert.pem",
        ]);
        assert_ne!(refused.code(), 0, "another root");
        self.does(
            r#"psql "host=pg.example.com dbname=app user=app sslmode=verify-full sslrootcert=/etc/ssl/certs/ca-certificates.crt""#,
        );
    }

    fn sees_who_is_encrypted(&mut self) {
        let session = self.machine.session(5432);
        let shown = self.does("pgcertd sessions");
        assert!(shown.contains("TLSv1.3"), "{shown}");
        self.does("pgcertd sessions --plaintext");
        drop(session);
    }

    fn renews(&mut self) {
        let shown = self.does("pgcertd sync --force");
        assert!(shown.contains("deployed and served"), "{shown}");
        // Without a terminal certbot waits some minutes first, so that not all hosts come at once.
        self.agrees_to("certbot renew --dry-run");
        self.does("pgcertd check");
        self.machine
            .ok(["systemctl", "disable", "--now", "pgcertd"]);
        self.does(
            "ln -s /usr/lib/pgcertd/certbot-deploy-hook /etc/letsencrypt/renewal-hooks/deploy/pgcertd",
        );
        let leaf = self.machine.certbot_renews();
        assert_eq!(
            self.machine.served(5432),
            Ok(leaf),
            "the hook has brought it"
        );
        self.machine.ok(["systemctl", "enable", "--now", "pgcertd"]);
    }

    /// The two lines of the config are run with a mail system and a webhook by tests of their own.
    fn is_told(&mut self) {
        self.machine
            .sh("sed -i '/^\\[notify\\]/a command = [\"/usr/bin/cat\"]' /etc/pgcertd/pgcertd.toml");
        self.does("runuser -u pgcertd-notify -- pgcertd notify --test");
        self.does("systemctl enable --now pgcertd-notify");
        assert!(self.machine.is_active("pgcertd-notify"));
    }

    fn reads_the_journal(&mut self) {
        let test = "what_the_readme_has_an_operator_type_answers";
        while self
            .commands
            .front()
            .is_some_and(|it| it.starts_with("journalctl"))
        {
            let command = self.commands[0].clone();
            self.leaves_to(test, &command);
        }
    }

    fn removes_it(&mut self) {
        let told = self.agrees_to("apt remove pgcertd");
        assert!(
            told.contains("/var/lib/pgcertd/15-main/server.pem"),
            "{told}"
        );
        assert!(!self.machine.exists("/usr/bin/pgcertd"));
        // The same without a package, of which there has to be something again.
        self.machine.install_deb();
        self.does("pgcertd status");
        self.does("sudo systemctl disable --now pgcertd-notify pgcertd");
        let make = "the_packages_hold_what_make_install_places";
        self.leaves_to(make, "sudo make uninstall");
        self.does("sudo rm -rf /etc/pgcertd /var/lib/pgcertd /var/lib/pgcertd-notify");
    }
}
