//! Whom the server lets in without encryption, by the rules that it has loaded.
//!
//! No query shows those: `pg_hba_file_rules` reads the file. What the file says counts where the server has surely loaded it
//! as it is: at its start, or at a reload since the last change if its own program loads it now. A reload that could not
//! load it has kept other rules, which are in no file any more.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::served::Listeners;
use super::{Case, ServerAnswers, ServerReader, unknown};
use crate::check::{Finding, FindingKind};
use crate::host::privilege::PrivilegeError;
use crate::server::InstanceSnapshot;
use crate::server::dry_start::{DryStart, LoadStage};
use crate::server::hba::{Dialect, OnDisk, Rules};
use crate::server::postmaster::Postmaster;

/// How many lines are shown.
const SHOWN: usize = 3;

/// What is known of the rules by which a server lets clients in.
pub(super) enum LoadedRules {
    /// The file does not load, so that others are in force: the server's words.
    Others(String),
    /// The file cannot be read.
    Unreadable(PathBuf, io::Error),
    /// The thread that reads as the server's user failed.
    Unlooked(PrivilegeError),
    /// The lines of the file that let clients of other hosts in unencrypted, each with its place.
    OnDisk {
        exposed: Vec<String>,
        /// Why it is not known whether the server has loaded the file as it is.
        doubt: Option<Doubt>,
    },
}

/// Why a server may go by other rules than the file has.
pub(super) struct Doubt {
    why: String,
    /// Whether a reload ends it.
    ends_by_reload: bool,
}

/// Reads them; nothing where the server's configuration could not be asked, of which `restart` tells.
pub(super) async fn rules(
    postmaster: &Postmaster,
    answers: &ServerAnswers,
    tried: &DryStart,
    loaded: Option<SystemTime>,
    eyes: &ServerReader,
) -> Option<LoadedRules> {
    let around = answers.around.as_ref().ok()?.clone();
    if let DryStart::Fails {
        stage: LoadStage::HostRules,
        said,
    } = tried
    {
        return Some(LoadedRules::Others(said.clone()));
    }
    let file = around.hba_file().to_owned();
    let looked = eyes.see({
        let file = file.clone();
        move || {
            let rules = Rules::read(&file, Dialect::from_version(around.version), &OnDisk)?;
            Ok::<_, io::Error>((exposed(&rules), changed(&rules)?))
        }
    });
    Some(match looked.await {
        Err(error) => LoadedRules::Unlooked(error),
        Ok(Err(error)) => LoadedRules::Unreadable(file, error),
        Ok(Ok((exposed, changed))) => LoadedRules::OnDisk {
            exposed,
            doubt: doubt(&file, changed, began(postmaster), loaded, tried),
        },
    })
}

