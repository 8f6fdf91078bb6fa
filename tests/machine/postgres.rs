//! What clients see of the machine's servers, and what its administrator sets.

use serde_json::Value;

use crate::{
    machine::Machine,
    world::{SOON, ca::describe, client::Session, eventually},
};

/// Debian's first cluster.
pub const MAIN: &str = "postgresql@15-main.service";

/// The config.
pub const CONFIG: &str = "/etc/pgcertd/pgcertd.toml";

/// A password, since a client on TCP needs one on Debian.
const PASSWORD: &str = "for-tests-alone";

impl Machine {
    /// The fingerprint of the leaf in a file.
    #[track_caller]
    pub fn leaf(&self, path: &str) -> String {
        describe(&self.read(path)).0
    }

    /// The fingerprint of the leaf that a new connection to this port is shown.
    pub fn served(&self, port: u16) -> Result<String, String> {
        let address = format!("127.0.0.1:{port}");
        let arguments = ["s_client", "-starttls", "postgres", "-connect", &address];
        let shown = self.run(["openssl"].into_iter().chain(arguments));
        if !shown.stdout.contains("-----BEGIN CERTIFICATE-----") {
            return Err(shown.stderr);
        }
        Ok(describe(&shown.stdout).0)
    }

    /// Waits until new connections to this port are shown this leaf.
    #[track_caller]
    pub fn wait_served(&self, port: u16, leaf: &str) {
        eventually(SOON, &format!("{leaf} is served on port {port}"), || {
            let served = self.served(port)?;
            if served == leaf {
                Ok(())
            } else {
                Err(format!("{served} is"))
            }
        });
    }

    /// What psql says to who verifies everything.
    #[track_caller]
    pub fn psql_verify_full(&self, port: u16, host: &str, root: &str) -> Result<String, String> {
        self.psql(&format!(
            "host={host} port={port} sslmode=verify-full sslrootcert={root}"
        ))
    }

    /// Whether psql's own session is encrypted, or why there is none.
    #[track_caller]
    pub fn psql(&self, to: &str) -> Result<String, String> {
        let to = format!("{to} user=postgres dbname=postgres");
        let password = format!("PGPASSWORD={PASSWORD}");
        let query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        self.run([
            "runuser", "-u", "nobody", "--", "env", &password, "psql", "-XAtc", query, &to,
        ])
        .result()
    }

    /// A session over TLS that stays open until it is dropped; set a password first.
    #[track_caller]
    pub fn session(&self, port: u16) -> Session {
        let to = format!("host=127.0.0.1 port={port} user=postgres sslmode=require");
        let password = format!("PGPASSWORD={PASSWORD}");
        let mut psql = self.command("env");
        psql.args([&password, "psql", "-X", "--dbname", &to]);
        Session::open(&mut psql)
    }

    /// Lets the superuser log in on TCP.
    pub fn set_password(&self, port: u16) {
        self.sql(port, &format!("ALTER USER postgres PASSWORD '{PASSWORD}'"));
    }

    /// Makes these names lead to the machine.
    pub fn name(&self, names: &[&str]) {
        self.write(
            "/etc/hosts",
            format!("127.0.0.1 localhost {}\n", names.join(" ")),
        );
    }

    /// Adds lines to a cluster's postgresql.conf.
    pub fn configure(&self, cluster: &str, lines: &str) {
        self.append(
            &format!("/etc/postgresql/15/{cluster}/postgresql.conf"),
            lines,
        );
    }

    /// Waits until `pgcertd status` says that all is well.
    #[track_caller]
    pub fn wait_well(&self) {
        eventually(SOON, "pgcertd status is well", || {
            let shown = self.run(["pgcertd", "status"]);
            if shown.code() == 0 {
                Ok(())
            } else {
                Err(shown.stdout + &shown.stderr)
            }
        });
    }

    /// The state of an instance as the daemon saw it last; `null` where it has not looked yet.
    pub fn state(&self, instance: &str) -> String {
        let view = self.run(["cat", "/run/pgcertd/status.json"]).stdout;
        let view: Value = serde_json::from_str(&view).unwrap_or_default();
        let instances = view["instances"].as_array().cloned().unwrap_or_default();
        let seen = instances.iter().find(|seen| seen["name"] == instance);
        let state = seen.and_then(|instance| instance["state"].as_str());
        state.unwrap_or("null").to_owned()
    }

    /// Waits until the daemon sees this state.
    #[track_caller]
    pub fn wait_state(&self, instance: &str, state: &str) {
        eventually(SOON, &format!("{instance} is {state}"), || {
            let seen = self.state(instance);
            if seen == state { Ok(()) } else { Err(seen) }
        });
    }

    /// Has a server read its configuration, as README.md has it.
    #[track_caller]
    pub fn reload_server(&self, port: u16) {
        self.sql(port, "SELECT pg_reload_conf()");
    }
}
