//! A server whose numbers are another namespace's, as in a container.

use std::fs;

use rustix::process::{Pid, Signal};

use crate::stage::{HOST, NAME, Stage};
use crate::world::{
    SOON, World,
    ca::Ca,
    cluster::Cluster,
    command,
    config::{Config, Instance},
    daemon::{Daemon, eventually_state},
    eventually,
    lineage::Lineage,
    process::Process,
};

/// A postmaster that is the first process of a namespace; nothing of it outlives this value.
struct Container(Process);

impl Container {
    fn of(cluster: &Cluster) -> Container {
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
    let ca = Ca::new(&world, "Test Root");
    let first = ca.issue(&[HOST]);
    let mut lineage = Lineage::new(&world, HOST);
    lineage.renew(&first);
    let target = world.target(NAME);
    world.place(&first, &target);
    let mut cluster = Cluster::build(&world).name(NAME).tls(&target).create();
    let pid_file = cluster.data_directory().join("postmaster.pid");

    let container = Container::of(&cluster);
    eventually(SOON, "the server in the namespace is up", || {
        let text = fs::read_to_string(&pid_file).unwrap_or_default();
        text.starts_with("1\n") && text.contains("ready")
    });

    let config = Config::new(&world)
        .instance(Instance::of(&cluster, HOST))
        .write();
    let daemon = Daemon::start(&world, &config);
    eventually_state(&world, &config, NAME, "in_sync");
    let second = ca.issue(&[HOST]);
    lineage.renew(&second);
    eventually(SOON, "the renewal is served", || {
        cluster
            .peer()
            .is_ok_and(|p| p.fingerprint == second.fingerprint)
    });

    container.signal(Signal::INT);
    eventually(SOON, "the server in the namespace ends", || {
        !pid_file.exists()
    });
    eventually_state(&world, &config, NAME, "not_running");
    cluster.start().unwrap();
    let stage = Stage {
        cluster,
        ca,
        first,
        target,
    };
    eventually_state(&world, &config, NAME, "in_sync");
    stage.ends_with(daemon, &second);
}
