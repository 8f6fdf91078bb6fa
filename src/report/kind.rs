//! The kinds of event: names, priorities and fields.
//!
//! Names, ids and fields are for alerts and queries that others write, and never change. `docs/journal.md` and
//! `systemd/pgcertd.catalog` say the same, and tests compare them.

use super::field::Field;
use super::field::Field::{
    Changed, File, Fingerprint, Instance, Lineage, Milliseconds, NotAfter, OldFingerprint,
    OldState, Outcome, Piece, Place, Problem, Remedy, ServedFingerprint, State as StateField,
};
use crate::deploy::SyncOutcome;
use crate::deploy::state::State;

/// How urgent an event is, as in syslog(3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// 2: the next restart of a server is an outage, a certificate has expired or is about to, or pgcertd itself is broken.
    Critical,
    /// 3: a certificate didn't get where it belongs, or a config is wrong; somebody has to fix it.
    Error,
    /// 4: somebody has to look; nothing is being refused.
    Warning,
    /// 5: something was done, or is over.
    Notice,
    /// 6: everything else.
    Info,
}

impl Priority {
    /// As `journalctl -p` takes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Priority::Critical => "crit",
            Priority::Error => "err",
            Priority::Warning => "warning",
            Priority::Notice => "notice",
            Priority::Info => "info",
        }
    }

    /// As the journal's field PRIORITY has it.
    pub fn number(self) -> u8 {
        match self {
            Priority::Critical => 2,
            Priority::Error => 3,
            Priority::Warning => 4,
            Priority::Notice => 5,
            Priority::Info => 6,
        }
    }
}

/// What an event is about, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Topic {
    /// A bundle that was installed, or was meant to be.
    Deployment,
    State,
    /// pgcertd itself, and the host.
    Daemon,
}

impl Topic {
    /// As in the field `PGCERTD_TOPIC`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Topic::Deployment => "deployment",
            Topic::State => "state",
            Topic::Daemon => "daemon",
        }
    }
}

/// What every deployment carries, and what it may carry.
const DEPLOYMENT: &[Field] = &[
    Instance,
    Lineage,
    File,
    Outcome,
    StateField,
    Fingerprint,
    NotAfter,
    Milliseconds,
];
const DEPLOYMENT_MAY: &[Field] = &[OldFingerprint, Changed, Problem, Remedy];

/// What every state carries, and what it may carry.
const STATE: &[Field] = &[Instance, Lineage, File, StateField];
const STATE_MAY: &[Field] = &[Fingerprint, NotAfter, ServedFingerprint, Problem, Remedy];

/// What every event about a coming expiry carries.
const NEARING: &[Field] = &[
    Instance,
    Lineage,
    File,
    StateField,
    Place,
    Piece,
    Fingerprint,
    NotAfter,
    Problem,
    Remedy,
];

