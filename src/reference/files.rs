//! The files that commands have to do with.

use crate::config::DEFAULT_NOTIFY_DIRECTORY;
use crate::config::{
    DEFAULT_FILE, DEFAULT_RUNTIME_DIRECTORY, DEFAULT_STATE_DIRECTORY, DEFAULT_TARGET,
};
use crate::notify::memory::FILE as TOLD;

/// The files that a command has to do with.
pub(super) fn files(command: &str) -> Vec<(String, &'static str)> {
    let directory = DEFAULT_FILE.trim_end_matches("pgcertd.toml");
    let state = |name: &str| format!("{DEFAULT_STATE_DIRECTORY}/NAME/{name}");
    let mut files = vec![
        (
            DEFAULT_FILE.to_owned(),
            "The config, see `pgcertd.toml`(5).",
        ),
        (
            format!("{directory}conf.d/*.toml"),
            "Further instances, in name order.",
        ),
    ];
    match command {
        "probe" => files.clear(),
        "notify" => files.extend([
            (
                format!("{DEFAULT_RUNTIME_DIRECTORY}/status.json"),
                "What the daemon saw last, which is followed.",
            ),
            (
                format!("{DEFAULT_NOTIFY_DIRECTORY}/{TOLD}"),
                "What was told.",
            ),
        ]),
        "check" => {}
        "sessions" => files.push((
            state(DEFAULT_TARGET),
            "Its time is that of the last deployment, unless the config names another file.",
        )),
        _ => files.extend([
            (
                state(DEFAULT_TARGET),
                "What is installed for an instance, unless its config names other files.",
            ),
            (
                state("previous.pem"),
                "What the last deployment replaced, proven served.",
            ),
            (
                state("held.json"),
                "What Postgres rejected or the operator holds back, and why.",
            ),
            (
                state("trial"),
                "A link whose text names the bundle that was put in place last, until it is proven served.",
            ),
            (
                state("proven"),
                "A link whose text names the bundle that was last proven served.",
            ),
            (
                format!("{DEFAULT_RUNTIME_DIRECTORY}/status.json"),
                "What the daemon saw last, without keys; for every user.",
            ),
        ]),
    }
    files
}
