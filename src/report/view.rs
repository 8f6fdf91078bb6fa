//! What is shown of the instances: by `status`, in `status.json`, in JSON. No keys.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use serde::{Deserialize, Serialize};

use crate::bundle::{Bundle, ClientTrust, Expiry, Fingerprint, Piece, Thresholds, TrustFiles};
use crate::config;
use crate::deploy::state::{Observation, State};
use crate::host::directory::ReachError;
use crate::host::file;
use crate::host::slot::FileSlot;
use crate::problem::Problem;
use crate::trust::Needed;

/// The version of the JSON documents.
pub(crate) const VERSION: u32 = 1;

/// The daemon's last view, in the runtime directory.
pub(crate) const FILE: &str = "status.json";

/// How large it may be, in bytes. A thousand instances with some names each take half of it; what is made of one
/// that holds nothing but the smallest parts still fits into some tens of megabytes.
const LARGEST: u64 = 4 << 20;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CertificateView {
    /// SHA-256 of the DER.
    pub(crate) fingerprint: Fingerprint,
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
    /// The first to end of the certificates that clients need with it; none where it ends first itself.
    #[serde(default)]
    pub(crate) chain_end: Option<EndView>,
    /// The names that it holds for.
    pub(crate) names: Vec<String>,
    pub(crate) issuer: String,
    pub(crate) serial: String,
    /// How near to its end what ends first was when it was looked at.
    pub(crate) expiry: Expiry,
}

impl CertificateView {
    /// Shows what clients `needed` of a chain, at `now`.
    pub(crate) fn from_needed(needed: &Needed<'_>, now: Timestamp, thresholds: Thresholds) -> Self {
        let (leaf, first) = (needed.leaf(), needed.first_end());
        CertificateView {
            fingerprint: leaf.fingerprint(),
            not_before: leaf.not_before(),
            not_after: leaf.not_after(),
            chain_end: (first != leaf).then(|| EndView {
                name: first.subject().to_owned(),
                fingerprint: first.fingerprint(),
                not_before: first.not_before(),
                not_after: first.not_after(),
                expiry: first.expiry(now, thresholds),
            }),
            names: leaf.names().to_vec(),
            issuer: leaf.issuer().to_owned(),
            serial: leaf.serial().to_owned(),
            expiry: first.expiry(now, thresholds),
        }
    }

    /// From when to when clients take it: the dates of what ends first.
    pub(crate) fn term(&self) -> (Timestamp, Timestamp) {
        let own = (self.not_before, self.not_after);
        let first = self.chain_end.as_ref();
        first.map_or(own, |end| (end.not_before, end.not_after))
    }

    /// How near to its end that is at `now`.
    pub(crate) fn expiry_at(&self, now: Timestamp, thresholds: Thresholds) -> Expiry {
        let (begin, end) = self.term();
        Expiry::from_validity(begin, end, now, thresholds)
    }

    /// With what is left at `now`.
    fn look_at(&mut self, now: Timestamp, thresholds: Thresholds) {
        self.expiry = self.expiry_at(now, thresholds);
        if let Some(first) = &mut self.chain_end {
            first.expiry = self.expiry;
        }
    }
}

/// A file by which a server judges its clients, as shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CompanionView {
    /// SHA-256 of the file as pgcertd writes it.
    pub(crate) digest: Fingerprint,
    /// What of it ends first; none where nothing of it ends.
    pub(crate) first_end: Option<EndView>,
}

/// A CA, an intermediate or a CRL, as shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EndView {
    /// Its distinguished name; of a CRL its CA's.
    pub(crate) name: String,
    /// SHA-256 of the DER.
    pub(crate) fingerprint: Fingerprint,
    /// Start of its validity; of a CRL its thisUpdate.
    pub(crate) not_before: Timestamp,
    /// End of its validity; of a CRL its nextUpdate.
    pub(crate) not_after: Timestamp,
    /// How near to its end it was when it was looked at.
    pub(crate) expiry: Expiry,
}

