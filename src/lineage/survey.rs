//! Which lineages there are. Only the leaves are read, no private keys.
//!
//! For choosing one, which is then read in full, like any lineage.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::read::resolve::{FoundFile, Spot, Walk, WalkEnd};
use super::read::{self, Homes, Users, regular};
use super::tracked::told;
use super::{Layout, ReadError};
use crate::bundle::{Certificate, leaf_of};
use crate::host::privilege::{PrivilegeError, Rights, Worker};

/// A lineage that was found.
#[derive(Debug, Clone)]
pub(crate) struct Surveyed {
    pub(crate) name: String,
    /// Its path below the watched directory.
    pub(crate) directory: PathBuf,
    /// Its leaf, or a sentence that says why there is none.
    pub(crate) leaf: Result<Certificate, String>,
}

/// What was found below the watched directories.
#[derive(Debug, Clone, Default)]
pub(crate) struct FoundLineage {
    /// The lineages, in the order of the directories and of their names.
    pub(crate) lineages: Vec<Surveyed>,
    /// Watched directories that could not be read, and why.
    pub(crate) closed: Vec<(PathBuf, io::ErrorKind)>,
}

/// Looks below the watched `directories`, on a thread that may read what only root can.
///
/// # Errors
/// The thread could not be had.
pub(crate) async fn survey(directories: &[PathBuf]) -> Result<FoundLineage, PrivilegeError> {
    let look = seen(directories, Arc::default()).await?;
    if look.unfamiliar.is_empty() {
        return Ok(look.found);
    }
    // Whether these are acceptable depends on who is in which group.
    let users = told(look.unfamiliar).await;
    Ok(seen(directories, Arc::new(users)).await?.found)
}

async fn seen(directories: &[PathBuf], users: Arc<Users>) -> Result<LeafLook, PrivilegeError> {
    let (watched, to_read) = (directories.to_vec(), directories.to_vec());
    let known = Arc::clone(&users);
    let reader = Worker::start("r:survey", move || Rights::Reader {
        directories: LeafLook::at(&watched, &known, |_| Err(String::new())).homes,
    })
    .await?;
    reader
        .call(move || LeafLook::at(&to_read, &users, leaf))
        .await
}

/// The result of looking at the watched directories.
#[derive(Default)]
struct LeafLook {
    found: FoundLineage,
    /// The directories that it lists, and those of the files that it reads.
    homes: Homes,
    /// Users that we need to know more about.
    unfamiliar: BTreeSet<u32>,
}

impl LeafLook {
    /// `read` makes a leaf of each chain that may be read.
    fn at(
        watched: &[PathBuf],
        users: &Users,
        read: impl Fn(&FoundFile) -> Result<Certificate, String>,
    ) -> LeafLook {
        let mut look = LeafLook::default();
        let mut walk = Walk::new(users);
        for directory in watched {
            if let Err(kind) = look.below(directory, &mut walk, &read) {
                look.found.closed.push((directory.clone(), kind));
            }
        }
        look.homes.append(&mut walk.homes);
        look
    }

    fn below(
        &mut self,
        watched: &Path,
        walk: &mut Walk<'_>,
        read: impl Fn(&FoundFile) -> Result<Certificate, String>,
    ) -> Result<(), io::ErrorKind> {
        let spot = match walk.follow(watched) {
            Ok(WalkEnd::Directory(spot)) => spot,
            Ok(_) => return Err(io::ErrorKind::NotADirectory),
            Err(error) => return Err(kind(&error)),
        };
        let at = Arc::clone(spot.directory());
        self.homes.insert(watched.to_owned(), at);
        for name in names(&spot).map_err(|error| error.kind())? {
            let Ok(WalkEnd::Directory(lineage)) = walk.follow_from(spot.clone(), Path::new(&name))
            else {
                continue;
            };
            let chains = Layout::USUAL.iter().map(|layout| layout.chain()[0]);
            let Some(chain) = chains.into_iter().find(|chain| lineage.has(chain)) else {
                continue;
            };
            let directory = watched.join(&name);
            let found = regular(walk.follow_from(lineage, Path::new(chain)));
            if let Err(ReadError::Swayed(unfit)) = &found {
                self.unfamiliar.extend(unfit.users());
            }
            let leaf = match &found {
                Ok(found) => {
                    read(found).map_err(|why| format!("{}: {why}", directory.join(chain).display()))
                }
                Err(error) => Err(error.to_string()),
            };
            self.found.lineages.push(Surveyed {
                name,
                directory,
                leaf,
            });
        }
        Ok(())
    }
}

fn kind(error: &ReadError) -> io::ErrorKind {
    match error {
        ReadError::Missing { .. } => io::ErrorKind::NotFound,
        ReadError::Denied { .. } => io::ErrorKind::PermissionDenied,
        _ => io::ErrorKind::Other,
    }
}

/// The names in a directory that a config could say, in order.
fn names(spot: &Spot) -> io::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in spot.directory().list()? {
        let name = entry?.file_name().to_str().map(str::to_owned);
        names.extend(name.ok().filter(|name| name != "." && name != ".."));
    }
    Ok(names)
}

/// The leaf in a file.
fn leaf(found: &FoundFile) -> Result<Certificate, String> {
    let (text, _) = read::open(found).map_err(|error| error.to_string())?;
    leaf_of(&text).map_err(|error| error.to_string())
}
