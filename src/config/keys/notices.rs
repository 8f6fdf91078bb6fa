//! The keys of `[notify]`.

use super::{Holds, Key, Unless, key, lasting, quoted};
use crate::config::Occasion;
use crate::config::notification::{
    DEFAULT_AFTER, DEFAULT_NOTIFY_DIRECTORY, DEFAULT_ON, DEFAULT_REPEAT, DEFAULT_TIMEOUT, OCCASIONS,
};

/// `[notify]`.
pub(crate) fn of_notify() -> Vec<Key> {
    let on: Vec<String> = DEFAULT_ON
        .iter()
        .map(|occasion| format!("\"{}\"", occasion.as_str()))
        .collect();
    vec![
        key(
            "command",
            Holds::Command,
            Unless::Else("none, nobody is told"),
            "[\"/usr/lib/pgcertd/notify-mail\", \"root\"]",
            &[
                "The program and its arguments; no shell reads them. It gets the notification as JSON on standard \
                 input, and what a person reads in its environment, see `pgcertd-notify`(8). Status 0 means that it \
                 was delivered; otherwise it is tried again, with growing pauses, until it is out of date.",
                "The config can be read by every user. An address that is a secret belongs into a file that the \
                 program reads, as `curl` does with `--config`, and that only pgcertd-notify may read.",
            ],
        ),
        key(
            "on",
            on_occasions(),
            Unless::Is(format!("[{}]", on.join(", "))),
            "[\"failure\", \"recovery\", \"deployed\"]",
            &["What is told."],
        ),
        key(
            "after",
            Holds::Duration,
            lasting(DEFAULT_AFTER),
            "\"5m\"",
            &[
                "How long a change must last to be told. What is over by then is not told, unless it comes again and \
                 again; what changes together is told together.",
            ],
        ),
        key(
            "repeat",
            Holds::Longer,
            lasting(DEFAULT_REPEAT),
            "\"12h\"",
            &["What is still not well is told again after this."],
        ),
        key(
            "timeout",
            Holds::Longer,
            lasting(DEFAULT_TIMEOUT),
            "\"2m\"",
            &[
                "How long the command may run. Then it and what it has started get SIGTERM, and SIGKILL 5 s later.",
            ],
        ),
        key(
            "state_directory",
            Holds::Path,
            quoted(DEFAULT_NOTIFY_DIRECTORY),
            "\"/srv/pgcertd-notify\"",
            &[
                "Where it is remembered what was told, so that a restart neither repeats nor loses it. \
                 pgcertd-notify.service may write in the default alone.",
            ],
        ),
    ]
}

fn on_occasions() -> Holds {
    let choices = OCCASIONS.iter().map(|(name, it)| {
        let says = match it {
            Occasion::Failure => {
                "an instance is not well, or in another way than before; a certificate is near its end; the daemon \
                 has stopped or hangs; a server runs that no instance covers"
            }
            Occasion::Recovery => "that is over",
            Occasion::Deployed => "an instance serves another certificate than before",
        };
        (*name, says)
    });
    Holds::Choices(choices.collect())
}
