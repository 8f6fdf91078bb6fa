//! Which clients the server lets in without encryption, by the rules that it has loaded.
//!
//! No query shows those: `pg_hba_file_rules` reads the file. The file counts if the server has certainly loaded it as it
//! is: at its start, or at a reload since the last change if its own program loads it now. A reload that could not
//! load it has kept other rules, which are no longer in any file.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::edits;
use super::look::InstanceLook;
use super::words::{setup, unknown};
use crate::check::finding::Finding;
use crate::server::dry_start::{DryStart, LoadStage};
use crate::server::hba::{Dialect, OnDisk, Rules};
use crate::server::postmaster::Postmaster;

/// How many lines are shown.
const SHOWN: usize = 3;

/// Why a server may have other rules in force than the file's.
struct Doubt {
    why: String,
    /// Whether a reload ends it.
    ends_by_reload: bool,
}

/// Nothing if the configuration could not be read, which `restart` reports.
pub(in crate::check) async fn plaintext(look: &InstanceLook) -> Option<Finding> {
    let sight = look.sight()?;
    let postmaster = sight.server.postmaster()?;
    let reader = look.reader.as_ref()?.as_ref().ok()?;
    let start = look.start.as_ref()?;
    let around = start.around.as_ref().ok()?;
    let not_known = "which clients are let in unencrypted is not known";
    if let DryStart::Fails {
        stage: LoadStage::HostRules,
        said,
    } = &start.tried
    {
        let finding = Finding::problem(format!(
            "{not_known}: a reload doesn't load pg_hba.conf, and keeps the previous rules: {said}"
        ));
        return Some(finding.fix("fix what is named, reload the server, and run check again"));
    }
    let (file, version) = (around.hba_file().to_owned(), around.version);
    let read = file.clone();
    let looked = reader.call(move || {
        let rules = Rules::read(&read, Dialect::from_version(version), &OnDisk)?;
        Ok::<_, io::Error>((exposed(&rules), changed(&rules)?))
    });
    let (lines, changed) = match looked.await {
        Err(error) => return Some(Finding::problem(error.to_string())),
        Ok(Err(error)) => {
            let seen = format!("{not_known}: {}: {error}", file.display());
            return Some(unknown(sight, seen));
        }
        Ok(Ok(read)) => read,
    };
    let began = began(postmaster);
    let doubt = doubt(&file, changed, began, look.edits.loaded, &start.tried);
    if lines.is_empty() {
        let Some(doubt) = doubt else {
            let seen = "no client of another host is let in unencrypted";
            return Some(Finding::good(seen));
        };
        let finding = Finding::notice(format!("{not_known}: {}", doubt.why));
        return Some(match edits::reload(postmaster, sight) {
            _ if !doubt.ends_by_reload => {
                finding.fix("fix what restart reports, then run check again")
            }
            Some(reload) => finding.command(reload),
            None => finding.fix("reload the server, then run check again"),
        });
    }
    let mut told = lines[..lines.len().min(SHOWN)].join("; ");
    if lines.len() > SHOWN {
        told.push_str(&format!("; and {} more", lines.len() - SHOWN));
    }
    let mut seen = format!("clients of other hosts are let in unencrypted by {told}");
    if let Some(doubt) = doubt {
        let why = doubt.why;
        seen.push_str(&format!(", with the next reload if not now: {why}"));
    }
    let finding = if look.listeners.reaches_out() {
        Finding::problem(seen)
    } else {
        Finding::notice(seen).because(
            "the server listens on loopback alone; these lines take effect as soon as it doesn't",
        )
    };
    Some(finding.command(setup(look.instance(), &["--require-tls"])))
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
                why: format!("a start fails before it loads {file} (see restart)"),
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
