//! The table of what may be measured: names, types, units, labels and what each says.
//!
//! Names and labels are for alerts and dashboards that others write; they stay as they are.
//! `docs/metrics.md` says the same, and a test compares.

use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

/// What every name begins with.
pub(crate) const PREFIX: &str = "pgcertd_";

/// The label that names an instance. Prometheus takes `instance` for itself.
pub(crate) const SERVER: &str = "server";

/// What kind of number a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// A number that goes up and down.
    Gauge,
    /// A number that starts at zero with the daemon and only grows.
    Counter,
    /// How many were at most so large.
    Histogram,
    /// 1, for the sake of its labels.
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

/// What a metric counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counted {
    /// Things, or yes and no.
    Things,
    /// Seconds; those of a moment since 1970.
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
    "1 where the lineage's certificate is installed and served, else 0."

    InstalledLoads "installed_loads" Gauge Things &[SERVER];
    "0 where Postgres could not start with what is installed, else 1."

    NotAfter "not_after_timestamp" Gauge Seconds &[SERVER, "place"];
    "When the first certificate of the chain ends that clients need of what is the source, installed or served; none where none is seen."

    NotBefore "not_before_timestamp" Gauge Seconds &[SERVER, "place"];
    "When the validity of that certificate began."

    ExpiryLevel "expiry_level" Gauge Things &[SERVER, "place"];
    "How near to its end that certificate is: 0 fine, 1 warning (below a quarter of its lifetime or 21 days), 2 critical (a tenth or 7 days), 3 expired."

    ClientCaNotAfter "client_ca_not_after_timestamp" Gauge Seconds &[SERVER, "piece", "place"];
    "When the CA of clients expires, or the CRL's next one is due, that ends first in the file that is the source or installed; none without such a file."

    ClientCaExpiryLevel "client_ca_expiry_level" Gauge Things &[SERVER, "piece", "place"];
    "How near to its end that CA or CRL is: as above, of a CRL with 3 days and 1 day in place of 21 and 7."

    Deployments "deployments" Counter Things &[SERVER, "outcome"];
    "Deployments of the daemon by how they came out."

    DeploymentDuration "deployment_duration" Histogram Seconds &[SERVER];
    "How long deployments took, from the decision to its proof."

    LastSuccess "last_success_timestamp" Gauge Seconds &[SERVER];
    "When source, installed and served were last seen to be one; none before the first time."

    LastReconcile "last_reconcile_timestamp" Gauge Seconds &[SERVER];
    "When the server was last compared; before the first time, when the daemon took it up."

    OldestReconcile "oldest_reconcile_timestamp" Gauge Seconds &[];
    "The earliest last reconcile of all servers; without any, when the daemon last went round."

    Resync "resync" Gauge Seconds &[];
    "The longest time between two comparisons of a server, by the config."

    Events "events" Counter Things &["event"];
    "Events that the daemon has said in the journal, by kind."

    Uncovered "uncovered_postmasters" Gauge Things &[];
    "PostgreSQL servers on this host that no instance covers."

    Build "build" Info Things &["version"];
    "The version of pgcertd that runs."

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

    /// Its name without what unit and type add.
    pub(super) fn stem(self) -> String {
        format!("{PREFIX}{}", self.facts().stem)
    }

    /// What kind of number it is.
    pub fn of_type(self) -> Type {
        self.facts().of_type
    }

    pub(crate) fn counted(self) -> Counted {
        self.facts().counted
    }

    /// The labels that each of its series carries. None of them grows without bound.
    pub fn labels(self) -> &'static [&'static str] {
        self.facts().labels
    }

    /// What it says, in a sentence.
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
