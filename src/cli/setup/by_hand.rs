//! `--print`: the lines for a configuration that others keep.

use super::document::{Document, Outcome};
use super::{Desk, Exit, Failure, print};
use crate::config::Config;
use crate::setup::Server;
use crate::setup::plan::{Subject, by_hand};

/// Prints what is to be written where, in the order in which it is to be done.
pub(super) async fn print_lines(
    desk: &Desk<'_>,
    config: &Config,
    server: &Server,
    subject: Subject,
) -> Result<Exit, Failure> {
    let written = by_hand(config, server, subject, &desk.prober).await?;
    let instance = &written.instance;
    let (cert, key) = (&instance.cert_file, &instance.key_file);
    let mut settings = vec![
        ("ssl", "on".to_owned()),
        ("ssl_cert_file", cert.display().to_string()),
        ("ssl_key_file", key.display().to_string()),
    ];
    let companions = [
        ("ssl_ca_file", &instance.ca),
        ("ssl_crl_file", &instance.crl),
    ];
    settings.extend(companions.into_iter().filter_map(|(setting, it)| {
        let file = it.as_ref()?.file.display().to_string();
        Some((setting, file))
    }));
    let quoted = |value: &str| format!("'{}'", value.replace('\'', "''"));
    let lines: Vec<String> = settings
        .iter()
        .map(|(name, value)| format!("{name} = {}", quoted(value)))
        .collect();
    let document = Document {
        name: Some(instance.name.clone()),
        lineage: Some(instance.lineage.name.clone()),
        data_directory: Some(instance.home().to_owned()),
        user: Some(server.user()),
        fragment: written.fragment.clone(),
        lines: lines.clone(),
        outcome: Some(Outcome::Printed),
        ..Document::default()
    };
    if desk.json {
        return desk.told(&document, Exit::Well);
    }
    let mut text = String::new();
    if let Some(fragment) = &written.fragment {
        text.push_str(&format!("# 1. {}\n", fragment.path.display()));
        let lines = fragment.text.lines().filter(|it| !it.starts_with('#'));
        lines.for_each(|line| text.push_str(&format!("{line}\n")));
        text.push('\n');
    }
    let sync = instance.command(&["sync"]);
    text.push_str(&format!(
        "# 2. Then, so that the files are there:\n#    {sync}\n\n"
    ));
    text.push_str("# 3. postgresql.conf, and a reload\n");
    text.push_str(&(lines.join("\n") + "\n\n"));
    text.push_str("#    or, in Patroni's configuration (patronictl edit-config)\n");
    text.push_str("postgresql:\n  parameters:\n");
    for (name, value) in &settings {
        text.push_str(&format!("    {name}: {}\n", quoted(value)));
    }
    text.push_str(&format!(
        "\n# 4. What new clients get:\n#    {sync} && {}\n",
        config.command(&["status"])
    ));
    print(&text)?;
    Ok(Exit::Well)
}
