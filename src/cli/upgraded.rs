//! `pgcertd upgraded DIRECTORY`: how the certificate of a cluster that pg_upgradecluster has just created is renewed.
//!
//! The packages' hook runs it as the cluster's user, who may not write the config; it is hidden from `--help`. The old
//! cluster is stopped, so nothing is renewed for it, while the new one serves the same files. So whoever runs the upgrade is
//! shown the command that sets up the new cluster. It changes nothing.

use std::path::{Path, PathBuf};

use anstyle::Style;

use super::exit::{Exit, Failure, load, print};
use super::page::Page;
use crate::config::{self, Config};
use crate::host::look::is_same_file;
use crate::server::program::tls_settings;
use crate::setup::SetupServer;
use crate::text::CommandLine;

#[derive(Debug, clap::Args)]
pub(super) struct UpgradedArguments {
    /// The data directory of the new cluster.
    data_directory: PathBuf,
}

pub(super) async fn upgraded(file: &Path, wanted: &UpgradedArguments) -> Result<Exit, Failure> {
    let config = load(file)?;
    let data = &wanted.data_directory;
    let is_covered = |instance: &config::InstanceConfig| is_same_file(instance.home(), data);
    if config.instances.is_empty() || config.instances.iter().any(is_covered) {
        return Ok(Exit::Well);
    }
    let predecessor = predecessor(&config, data).await;
    print(&drawn(&config, data, predecessor.as_ref()))?;
    Ok(Exit::Well)
}

/// The instance whose files the new cluster serves, if it can be asked.
async fn predecessor(config: &Config, data: &Path) -> Option<config::InstanceConfig> {
    let server = SetupServer::at(data).await.ok()?;
    let settings = tls_settings(&server.postmaster, data, server.owner);
    let settings = settings.await.ok().filter(|settings| settings.on)?;
    let is_its = |instance: &&config::InstanceConfig| {
        instance.cert_file == settings.cert_file
            || is_same_file(&instance.cert_file, &settings.cert_file)
    };
    config.instances.iter().find(is_its).cloned()
}

fn drawn(config: &Config, data: &Path, predecessor: Option<&config::InstanceConfig>) -> Page {
    let data = data.to_string_lossy();
    let mut words = vec!["setup", "--data-directory", data.as_ref()];
    let names: Vec<_> = predecessor
        .iter()
        .flat_map(|instance| instance.server_names.iter().map(|name| name.to_str()))
        .collect();
    if let Some(old) = predecessor {
        words.extend(["--lineage", old.lineage.name.as_str()]);
        words.extend(names.iter().flat_map(|name| ["--server-name", name]));
    }
    let mut page = Page::default();
    page.put("pgcertd: ").indented(
        Style::new(),
        9,
        match predecessor {
            Some(old) => format!(
                "the new cluster in {data} serves the certificate of {}, which is not renewed while that server is \
                 stopped. As root:",
                old.name
            ),
            None => format!("no instance covers the new cluster in {data}. As root:"),
        },
    );
    let command = config.command(&words);
    page.pasteable("next", CommandLine::checked(command).as_ref());
    if let Some(old) = predecessor {
        let fragment = config.fragments().join(format!("{}.toml", old.name));
        let place = if fragment.exists() {
            fragment
        } else {
            config.file.clone()
        };
        page.labelled(
            "",
            format_args!(
                "once the old cluster is dropped, remove the instance {} from {}",
                old.name,
                place.display()
            ),
        );
    }
    page
}
