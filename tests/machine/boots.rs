//! What a boot finds, and what it does not wait for.

use crate::{
    machine::Machine,
    postgres::CONFIG,
    server::{Layout, Server},
    world::{SOON, eventually},
};

/// systemd's clock, in microseconds.
const SECOND: u64 = 1_000_000;

/// pgcertd is ready two seconds after its start, whatever does not answer; the rest is for a busy
/// machine. systemd would give up after its TimeoutStartSec.
const READY_WITHIN: u64 = 10 * SECOND;

/// Mounts a file system on a directory, and never answers what it is asked: what NFS is without its
/// server (fuse(4); 40000 is the mode of a directory).
const HUNG_MOUNT: &str = r#"#!/usr/bin/python3
import ctypes, os, signal, sys
if not os.path.exists("/dev/fuse"):
    os.mknod("/dev/fuse", 0o20600, os.makedev(10, 229))
fd = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={fd},rootmode=40000,user_id=0,group_id=0,allow_other"
libc = ctypes.CDLL(None, use_errno=True)
if libc.mount(b"hung", sys.argv[1].encode(), b"fuse", 0, options.encode()) != 0:
    sys.exit(os.strerror(ctypes.get_errno()))
if os.fork() == 0:
    signal.pause()
"#;

const HUNG_MOUNT_UNIT: &str = "[Unit]
DefaultDependencies=no
After=systemd-tmpfiles-setup-dev.service local-fs.target
Before=pgcertd.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/hung-mount /srv/hung

[Install]
WantedBy=multi-user.target
";

/// pgcertd was ready before systemd began to start the server.
#[track_caller]
fn assert_ready_before(machine: &Machine, server: &Server) {
    let ready = machine.number("pgcertd", "ActiveEnterTimestampMonotonic");
    let begun = machine.number(&server.unit(), "InactiveExitTimestampMonotonic");
    assert!(
        0 < ready && ready <= begun,
        "ready at {ready}, the server began at {begun}"
    );
}

/// How long pgcertd took from its start to being ready, in microseconds.
fn start_up(machine: &Machine) -> u64 {
    machine.number("pgcertd", "ActiveEnterTimestampMonotonic")
        - machine.number("pgcertd", "ExecMainStartTimestampMonotonic")
}

#[test]
fn a_reboot_comes_back_in_sync_and_mends_what_was_torn() {
    let (mut machine, mut server) = or_skip!(Server::at_work(Layout::TwoFiles));
    machine.reboot();
    assert_ready_before(&machine, &server);
    machine.wait_served(server.port(), server.leaf());
    machine.wait_well();

    // A crash between the two renames of a renewal.
    machine.ok(["systemctl", "stop", "pgcertd", &server.unit()]);
    let new = server.renew(&machine);
    let (chain, _) = server.targets();
    machine.write(&chain, server.issued().fullchain_pem());
    let start = machine.run(["systemctl", "start", &server.unit()]);
    assert_ne!(start.code(), 0, "the server starts with a torn pair");

    machine.reboot();
    assert_ready_before(&machine, &server);
    assert!(machine.is_active(&server.unit()));
    assert_eq!(machine.served(server.port()), Ok(new));
    machine.wait_well();
}

#[test]
fn what_is_slow_or_dead_delays_neither_the_start_nor_the_boot() {
    let (mut machine, mut main) = or_skip!(Server::at_work(Layout::OneFile));
    let frozen = Server::reports(&machine);
    machine.append(CONFIG, &frozen.instance());
    machine.ok(["systemctl", "reload", "pgcertd"]);
    frozen.start(&machine);
    machine.wait_well();
    machine.ok(["systemctl", "kill", "--signal=STOP", &frozen.unit()]);
    machine.ok(["systemctl", "restart", "pgcertd"]);
    assert!(start_up(&machine) < READY_WITHIN);
    machine.wait_state("15-main", "in_sync");
    assert_ne!(machine.state("15-reports"), "in_sync", "it is frozen");
    machine.ok(["systemctl", "kill", "--signal=CONT", &frozen.unit()]);
    machine.wait_well();

    plant_what_hangs_and_what_is_missing(&machine);
    machine.reboot();
    assert!(machine.is_active("hung-mount"));
    let took = start_up(&machine);
    assert!(took < READY_WITHIN, "ready after {took} µs");
    assert!(READY_WITHIN < machine.duration("pgcertd", "TimeoutStartUSec"));
    for server in [&main, &frozen] {
        assert_ready_before(&machine, server);
        machine.wait_served(server.port(), server.leaf());
    }
    machine.wait_state("15-main", "in_sync");
    machine.wait_state("15-reports", "in_sync");
    eventually(SOON, "what hangs is told of", || {
        ["hung-lineage", "missing"]
            .into_iter()
            .try_for_each(|name| {
                let state = machine.state(name);
                if state == "in_sync" || state == "null" {
                    Err(format!("{name}: {state}"))
                } else {
                    Ok(())
                }
            })
    });
    let leaf = main.renew(&machine);
    machine.wait_served(main.port(), &leaf);
}

/// An instance whose lineage lies where nothing answers, one whose server does, one without a
/// data directory.
fn plant_what_hangs_and_what_is_missing(machine: &Machine) {
    machine.write("/usr/local/sbin/hung-mount", HUNG_MOUNT);
    machine.write("/etc/systemd/system/hung-mount.service", HUNG_MOUNT_UNIT);
    machine.sh("chmod 755 /usr/local/sbin/hung-mount
        mkdir /srv/hung
        systemctl enable --quiet hung-mount");
    for (name, lineage, data) in [
        (
            "hung-lineage",
            "/srv/hung/pg.example.com",
            "/var/lib/postgresql/15/elsewhere",
        ),
        ("hung-data", "/srv/acme/main.example.com", "/srv/hung/data"),
        ("missing", "/srv/acme/main.example.com", "/srv/nothing"),
    ] {
        machine.append(
            CONFIG,
            &format!(
                "[[instance]]\nname = \"{name}\"\nlineage = \"{lineage}\"\ndata_directory = \"{data}\"\n"
            ),
        );
    }
}