/// Where such a file is seen; no handshake shows what the server has loaded of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CompanionPlaces {
    /// Where it comes from; none where there is none, or none that can be used.
    pub(crate) source: Option<CompanionView>,
    pub(crate) installed: Option<CompanionView>,
}

impl CompanionPlaces {
    fn from_piece(
        piece: Piece,
        source: Option<&Bundle>,
        installed: Option<&Bundle>,
        now: Timestamp,
    ) -> CompanionPlaces {
        let shown = |bundle: &Bundle| CompanionView::from_piece(piece, bundle.client_trust(), now);
        CompanionPlaces {
            source: source.and_then(shown),
            installed: installed.and_then(shown),
        }
    }

    /// With what is left at `now`.
    fn look_at(&mut self, piece: Piece, now: Timestamp) {
        let places = [&mut self.source, &mut self.installed];
        let ends = places
            .into_iter()
            .flatten()
            .flat_map(|view| &mut view.first_end);
        for end in ends {
            end.expiry = piece.expiry(end.not_before, end.not_after, now, Thresholds::default());
        }
    }
}

impl CompanionView {
    fn from_piece(piece: Piece, companions: &ClientTrust, now: Timestamp) -> Option<CompanionView> {
        let text = companions.pem(piece)?;
        let first_end = companions.first_end(piece, now).map(|end| EndView {
            name: end.name.to_owned(),
            fingerprint: end.fingerprint,
            not_before: end.begin,
            not_after: end.end,
            expiry: end.expiry,
        });
        Some(CompanionView {
            digest: Fingerprint::from_der(&text),
            first_end,
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InstanceView {
    pub(crate) name: String,
    pub(crate) lineage: String,
    pub(crate) state: State,
    /// One sentence: what, and the remedy.
    pub(crate) problem: Option<String>,
    /// The same in two parts, as a person reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) details: Option<Problem>,
    pub(crate) source: Option<CertificateView>,
    pub(crate) installed: Option<CertificateView>,
    pub(crate) served: Option<CertificateView>,
    /// The files by which the server judges its clients, where the instance has them.
    #[serde(flatten)]
    pub(crate) trust_files: TrustFiles<CompanionPlaces>,
    /// How long before its end its certificate is reported, where the configuration says so.
    #[serde(default, skip_serializing_if = "Thresholds::are_usual")]
    pub(crate) thresholds: Thresholds,
}

impl InstanceView {
    pub(crate) fn from_config(config: &config::InstanceConfig, seen: &Observation) -> InstanceView {
        let (state, problem) = seen.state(config);
        let installed = seen
            .sight
            .as_ref()
            .ok()
            .and_then(|sight| sight.look.installed.bundle());
        let shown = |bundle: &Bundle| {
            CertificateView::from_needed(&seen.needed(bundle), seen.at, config.expiry)
        };
        let served = seen.served.as_ref().ok().map(|served| {
            let rest = served.rest();
            let needed = Needed::new(&served.leaf, &rest, &seen.roots, seen.at);
            CertificateView::from_needed(&needed, seen.at, config.expiry)
        });
        let source = seen.source.bundle().map(|b| &**b);
        let beside =
            |piece| CompanionPlaces::from_piece(piece, source, installed.map(|b| &**b), seen.at);
        InstanceView {
            name: config.name.clone(),
            lineage: config.lineage.name.clone(),
            state,
            problem: problem.as_ref().map(Problem::to_string),
            details: problem,
            source: source.map(shown),
            installed: installed.map(|b| shown(b)),
            served,
            trust_files: TrustFiles::from_pieces(beside),
            thresholds: config.expiry,
        }
    }

    /// The same view, with what is left of its certificates at `now`.
    pub(crate) fn seen_at(mut self, now: Timestamp) -> InstanceView {
        let certificates = [&mut self.source, &mut self.installed, &mut self.served];
        for certificate in certificates.into_iter().flatten() {
            certificate.look_at(now, self.thresholds);
        }
        self.trust_files
            .iter_mut()
            .for_each(|(piece, places)| places.look_at(piece, now));
        self
    }
}

/// What the daemon says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DaemonView {
    pub(crate) version: String,
    pub(crate) pid: u32,
    pub(crate) since: Timestamp,
}

/// All instances at one moment, each owned or borrowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StatusView<I = InstanceView> {
    /// [`VERSION`].
    pub(crate) version: u32,
    /// The instances, in the config's order.
    pub(crate) instances: Vec<I>,
    /// Data directories of postmasters on this host that no instance covers.
    pub(crate) uncovered: Vec<PathBuf>,
    /// Why there may be more of those than were found.
    #[serde(default)]
    pub(crate) uncovered_unknown: Option<String>,
    pub(crate) checked: Timestamp,
    /// The daemon, where one runs.
    pub(crate) daemon: Option<DaemonView>,
}

impl StatusView {
    /// Whether all is well; see [`InstanceView::is_well`].
    pub(crate) fn is_well(&self, now: Timestamp) -> bool {
        self.uncovered_unknown.is_none() && self.instances.iter().all(|i| i.is_well(now))
    }

    /// Whether the daemon that wrote this view still runs, as far as its number tells.
    pub(crate) fn daemon_lives(&self) -> bool {
        let pid = |daemon: &DaemonView| Pid::from_raw(i32::try_from(daemon.pid).ok()?);
        // /proc may hide the processes of other users.
        self.daemon
            .as_ref()
            .and_then(pid)
            .is_some_and(|pid| test_kill_process(pid) != Err(Errno::SRCH))
    }

    /// Reads the daemon's last view; `None` where there is none.
    ///
    /// Whoever reads it may be root, and whoever writes it is the daemon's user: it is read as what somebody else
    /// publishes, and must belong to the owner of the runtime directory, to root or to the reader.
    ///
    /// # Errors
    /// It cannot be read, or is none.
    pub(crate) fn read(runtime_directory: &Path) -> std::io::Result<Option<StatusView>> {
        let directory = match std::fs::metadata(runtime_directory) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            directory => directory?,
        };
        let owners = [directory.uid(), 0, rustix::process::geteuid().as_raw()];
        match file::read_owned(&runtime_directory.join(FILE), &owners, LARGEST) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            read => Ok(Some(serde_json::from_slice(&read?)?)),
        }
    }