/// When the server had not read its configuration yet.
fn began(postmaster: &Postmaster) -> SystemTime {
    let seconds = u64::try_from(postmaster.file.start_time).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// When the last of the files was put in place, written or given away: a file of an earlier date may have been moved there.
fn changed(rules: &Rules) -> io::Result<SystemTime> {
    let files: BTreeSet<&Path> = rules
        .texts
        .keys()
        .chain(&rules.directories)
        .map(PathBuf::as_path)
        .collect();
    let mut last = SystemTime::UNIX_EPOCH;
    for file in files {
        let meta = std::fs::metadata(file)?;
        let (seconds, nanoseconds) = (meta.ctime(), meta.ctime_nsec());
        let since = Duration::new(
            u64::try_from(seconds).unwrap_or_default(),
            u32::try_from(nanoseconds).unwrap_or_default(),
        );
        last = last.max(SystemTime::UNIX_EPOCH + since);
    }
    Ok(last)
}

/// Why the server may have other rules loaded than those of `file`, which was `changed` then.
fn doubt(
    file: &Path,
    changed: SystemTime,
    began: SystemTime,
    loaded: Option<SystemTime>,
    tried: &DryStart,
) -> Option<Doubt> {
    let file = file.display();
    if changed < began {
        return None;
    }
    let why = match loaded {
        Some(loaded) if changed <= loaded && *tried == DryStart::Loads => return None,
        Some(loaded) if changed <= loaded => {
            return Some(Doubt {
                why: format!("a start does not come so far as to load {file} (see restart)"),
                ends_by_reload: false,
            });
        }
        Some(_) => format!("{file} was changed after the server loaded it"),
        None => format!(
            "{file} was changed after the server started, and when it last loaded is not known"
        ),
    };
    Some(Doubt {
        why,
        ends_by_reload: true,
    })
}

pub(super) fn finding(
    case: &Case,
    sight: &InstanceSnapshot,
    rules: Option<LoadedRules>,
    listeners: &Listeners,
    reload: Option<String>,
) -> Option<Finding> {
    let kind = FindingKind::Plaintext;
    let not_known = "whom the server lets in unencrypted is not known";
    let (lines, doubt) = match rules? {
        LoadedRules::Others(said) => {
            let seen = format!(
                "{not_known}: a reload does not load pg_hba.conf, and keeps the rules of before: {said}"
            );
            return Some(
                Finding::problem(kind, seen)
                    .sentence("mend what is named, reload the server, and run check again"),
            );
        }
        LoadedRules::Unlooked(error) => return Some(Finding::problem(kind, error.to_string())),
        LoadedRules::Unreadable(file, error) => {
            let seen = format!("{not_known}: {}: {error}", file.display());
            return Some(unknown(kind, sight, seen));
        }
        LoadedRules::OnDisk { exposed, doubt } => (exposed, doubt),
    };
    if lines.is_empty() {
        return Some(match doubt {
            None => Finding::good(kind, "no client of another host is let in unencrypted"),
            Some(doubt) => {
                let finding = Finding::notice(kind, format!("{not_known}: {}", doubt.why));
                match reload.filter(|_| doubt.ends_by_reload) {
                    Some(reload) => finding.command(reload),
                    None if doubt.ends_by_reload => {
                        finding.sentence("reload the server, and run check again")
                    }
                    None => finding.sentence("mend what restart tells of, and run check again"),
                }
            }
        });
    }
    let mut told = lines
        .iter()
        .take(SHOWN)
        .cloned()
        .collect::<Vec<_>>()
        .join("; ");
    if lines.len() > SHOWN {
        told.push_str(&format!("; and {} more", lines.len() - SHOWN));
    }
    let seen = match doubt {
        None => format!("clients of other hosts are let in unencrypted by {told}"),
        Some(doubt) => format!(
            "clients of other hosts are let in unencrypted by {told}, with the next reload if not now: {}",
            doubt.why
        ),
    };
    let finding = if listeners.reaches_out() {
        Finding::problem(kind, seen)
    } else {
        Finding::notice(kind, seen)
            .because("the server listens on loopback alone, and these lines count once it does not")
    };
    Some(finding.command(case.setup(&["--require-tls"])))
}

/// The lines that let clients of other hosts in unencrypted, each with its place.
fn exposed(rules: &Rules) -> Vec<String> {
    rules
        .exposed()
        .into_iter()
        .map(|exposed| {
            let text = rules.texts.get(exposed.file);
            let lines = text.map(|text| text.split(|byte| *byte == b'\n'));
            let line = lines.and_then(|mut lines| lines.nth(exposed.rule.line - 1));
            let line = String::from_utf8_lossy(line.unwrap_or_default());
            let words: Vec<&str> = line.split_whitespace().collect();
            let place = format!("{} line {}", exposed.file.display(), exposed.rule.line);
            format!("{place}: {}", words.join(" "))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_counts_where_the_server_has_surely_loaded_it() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let broken = DryStart::Fails {
            stage: LoadStage::Tls,
            said: String::new(),
        };
        let doubtful = |changed, loaded: Option<u64>, tried: &DryStart| {
            let file = Path::new("/d/pg_hba.conf");
            doubt(file, at(changed), at(100), loaded.map(at), tried).is_some()
        };
        // At its start.
        assert!(!doubtful(99, None, &broken));
        // At a reload, which would have refused what does not load.
        assert!(!doubtful(200, Some(201), &DryStart::Loads));
        assert!(doubtful(200, Some(201), &broken));
        // Later, or nobody knows when.
        assert!(doubtful(202, Some(201), &DryStart::Loads));
        assert!(doubtful(200, None, &DryStart::Loads));
    }
}
