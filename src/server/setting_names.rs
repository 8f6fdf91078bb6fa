//! What each kind of server calls its TLS settings, and how to point one at other files.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::bundle::{Piece, TrustFiles};
use crate::config::{ServerHome, ServerKind};
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
    /// Those of the server at `home`.
    pub(crate) fn for_home(home: &ServerHome) -> Names {
        let profile = home.kind.profile();
        let place = match home.kind {
            ServerKind::Postgres => Setter::Configuration,
            ServerKind::PgBouncer | ServerKind::Patroni => Setter::File(home.path.clone()),
        };
        let named = |name| NamedSetting {
            name,
            place: place.clone(),
        };
        Names {
            off: profile.tls_off,
            on: profile.tls_on,
            cert: named(profile.cert_setting),
            key: named(profile.key_setting),
            trust_files: profile.trust_settings,
            file: (place != Setter::Configuration).then(|| home.path.clone()),
        }
    }

    /// Those of a Postgres.
    pub(crate) fn postgres() -> Names {
        Names::for_home(&ServerHome {
            kind: ServerKind::Postgres,
            path: PathBuf::new(),
        })
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

    /// How to point a server at these files.
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