    /// How long ago this was seen. By a clock that was set back since, or in a view that is forged, it may have been
    /// in the future, and is as doubtful then as if it had been as long ago.
    pub(crate) fn age(&self, now: Timestamp) -> SignedDuration {
        now.duration_since(self.checked).abs()
    }
}

/// Puts the document of a view where every user may read it.
///
/// # Errors
/// The runtime directory cannot be written.
pub(crate) fn publish(document: &str, runtime_directory: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(runtime_directory)?;
    let slot = FileSlot::open(&runtime_directory.join(FILE)).map_err(ReachError::into_io)?;
    // Whatever the umask: it holds nothing secret, and every user may ask.
    slot.stage(document.as_bytes(), 0o644, None)?;
    Ok(slot.commit()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text;

    /// What programs read, as it was recorded: `status --json` without its white space, and `status.json`.
    const RECORDED: &str = include_str!("../../tests/fixtures/status.json");

    #[test]
    fn the_document_of_status_stays_as_it_was_recorded() {
        let view: StatusView = serde_json::from_str(RECORDED).expect("a view");
        assert_eq!(
            text::json(&view, true).expect("a document"),
            RECORDED.trim_end()
        );
        let problem = view.instances[0].details.as_ref().expect("a problem");
        assert_eq!(view.instances[0].problem, Some(problem.to_string()));
    }
}
