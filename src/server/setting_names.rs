//! What each kind of server calls its TLS settings, and how one is told to use other files.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::bundle::{Piece, TrustFiles};
use crate::config::ServerHome;
use crate::host::file;
use crate::problem::Problem;

/// How a Patroni is restarted while its PostgreSQL stays up, and no other node takes the lead.
pub(crate) const RESTART: &str =
    "patronictl pause --wait, systemctl restart patroni, patronictl resume";

/// Where a setting of a server is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Setter {
    /// In its configuration, which may be in many places.
    Configuration,
    /// In this file, or in one of this directory.
    File(PathBuf),
    /// In the environment that it was started with, which outweighs any file.
    Environment,
}

impl fmt::Display for Setter {
    /// As the end of a clause: ` in FILE`, or nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Setter::Configuration => Ok(()),
            Setter::File(file) => write!(f, " in {}", file.display()),
            Setter::Environment => f.write_str(" in its environment"),
        }
    }
}

/// A setting of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedSetting {
    /// What it is called there.
    pub(crate) name: &'static str,
    /// Where it is set, or is to be set.
    pub(crate) place: Setter,
}

/// What a kind of server calls its settings, and where they are set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Names {
    /// The setting without TLS, such as `ssl = off`.
    pub(crate) off: &'static str,
    /// What turns it on, such as `ssl = on`.
    pub(crate) on: &'static str,
    pub(crate) cert: NamedSetting,
    pub(crate) key: NamedSetting,
    pub(crate) trust_files: TrustFiles<&'static str>,
    /// The configuration, file or directory; `None` where it may be in many places.
    pub(crate) file: Option<PathBuf>,
}

impl Names {
    pub(crate) const POSTGRES: Names = Names {
        off: "ssl = off",
        on: "ssl = on",
        cert: NamedSetting {
            name: "ssl_cert_file",
            place: Setter::Configuration,
        },
        key: NamedSetting {
            name: "ssl_key_file",
            place: Setter::Configuration,
        },
        trust_files: TrustFiles {
            ca: "ssl_ca_file",
            crl: "ssl_crl_file",
        },
        file: None,
    };

    /// Those of the server at `place`.
    pub(crate) fn for_home(place: &ServerHome) -> Names {
        let named = |name, file: &Path| NamedSetting {
            name,
            place: Setter::File(file.to_owned()),
        };
        match place {
            ServerHome::Postgres { .. } => Names::POSTGRES,
            ServerHome::PgBouncer { config_file } => Names {
                off: "client_tls_sslmode = disable",
                on: "client_tls_sslmode = prefer, or a stricter one,",
                cert: named("client_tls_cert_file", config_file),
                key: named("client_tls_key_file", config_file),
                trust_files: TrustFiles {
                    ca: "client_tls_ca_file",
                    // It has none.
                    crl: "client_tls_crl_file",
                },
                file: Some(config_file.clone()),
            },
            ServerHome::Patroni { config_file } => Names {
                off: "restapi.certfile is not set",
                on: "restapi.certfile and restapi.keyfile",
                cert: named("restapi.certfile", config_file),
                key: named("restapi.keyfile", config_file),
                trust_files: TrustFiles {
                    ca: "restapi.cafile",
                    // It has none.
                    crl: "restapi.crlfile",
                },
                file: Some(config_file.clone()),
            },
        }
    }

    /// The setting that names the CA or the CRL file.
    pub(crate) fn trust_file(&self, piece: Piece) -> &'static str {
        self.trust_files.get(piece).copied().unwrap_or_default()
    }

    /// That TLS is off.
    pub(crate) fn tls_off(&self) -> Problem {
        let place = match &self.file {
            Some(file) => file.display().to_string(),
            None => "the server's configuration".into(),
        };
        Problem::new(
            self.off,
            format!("set {} in {place} and reload it", self.on),
        )
    }

    /// How a server is told to use these files.
    pub(super) fn fix(&self, cert_file: &Path, key_file: &Path) -> String {
        let (cert_path, key_path) = (cert_file.display(), key_file.display());
        let (cert, key) = (self.cert.name, self.key.name);
        let (at, key_at) = (&self.cert.place, &self.key.place);
        let what = match (cert_file == key_file, at == key_at) {
            (true, true) => format!("{cert} and {key}{at} to {cert_path}"),
            (true, false) => format!("{cert}{at} and {key}{key_at} to {cert_path}"),
            (false, true) => format!("{cert} to {cert_path} and {key} to {key_path}{at}"),
            (false, false) => {
                format!("{cert}{at} to {cert_path} and {key}{key_at} to {key_path}")
            }
        };
        // Patroni alone has such settings, and its PostgreSQL is to live through it.
        if [at, key_at].contains(&&Setter::Environment) {
            format!("set {what} and restart it: {}", RESTART)
        } else {
            format!("set {what} and reload")
        }
    }
}

/// What is to be done about a file that keeps a server from loading any.
pub(crate) const FIX_FIRST: &str = "fix that first: until then no reload loads anything";

/// Reads a file of a configuration: no more than a large bundle of roots needs.
pub(crate) fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    const LARGEST: u64 = 16 << 20;
    file::read(path, LARGEST)
}
