//! The metrics under the shipped unit: its sandbox leaves what they need.

use crate::{
    stand::{NAME, Stand},
    world::{SOON, eventually},
};

const TEXTFILE: &str = "/var/lib/prometheus/node-exporter/pgcertd.prom";
const SOCKET: &str = "/run/pgcertd/metrics.sock";

impl Stand {
    /// Takes this `[metrics]` into the config.
    #[track_caller]
    fn measured(&self, keys: &str) {
        self.config(&format!("[metrics]\n{keys}\n\n{}", self.instance("")));
        self.machine.ok(["systemctl", "reload", "pgcertd"]);
    }

    /// Waits until a command, run by a user without rights, prints that all is in sync.
    #[track_caller]
    fn shows(&self, command: &str) {
        let line = format!("pgcertd_in_sync{{server=\"{NAME}\"}} 1.0");
        eventually(SOON, command, || {
            let as_nobody = ["runuser", "-u", "nobody", "--", "sh", "-c", command];
            let done = self.machine.run(as_nobody);
            if done.stdout.lines().any(|seen| seen == line) {
                Ok(())
            } else {
                Err(format!("{}{}", done.stdout, done.stderr))
            }
        });
    }
}

#[test]
fn the_unit_lets_the_metrics_be_served_and_a_drop_in_lets_them_be_written() {
    let stand = or_skip!(Stand::boot());
    stand.measured("listen = \"127.0.0.1:19187\"");
    stand.shows("curl -sS http://127.0.0.1:19187/metrics");

    stand.measured(&format!("listen = \"unix:{SOCKET}\""));
    stand.shows(&format!(
        "curl -sS --unix-socket {SOCKET} http://localhost/metrics"
    ));
    stand.restart_daemon();
    stand.shows(&format!(
        "curl -sS --unix-socket {SOCKET} http://localhost/metrics"
    ));

    let machine = &stand.machine;
    machine.sh("install -d -g postgres -m 0775 /var/lib/prometheus/node-exporter");
    stand.measured(&format!(
        "listen = \"unix:{SOCKET}\"\ntextfile = \"{TEXTFILE}\""
    ));
    let line = eventually(SOON, "the journal says what is missing", || {
        let journal = [
            "journalctl",
            "-o",
            "cat",
            "PGCERTD_EVENT=metrics_not_written",
        ];
        let said = machine.run(journal).stdout;
        (said.contains("Read-only")).then_some(said)
    });
    let remedy = "ReadWritePaths=/var/lib/prometheus/node-exporter with `systemctl edit pgcertd`";
    assert!(line.contains(remedy), "{line}");
    assert!(!machine.exists(TEXTFILE));
    stand.follow_example("textfile.conf");
    stand.shows(&format!("cat {TEXTFILE}"));
    let owned = machine.ok(["stat", "-c", "%U %a", TEXTFILE]);
    assert_eq!(owned, "postgres 644");
    stand.machine.wait_well();
}
