//! A server whose numbers are another namespace's, as in a container.

use std::fs;

use rustix::process::{Pid, Signal};

use crate::stage::Stage;
use crate::world::{SOON, World, cluster::Cluster, command, eventually, process::Process};

/// A postmaster that is the first process of a namespace; nothing of it outlives this value.
struct Container(Process);

impl Container {
    fn around(cluster: &Cluster) -> Container {
        let mut unshare = command("unshare");
        unshare
            .args(["--pid", "--fork", "--mount-proc"])
            .args(["setpriv", "--reuid=postgres", "--regid=postgres"])
            .arg("--clear-groups")
            .arg(cluster.program("postgres"))
            .arg("-D")
            .arg(cluster.data_directory())
            .stderr(std::process::Stdio::null());
        Container(Process::spawn(&mut unshare))
    }

    /// Signals the postmaster, by its number on the host.
    fn signal(&self, signal: Signal) {
        let unshare = self.0.pid();
        let children = fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children"));
        let number = children.unwrap_or_default().trim().parse().ok();
        if let Some(postmaster) = number.and_then(Pid::from_raw) {
            // It may have ended by itself.
            let _gone = rustix::process::kill_process(postmaster, signal);
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        self.0.kill();
    }
}

/// `postmaster.pid` says 1, which on the host is init.
#[test]
fn a_postmaster_that_is_number_one_of_its_namespace_is_found_and_init_is_left_alone() {
    let world = or_skip!(World::new());
    let mut stage = Stage::build(&world).create();
    let pid_file = stage.cluster.data_directory().join("postmaster.pid");

    let container = Container::around(&stage.cluster);
    eventually(SOON, "the server in the namespace is up", || {
        let text = fs::read_to_string(&pid_file).unwrap_or_default();
        text.starts_with("1\n") && text.contains("ready")
    });

    let daemon = stage.daemon();
    let second = stage.renewal_is_served();

    container.signal(Signal::INT);
    eventually(SOON, "the server in the namespace ends", || {
        !pid_file.exists()
    });
    stage.becomes("not_running");
    stage.cluster.start().unwrap();
    stage.becomes("in_sync");
    stage.ends(daemon, &second);
}
