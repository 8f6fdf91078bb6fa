//! `--undo`, and what an interrupted set-up has left.

use super::answers::SetupAnswers;
use super::desk::Desk;
use super::document::{SetupJson, SetupOutcome};
use super::{aftermath, drawn};
use crate::cli::exit::{Exit, Failure, print};
use crate::cli::page::Page;
use crate::config::Config;
use crate::setup::SetupProgress;
use crate::setup::step::change_unit;
use crate::setup::undo::Undo;

/// `pgcertd setup --undo NAME`.
pub(super) async fn by_name(desk: &Desk<'_>, config: &Config, name: &str) -> Result<Exit, Failure> {
    let undo = Undo::load(config, name).await?;
    let mut document = SetupJson {
        name: Some(name.to_owned()),
        data_directory: Some(undo.site.instance.home().to_owned()),
        lines: undo.lines(),
        ..SetupJson::default()
    };
    if !desk.json {
        print(&drawn::undo(&undo))?;
    }
    if desk.wanted.dry_run {
        document.outcome = Some(SetupOutcome::WouldChange);
        return desk.told(document, Exit::Well);
    }
    let command = config.command(&["setup", "--yes", "--undo", name]);
    if !desk.answers.agree("Undo it?", &command)? {
        print(&Page::of_line("Nothing was changed."))?;
        return Ok(Exit::Problem);
    }
    let (steps, left) = carried_out(desk, &undo).await?;
    document.steps(&steps);
    let stays = !document.left.is_empty();
    document.outcome = Some(SetupOutcome::Undone);
    let next = aftermath::daemon(config, change_unit(&undo.record.steps)).await;
    document.next = Some(next.sentence());
    if !desk.json {
        print(&drawn::undone(&undo, left.is_empty(), stays, &next))?;
    }
    let exit = if stays { Exit::Problem } else { Exit::Well };
    desk.told(document, exit)
}

/// Undoes an interrupted set-up, before another is begun.
pub(super) async fn interrupted(
    desk: &Desk<'_>,
    config: &Config,
    name: &str,
) -> Result<Exit, Failure> {
    let undo = Undo::load(config, name).await?;
    let command = config.command(&["setup", "--yes", "--undo", name]);
    if !desk.json {
        print(&drawn::interrupted(&undo))?;
    }
    if desk.wanted.dry_run || desk.answers == SetupAnswers::Nobody {
        return Err(Failure::problem(&format!(
            "an earlier set-up of {name} was interrupted; undo it first: {command}"
        )));
    }
    if !desk.answers.agree("Undo that first?", &command)? {
        print(&Page::of_line("Nothing was changed."))?;
        return Ok(Exit::Problem);
    }
    let (_, left) = carried_out(desk, &undo).await?;
    if left.is_empty() {
        Ok(Exit::Well)
    } else {
        let what = format!("the earlier set-up of {name} could not be undone:");
        Err(Failure::problem(&what).with_lines(&left))
    }
}

async fn carried_out(
    desk: &Desk<'_>,
    undo: &Undo,
) -> Result<(Vec<SetupProgress>, Vec<String>), Failure> {
    let sql = undo.site.server.login().await?;
    let mut steps = Vec::new();
    let mut tell = |told: SetupProgress| {
        desk.step(&told);
        steps.push(told);
    };
    let left = undo.carry_out(&sql, &desk.prober, &mut tell).await;
    sql.close().await;
    let left = left?;
    Ok((steps, left))
}
