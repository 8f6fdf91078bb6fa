//! A network of a test's own, in which this host has an address that is not loopback.

use std::thread;

use nix::sched::{CloneFlags, unshare};

use super::{SOON, command, process::run};

/// The host's address in it (RFC 5737: for documentation, so that nobody's traffic is touched).
pub const ADDRESS: &str = "192.0.2.1";

/// Starts servers in a network namespace of their own, in which loopback is all there is; the test stays where it is.
#[track_caller]
pub fn started_in_own_network<T: Send>(start: impl FnOnce() -> T + Send) -> T {
    let started = thread::scope(|scope| {
        let apart = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let set = run(command("ip").args(["link", "set", "lo", "up"]), SOON).result();
            assert_eq!(set.as_deref(), Ok(""));
            start()
        });
        apart.join()
    });
    started.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Runs a test in a network namespace of its own, which ends with its last process. A namespace
/// is a thread's, and what the thread starts inherits it; the other tests keep theirs.
#[track_caller]
pub fn in_own_network(test: impl FnOnce() + Send + 'static) {
    let ended = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        for arguments in [
            ["link", "set", "lo", "up"].as_slice(),
            &["address", "add", &format!("{ADDRESS}/32"), "dev", "lo"],
        ] {
            let set = run(command("ip").args(arguments), SOON).result();
            assert_eq!(set.as_deref(), Ok(""), "ip {arguments:?}");
        }
        test();
    })
    .join();
    if let Err(panic) = ended {
        std::panic::resume_unwind(panic);
    }
}
