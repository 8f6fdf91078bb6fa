//! What the tests and benchmarks beside the crate use of it. Nothing else may: it changes without notice.

pub mod acme {
    pub use crate::acme::{Area, Hook, Judge, Removal, Scope, Share, Tree};
}

pub mod bundle {
    pub use crate::bundle::{Fingerprint, KeyedBundle, Piece};
}

pub mod config {
    pub use crate::config::{Address, ServerKind};
}

pub mod host {
    pub mod privilege {
        pub use crate::host::privilege::{Ids, Rights, Worker, enter_main};
    }
    pub mod caller {
        pub use crate::host::caller::run_as_child;
    }
    pub mod file {
        pub use crate::host::file::{Links, Unopened};
    }
    pub mod look {
        pub use crate::host::look::file_id;
    }
}

pub mod problem {
    pub use crate::problem::Problem;
}

pub mod server {
    pub mod hba {
        pub use crate::server::hba::{Dialect, HbaAddress, HbaWord, OnDisk, Rule, Rules};
    }
    pub mod hosts {
        pub use crate::server::hosts::Hosts;
    }
    pub mod postmaster {
        pub use crate::server::postmaster::{PidFile, Postmaster};
    }
    pub mod probe {
        pub use crate::server::probe::{AskedName, Opening, Prober};
    }
    pub mod sql {
        pub use crate::server::sql::{HbaRule, Role, Setting, Sql, SqlCause, SqlError};
    }
}

pub mod deploy {
    pub use crate::deploy::SyncOutcome;
    pub mod state {
        pub use crate::deploy::state::State;
    }
}

pub mod report {
    pub use crate::report::{EventKind, Field};
    pub mod nearing {
        pub use crate::report::nearing::Holder;
    }
    pub mod metrics {
        pub use crate::report::metrics::Metric;
    }
}

pub mod setup {
    pub mod require_tls {
        pub use crate::setup::require_tls::{Tightened, Tightening, TighteningError};
    }
}

#[cfg(test)]
#[path = "../tests/e2e/world/skipped.rs"]
#[expect(unreachable_pub, reason = "the end-to-end tests have it too")]
pub(crate) mod skipped;
