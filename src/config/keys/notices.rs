//! The keys of `[notify]`.

use std::time::Duration;

use crate::config::Occasion;
use crate::config::notification::DEFAULT_NOTIFY_DIRECTORY;
use crate::config::table::table;
use crate::config::values::{AnyDuration, AnyPath, PositiveDuration, ProgramWords};

table! {
    /// `[notify]`.
    WrittenNotify, expected "one table, [notify]" {
        /// The program and its arguments; no shell reads them. It gets the notification as JSON on standard input,
        /// and what a person reads in its environment, see `pgcertd-notify`(8). Status 0 means that it was
        /// delivered; otherwise it is tried again, with growing pauses, until it is out of date.
        ///
        /// The config can be read by every user. An address that is a secret belongs into a file that the program
        /// reads, as `curl` does with `--config`, and that only pgcertd-notify may read.
        command: ProgramWords,
            otherwise("none, nobody is told"),
            example(r#"["/usr/lib/pgcertd/notify-mail", "root"]"#);

        /// What is told.
        on: Vec<Occasion>,
            default(vec![Occasion::Failure, Occasion::Recovery]),
            example(r#"["failure", "recovery", "deployed"]"#);

        /// How long a change must last to be told. What is over by then is not told, unless it comes again and
        /// again; what changes together is told together.
        after: AnyDuration, default(AnyDuration(Duration::from_secs(30))), example(r#""5m""#);

        /// What is still not well is told again after this.
        repeat: PositiveDuration, default(PositiveDuration(Duration::from_secs(24 * 60 * 60))), example(r#""12h""#);

        /// How long the command may run. Then it and what it has started get SIGTERM, and SIGKILL 5 s later.
        timeout: PositiveDuration, default(PositiveDuration(Duration::from_secs(30))), example(r#""2m""#);

        /// Where it is remembered what was told, so that a restart neither repeats nor loses it.
        /// pgcertd-notify.service may write in the default alone.
        state_directory: AnyPath,
            default(AnyPath(DEFAULT_NOTIFY_DIRECTORY.into())),
            example(r#""/srv/pgcertd-notify""#);
    }
}
