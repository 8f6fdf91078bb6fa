//! Who takes part, and what is measured of each.

/// Which contender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The least that any solution must do.
    LeastProgram,
    /// The daemon, with the default configuration.
    Pgcertd,
    /// A shell script that certbot runs.
    DeployHook,
    /// The same script behind `inotifywait`.
    InotifywaitLoop,
    /// The line of many articles, with a reload.
    ArticleReload,
    /// What getssl does with the certificate that it got.
    Getssl,
    /// The line of many articles, with a restart.
    ArticleRestart,
    /// The script behind a look every five seconds.
    PollLoop,
    /// The script behind a `systemd.path` unit.
    PathUnit,
}

impl Kind {
    /// Those that need no systemd.
    pub const HERE: [Self; 8] = [
        Self::LeastProgram,
        Self::Pgcertd,
        Self::DeployHook,
        Self::InotifywaitLoop,
        Self::ArticleReload,
        Self::Getssl,
        Self::ArticleRestart,
        Self::PollLoop,
    ];

    /// Those in the booted machine.
    pub const IN_MACHINE: [Self; 3] = [Self::LeastProgram, Self::Pgcertd, Self::PathUnit];

    /// Its row's title.
    pub fn title(self) -> &'static str {
        match self {
            Self::LeastProgram => "limit: least program, no checks",
            Self::Pgcertd => "pgcertd, default configuration",
            Self::DeployHook => "deploy hook script, no fsync",
            Self::InotifywaitLoop => "inotifywait loop, no fsync",
            Self::ArticleReload => "cp, chmod, chown, pg_ctl reload",
            Self::Getssl => "getssl: cp, reload, s_client",
            Self::ArticleRestart => "cp, chmod, chown, pg_ctl restart",
            Self::PollLoop => "loop that looks every 5 s",
            Self::PathUnit => "systemd.path unit with a script",
        }
    }

    /// Its name in the JSON document, and its cluster's.
    pub fn word(self) -> &'static str {
        match self {
            Self::LeastProgram => "least_program",
            Self::Pgcertd => "pgcertd",
            Self::DeployHook => "deploy_hook",
            Self::InotifywaitLoop => "inotifywait_loop",
            Self::ArticleReload => "article_reload",
            Self::Getssl => "getssl",
            Self::ArticleRestart => "article_restart",
            Self::PollLoop => "poll_loop",
            Self::PathUnit => "path_unit",
        }
    }

    /// Whether it compares what is served with what it installed, and says so.
    pub fn verifies(self) -> bool {
        matches!(self, Self::LeastProgram | Self::Pgcertd | Self::Getssl)
    }

    /// In how many rounds it has one turn: the slow ones have fewer.
    pub fn turn_every(self) -> u32 {
        match self {
            Self::ArticleRestart | Self::PollLoop => 5,
            _ => 1,
        }
    }
}

/// What happens after the last link of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Milestone {
    /// The postmaster says that it received SIGHUP; nobody but the contender connects.
    Signalled,
    /// The first new connection is served the new certificate.
    Served,
    /// The contender says that it has seen it served; nobody else connects.
    Verified,
}

impl Milestone {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Signalled, Self::Served, Self::Verified];

    /// What the time runs to.
    pub fn title(self) -> &'static str {
        match self {
            Self::Signalled => "the postmaster receives SIGHUP (a restarted one: is ready)",
            Self::Served => "the first new connection sees the new certificate",
            Self::Verified => "the contender has verified that it is served",
        }
    }

    /// Its name in the JSON document.
    pub fn word(self) -> &'static str {
        match self {
            Self::Signalled => "signalled",
            Self::Served => "served",
            Self::Verified => "verified",
        }
    }
}
