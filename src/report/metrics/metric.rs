//! The table of metrics: names, types, units, labels and meanings.
//!
//! Names and labels are for alerts and dashboards that others write, and never change. `docs/metrics.md` says the same, and a
//! test compares them.

use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

/// The prefix of every name.
pub(crate) const PREFIX: &str = "pgcertd_";

/// The label that names an instance. Prometheus takes `instance` for itself.
pub(crate) const SERVER: &str = "server";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// A number that goes up and down.
    Gauge,
    /// A number that starts at zero with the daemon and only grows.
    Counter,
    /// How many values were at most that large.
    Histogram,
    /// Always 1; the labels carry the information.
    Info,
}

impl Type {
    /// As in `# TYPE` of Prometheus's text.
    pub fn as_str(self) -> &'static str {
        match self {
            Type::Gauge | Type::Info => "gauge",
            Type::Counter => "counter",
            Type::Histogram => "histogram",
        }
    }

    /// What the name ends with.
    fn suffix(self) -> &'static str {
        match self {
            Type::Gauge | Type::Histogram => "",
            Type::Counter => "_total",
            Type::Info => "_info",
        }
    }

    pub(super) fn of_the_format(self) -> MetricType {
        match self {
            Type::Gauge => MetricType::Gauge,
            Type::Counter => MetricType::Counter,
            Type::Histogram => MetricType::Histogram,
            Type::Info => MetricType::Info,
        }
    }
}

/// The unit of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counted {
    /// Things, or yes and no.
    Things,
    /// Seconds; for a point in time, since 1970.
    Seconds,
}

impl Counted {
    fn suffix(self) -> &'static str {
        match self {
            Counted::Things => "",
            Counted::Seconds => "_seconds",
        }
    }

    pub(super) fn unit(self) -> Option<Unit> {
        match self {
            Counted::Things => None,
            Counted::Seconds => Some(Unit::Seconds),
        }
    }
}

struct MetricFacts {
    stem: &'static str,
    of_type: Type,
    counted: Counted,
    labels: &'static [&'static str],
    help: &'static str,
}

macro_rules! metrics {
    ($($metric:ident $stem:literal $of_type:ident $counted:ident $labels:expr; $help:literal)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Metric {
            $(#[doc = $help] $metric,)*
        }

        impl Metric {
            pub const ALL: &'static [Metric] = &[$(Metric::$metric,)*];

            fn facts(self) -> MetricFacts {
                match self {
                    $(Metric::$metric => MetricFacts {
                        stem: $stem,
                        of_type: Type::$of_type,
                        counted: Counted::$counted,
                        labels: $labels,
                        help: $help,
                    },)*
                }
            }
        }
    };
}

metrics! {
    State "state" Gauge Things &[SERVER, "state"];
    "1 for the state that the server is in, 0 for the others."

    InSync "in_sync" Gauge Things &[SERVER];
    "1 if the lineage's certificate is installed and served, otherwise 0."

    InstalledLoads "installed_loads" Gauge Things &[SERVER];
    "0 if Postgres could not start with what is installed, otherwise 1."

    NotAfter "not_after_timestamp" Gauge Seconds &[SERVER, "place"];
    "When the first certificate expires in the chain that clients need, for what is the source, installed or served; absent if none is seen."

    NotBefore "not_before_timestamp" Gauge Seconds &[SERVER, "place"];
    "When that certificate became valid."

    ExpiryLevel "expiry_level" Gauge Things &[SERVER, "place"];
    "How close that certificate is to expiry: 0 fine, 1 warning (less than a quarter of its lifetime or 21 days left), 2 critical (a tenth or 7 days), 3 expired."

    ClientCaNotAfter "client_ca_not_after_timestamp" Gauge Seconds &[SERVER, "piece", "place"];
    "When the first CA of clients expires, or the first CRL's replacement is due, in the file that is the source or installed; absent without such a file."

    ClientCaExpiryLevel "client_ca_expiry_level" Gauge Things &[SERVER, "piece", "place"];
    "How close that CA or CRL is to expiry: as above, but for a CRL with 3 days and 1 day instead of 21 and 7."

    Deployments "deployments" Counter Things &[SERVER, "outcome"];
    "Deployments by the daemon, by outcome."

    DeploymentDuration "deployment_duration" Histogram Seconds &[SERVER];
    "How long deployments took, from the decision to its proof."

    LastSuccess "last_success_timestamp" Gauge Seconds &[SERVER];
    "When source, installed and served last agreed; absent before the first time."

    LastReconcile "last_reconcile_timestamp" Gauge Seconds &[SERVER];
    "When the server was last compared; before the first time, when the daemon added it."

    OldestReconcile "oldest_reconcile_timestamp" Gauge Seconds &[];
    "The oldest last reconcile of all servers; without servers, when the daemon last compared everything."

    Resync "resync" Gauge Seconds &[];
    "The longest time between two comparisons of a server, from the config."

    Events "events" Counter Things &["event"];
    "Events that the daemon has logged, by kind."

    Uncovered "uncovered_postmasters" Gauge Things &[];
    "PostgreSQL servers on this host that no instance covers."

    Build "build" Info Things &["version"];
    "The running version of pgcertd."

    Start "start_time" Gauge Seconds &[];
    "When the daemon started."
}

impl Metric {
    pub fn name(self) -> String {
        let MetricFacts {
            of_type, counted, ..
        } = self.facts();
        format!("{}{}{}", self.stem(), counted.suffix(), of_type.suffix())
    }

    /// Its name without the suffixes of unit and type.
    pub(super) fn stem(self) -> String {
        format!("{PREFIX}{}", self.facts().stem)
    }

    pub fn of_type(self) -> Type {
        self.facts().of_type
    }

    pub(crate) fn counted(self) -> Counted {
        self.facts().counted
    }

    /// The labels of each of its series. None has an unbounded number of values.
    pub fn labels(self) -> &'static [&'static str] {
        self.facts().labels
    }

    /// Its meaning, in one sentence.
    pub fn help(self) -> &'static str {
        self.facts().help
    }

    /// The names of its series in Prometheus: a histogram has three.
    pub fn series(self) -> Vec<String> {
        let name = self.name();
        match self.of_type() {
            Type::Histogram => ["_bucket", "_sum", "_count"]
                .map(|part| format!("{name}{part}"))
                .to_vec(),
            Type::Gauge | Type::Counter | Type::Info => vec![name],
        }
    }
}
