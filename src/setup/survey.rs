//! What there is to set up: the servers that run here, the lineages, and by which names clients know this host.

use std::path::Path;

use super::error::SetupError;
use crate::config::Config;
use crate::host::privilege::PrivilegeError;
use crate::lineage::survey::{FoundLineage, survey as lineages};
use crate::server::running::{Running, running};

#[derive(Debug, Clone)]
pub(crate) struct HostSurvey {
    /// The postmasters of this host, as far as they may be looked at.
    pub(crate) running: Vec<Running>,
    /// The lineages below the watched directories.
    pub(crate) found: FoundLineage,
    /// The names of this host, and those that instances of the config have.
    pub(crate) names: Vec<String>,
}

impl HostSurvey {
    /// Looks at this host.
    ///
    /// # Errors
    /// A thread could not be had, or a look failed, so that a server may have been overlooked.
    pub(crate) async fn take(config: &Config) -> Result<HostSurvey, SetupError> {
        let running = tokio::task::spawn_blocking(running)
            .await
            .map_err(|e| PrivilegeError::Gone(e.to_string()))?;
        let mut names = host_names();
        for instance in &config.instances {
            names.extend(
                instance
                    .server_names
                    .iter()
                    .map(|name| name.to_str().into_owned()),
            );
        }
        names.sort();
        names.dedup();
        Ok(HostSurvey {
            running: running.whole()?,
            found: lineages(&config.watch.directories).await?,
            names,
        })
    }
}

/// The names of this host: what the kernel says, and what stands beside it in `/etc/hosts`, where a host has
/// its qualified name (hosts(5), hostname(1)). No name server is asked.
fn host_names() -> Vec<String> {
    let uname = rustix::system::uname();
    let Ok(node) = uname.nodename().to_str() else {
        return Vec::new();
    };
    let hosts = std::fs::read_to_string(Path::new("/etc/hosts")).unwrap_or_default();
    named_beside(node, &hosts)
}

/// `node`, and every other name in the lines of `hosts` that have it.
fn named_beside(node: &str, hosts: &str) -> Vec<String> {
    let lines = hosts.lines().map(|line| {
        let said = line.split('#').next().unwrap_or_default();
        let names: Vec<&str> = said.split_whitespace().skip(1).collect();
        names
    });
    let beside = lines
        .filter(|names| names.iter().any(|text| text.eq_ignore_ascii_case(node)))
        .flatten();
    std::iter::once(node)
        .chain(beside)
        .map(str::to_ascii_lowercase)
        .filter(|name| {
            !name.is_empty() && !name.starts_with("localhost") && name != "ip6-localhost"
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::named_beside;

    #[test]
    fn a_host_has_its_qualified_name_from_the_line_with_its_short_one() {
        let hosts = "127.0.0.1 localhost\n127.0.1.1 DB7.example.com db7 # of the installer\n\
                     192.0.2.9 other.example.com other\n::1 localhost ip6-localhost\n";
        assert_eq!(
            named_beside("db7", hosts),
            ["db7", "db7.example.com", "db7"]
        );
        assert_eq!(named_beside("alone", hosts), ["alone"]);
    }
}
