//! What the config and the unit ask of the host.

use super::look::HostLook;
use crate::check::finding::Finding;
use crate::check::unit::root_operation;
use crate::host::privilege::landlock_available;

pub(in crate::check) fn configured(look: &HostLook) -> Option<Finding> {
    let config = &look.context.config;
    Some(match config.instances.len() {
        0 => Finding::notice("no instance is configured").command(config.command(&["setup"])),
        1 => Finding::good("1 instance"),
        count => Finding::good(format!("{count} instances")),
    })
}

pub(in crate::check) fn unit_user(look: &HostLook) -> Option<Finding> {
    let unit = look.context.unit.as_ref().as_ref()?;
    Some(match unit.missing() {
        Some(missing) => Finding::problem(missing).command(root_operation()),
        None => Finding::good(format!("the service runs as user {}", unit.user())),
    })
}

pub(in crate::check) fn landlock() -> Option<Finding> {
    Some(if landlock_available() {
        Finding::good("Landlock confines each thread")
    } else {
        Finding::notice("this kernel has no Landlock")
            .fix("use a kernel with CONFIG_SECURITY_LANDLOCK and landlock in its lsm= list")
    })
}
