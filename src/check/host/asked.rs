//! Asks programs of the host, such as systemd, with the caller's rights, and gives up after a few seconds.

use std::time::Duration;

use crate::host::command::Launch;

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether this is a container, as podman and the image in packaging/container say it in `$container` (systemd's container
/// interface).
pub(super) fn contained() -> bool {
    std::env::var_os("container").is_some_and(|name| !name.is_empty())
}

/// What a program says on its standard output; none if it isn't there, fails, or doesn't answer.
pub(super) async fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let mut launch = Launch::of_operator(program);
    launch.args(arguments).env("LC_ALL", "C");
    let ran = launch.ran(PATIENCE).await.ok()?;
    let text = String::from_utf8_lossy(&ran.stdout).into_owned();
    ran.status.success().then_some(text)
}

/// The value of `KEY=` in what `show` of a systemd program says.
pub(super) fn property<'t>(shown: &'t str, key: &str) -> Option<&'t str> {
    let mut values = shown.lines().filter_map(|line| line.split_once('='));
    values.find(|(it, _)| *it == key).map(|(_, value)| value)
}
