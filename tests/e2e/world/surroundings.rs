//! Where the tests were started, and what of that they cannot take as it is.

use std::fs;

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
use tokio::signal::unix::{SignalKind, signal};

use super::skipped::Skipped;

/// Lets what the tests start end by these signals again, which it would inherit as ignored: `nohup`, and a shell that starts
/// something in the background, ignore some, and no shell can take that back (trap in POSIX).
///
/// A signal with a handler is at its default in a program that is executed (execve(2)).
pub fn reset_signals() {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let is_ignored = |kind: SignalKind| {
        let bit = kind.as_raw_value() - 1;
        ignored.is_some_and(|mask| mask & (1 << bit) != 0)
    };
    let all = [
        SignalKind::hangup(),
        SignalKind::interrupt(),
        SignalKind::quit(),
        SignalKind::terminate(),
    ];
    let ignored: Vec<SignalKind> = all.into_iter().filter(|kind| is_ignored(*kind)).collect();
    if ignored.is_empty() {
        return;
    }
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_io().build().unwrap();
    let _inside = runtime.enter();
    for kind in ignored {
        // The handler stays when this is dropped.
        drop(signal(kind).unwrap());
    }
}

/// What a test needs that starts servers, boots a machine or hides files of the host.
pub fn as_root_with_own_mounts() -> Result<(), Skipped> {
    if !rustix::process::geteuid().is_root() {
        return Err(Skipped::because(
            "it starts servers as another user or mounts something: run the tests as root",
        ));
    }
    no_own_mounts().map_or(Ok(()), |why| Err(Skipped::because(why)))
}

/// Why no test can have mounts of its own here; none where it can.
///
/// unshare(1) makes the root a private mount first, which it has to be a mount for.
fn no_own_mounts() -> Option<&'static str> {
    let root = statx(CWD, "/", AtFlags::empty(), StatxFlags::BASIC_STATS).ok()?;
    let known = root
        .stx_attributes_mask
        .contains(StatxAttributes::MOUNT_ROOT);
    let is_mount = root.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
    (known && !is_mount).then_some(
        "the root directory is no mount point, as in a plain chroot, and the tests need mounts of their own: \
         `mount --bind DIRECTORY DIRECTORY` before `chroot DIRECTORY`",
    )
}
