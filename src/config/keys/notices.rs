//! The keys of `[notify]`.

use std::time::Duration;

use crate::config::DEFAULT_NOTIFY_DIRECTORY;
use crate::config::Occasion;
use crate::config::table::table;
use crate::config::values::{AnyDuration, AnyPath, PositiveDuration, ProgramWords};

table! {
    /// `[notify]`.
    WrittenNotify, expected "one table, [notify]" {
        /// The program and its arguments, run without a shell. It gets the notification as JSON on standard input,
        /// and as text for people in its environment, see `pgcertd-notify`(8). Status 0 means that it was
        /// delivered; otherwise it is retried, with growing pauses, until it is out of date.
        ///
        /// Every user can read the config. A secret address belongs in a file that the program reads, as `curl`
        /// does with `--config`, and that only pgcertd-notify can read.
        command: ProgramWords,
            otherwise("none; nobody is notified"),
            example(r#"["/usr/lib/pgcertd/notify-mail", "root"]"#);

        /// What to report.
        on: Vec<Occasion>,
            default(vec![Occasion::Failure, Occasion::Recovery]),
            example(r#"["failure", "recovery", "deployed"]"#);

        /// How long a change must last before it is reported. What is over by then is not reported, unless it keeps
        /// coming back; changes at the same time are reported together.
        after: AnyDuration, default(AnyDuration(Duration::from_secs(30))), example(r#""5m""#);

        /// What is still failing is reported again after this time.
        repeat: PositiveDuration, default(PositiveDuration(Duration::from_secs(24 * 60 * 60))), example(r#""12h""#);

        /// How long the command may run. Then it and everything it started get SIGTERM, and SIGKILL 5 s later.
        timeout: PositiveDuration, default(PositiveDuration(Duration::from_secs(30))), example(r#""2m""#);

        /// A record of what was reported, so that a restart neither repeats nor loses anything.
        /// pgcertd-notify.service can only write to the default.
        state_directory: AnyPath,
            default(AnyPath(DEFAULT_NOTIFY_DIRECTORY.into())),
            example(r#""/srv/pgcertd-notify""#);
    }
}
