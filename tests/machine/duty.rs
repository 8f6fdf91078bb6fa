//! systemd keeps the daemon on duty, and is told how it is; a server waits for none of it.

use crate::{
    machine::message,
    postgres::{CONFIG, MAIN},
    stand::Stand,
    threads::{told, traced},
    world::{SOON, eventually},
};

#[test]
fn a_daemon_that_hangs_or_dies_is_started_anew_and_catches_up() {
    let mut stand = or_skip!(Stand::boot());
    stand.drop_in("pgcertd", "override", "[Service]\nWatchdogSec=3s\n");
    stand.restart_daemon();
    stand.machine.wait_well();
    for (signal, told) in [
        ("STOP", "Watchdog timeout"),
        // No core was dumped, or it would not be told as killed.
        ("ABRT", "code=killed, status=6/ABRT"),
        ("KILL", "code=killed, status=9/KILL"),
    ] {
        it_comes_back_after(&mut stand, signal, told);
    }
    assert_eq!(stand.machine.number("pgcertd", "NRestarts"), 3);
}

/// A renewal that it cannot have seen is served once it is back, and so is the next one.
fn it_comes_back_after(stand: &mut Stand, signal: &str, told: &str) {
    let (pid, end) = (stand.daemon(), stand.machine.journal_end());
    let restarts = stand.machine.number("pgcertd", "NRestarts");
    stand
        .machine
        .ok(["kill", &format!("-{signal}"), &pid.to_string()]);
    let issued = stand.renew();
    stand.machine.wait_entry_after(&end, "pgcertd", told);
    eventually(SOON, &format!("it is started anew after {signal}"), || {
        let (now, times) = (stand.daemon(), stand.machine.number("pgcertd", "NRestarts"));
        now != pid && now != 0 && times == restarts + 1
    });
    stand.machine.wait_active("pgcertd");
    stand.serves(&issued);
    stand.machine.wait_well();
    stand.renewal_is_served();
}

#[test]
fn systemd_is_told_what_happens() {
    let mut stand = or_skip!(Stand::boot());
    stand.drop_in("pgcertd", "override", "[Service]\nWatchdogSec=2s\n");
    stand.restart_daemon();
    stand.machine.wait_well();
    assert_eq!(stand.machine.property("pgcertd", "NotifyAccess"), "main");
    let log = stand.world.path().join("strace.log");
    let pid = stand.daemon();
    let mut strace = traced(&stand.machine, pid, "write", &log);

    let end = stand.machine.journal_end();
    stand.machine.ok(["systemctl", "reload", "pgcertd"]);
    stand
        .machine
        .wait_entry_after(&end, "pgcertd", "reloaded; pgcertd now keeps");
    eventually(SOON, "it is active after the reload", || {
        let state = stand.machine.property("pgcertd", "ActiveState");
        if state == "active" {
            Ok(())
        } else {
            Err(state)
        }
    });
    eventually(SOON, "the status line says that all is well", || {
        let text = stand.machine.property("pgcertd", "StatusText");
        if text.starts_with("1 instance in sync; next expiry in") {
            Ok(())
        } else {
            Err(text)
        }
    });
    assert_eq!(stand.daemon(), pid, "the process stays");
    stand.renewal_is_served();
    let fed = || {
        stand
            .machine
            .number("pgcertd", "WatchdogTimestampMonotonic")
    };
    let before = fed();
    eventually(SOON, "the watchdog is fed", || fed() > before);
    stand.machine.ok(["systemctl", "stop", "pgcertd"]);
    assert_eq!(stand.machine.property("pgcertd", "Result"), "success");
    assert_eq!(stand.machine.number("pgcertd", "ExecMainStatus"), 0);
    let sent = told(&mut strace, &log);
    let at = |word: &str| {
        sent.find(word)
            .unwrap_or_else(|| panic!("no {word}:\n{sent}"))
    };
    for word in ["MONOTONIC_USEC=", "WATCHDOG=1"] {
        assert!(sent.contains(word), "no {word}:\n{sent}");
    }
    assert!(at("RELOADING=1") < at("READY=1"), "{sent}");
    assert!(at("READY=1") < at("STOPPING=1"), "{sent}");
}

/// Less than pgcertd's TimeoutStartSec, and enough for a busy machine beside the one of the drop-in.
const SOON_AFTER: u64 = 15_000_000;

#[test]
fn at_a_boot_a_server_starts_whatever_becomes_of_the_daemon() {
    let mut stand = or_skip!(Stand::boot());
    let right = stand.machine.read(CONFIG);
    stand.machine.append(CONFIG, "lineagee = \"a slip\"\n");
    stand.machine.reboot();
    assert!(stand.machine.is_active(MAIN));
    assert_eq!(stand.machine.property("pgcertd", "ActiveState"), "failed");
    assert_eq!(stand.machine.number("pgcertd", "ExecMainStatus"), 2);
    assert_eq!(stand.machine.number("pgcertd", "NRestarts"), 0);
    let why = stand.machine.wait_entry("pgcertd", "lineagee");
    assert!(message(&why).contains(CONFIG), "{why}");
    stand.serves(&stand.issued);

    stand.machine.write(CONFIG, right);
    stand.drop_in(
        "pgcertd",
        "override",
        "[Service]\nExecStart=\nExecStart=/bin/sleep infinity\nTimeoutStartSec=3s\n",
    );
    stand.machine.reboot();
    stand.machine.wait_active(MAIN);
    let begun = |unit| stand.machine.number(unit, "InactiveExitTimestampMonotonic");
    stand
        .machine
        .wait_entry("pgcertd", "start operation timed out");
    // It is tried again and again: the first start is the one that the server waits for.
    let first = first_start(&stand);
    let waited = begun(MAIN) - first;
    println!("the server began {waited} µs after the daemon");
    assert!(waited < SOON_AFTER, "{waited} µs");
    stand.serves(&stand.issued);

    stand.no_drop_in("pgcertd", "override");
    stand.restart_daemon();
    stand.renewal_is_served();
}

/// When systemd began to start the daemon in this boot, by its monotonic clock, in microseconds.
fn first_start(stand: &Stand) -> u64 {
    let journal = ["journalctl", "--boot", "--output=json", "--unit=pgcertd"];
    let entries = stand.machine.ok(journal);
    let mut entries = entries
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let first = entries.find(|entry| message(entry).starts_with("Starting pgcertd"));
    let first = first.expect("systemd tells of the start");
    let at = first["__MONOTONIC_TIMESTAMP"].as_str().unwrap();
    at.parse().unwrap()
}
