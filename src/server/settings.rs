//! What an instance's configuration says of its TLS files, asked of Postgres itself.
//!
//! How it is asked is in [`Program`](super::program::Program).

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustls::pki_types::DnsName;
use rustls::pki_types::pem::{PemObject, SectionKind};

use crate::bundle::{Bundle, Certificate, Piece, TrustFiles};
use crate::config;
use crate::host::command::CommandError;
use crate::host::look::{CannotLook, is_same_file, same_file};
use crate::host::namespaces;
use crate::host::patience::Questions;
use crate::problem::Problem;
use crate::server::hosts::Hosts;
use crate::server::probe::AskedName;
use crate::server::setting_names::read_bounded;
pub(crate) use crate::server::setting_names::{FIX_FIRST, Names};

/// The settings that decide which certificate is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsSettings {
    /// What the server calls them.
    pub(crate) names: Names,
    pub(crate) on: bool,
    /// The certificate, as an absolute path; empty where it is not set.
    pub(crate) cert_file: PathBuf,
    /// Its key, as an absolute path; empty where it is not set.
    pub(crate) key_file: PathBuf,
    /// The files by which it judges its clients, where set.
    pub(crate) trust_files: TrustFiles<Option<PathBuf>>,
    /// Where the name that a client asks for decides which files it gets (`ssl_sni`, from PostgreSQL 19 on): by what.
    pub(crate) hosts: Option<Hosts>,
    /// The names that count for an instance.
    pub(crate) asked_names: Vec<AskedName>,
}

