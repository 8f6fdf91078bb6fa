//! The sandbox of the shipped unit: what it leaves to the daemon is enough, and no more than that.

use crate::{
    probe::each_thread_can_do_what_it_is_for_and_nothing_else,
    stand::{NAME, PORT, Stand},
    world::{SOON, eventually},
};

/// A directory of the server's user outside of all that the unit lets be written.
const OUTSIDE: &str = "/srv/tls";

#[test]
fn the_sandbox_leaves_what_is_needed_and_no_more() {
    let mut stand = or_skip!(Stand::boot());
    the_exposure_is_low(&stand);
    each_thread_can_do_what_it_is_for_and_nothing_else(&stand);
    nothing_else_can_be_written_even_by_root(&stand);
    what_it_writes_cannot_be_executed(&stand);
    a_target_outside_is_a_problem_that_a_drop_in_mends(&mut stand);
}

fn the_exposure_is_low(stand: &Stand) {
    let security = |more: &[&str]| {
        let asked = ["systemd-analyze", "security", "--no-pager"];
        let all = asked.iter().chain(more).copied();
        stand.machine.run(all.chain(["pgcertd.service"]))
    };
    let judged = security(&["--threshold=16"]);
    assert_eq!(judged.code(), 0, "exposure above 1.6:\n{}", judged.stdout);
    // Both would break what pgcertd is for, and neither makes the number.
    for breaking in ["PrivateUsers", "IPAddressDeny"] {
        let value = stand.machine.property("pgcertd", breaking);
        assert!(["no", ""].contains(&&*value), "{breaking}={value}");
    }
}

/// In the mounts of the daemon, as root and without a system call filter.
fn nothing_else_can_be_written_even_by_root(stand: &Stand) {
    let inside = |script: &str| {
        let pid = stand.daemon().to_string();
        let enter = ["nsenter", "--mount", "--target", &pid, "sh", "-c", script];
        stand.machine.run(enter)
    };
    for place in [
        "/etc",
        "/usr",
        "/srv",
        "/var/lib",
        "/var/lib/postgresql",
        "/run",
        "/boot",
    ] {
        let done = inside(&format!("touch {place}/new"));
        let mounts = || {
            stand
                .machine
                .read(&format!("/proc/{}/mountinfo", stand.daemon()))
        };
        let denied = done.stderr.contains("Read-only");
        assert!(denied, "{place}: {done:?}\n{}", mounts());
    }
    for place in ["/var/lib/pgcertd", "/run/pgcertd", "/tmp"] {
        let done = inside(&format!("touch {place}/new && rm {place}/new"));
        assert_eq!(done.code(), 0, "{place}: {done:?}");
    }
    let home = inside("ls /root /home");
    assert_eq!(home.stdout, "/home:\n\n/root:\n", "{home:?}");
}

fn what_it_writes_cannot_be_executed(stand: &Stand) {
    let pid = stand.daemon().to_string();
    for place in [
        "/var/lib/pgcertd",
        "/run/pgcertd",
        "/tmp",
        "/var/tmp",
        "/dev/shm",
    ] {
        let script = format!(
            "cp /bin/true {place}/program && {place}/program; status=$?; rm {place}/program; exit $status"
        );
        let enter = ["nsenter", "--mount", "--target", &pid, "sh", "-c", &script];
        let done = stand.machine.run(enter);
        assert_eq!(done.code(), 126, "{place}: {done:?}");
    }
}

fn a_target_outside_is_a_problem_that_a_drop_in_mends(stand: &mut Stand) {
    let target = format!("{OUTSIDE}/server.pem");
    stand
        .machine
        .ok(["install", "-d", "-o", "postgres", "-m", "0700", OUTSIDE]);
    stand.config(&stand.instance(&format!("cert_file = \"{target}\"")));
    stand.machine.ok(["systemctl", "reload", "pgcertd"]);
    let remedy = format!("ReadWritePaths={OUTSIDE}");
    stand.becomes(NAME, "out_of_date", &[&remedy, "systemctl edit pgcertd"]);
    let text = format!("[Service]\nReadWritePaths={OUTSIDE}\n");
    stand.drop_in("pgcertd", "override", &text);
    stand.restart_daemon();
    eventually(SOON, "it is installed there", || {
        stand.machine.exists(&target)
    });
    stand.machine.configure(
        "main",
        &format!("ssl_cert_file = '{target}'\nssl_key_file = '{target}'\n"),
    );
    stand.machine.reload_server(PORT);
    stand.renewal_is_served();
    assert_eq!(stand.machine.leaf(&target), stand.issued.fingerprint);
}
