//! Would the server start again: its configuration, and every file that it names, as the server
//! itself would load them.
//!
//! What a reload leaves as it was, a start does not survive: a fault in `postgresql.conf`, in
//! `pg_hba.conf`, in the certificate, the key, the CA's or the CRL's file.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use zeroize::Zeroizing;

use super::edits::Edits;
use super::{Answers, Case, Eyes, unanswered, unknown};
use crate::bundle::{BundleError, KeyedBundle};
use crate::doctor::{Finding, Kind};
use crate::instance::Sight;
use crate::instance::files::key_rule;
use crate::instance::hba::{Dialect, OnDisk, Rules};
use crate::instance::program::Surroundings;
use crate::instance::settings::{SettingsError, TlsSettings, read_bounded};
use crate::privilege::Ids;

/// What keeps a server from starting.
struct Fault {
    what: String,
    of: Origin,
    /// Whether a file could not be read for lack of a right.
    denied: bool,
}

/// In what.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// The certificate or the key.
    Pair,
    /// Something that a person has to mend.
    Other,
}

pub(super) async fn finding(
    case: &Case,
    sight: &Sight,
    answers: &Answers,
    edits: &Edits,
    eyes: &Eyes,
) -> Finding {
    let kind = Kind::Restart;
    let (tls, around) = match (&answers.tls, &answers.around) {
        (Err(SettingsError::Refused { said, .. }), _)
        | (_, Err(SettingsError::Refused { said, .. })) => {
            return Finding::problem(kind, format!("the server would not start: {said}"))
                .sentence("mend the file at that line, and run check again");
        }
        (Err(error), _) | (_, Err(error)) => {
            let what = "whether the server could start again is not known";
            return unanswered(kind, sight, what, error);
        }
        (Ok(tls), Ok(around)) => (tls.clone(), around.clone()),
    };
    let server = sight.targets.server;
    let named = (tls.clone(), around.clone());
    let faults = match eyes.see(move || faults(&named.0, &named.1, server)).await {
        Err(error) => return Finding::problem(kind, error.to_string()),
        Ok(faults) => faults,
    };
    let Some(worst) = faults.first() else {
        return Finding::good(kind, "the server could start again");
    };
    let own = Ids::own().uid;
    if own != 0 && own != server.uid && faults.iter().all(|fault| fault.denied) {
        let seen = format!(
            "whether the server could start again is not known: {}",
            worst.what
        );
        return unknown(kind, sight, seen);
    }
    let all: Vec<&str> = faults.iter().map(|it| it.what.as_str()).collect();
    let finding = Finding::problem(
        kind,
        format!("the server would not start: {}", all.join("; ")),
    );
    let ours = {
        let config = case.instance();
        tls.other_files(&config.cert_file, &config.key_file) == Ok(None)
    };
    match worst.of {
        Origin::Pair if ours && sight.targets.key_fault(&sight.look.found).is_some() => {
            finding.command(super::files::owned(&sight.targets))
        }
        Origin::Pair if ours => finding.command(case.sync(&[])),
        Origin::Pair => edits.set_up(finding, sight, case.setup(&[])),
        Origin::Other => finding.sentence("mend that file, and do not restart the server before"),
    }
}

/// Runs with the rights of the server's user.
fn faults(tls: &TlsSettings, around: &Surroundings, server: Ids) -> Vec<Fault> {
    let mut faults = Vec::new();
    if tls.on {
        if tls.hosts().is_none() {
            faults.extend(of_pair(tls, around.opens_keys, server));
        }
        let elsewhere = tls.faults().into_iter();
        faults.extend(elsewhere.map(|what| Fault::new(what, Origin::Other)));
    }
    let hba = around.hba_file();
    match Rules::read(hba, Dialect::of(around.version), &OnDisk) {
        Err(error) => faults.push(Fault::unreadable("hba_file", hba, &error, Origin::Other)),
        Ok(rules) => faults.extend(rules.faults.first().map(|(file, line, why)| {
            let what = format!("{} line {line}: {why}", file.display());
            Fault::new(what, Origin::Other)
        })),
    }
    faults
}

impl Fault {
    fn new(what: String, of: Origin) -> Fault {
        let denied = false;
        Fault { what, of, denied }
    }

    fn unreadable(setting: &str, path: &Path, error: &std::io::Error, of: Origin) -> Fault {
        Fault {
            what: format!("{setting} = {}: {error}", path.display()),
            of,
            denied: error.kind() == std::io::ErrorKind::PermissionDenied,
        }
    }
}

/// What is wrong with the certificate and the key that the configuration names.
fn of_pair(tls: &TlsSettings, opens_keys: bool, server: Ids) -> Option<Fault> {
    let (cert, key) = (&tls.cert_file, &tls.key_file);
    let unreadable =
        |setting, path, error| Some(Fault::unreadable(setting, path, &error, Origin::Pair));
    let chain = match read_bounded(cert) {
        Ok(bytes) => Zeroizing::new(bytes),
        Err(error) => return unreadable("ssl_cert_file", cert, error),
    };
    let meta = match std::fs::metadata(key) {
        Ok(meta) => meta,
        Err(error) => return unreadable("ssl_key_file", key, error),
    };
    let ids = Ids {
        uid: meta.uid(),
        gid: meta.gid(),
    };
    if let Err(fault) = key_rule(ids, meta.mode() & 0o7777, server.uid) {
        let what = format!("ssl_key_file = {} {fault}", key.display());
        return Some(Fault::new(what, Origin::Pair));
    }
    let bytes = match read_bounded(key) {
        Ok(bytes) => Zeroizing::new(bytes),
        Err(error) => return unreadable("ssl_key_file", key, error),
    };
    let error = KeyedBundle::parse(&[&chain], &bytes).err()?;
    refused_by_postgres(&error, opens_keys).then(|| {
        let what = format!("ssl_cert_file = {}: {error}", cert.display());
        Fault::new(what, Origin::Pair)
    })
}

/// Whether Postgres, which looks at the leaf, the key and the digests, refuses what pgcertd's own
/// checks do.
fn refused_by_postgres(error: &BundleError, opens_keys: bool) -> bool {
    match error {
        BundleError::EncryptedKey { .. } => !opens_keys,
        BundleError::NotLinked { .. }
        | BundleError::Duplicate { .. }
        | BundleError::TooManyCertificates { .. }
        | BundleError::UncommonCertificate { .. }
        | BundleError::UnsupportedLeaf { .. }
        | BundleError::UnusableKey { .. }
        | BundleError::TwoKeys => false,
        _ => true,
    }
}