/// The names that a server is to serve `bundle` for: those that clients verify; where the config does not say, the first
/// of the leaf itself, and none. PostgreSQL 19 answers by name, and others answer all names alike.
pub(super) fn asked_names(
    config: &config::InstanceConfig,
    bundle: Option<&Bundle>,
) -> Vec<AskedName> {
    if config.kind() != config::ServerKind::Postgres {
        let address = config.address.as_ref();
        return vec![address.map_or(AskedName::Absent, |entry| AskedName::by_host(&entry.host))];
    }
    let mut names: Vec<AskedName> = Vec::new();
    for name in &config.server_names {
        let name = AskedName::by_host(&name.to_str());
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if names.is_empty() {
        let is_host = |name: &&String| DnsName::try_from(name.as_str()).is_ok();
        let of_leaf = bundle.and_then(|bundle| bundle.leaf().names().iter().find(is_host));
        names.extend(of_leaf.cloned().map(AskedName::Host));
        names.push(AskedName::Absent);
    }
    names
}

impl TlsSettings {
    /// The same for the names of `config` that count with `bundle`. Where the config has none, a client that asks for
    /// none counts only if the server's configuration does not give it something else.
    pub(crate) fn for_instance(
        self,
        config: &config::InstanceConfig,
        bundle: Option<&Bundle>,
    ) -> TlsSettings {
        let mut names = asked_names(config, bundle);
        let (cert, key) = (&config.cert_file, &config.key_file);
        let gives = |name: &AskedName| {
            self.hosts()
                .is_none_or(|entry| entry.gives(name, cert, key))
        };
        if config.server_names.is_empty() && names.len() > 1 && !gives(&AskedName::Absent) {
            names.retain(|name| *name != AskedName::Absent);
        }
        TlsSettings {
            asked_names: names,
            ..self
        }
    }

    /// The same for a server whose root directory is to be seen at `root`, with the files of `known` by their names
    /// here. Blocks.
    ///
    /// # Errors
    /// What it calls a file cannot be looked at.
    pub(super) fn through(
        mut self,
        root: &Path,
        known: &[&Path],
    ) -> Result<TlsSettings, CannotLook> {
        self.cert_file = namespaces::as_here(root, self.cert_file, known)?;
        self.key_file = namespaces::as_here(root, self.key_file, known)?;
        let found = |path| namespaces::found(root, path);
        let ca = &mut self.trust_files.ca;
        *ca = ca.take().map(found).transpose()?;
        Ok(self)
    }

    /// Why the server does not use `cert_file` and `key_file`; `None` if it does.
    ///
    /// # Errors
    /// Whether the files that it names are these is not known.
    pub(crate) fn not_used(
        &self,
        cert_file: &Path,
        key_file: &Path,
    ) -> Result<Option<Problem>, CannotLook> {
        if !self.on {
            return Ok(Some(self.names.tls_off()));
        }
        self.other_files(cert_file, key_file)
    }

    /// The file that decides by name, where it says anything: without that the settings count.
    pub(crate) fn hosts(&self) -> Option<&Hosts> {
        self.hosts.as_ref().filter(|hosts| !hosts.is_empty())
    }

    /// Why the server does not use an instance's CA and CRL files; `None` if it does, or there are
    /// none. That the pair is used says nothing of them.
    ///
    /// # Errors
    /// Whether the files that it names are these is not known.
    pub(crate) fn companions_not_used(
        &self,
        config: &config::InstanceConfig,
    ) -> Result<Option<Problem>, CannotLook> {
        if let (Some(hosts), Some(ca)) = (self.hosts(), &config.ca)
            && let Some(not_used) = hosts.ca_not_used(&self.asked_names, &ca.file)?
        {
            return Ok(Some(not_used));
        }
        for (piece, companion) in config.trust_files().present() {
            if piece == Piece::Ca && self.hosts().is_some() {
                continue;
            }
            let setting = Names::postgres().trust_file(piece);
            let named = self.trust_files.get(piece).and_then(Option::as_ref);
            let wanted = &companion.file;
            let what = match named {
                Some(named) if same_file(named, wanted)? => continue,
                Some(named) => {
                    let named = named.display();
                    format!("{setting} = {named}, which pgcertd does not write")
                }
                None => format!("{setting} is not set, and pgcertd keeps a file for it"),
            };
            let fix = format!("set {setting} = '{}' and reload", wanted.display());
            return Ok(Some(Problem::new(what, fix)));
        }
        Ok(None)
    }

    /// Why the configuration names other files, whether TLS is on or not; `None` if it names these.
    ///
    /// # Errors
    /// Whether the files that it names are these is not known.
    pub(crate) fn other_files(
        &self,
        cert_file: &Path,
        key_file: &Path,
    ) -> Result<Option<Problem>, CannotLook> {
        if let Some(hosts) = self.hosts() {
            return hosts.not_used(&self.asked_names, cert_file, key_file);
        }
        let (setting, named) = if !same_file(&self.cert_file, cert_file)? {
            (self.names.cert.name, &self.cert_file)
        } else if !same_file(&self.key_file, key_file)? {
            (self.names.key.name, &self.key_file)
        } else {
            return Ok(None);
        };
        let what = if named.as_os_str().is_empty() {
            format!("{setting} is not set")
        } else {
            let named = named.display();
            format!("{setting} = {named}, which pgcertd does not write")
        };
        let fix = self.names.fix(cert_file, key_file);
        Ok(Some(Problem::new(what, fix)))
    }

    /// Faults in other files than the instance's that a reload loads as one with its certificate: CAs, CRLs, and what
    /// other names get. Blocks, for a second at most whatever those files lie on.
    pub(crate) fn faults_elsewhere(&self, config: &config::InstanceConfig) -> Vec<Problem> {
        let own: Vec<&Path> = config.targets().collect();
        self.faults_among(|file| own.iter().any(|own| is_same_file(own, file)))
    }

    /// Whether one of those files was changed at `since` or later. Blocks, as the other.
    pub(crate) fn changed_elsewhere(
        &self,
        config: &config::InstanceConfig,
        since: SystemTime,
    ) -> bool {
        let own: Vec<&Path> = config.targets().collect();
        let files = self.trust_files.present().map(|(_, file)| file.clone());
        let by_name = self.hosts().into_iter().flat_map(Hosts::all_files);
        let mut files: Vec<PathBuf> = files.chain(by_name).collect();
        files.retain(|file| !own.iter().any(|own| is_same_file(own, file)));
        let changed = Questions::default().ask(files, move |file| {
            let meta = std::fs::metadata(file).ok()?;
            let changed = Duration::new(
                meta.ctime().try_into().ok()?,
                meta.ctime_nsec().try_into().ok()?,
            );
            Some(SystemTime::UNIX_EPOCH + changed >= since)
        });
        changed.into_values().any(|flag| flag == Some(true))
    }

    /// Whether what the server says of its TLS is about the certificate or the key that these settings name.
    pub(crate) fn is_pair_named_by(&self, said: &str) -> bool {
        is_named_by(said, &self.cert_file)
            || is_named_by(said, &self.key_file)
            || said.starts_with("check of private key failed")
    }

    /// The same of all files, also the instance's.
    pub(crate) fn faults(&self) -> Vec<Problem> {
        self.faults_among(|_| false)
    }

    fn faults_among(&self, is_own: impl Fn(&Path) -> bool) -> Vec<Problem> {
        let TrustFiles { ca, crl } = self.names.trust_files;
        let named_ca = |file| (ca.to_owned(), file);
        let mut named: BTreeSet<(String, PathBuf)> = BTreeSet::new();
        named.extend(
            self.trust_files
                .crl
                .clone()
                .map(|file| (crl.to_owned(), file)),
        );
        match self.hosts() {
            None => named.extend(self.trust_files.ca.clone().map(named_ca)),
            Some(hosts) => named.extend(hosts.ca_files()),
        }
        named.retain(|(_, file)| !is_own(file));
        let mut seen = Questions::default().ask(named.clone(), move |(place, path)| {
            let wanted = if place == crl {
                SectionKind::Crl
            } else {
                SectionKind::Certificate
            };
            match read_bounded(path) {
                Err(error) => Some(error.to_string()),
                Ok(bytes) => pem_fault(&bytes, wanted),
            }
        });
        let fault = |(place, path): (String, PathBuf)| {
            let answer = seen.remove(&(place.clone(), path.clone()));
            let fault = match answer {
                None => "its file system does not answer".to_owned(),
                Some(fault) => fault?,
            };
            let what = format!("{place} = {}: {fault}", path.display());
            Some(Problem::new(what, FIX_FIRST))
        };
        let mut faults: Vec<Problem> = named.into_iter().filter_map(fault).collect();
        if let Some(hosts) = self.hosts() {
            faults.extend(hosts.faults_of_file());
            faults.extend(hosts.faults_of_pairs(is_own));
        }
        faults
    }
}

/// Whether a server's words are about this file, which it puts in quotes.
pub(crate) fn is_named_by(said: &str, file: &Path) -> bool {
    said.contains(&format!("\"{}\"", file.display()))
}

/// What is wrong with a PEM file that should hold blocks of one kind; `None` if nothing is.
fn pem_fault(bytes: &[u8], wanted: SectionKind) -> Option<String> {
    let mut any = false;
    for block in <(SectionKind, Vec<u8>)>::pem_slice_iter(bytes) {
        match block {
            Err(_) => return Some("it holds a broken PEM block".into()),
            Ok((kind, der)) if kind == wanted => {
                if kind == SectionKind::Certificate && Certificate::from_der(der).is_err() {
                    return Some("it holds a certificate that cannot be parsed".into());
                }
                any = true;
            }
            Ok(_) => {}
        }
    }
    (!any).then(|| "it holds no PEM block of the kind that is wanted there".into())
}

/// The configuration could not be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    /// The postmaster's executable may not be looked at, or is not at its path here.
    #[error("the executable of postmaster {pid} cannot be run from here")]
    NoExecutable { pid: u32 },
    /// It is a program that nobody should run for its server.
    #[error("what the server's configuration says cannot be asked: {0}")]
    Untrusted(#[source] CommandError),
    /// It did not take its configuration, or knows no such setting.
    #[error("{executable} -C {setting}: {said}")]
    Refused {
        executable: String,
        setting: &'static str,
        said: String,
    },
    /// Whether the files that it names are those of the instance is not known.
    #[error("{}", .0.problem())]
    NotKnown(#[from] CannotLook),
    /// The configuration of a server of another kind cannot be read.
    #[error("{reason}")]
    Unreadable { reason: String },
    /// `postgres -C` could not be started, or took too long.
    #[error("{executable} -C {setting}: {reason}")]
    Asking {
        executable: String,
        setting: &'static str,
        reason: String,
    },
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that panics has failed")]
    use super::*;

    #[test]
    fn a_fifo_or_an_endless_file_that_a_setting_names_holds_nobody_up() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("ca.pem");
        let kind = rustix::fs::FileType::Fifo;
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, kind, mode, 0).unwrap();
        let settings = TlsSettings {
            names: Names::postgres(),
            on: true,
            cert_file: "/c".into(),
            key_file: "/k".into(),
            trust_files: TrustFiles {
                ca: Some(fifo),
                crl: Some("/dev/zero".into()),
            },
            hosts: None,
            asked_names: Vec::new(),
        };
        let faults = settings.faults();
        assert!(faults[0].what.starts_with("ssl_ca_file = "), "{faults:?}");
        assert!(faults[1].what.starts_with("ssl_crl_file = "), "{faults:?}");
    }
}
