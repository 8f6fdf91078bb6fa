//! Which ACME client renews a lineage, and where it keeps it.

use std::path::{Path, PathBuf};

use super::client::Client;
use super::tree::{Tree, Unread};
use super::{acme_sh, certbot};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClientHome {
    pub(crate) client: Client,
    pub(crate) directory: PathBuf,
}

impl ClientHome {
    /// The file and line that turn off automatic renewal in certbot.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn left_alone(&self, tree: &Tree) -> Result<Option<(PathBuf, String)>, Unread> {
        let Some(file) = certbot::renewal_of(&self.directory) else {
            return Ok(None);
        };
        let text = tree.text(&file)?.unwrap_or_default();
        Ok(certbot::left_alone(&text).map(|line| (file, line.to_owned())))
    }
}

/// The client that keeps a lineage in one of these directories, if its files show one.
///
/// # Errors
/// One of those files cannot be read.
pub(crate) fn origin(tree: &Tree, candidates: &[PathBuf]) -> Result<Option<ClientHome>, Unread> {
    for directory in candidates {
        if let Some(client) = keeper(tree, directory)? {
            return Ok(Some(ClientHome {
                client,
                directory: directory.clone(),
            }));
        }
    }
    Ok(None)
}

fn keeper(tree: &Tree, directory: &Path) -> Result<Option<Client>, Unread> {
    if let Some(renewal) = certbot::renewal_of(directory)
        && tree.text(&renewal)?.is_some()
    {
        return Ok(Some(Client::Certbot));
    }
    if acme_sh::keeps(tree, directory)? {
        return Ok(Some(Client::AcmeSh));
    }
    let dehydrated = ["/var/lib/dehydrated/certs", "/etc/dehydrated/certs"];
    if dehydrated.iter().any(|at| directory.starts_with(at)) {
        return Ok(Some(Client::Dehydrated));
    }
    Ok(is_legos(tree, directory)?.then_some(Client::Lego))
}

/// lego keeps all lineages in one directory, each with a `.json` beside its `.crt`.
fn is_legos(tree: &Tree, directory: &Path) -> Result<bool, Unread> {
    if !directory.ends_with("certificates") {
        return Ok(false);
    }
    let files = tree.list(directory)?;
    let mut resources = files.iter().filter(|file| {
        file.extension()
            .is_some_and(|extension| extension == "json")
    });
    Ok(resources.any(|file| files.contains(&file.with_extension("crt"))))
}
