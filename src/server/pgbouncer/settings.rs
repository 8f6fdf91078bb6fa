//! What a PgBouncer is told in its configuration, as far as pgcertd needs it.

use std::path::{Path, PathBuf};

use super::ALONE;
use super::ini::{Ini, IniError};
use crate::bundle::TrustFiles;
use crate::config::{Address, ServerHome, ServerKind};
use crate::host::look::is_same_file;
use crate::problem::Problem;
use crate::server::settings::{Names, TlsSettings};

/// `listen_port`, where it is not set.
const PORT: u16 = 6432;

/// What a PgBouncer is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// `pidfile`, as an absolute path.
    pub(crate) pid_file: Option<PathBuf>,
    /// `listen_addr`, one by one.
    pub(crate) listen: Vec<String>,
    /// `listen_port`; none where it is no port.
    pub(crate) port: Option<u16>,
    /// `so_reuseport`: other processes may listen at the same port.
    pub(crate) shares_port: bool,
    /// What it shows to its clients.
    pub(crate) tls: TlsSettings,
    /// What it shows to its servers as their client: `server_tls_cert_file`, where it speaks TLS to them.
    pub(crate) client_cert: Option<PathBuf>,
    /// `client_tls_ciphers`, where set.
    pub(crate) ciphers: Option<String>,
    /// `client_tls_protocols`, where set.
    pub(crate) protocols: Option<String>,
    /// The files that say so.
    pub(crate) files: Vec<PathBuf>,
}

impl Settings {
    /// Reads them for a PgBouncer that works in `directory`. Blocks.
    ///
    /// # Errors
    /// The file, or one that it includes, cannot be read, or is none that PgBouncer would take.
    pub(crate) fn read(config_file: &Path, directory: &Path) -> Result<Settings, IniError> {
        let ini = Ini::read(config_file, directory)?;
        Ok(Settings::from_ini(&ini, config_file, directory))
    }

    fn from_ini(ini: &Ini, config_file: &Path, directory: &Path) -> Settings {
        let path = |key: &str| ini.value(key).map(|text| directory.join(text));
        let place = ServerHome {
            kind: ServerKind::PgBouncer,
            path: config_file.to_owned(),
        };
        let listen = ini.value("listen_addr").unwrap_or_default();
        let port = ini.value("listen_port");
        let shares = ini.value("so_reuseport");
        Settings {
            pid_file: path("pidfile"),
            listen: listen
                .split(',')
                .map(|name| name.trim().to_owned())
                .filter(|word| !word.is_empty())
                .collect(),
            port: port
                .map_or(Some(PORT), |line| line.parse().ok())
                .filter(|port| *port > 0),
            shares_port: shares.is_some_and(|said| said.parse() != Ok(0)),
            tls: TlsSettings {
                names: Names::for_home(&place),
                on: !matches!(ini.value("client_tls_sslmode"), None | Some("disable")),
                cert_file: path("client_tls_cert_file").unwrap_or_default(),
                key_file: path("client_tls_key_file").unwrap_or_default(),
                trust_files: TrustFiles {
                    ca: path("client_tls_ca_file"),
                    crl: None,
                },
                hosts: None,
                asked_names: Vec::new(),
            },
            client_cert: path("server_tls_cert_file")
                .filter(|_| ini.value("server_tls_sslmode") != Some("disable")),
            ciphers: ini.value("client_tls_ciphers").map(str::to_owned),
            protocols: ini.value("client_tls_protocols").map(str::to_owned),
            files: ini.files.clone(),
        }
    }

    /// What makes the certificate for its clients one of its own as a client, in words; none where
    /// nothing does.
    pub(crate) fn client_use(&self) -> Option<String> {
        let named = self.client_cert.as_deref()?;
        is_same_file(named, &self.tls.cert_file).then(|| {
            "server_tls_cert_file names it too, so that PgBouncer shows it to PostgreSQL as a client"
                .to_owned()
        })
    }

    /// Where it listens for clients, best first.
    ///
    /// # Errors
    /// Nowhere over TCP, or where others may answer for it.
    pub(crate) fn addresses(&self) -> Result<Vec<Address>, Problem> {
        let (Some(port), false) = (self.port, self.listen.is_empty()) else {
            return Err(Problem::new(
                "PgBouncer listens on Unix sockets alone, over which it speaks no TLS",
                "set listen_addr, or verify = \"none\"",
            ));
        };
        if self.shares_port {
            return Err(Problem::new(
                format!(
                    "so_reuseport lets other processes answer at port {port} as well, so that no connection tells what this one serves"
                ),
                ALONE,
            ));
        }
        let listen = self.listen.iter();
        Ok(listen
            .flat_map(|host| Address::from_listen(host, port))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that panics has failed")]
    use super::*;

    fn settings(lines: &str) -> Settings {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pgbouncer.ini");
        std::fs::write(&file, format!("[pgbouncer]\n{lines}")).unwrap();
        Settings::read(&file, Path::new("/work-dir")).unwrap()
    }

    fn addresses(lines: &str) -> Result<Vec<String>, Problem> {
        let addresses = settings(lines).addresses()?;
        Ok(addresses.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn tls_is_off_where_nothing_is_said_and_a_relative_path_is_one_of_the_working_directory() {
        let none = settings("");
        assert!(!none.tls.on && none.tls.cert_file.as_os_str().is_empty());
        assert_eq!(none.pid_file, None);
        assert!(!settings("client_tls_sslmode = disable\n").tls.on);
        let some = settings(
            "client_tls_sslmode = allow\nclient_tls_cert_file = c.pem\nclient_tls_key_file = /k.pem\npidfile = p\n",
        );
        assert!(some.tls.on);
        assert_eq!(some.tls.cert_file, Path::new("/work-dir/c.pem"));
        assert_eq!(some.tls.key_file, Path::new("/k.pem"));
        assert_eq!(some.pid_file.as_deref(), Some(Path::new("/work-dir/p")));
    }

    #[test]
    fn a_certificate_that_it_shows_to_its_servers_too_is_a_clients() {
        let both = "client_tls_cert_file = c.pem\nserver_tls_cert_file = /work-dir/c.pem\n";
        let is_client = |lines: &str| settings(lines).client_use().is_some();
        assert!(is_client(both));
        assert!(is_client(&format!(
            "{both}server_tls_sslmode = verify-full\n"
        )));
        assert!(!is_client(&format!("{both}server_tls_sslmode = disable\n")));
        assert!(!is_client(
            "client_tls_cert_file = c.pem\nserver_tls_cert_file = d.pem\n"
        ));
        assert!(!is_client("client_tls_cert_file = c.pem\n"));
    }

    #[test]
    fn it_is_looked_at_wherever_it_listens() {
        assert_eq!(
            addresses("listen_addr = *\n").unwrap(),
            ["127.0.0.1:6432", "[::1]:6432"]
        );
        assert_eq!(
            addresses("listen_addr = 10.0.0.1 , db.example.com\nlisten_port = 5432\n").unwrap(),
            ["10.0.0.1:5432", "db.example.com:5432"]
        );
    }

    #[test]
    fn where_no_connection_tells_it_is_said_what_to_set() {
        for (lines, words) in [
            ("", "Unix sockets alone"),
            ("listen_addr = *\nlisten_port = 0\n", "Unix sockets alone"),
            ("listen_addr = *\nso_reuseport = 1\n", "so_reuseport"),
        ] {
            let why = addresses(lines).unwrap_err();
            assert!(why.to_string().contains(words), "{why}");
        }
    }
}