macro_rules! kinds {
    ($($kind:ident $name:literal $id:literal $priority:ident $topic:ident $always:expr, $may:expr; $when:literal)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum EventKind {
            $(#[doc = $when] $kind,)*
        }

        impl EventKind {
            pub const ALL: &'static [EventKind] = &[$(EventKind::$kind,)*];

            fn facts(self) -> KindFacts {
                match self {
                    $(EventKind::$kind => KindFacts {
                        name: $name,
                        id: $id,
                        priority: Priority::$priority,
                        topic: Topic::$topic,
                        when: $when,
                        always: $always,
                        may: $may,
                    },)*
                }
            }
        }
    };
}

struct KindFacts {
    name: &'static str,
    id: &'static str,
    priority: Priority,
    topic: Topic,
    when: &'static str,
    always: &'static [Field],
    may: &'static [Field],
}

kinds! {
    Deployed "deployed" "c94ce0eba5554de9b7be2271692d1646" Notice Deployment DEPLOYMENT, DEPLOYMENT_MAY;
    "A bundle is installed, and new clients get it."

    Installed "installed" "009b165a5658452e9c72587613c3d7ce" Notice Deployment DEPLOYMENT, DEPLOYMENT_MAY;
    "A bundle is installed, but the server is down or doesn't use the files."

    InstalledUnverified "installed_unverified" "b77f616f685c40b9948fb200b6fa84dc" Warning Deployment DEPLOYMENT, DEPLOYMENT_MAY;
    "A bundle is installed, but what new clients get could not be proven."

    RolledBack "rolled_back" "f22e7915e3594a63bf807db44390861b" Error Deployment DEPLOYMENT, DEPLOYMENT_MAY;
    "Postgres rejected a bundle, and the previous files are back."

    TakenBack "taken_back" "4fc5c4035d074e05b548df51c56617c9" Warning Deployment DEPLOYMENT, DEPLOYMENT_MAY;
    "Postgres is down and wasn't seen to serve what was installed last; the previous files are back, in case that is why."

    Failed "failed" "e6b5ed7783334858b25c82f92fb40c49" Error Deployment DEPLOYMENT, DEPLOYMENT_MAY;
    "A step of a deployment failed. It is retried, with growing pauses."

    Odd "odd" "48928a7048a24323ba77ef8ddaaaca6d" Warning Deployment &[Instance, Lineage, Problem], &[Fingerprint];
    "A bundle differs from the previous one in a way that may be a mistake."

    InSync "in_sync" "b19f79cfbc0a466a8f74fa649d59f2af" Info State STATE, STATE_MAY;
    "The lineage, the installed files and what is served agree, after a start or while Postgres was down."

    NotRunning "not_running" "2c2e7eb2690545c9a62139e64c23cb29" Info State STATE, STATE_MAY;
    "The server is down, and can load what is installed."

    Waiting "waiting" "7c9525f518914575ac34e5bf14412a80" Info State STATE, STATE_MAY;
    "A renewal is under way, isn't valid yet, or is held back by `delay`."

    Recovered "recovered" "ea145a3a84d34cffbad7a6ab4ea0818d" Notice State &[Instance, Lineage, File, StateField, OldState, Milliseconds], STATE_MAY;
    "An instance that had a problem is fine again."

    SourceInvalid "source_invalid" "89883b982c194de8b666cfa3a390097a" Error State STATE, STATE_MAY;
    "The lineage can't be read, or holds something that must not be installed."

    Rejected "rejected" "54b70eb363d241839c648cdec6281f60" Error State STATE, STATE_MAY;
    "The lineage holds a bundle that the server rejected earlier."

    Held "held" "db862777b880499aa979c271080d66c1" Warning State STATE, STATE_MAY;
    "The lineage holds a bundle that an operator rolled back."

    OutOfDate "out_of_date" "18fe8d1fda98438c87420b734adbf040" Error State STATE, STATE_MAY;
    "What is installed isn't what the lineage holds."

    NotUsed "not_used" "6acb96444c634d1c9577e183d0867ee6" Warning State STATE, STATE_MAY;
    "The server's configuration names other files, or TLS is off."

    NotServed "not_served" "bf5b580fe9ce4e72ae4cd19582f179f2" Error State STATE, STATE_MAY;
    "New clients get a certificate other than the installed one."

    Unverified "unverified" "efbb511249d44cf483c5778bd8349b14" Warning State STATE, STATE_MAY;
    "What is installed is right, but what new clients get can't be seen."

    Contended "contended" "68b1995436c847649656368158148b7b" Error State STATE, STATE_MAY;
    "Something else rewrote the installed files three times within an hour."

    WouldNotStart "would_not_start" "3122c9109ec54670b8075b635a430f30" Critical State &[Instance, Lineage, File, StateField, Problem, Remedy], &[];
    "The running server uses the installed files, and couldn't start with them again."

    WouldStartAgain "would_start_again" "77c100c9e16f4daca080034d2bc1c02d" Notice State STATE, &[];
    "The server could start again: `would_not_start` is over."

    ExpiryNear "expiry_near" "5d7cd8327fd746d79854c34956fc1551" Warning State NEARING, &[];
    "A certificate, a CA of clients or a CRL should have been renewed: less than a quarter of its lifetime or 21 days is left, for a CRL 3 days. Repeated every day."

    ExpiryCritical "expiry_critical" "5477e3fe6c8143069b0633b159a69b12" Critical State NEARING, &[];
    "One of these has less than a tenth of its lifetime or 7 days left, a CRL 1 day. Repeated every day."

    Expired "expired" "c9966dae761b4f64a9ec7de8c09e61b6" Critical State NEARING, &[];
    "One of these has expired. Repeated every day."

    ExpiryOver "expiry_over" "fc1b653a282640dc95e60b3bc19e3437" Notice State &[Instance, Lineage, File, StateField, Piece, Milliseconds], &[Fingerprint, NotAfter];
    "Nothing of the kind in `PGCERTD_PIECE` is about to expire any more."

    MemoryUnreadable "memory_unreadable" "408866c197ae4e31b11d423bf72d2ca5" Warning State &[Instance, Lineage, Problem], &[];
    "`held.json` is damaged; pgcertd continues as if nothing were held."

    NotForgotten "not_forgotten" "f809785296a2480faaf5b178627d3247" Warning State &[Instance, Lineage, Problem], &[];
    "What pgcertd remembers about an instance (`held.json`, `trial`, `proven`) is out of date and can't be changed."

    FilesUnseen "files_unseen" "c1ed42f26b4b42b094660063d077eddf" Warning State &[Instance, Lineage, Problem, Remedy], &[];
    "At startup an instance's files didn't respond in time, and the daemon started without it."

    Started "started" "304dc696fe874e17ba1c65af2e257b0b" Info Daemon &[File], &[];
    "The daemon has read its config and started."

    ConfigTaken "config_taken" "71738cb89a5048928d8d4e1da3a33712" Notice Daemon &[File], &[];
    "A changed config is in force, after SIGHUP."

    ConfigRefused "config_refused" "83ff531cef974113a439494415ed5978" Error Daemon &[File, Problem], &[];
    "A changed config is wrong; the old one stays in force."

    ConfigInvalid "config_invalid" "86c98c4d0ec64af9a0813b90e996b8d4" Error Daemon &[File, Problem], &[];
    "The config is wrong, and `pgcertd run`, `pgcertd sync` or `pgcertd notify` exits with status 2."

    DaemonFailed "daemon_failed" "d850e035523348f88d7ab6a27560c132" Error Daemon &[Problem], &[];
    "The daemon couldn't start, or stopped because a part of it did."

    SyncFailed "sync_failed" "f03bdb1c74824a50949a7d621ea44bd9" Error Daemon &[Problem], &[];
    "`pgcertd sync` ended before it looked at any instance."

    Fault "fault" "675bd65667054d94ae750ab348b59851" Critical Daemon &[Problem], &[];
    "An internal error (a panic) ends the process."

    LeftAtStop "left_at_stop" "aef3a030ce5943b8aabe57bc1d4f78c5" Warning Daemon &[], &[];
    "At SIGTERM or SIGHUP, steps under way didn't finish in time and were abandoned."

    StatusNotWritten "status_not_written" "b7914d1750054a92aa75bb1921b2c683" Warning Daemon &[File, Problem], &[];
    "`status.json`, the view for users who aren't allowed to look for themselves, can't be written."

    StatusWritten "status_written" "d21da6ad03b846bf92dacf73170b1f22" Info Daemon &[File], &[];
    "`status.json` can be written again."

    MetricsNotServed "metrics_not_served" "ce5439ccb39e40428d16d7b227d7d98a" Warning Daemon &[Problem, Remedy], &[File];
    "The metrics can't be served at `listen`. It is retried at every `resync`."

    MetricsServed "metrics_served" "0a30f03c3306497e9437b89287fa31c7" Info Daemon &[], &[File];
    "They are served there now."

    MetricsNotWritten "metrics_not_written" "afabe030400f46bdae39b2b743e4cc40" Warning Daemon &[File, Problem, Remedy], &[];
    "`textfile`, the metrics for node_exporter, can't be written."

    MetricsWritten "metrics_written" "ff8633c5ec2040b3b59185c290b39bda" Info Daemon &[File], &[];
    "It can be written again."

    Uncovered "uncovered" "473543b8da1142fcb1bf91ff9e28b8ae" Warning Daemon &[File], &[];
    "A PostgreSQL server is running on this host that no instance covers."

    NoLongerUncovered "no_longer_uncovered" "de6d2f93f47041d7a06fbac84eea63d1" Info Daemon &[File], &[];
    "That server has stopped."

    ServersUnseen "servers_unseen" "e5a41104541f4a6bbe2a14ccadd4b8f5" Warning Daemon &[Problem], &[];
    "The processes of this host can't be checked, so a server that no instance covers may go unnoticed."

    ServersSeen "servers_seen" "870d40347735412ca2e12ad1b01724bf" Info Daemon &[], &[];
    "They can be checked again."

    NotWatched "not_watched" "480cc87730a346e49f30c7f0cd679d50" Warning Daemon &[Problem], &[File];
    "A directory can't be watched; changes there are only found at every `poll` and `resync`."

    WatchedAgain "watched_again" "de7cc6c9efca46beb63b0cf3bed95447" Info Daemon &[], &[File];
    "That directory is being watched again, or no longer has to be."

    EventsOverflowed "events_overflowed" "3c85e9bd7d1347a39ef086bb3d1bdd3e" Warning Daemon &[], &[];
    "The kernel's queue of file events overflowed; everything is compared again."

    EventsFailed "events_failed" "6ec66695587341c79ed406c4174825a3" Warning Daemon &[Problem], &[];
    "File events couldn't be received for a moment; everything is compared again."

    NotifierStarted "notifier_started" "4f1990921b1642f29656b9cc7a818ad0" Info Daemon &[File], &[];
    "`pgcertd notify` has read its config and follows the daemon; or `[notify]` has no command, and it exits."

    NotifierFailed "notifier_failed" "2f9eb69c58b44d318d9a05c7053a2339" Error Daemon &[Problem], &[];
    "`pgcertd notify` couldn't start, or stopped because a part of it did."

    NotificationSent "notification_sent" "3d7badae470f442a86dcb319a1cf9772" Info Daemon &[File, Milliseconds], &[];
    "The command of `[notify]` delivered a notification."

    NotificationFailed "notification_failed" "cf4fbcfd99ac41ceb8c4956ae070e691" Error Daemon &[File, Problem, Remedy, Milliseconds], &[];
    "The command of `[notify]` didn't deliver a notification. It is retried, with growing pauses."

    NotificationsNotKept "notifications_not_kept" "38023cb23a484b21beaf9b54f33a9776" Warning Daemon &[File, Problem], &[];
    "What was reported can't be stored, so a restart of `pgcertd notify` reports it again."

    NotificationsForgotten "notifications_forgotten" "5b64039ae6974e2085115e5509fad87c" Warning Daemon &[File, Problem], &[];
    "What was reported can't be read, so open problems are reported again."
}

impl EventKind {
    /// As in the field `PGCERTD_EVENT`.
    pub fn as_str(self) -> &'static str {
        self.facts().name
    }

    /// The MESSAGE_ID (sd-id128(3)): 32 digits of lower-case hex.
    pub fn id(self) -> &'static str {
        self.facts().id
    }

    pub fn priority(self) -> Priority {
        self.facts().priority
    }

    pub(crate) fn topic(self) -> Topic {
        self.facts().topic
    }

    /// When it is logged, in one sentence.
    pub fn when(self) -> &'static str {
        self.facts().when
    }

    /// The fields that it always carries, besides those of every event.
    pub fn always(self) -> &'static [Field] {
        self.facts().always
    }

    /// The fields that it carries if they apply.
    pub fn may(self) -> &'static [Field] {
        self.facts().may
    }

    /// The kind for this outcome; none if nothing was deployed.
    pub(crate) fn of_outcome(outcome: SyncOutcome) -> Option<EventKind> {
        match outcome {
            SyncOutcome::Deployed => Some(EventKind::Deployed),
            SyncOutcome::Installed => Some(EventKind::Installed),
            SyncOutcome::Unverified => Some(EventKind::InstalledUnverified),
            SyncOutcome::RolledBack => Some(EventKind::RolledBack),
            SyncOutcome::TakenBack => Some(EventKind::TakenBack),
            SyncOutcome::Failed => Some(EventKind::Failed),
            SyncOutcome::Unchanged
            | SyncOutcome::WouldDeploy
            | SyncOutcome::Waiting
            | SyncOutcome::Refused => None,
        }
    }

    /// The kind for an instance in this state; none for a state that only `status` shows.
    pub(crate) fn of_state(state: State) -> Option<EventKind> {
        match state {
            State::Unknown => None,
            State::SourceInvalid => Some(EventKind::SourceInvalid),
            State::Held => Some(EventKind::Held),
            State::Rejected => Some(EventKind::Rejected),
            State::Waiting => Some(EventKind::Waiting),
            State::NotRunning => Some(EventKind::NotRunning),
            State::Contended => Some(EventKind::Contended),
            State::OutOfDate => Some(EventKind::OutOfDate),
            State::NotUsed => Some(EventKind::NotUsed),
            State::NotServed => Some(EventKind::NotServed),
            State::Unverified => Some(EventKind::Unverified),
            State::InSync => Some(EventKind::InSync),
        }
    }
}
