//! Which lineages there are, by their leaves alone: no private key is read to find out.
//!
//! For whoever is to choose one. What is chosen is then read whole, as any lineage is.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::Layout;
use super::lineage::{MAX_SIZE, NotRegular};
use crate::bundle::Certificate;
use crate::privilege::{PrivilegeError, Rights, Worker};

/// A lineage that was come across.
#[derive(Debug, Clone)]
pub struct Surveyed {
    /// The subdirectory's name.
    pub name: String,
    /// Its path below the watched directory.
    pub directory: PathBuf,
    /// Its leaf; a sentence where there is none to be seen.
    pub leaf: Result<Certificate, String>,
}

/// What was found below the watched directories.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// The lineages, in the order of the directories and of their names.
    pub lineages: Vec<Surveyed>,
    /// Watched directories that could not be looked into, and why.
    pub closed: Vec<(PathBuf, io::ErrorKind)>,
}

/// Looks below the watched `directories`, on a thread that may read what only root can.
///
/// # Errors
/// The thread could not be had.
pub async fn survey(directories: &[PathBuf]) -> Result<Found, PrivilegeError> {
    let watched = directories.to_vec();
    let to_read = watched.clone();
    let reader = Worker::start("r:survey", move || Rights::Reader {
        directories: homes(&watched),
    })
    .await?;
    reader.call(move || look(&to_read)).await
}

/// The subdirectories of `watched` that hold a certificate's file, by name.
fn candidates(watched: &Path) -> io::Result<Vec<(String, PathBuf, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(watched)? {
        let entry = entry?;
        let directory = entry.path();
        let Ok(name) = entry.file_name().into_string() else {
            // The config could not name it.
            continue;
        };
        let files = Layout::USUAL.iter().filter_map(|layout| {
            let file = directory.join(layout.chain().first()?);
            fs::symlink_metadata(&file).is_ok().then_some(file)
        });
        if let Some(file) = files.into_iter().next() {
            found.push((name, directory, file));
        }
    }
    found.sort();
    Ok(found)
}

/// Where the certificates' files lie, links followed, and the watched directories themselves.
fn homes(watched: &[PathBuf]) -> BTreeSet<PathBuf> {
    let files = watched
        .iter()
        .flat_map(|directory| candidates(directory).unwrap_or_default())
        .filter_map(|(_, _, file)| fs::canonicalize(file).ok()?.parent().map(Path::to_owned));
    watched.iter().cloned().chain(files).collect()
}

fn look(watched: &[PathBuf]) -> Found {
    let mut found = Found::default();
    for directory in watched {
        match candidates(directory) {
            Err(error) => found.closed.push((directory.clone(), error.kind())),
            Ok(candidates) => {
                for (name, directory, file) in candidates {
                    let leaf = leaf(&file).map_err(|why| format!("{}: {why}", file.display()));
                    found.lineages.push(Surveyed {
                        name,
                        directory,
                        leaf,
                    });
                }
            }
        }
    }
    found
}

/// The first certificate of a file.
fn leaf(file: &Path) -> Result<Certificate, String> {
    // Whatever stands there, it is not waited for.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let opened = rustix::fs::open(file, flags, Mode::empty()).map_err(|e| e.to_string())?;
    let opened = File::from(opened);
    let metadata = opened.metadata().map_err(|e| e.to_string())?;
    if let Some(kind) = NotRegular::of(&metadata) {
        return Err(format!("it is a {kind}"));
    }
    let mut text = Vec::new();
    opened
        .take(MAX_SIZE)
        .read_to_end(&mut text)
        .map_err(|e| e.to_string())?;
    let der = CertificateDer::pem_slice_iter(&text)
        .next()
        .ok_or("it holds no certificate")?
        .map_err(|_| "it is not PEM")?;
    Certificate::from_der(der.as_ref()).map_err(|e| e.to_string())
}
