//! The plain facts that differ between the kinds of server.
//!
//! `kinds.rs` has how a server of each kind is found and asked.

use super::probe::Opening;
use crate::bundle::TrustFiles;
use crate::config::ServerKind;

/// The facts about one kind of server.
#[derive(Debug)]
pub(crate) struct Profile {
    /// The setting without TLS, such as `ssl = off`.
    pub(crate) tls_off: &'static str,
    /// What turns it on, such as `ssl = on`.
    pub(crate) tls_on: &'static str,
    pub(crate) cert_setting: &'static str,
    pub(crate) key_setting: &'static str,
    /// Those of the CA and CRL files.
    pub(crate) trust_settings: TrustFiles<&'static str>,
    /// How its clients ask for TLS.
    pub(crate) opening: Opening,
    /// When what it shows after a signal is its answer.
    pub(crate) after_signal: Promptness,
    /// When it is certain after a signal that TLS is off.
    pub(crate) without_tls: Promptness,
    /// Whether it refuses to start on a pair that it cannot load, so a pair that was never seen served is on trial.
    pub(crate) needs_pair_to_start: bool,
    /// Where its log says why it did not load the files.
    pub(crate) log_of_load: &'static str,
    /// Where its log says why a handshake failed, as the end of a sentence.
    pub(crate) log_of_handshake: &'static str,
}

/// When what a server shows is its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Promptness {
    AtOnce,
    /// Once a second look, late enough, shows the same.
    Steady,
    /// Only at the last look before the time limit.
    AtTheEnd,
}

static POSTGRES: Profile = Profile {
    tls_off: "ssl = off",
    tls_on: "ssl = on",
    cert_setting: "ssl_cert_file",
    key_setting: "ssl_key_file",
    trust_settings: TrustFiles {
        ca: "ssl_ca_file",
        crl: "ssl_crl_file",
    },
    opening: Opening::Request,
    after_signal: Promptness::Steady,
    without_tls: Promptness::AtOnce,
    needs_pair_to_start: true,
    log_of_load: "the server's log says why, just before \"SSL configuration was not reloaded\"",
    log_of_handshake: ", at \"could not accept SSL connection\"",
};

static PGBOUNCER: Profile = Profile {
    tls_off: "client_tls_sslmode = disable",
    tls_on: "client_tls_sslmode = prefer, or a stricter one,",
    cert_setting: "client_tls_cert_file",
    key_setting: "client_tls_key_file",
    trust_settings: TrustFiles {
        ca: "client_tls_ca_file",
        // It has none.
        crl: "client_tls_crl_file",
    },
    opening: Opening::Request,
    after_signal: Promptness::Steady,
    // It may accept a connection in the same turn of its loop in which it reloads, and still answer with the old files.
    without_tls: Promptness::Steady,
    needs_pair_to_start: true,
    log_of_load: "its log says why, just before \"TLS configuration could not be reloaded\"",
    log_of_handshake: "",
};

static PATRONI: Profile = Profile {
    tls_off: "restapi.certfile is not set",
    tls_on: "restapi.certfile and restapi.keyfile",
    cert_setting: "restapi.certfile",
    key_setting: "restapi.keyfile",
    trust_settings: TrustFiles {
        ca: "restapi.cafile",
        // It has none.
        crl: "restapi.crlfile",
    },
    opening: Opening::Https,
    // It reloads in the next turn of its loop.
    after_signal: Promptness::AtTheEnd,
    without_tls: Promptness::AtTheEnd,
    // pgcertd tries the pair with Patroni's own Python first, and Patroni also starts without a pair that loads.
    needs_pair_to_start: false,
    log_of_load: "its log says why",
    log_of_handshake: "",
};

impl ServerKind {
    /// The facts about it.
    pub(crate) fn profile(self) -> &'static Profile {
        match self {
            ServerKind::Postgres => &POSTGRES,
            ServerKind::PgBouncer => &PGBOUNCER,
            ServerKind::Patroni => &PATRONI,
        }
    }
}
