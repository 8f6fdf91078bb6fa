//! Would the server start again: its own program says, by a start on a throw-away data directory
//! ([`dry_start`](crate::server::dry_start)).
//!
//! What a reload leaves as it was, a start does not survive: a fault in `postgresql.conf`, in
//! `pg_hba.conf`, in a file or a word of its TLS settings.

use super::edits::Edits;
use super::{Case, ServerAnswers, ServerReader, unanswered, unknown};
use crate::check::{Finding, FindingKind};
use crate::host::privilege::{Ids, is_root};
use crate::server::InstanceSnapshot;
use crate::server::dry_start::{DryStart, LoadStage};
use crate::server::program::Program;
use crate::server::settings::{SettingsError, TlsSettings};

const NOT_KNOWN: &str = "whether the server could start again is not known";

/// What the server's program says of a start; what is not known, where it could not be asked.
pub(super) async fn tried(
    program: &Program,
    sight: &InstanceSnapshot,
    answers: &ServerAnswers,
    eyes: &ServerReader,
) -> DryStart {
    let (Ok(tls), Ok(around)) = (&answers.tls, &answers.around) else {
        return DryStart::NotKnown("its configuration could not be asked".into());
    };
    let server = sight.targets.server;
    if !is_root() && Ids::own().uid != server.uid {
        return DryStart::NotKnown("only its own user can try a start".into());
    }
    let running = sight.server.postmaster();
    let data = &sight.targets.data;
    let mut tried = program.dry_start(data, server, running, tls, around).await;
    let said = match &mut tried {
        // What a start waits for is named where it can be.
        DryStart::NotKnown(why) => why,
        // The server names a file, and not the line of pg_hosts.conf that names it.
        DryStart::Fails {
            stage: LoadStage::Tls,
            said,
        } if tls.hosts().is_some() => said,
        DryStart::Loads | DryStart::Fails { .. } => return tried,
    };
    let named = tls.clone();
    let faults = eyes.see(move || named.faults()).await;
    for fault in faults.unwrap_or_default() {
        *said = format!("{said}; {fault}");
    }
    tried
}

pub(super) fn finding(
    case: &Case,
    sight: &InstanceSnapshot,
    answers: &ServerAnswers,
    tried: &DryStart,
    edits: &Edits,
) -> Finding {
    let kind = FindingKind::Restart;
    let tls = match (&answers.tls, &answers.around) {
        (Err(SettingsError::Refused { said, .. }), _)
        | (_, Err(SettingsError::Refused { said, .. })) => {
            return Finding::problem(kind, format!("the server would not start: {said}"))
                .sentence("mend the file at that line, and run check again");
        }
        (Err(error), _) | (_, Err(error)) => return unanswered(kind, sight, NOT_KNOWN, error),
        (Ok(tls), Ok(_)) => tls,
    };
    match tried {
        DryStart::Loads => Finding::good(kind, "the server could start again"),
        DryStart::NotKnown(why) => unknown(kind, sight, format!("{NOT_KNOWN}: {why}")),
        DryStart::Fails { stage, said } => {
            let would_not = match stage {
                LoadStage::Configuration => "the server would not start",
                LoadStage::Tls => {
                    "the server would not start, and a reload leaves its TLS as it is"
                }
                LoadStage::HostRules => {
                    "the server would not start, and a reload leaves the rules of pg_hba.conf as they are"
                }
            };
            let finding = Finding::problem(kind, format!("{would_not}: {said}"));
            let is_of_pair = *stage == LoadStage::Tls && tls.is_pair_named_by(said);
            mended(case, sight, tls, is_of_pair, edits, finding)
        }
    }
}

/// What mends it: an install where it is our pair, a set-up where it is another.
fn mended(
    case: &Case,
    sight: &InstanceSnapshot,
    tls: &TlsSettings,
    is_of_pair: bool,
    edits: &Edits,
    finding: Finding,
) -> Finding {
    let config = case.instance();
    if !is_of_pair {
        return finding.sentence("mend what is named, and do not restart the server before");
    }
    if tls.other_files(&config.cert_file, &config.key_file) != Ok(None) {
        return edits.set_up(finding, sight, case.setup(&[]));
    }
    if sight.targets.key_fault(&sight.look.found).is_some() {
        finding.command(super::files::owned(&sight.targets))
    } else {
        finding.command(case.sync(&[]))
    }
}
