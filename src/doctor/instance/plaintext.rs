//! Whom `pg_hba.conf` lets in without encryption.

use super::served::Listeners;
use super::{Answers, Case, Eyes, unknown};
use crate::doctor::{Finding, Kind};
use crate::instance::Sight;
use crate::instance::hba::{Dialect, OnDisk, Rules};

/// How many lines are shown.
const SHOWN: usize = 3;

pub(super) async fn finding(
    case: &Case,
    sight: &Sight,
    answers: &Answers,
    eyes: &Eyes,
    listeners: &Listeners,
) -> Option<Finding> {
    let kind = Kind::Plaintext;
    // Why it cannot be asked is said by `restart`.
    let around = answers.around.as_ref().ok()?.clone();
    let hba = around.hba_file().to_owned();
    let file = hba.clone();
    let looked = eyes.see(move || {
        let rules = Rules::read(&hba, Dialect::of(around.version), &OnDisk)?;
        Ok::<_, std::io::Error>(exposed(&rules))
    });
    let lines = match looked.await {
        Err(error) => return Some(Finding::problem(kind, error.to_string())),
        Ok(Err(error)) => {
            let seen = format!("whom {} lets in is not known: {error}", file.display());
            return Some(unknown(kind, sight, seen));
        }
        Ok(Ok(lines)) => lines,
    };
    if lines.is_empty() {
        let seen = "no client of another host is let in unencrypted";
        return Some(Finding::good(kind, seen));
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
    let seen = format!("clients of other hosts are let in unencrypted by {told}");
    let finding = match listeners.reaches_out() {
        true => Finding::problem(kind, seen),
        false => Finding::notice(kind, seen).because(
            "the server listens on loopback alone, and these lines count once it does not",
        ),
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
