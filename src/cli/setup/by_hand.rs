//! `--print`: the lines for a configuration that others keep.

use super::desk::Desk;
use super::document::{HostLineJson, SetupJson, SetupOutcome};
use crate::cli::exit::{Exit, Failure, print};
use crate::cli::page::Page;
use crate::config::Config;
use crate::server::settings::Names;
use crate::setup::SetupServer;
use crate::setup::plan::{ByHand, PlanSubject, by_hand};
use crate::setup::step::new_file::NewFile;

fn file(page: &mut Page, fragment: &NewFile) {
    page.line(format_args!("# 1. {}", fragment.path.display()));
    for line in fragment.lines() {
        page.line(line);
    }
    page.end();
}

/// Prints what is to be written where, in the order in which it is to be done.
pub(super) async fn print_lines(
    desk: &Desk<'_>,
    config: &Config,
    server: SetupServer,
    subject: PlanSubject,
) -> Result<Exit, Failure> {
    let ByHand {
        written,
        admission,
        host_line,
    } = by_hand(config, server, subject, &desk.prober).await?;
    let instance = &written.site.instance;
    let (cert, key) = (&instance.cert_file, &instance.key_file);
    let mut settings = vec![("ssl", "on".to_owned())];
    if host_line.is_some() {
        settings.push(("ssl_sni", "on".to_owned()));
    } else {
        settings.push(("ssl_cert_file", cert.display().to_string()));
        settings.push(("ssl_key_file", key.display().to_string()));
    }
    let trust_files = instance.trust_files();
    settings.extend(trust_files.present().map(|(piece, found)| {
        let setting = Names::postgres().trust_file(piece);
        (setting, found.file.display().to_string())
    }));
    let quoted = |value: &str| format!("'{}'", value.replace('\'', "''"));
    let lines: Vec<String> = settings
        .iter()
        .map(|(name, value)| format!("{name} = {}", quoted(value)))
        .collect();
    let document = SetupJson {
        fragment: written.fragment.clone(),
        drop_in: admission.drop_in.clone(),
        obstacles: admission.obstacles,
        lines: lines.clone(),
        host_line: host_line.map(|(file, line)| HostLineJson { file, line }),
        outcome: Some(SetupOutcome::Printed),
        ..SetupJson::from_instance(instance, written.site.server.user())
    };
    if desk.json {
        return desk.told(document, Exit::Well);
    }
    let mut page = Page::default();
    if let Some(fragment) = &written.fragment {
        file(&mut page, fragment);
    }
    if let Some(drop_in) = &document.drop_in {
        file(&mut page, drop_in);
        page.line("#    then: systemctl daemon-reload && systemctl try-restart pgcertd");
        page.end();
    }
    let sync = instance.command(&["sync"]);
    page.line("# 2. Then, so that the files are there:");
    page.line(format_args!("#    {sync}")).end();
    if let Some(HostLineJson { file, line }) = &document.host_line {
        page.line(format_args!("# 3. {}, and a reload", file.display()));
        page.line(line).end();
        page.line("#    with, in postgresql.conf");
    } else {
        page.line("# 3. postgresql.conf, and a reload");
    }
    for line in &lines {
        page.line(line);
    }
    page.end();
    page.line("#    or, in Patroni's configuration (patronictl edit-config)");
    page.line("postgresql:").line("  parameters:");
    for (name, value) in &settings {
        page.line(format_args!("    {name}: {}", quoted(value)));
    }
    page.end().line("# 4. What new clients get:");
    page.line(format_args!(
        "#    {sync} && {}",
        config.command(&["status"])
    ));
    print(&page)?;
    Ok(Exit::Well)
}
