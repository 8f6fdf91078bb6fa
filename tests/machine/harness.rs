//! The machine itself: what the other tests take for granted.

use crate::machine::Machine;

/// A number of its own for each boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Denies itself to read any file (landlock(7): the handled right is READ_FILE), and tries.
const LOCK_OUT: &str = r#"
import ctypes, struct
libc = ctypes.CDLL(None, use_errno=True)
def call(*arguments):
    result = libc.syscall(*arguments)
    assert result >= 0, ctypes.get_errno()
    return result
rules = struct.pack("Q", 1 << 2)
ruleset = call(444, rules, len(rules), 0)
libc.prctl(38, 1, 0, 0, 0)
call(446, ruleset, 0)
try:
    open("/etc/passwd").read()
except PermissionError:
    print("denied")
"#;

#[test]
fn the_machine_is_a_debian_under_systemd() {
    let mut machine = or_skip!(Machine::boot());
    assert_eq!(machine.read("/proc/1/comm"), "systemd");
    assert!(machine.read("/etc/os-release").contains("bookworm"));
    assert_eq!(
        machine.property("postgresql@15-main.service", "ActiveState"),
        "active"
    );
    assert_eq!(
        machine.sql(5432, "SHOW data_directory"),
        "/var/lib/postgresql/15/main"
    );
    let interfaces = machine.ok(["ls", "/sys/class/net"]);
    assert_eq!(interfaces, "lo", "nothing leaves the machine");

    machine.write("/etc/motd", "kept");
    let boot = machine.read(BOOT_ID);
    machine.reboot();
    assert_ne!(machine.read(BOOT_ID), boot);
    assert_eq!(machine.read("/etc/motd"), "kept");
    machine.wait_active("postgresql@15-main.service");
}

#[test]
fn landlock_works_in_the_machine() {
    let machine = or_skip!(Machine::boot());
    // Below the machine's systemd, where the filter of systemd-nspawn is in force.
    let service = [
        "systemd-run",
        "--quiet",
        "--pipe",
        "--wait",
        "python3",
        "-c",
    ];
    let said = machine.ok(service.into_iter().chain([LOCK_OUT]));
    assert_eq!(said, "denied");
}
