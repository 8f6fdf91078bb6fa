//! Hooks of ACME clients that still do what pgcertd does now.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::facts::HostFacts;
use super::look::HostLook;
use super::survey::SurveyedLineage;
use crate::acme::{
    AreaContents, Deed, Hook, HookJudgement, HookPlace, Judge, Removal, Scope, Tree,
};
use crate::check::finding::Finding;
use crate::config::Mode;

/// A hook and what was found in it.
struct Old<'f> {
    hook: &'f Hook,
    judgement: HookJudgement,
}

/// A finding for each old hook, or one that there is none.
pub(in crate::check) async fn old_hooks(look: &HostLook) -> Vec<Finding> {
    match looked(look).await {
        Ok(findings) => findings,
        Err(error) => {
            let seen = format!("the host's files cannot be read: {error}");
            vec![Finding::notice(seen).fix("look at what it names")]
        }
    }
}

async fn looked(look: &HostLook) -> Result<Vec<Finding>, String> {
    let files = look.files.as_ref().map_err(ToString::to_string)?;
    // If pgcertd only observes, others reload.
    let mut instances = look.context.config.instances.iter();
    if instances.all(|instance| instance.mode == Mode::Observe) {
        return Ok(Vec::new());
    }
    let lineages = &files.survey.lineages;
    let scopes = look.facts.iter().filter_map(|facts| scope(facts, lineages));
    let (scopes, survey) = (scopes.collect(), Arc::clone(&files.survey));
    // Scripts that hooks run are read.
    let of_files = move || {
        let judge = Judge::new(Tree::of_this_host(), scopes);
        let mut findings = of_hooks(&judge, &survey.found);
        findings.extend(unread(&survey.found));
        findings
    };
    let looked = files.reader.call(of_files).await;
    let mut findings = looked.map_err(|error| error.to_string())?;
    if findings.is_empty() {
        let seen = "no hook of an ACME client does what pgcertd does";
        findings.push(Finding::good(seen));
    }
    Ok(findings)
}

/// What belongs to an instance; none if pgcertd only observes it.
fn scope(facts: &HostFacts, lineages: &[SurveyedLineage]) -> Option<Scope> {
    let (kind, home) = facts.server.clone()?;
    let own = lineages.iter().filter(|own| own.name == facts.lineage);
    let directories = own.flat_map(|lineage| {
        let name = |path: &&std::path::PathBuf| {
            let mut candidates = lineage.candidates.iter();
            candidates.any(|file| file.file_name() == path.file_name())
        };
        let real = lineage.directories.iter().filter(name);
        lineage.candidates.iter().chain(real).cloned()
    });
    Some(Scope {
        kind,
        home,
        files: facts.files.clone(),
        directories: facts.directories.clone(),
        lineages: directories.collect(),
    })
}

fn of_hooks(judge: &Judge, found: &AreaContents) -> Vec<Finding> {
    let mut old: Vec<Old> = found
        .hooks
        .iter()
        .filter_map(|hook| {
            let judgement = judge.judge_hook(hook)?;
            Some(Old { hook, judgement })
        })
        .collect();
    let mut findings = Vec::new();
    while let Some(position) = old.iter().position(|entry| !is_copy(entry, &old)) {
        let first = old.remove(position);
        // certbot keeps a copy of what a command line told it.
        let (copies, others): (Vec<Old>, Vec<Old>) = old
            .into_iter()
            .partition(|old| is_saved_from(old.hook, first.hook));
        old = others;
        findings.push(finding(judge, &first, &copies));
    }
    findings
}

fn is_copy(one: &Old, all: &[Old]) -> bool {
    all.iter().any(|other| is_saved_from(one.hook, other.hook))
}

/// Whether a setting is what the client saved from that crontab's command line.
fn is_saved_from(saved: &Hook, told: &Hook) -> bool {
    matches!(saved.place, HookPlace::Setting { .. })
        && matches!(told.place, HookPlace::Crontab { .. })
        && told.commands.contains(&saved.commands)
}

fn finding(judge: &Judge, old: &Old, copies: &[Old]) -> Finding {
    let deeds: Vec<String> = old.judgement.deeds.iter().map(Deed::to_string).collect();
    let mut seen = format!("{} {}", at(&old.hook.place), deeds.join(", "));
    for copy in copies {
        seen.push_str(&format!("; saved in {} as well", at(&copy.hook.place)));
    }
    let heavy = |deed: &Deed| matches!(deed, Deed::Restarts(_) | Deed::Copies(_));
    let finding = if old.judgement.deeds.iter().any(heavy) {
        Finding::problem(seen)
    } else {
        Finding::notice(seen)
    };
    let mut commands = Vec::new();
    let mut sentences = Vec::new();
    for old in [old].into_iter().chain(copies) {
        match old.hook.removal(judge, &old.judgement) {
            Removal::Command(line) => commands.push(line),
            Removal::Sentence(text) => sentences.push(text),
        }
    }
    if sentences.is_empty() {
        return finding.command(commands.join(" && "));
    }
    sentences.extend(commands.iter().map(|line| format!("run `{line}`")));
    finding.fix(sentences.join("; "))
}

/// Where a hook is, with the key that holds it.
fn at(place: &HookPlace) -> String {
    let file = place.file().display();
    match place {
        HookPlace::Setting { line, .. } => {
            let key = line.split(['=', ':', ' ']).find(|text| !text.is_empty());
            format!("{} in {file}", key.unwrap_or_default())
        }
        HookPlace::Crontab { .. } => format!("a line in {file}"),
        HookPlace::Program { .. } | HookPlace::File(_) => file.to_string(),
    }
}

fn unread(found: &AreaContents) -> Option<Finding> {
    let all: BTreeSet<_> = found.unread.iter().collect();
    let (denied, other): (Vec<_>, Vec<_>) = all.into_iter().partition(|unread| unread.denied);
    let list = |unread: &[&crate::acme::Unread]| {
        let paths: Vec<String> = unread
            .iter()
            .map(|unread| unread.path.display().to_string())
            .collect();
        paths.join(", ")
    };
    if !denied.is_empty() {
        let seen = format!("hooks may be in {}, which cannot be read", list(&denied));
        return Some(Finding::unseen(seen, "root"));
    }
    let first = other.first()?;
    let seen = format!("hooks may be in {}: {}", list(&other), first.why);
    Some(Finding::notice(seen).fix("look at them yourself"))
}
