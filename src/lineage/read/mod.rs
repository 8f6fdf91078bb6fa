//! Reads the files of one lineage, once.
//!
//! The bytes that [`read`] returns are the ones that are checked and installed: nothing is opened a second time. A reading
//! also has the links that led to the files ([`Trail`]), what they looked like before and after ([`Stamp`],
//! [`Reading::stable`]), and when they last changed, so that [`Settler`](super::Settler) can judge whether a renewal is
//! finished. Checking the content is done elsewhere.
//!
//! Everything here blocks, and belongs on the thread that may read private keys.

mod error;
pub(super) mod resolve;
mod sway;
#[cfg(test)]
mod tests;
mod trail;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::bundle::TrustFiles;
pub(crate) use crate::host::file::NotRegular;
use crate::host::file::Unopened;
pub(crate) use error::{MAX_SIZE, ReadError, ReadErrorClass};
use resolve::{FoundFile, Spot, Walk, WalkEnd};
pub(crate) use sway::{Steerer, Sway, Users};
pub(crate) use trail::{Stamp, StampKind, Trail};

/// Which lineage to read, and where it may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spec {
    /// The lineage's name, for messages.
    pub(crate) name: String,
    /// Absolute directories where it may be; the first that exists is used. One that cannot be read ends the search, since it
    /// may be the right one.
    pub(crate) candidates: Vec<PathBuf>,
    /// The files' names where they are not the usual ones (acme.sh, lego, Caddy).
    pub(crate) files: Option<FileNames>,
    /// A CA file and a CRL file that are read together with them: relative to the lineage, or absolute.
    pub(crate) trust_files: TrustFiles<Option<PathBuf>>,
}

/// Names of a lineage's files, relative to its directory. Both may be the same: one file that holds chain and key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileNames {
    /// The leaf and its intermediates.
    pub(crate) chain: String,
    pub(crate) key: String,
}

/// Which files of a lineage hold the bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Layout {
    /// As [`Spec::files`] names them.
    Named {
        /// The leaf and its intermediates.
        chain: String,
        key: String,
    },
    /// `fullchain.pem` and `privkey.pem`: certbot, dehydrated.
    Certbot,
    /// `tls.crt` and `tls.key`: a Kubernetes secret, cert-manager.
    Kubernetes,
    /// `cert.pem`, `chain.pem` and `privkey.pem`.
    Split,
}

impl Layout {
    pub(super) const USUAL: [Self; 3] = [Self::Certbot, Self::Kubernetes, Self::Split];

    /// The files that make up the chain, leaf first.
    pub(crate) fn chain(&self) -> Vec<&str> {
        match self {
            Self::Named { chain, .. } => vec![chain],
            Self::Certbot => vec!["fullchain.pem"],
            Self::Kubernetes => vec!["tls.crt"],
            Self::Split => vec!["cert.pem", "chain.pem"],
        }
    }

    /// The file that holds the private key.
    pub(crate) fn key(&self) -> &str {
        match self {
            Self::Named { key, .. } => key,
            Self::Certbot | Self::Split => "privkey.pem",
            Self::Kubernetes => "tls.key",
        }
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.chain().into_iter().chain([self.key()])
    }

    /// The names that no other usual layout has: `privkey.pem` says nothing.
    fn characteristic(&self) -> Vec<&str> {
        match self {
            Self::Kubernetes => self.names().collect(),
            _ => self.chain(),
        }
    }
}

/// The result of one look at a lineage.
#[derive(Debug)]
pub(crate) struct Reading {
    /// The lineage's directory, without links; none if no candidate exists.
    pub(crate) directory: Option<PathBuf>,
    /// Which files were looked for. Pass it to the next [`read`] once the lineage was complete.
    pub(crate) layout: Option<Layout>,
    /// What the links and files looked like after the read, in the order of their paths.
    pub(crate) stamps: Vec<Stamp>,
    /// The stamps were the same before and after, and of the very files that were read.
    pub(crate) stable: bool,
    /// The newest ctime of the files and links, of a directory that lacks one of them, and of the directory in which the
    /// lineage's own should be.
    pub(crate) newest_change: Option<Timestamp>,
    /// Where a change would matter.
    pub(crate) trail: Trail,
    /// Who, besides root, decides what is found.
    #[cfg(test)]
    pub(crate) sway: Sway,
    /// Where the files are that were read.
    pub(crate) homes: Homes,
    /// The bytes, or why there are none.
    pub(crate) parts: Result<Parts, ReadError>,
}

/// The bytes of a lineage's files, zeroed when dropped. Its `Debug` only shows sizes.
pub(crate) struct Parts {
    /// The chain's files, in the order of [`Layout::chain`].
    pub(crate) chain: Vec<Zeroizing<Vec<u8>>>,
    pub(crate) key: Zeroizing<Vec<u8>>,
    /// Those that [`Spec::trust_files`] names.
    pub(crate) trust_files: TrustFiles<Option<Zeroizing<Vec<u8>>>>,
}

impl fmt::Debug for Parts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chain: Vec<usize> = self.chain.iter().map(|part| part.len()).collect();
        let trust_files = self.trust_files.present();
        let trust_files: Vec<_> = trust_files
            .map(|(piece, bytes)| (piece, bytes.len()))
            .collect();
        formatter
            .debug_struct("Parts")
            .field("chain", &chain)
            .field("key", &self.key.len())
            .field("trust_files", &trust_files)
            .finish()
    }
}

/// The directories of a lineage's files, held open as they were judged: everything needed to read it.
pub(crate) type Homes = BTreeMap<PathBuf, Arc<Unopened>>;

/// Where the files are that [`read`] would read, if it may; nothing is opened.
pub(crate) fn homes(spec: &Spec, settled: Option<Layout>, users: &Users) -> Homes {
    located(spec, settled, users).0.homes
}

/// Where a change would matter; nothing is opened.
pub(crate) fn trail(spec: &Spec) -> Trail {
    located(spec, None, &Users::default()).0.trail
}

/// Who, besides root, decides what is found; none if there is no lineage. Nothing is opened.
pub(crate) fn sway(spec: &Spec, users: &Users) -> Option<Sway> {
    let (walk, is_there) = located(spec, None, users);
    is_there.then_some(walk.sway)
}

/// The files, as far as they can be followed, and whether there is a lineage at all.
fn located<'a>(spec: &Spec, settled: Option<Layout>, users: &'a Users) -> (Walk<'a>, bool) {
    let mut walk = Walk::new(users);
    let spot = match find(spec, &mut walk) {
        Ok(spot) => spot,
        // A lineage that not everybody who steers it could read still exists.
        Err(error) => return (walk, matches!(error, ReadError::Swayed(_))),
    };
    let layout = choose(spec, settled, &spot);
    // The reading reports what cannot be followed.
    let _ = follow(spec, &layout, &spot, &mut walk);
    walk.looks_in(&spot.path);
    (walk, true)
}

/// Reads the lineage's files, each once.
///
/// Where [`Spec::files`] names none, the first complete one of the usual layouts is taken, in the order of [`Layout`];
/// where none is complete, the first of which anything exists. `settled` is the layout of an earlier, complete reading:
/// as long as any of its files exists it gives way to none that comes later in the order, so that certbot's moment
/// without `fullchain.pem` does not make `cert.pem` the source.
///
/// If this thread may read more than others, it doesn't read a file for somebody who decides what is found but couldn't read
/// it themselves ([`ReadError::Swayed`]), as far as `users` are known.
///
/// It never fails as a whole: what went wrong is in [`Reading::parts`], and the trail says where a change would help.
pub(crate) fn read(spec: &Spec, settled: Option<Layout>, users: &Users) -> Reading {
    let mut before = Walk::new(users);
    let spot = match find(spec, &mut before) {
        Ok(spot) => spot,
        Err(error) => {
            return Reading {
                parts: Err(error),
                ..Reading::from(before)
            };
        }
    };
    let layout = choose(spec, settled, &spot);
    let read =
        follow(spec, &layout, &spot, &mut before).and_then(|ends| open_all(spec, &layout, &ends));
    let homes = std::mem::take(&mut before.homes);
    let directory = spot.path;

    let mut after = Walk::new(users);
    let stayed = match find(spec, &mut after) {
        Ok(found) => {
            // A problem in the second look shows in its stamps.
            let _ = follow(spec, &layout, &found, &mut after);
            found.path == directory
        }
        Err(_) => false,
    };
    after.looks_in(&directory);
    let (parts, undisturbed) = match read {
        Ok((parts, undisturbed)) => (Ok(parts), undisturbed),
        Err(error) => (Err(error), true),
    };
    if spec.files.is_none() && matches!(parts, Err(ReadError::Missing { .. })) {
        Layout::USUAL
            .iter()
            .flat_map(Layout::names)
            .for_each(|name| after.awaited(&directory, name));
    }
    let stable = stayed && undisturbed && before.stamps == after.stamps;
    Reading {
        directory: Some(directory),
        layout: Some(layout),
        stable,
        parts,
        homes,
        ..Reading::from(after)
    }
}

/// The current stamps of the lineage's links and files, as in [`Reading::stamps`], without opening any; none if something is
/// missing, or may not be read.
pub(crate) fn stamps(spec: &Spec, settled: Option<Layout>, users: &Users) -> Option<Vec<Stamp>> {
    let mut walk = Walk::new(users);
    let spot = find(spec, &mut walk).ok()?;
    let layout = choose(spec, settled, &spot);
    follow(spec, &layout, &spot, &mut walk).ok()?;
    Some(walk.stamps.into_values().collect())
}

impl From<Walk<'_>> for Reading {
    /// A reading that has no bytes yet.
    fn from(walk: Walk<'_>) -> Self {
        let newest = walk.stamps.values().filter_map(Stamp::changed).max();
        Self {
            directory: None,
            layout: None,
            stable: true,
            newest_change: newest.max(walk.absence),
            stamps: walk.stamps.into_values().collect(),
            trail: walk.trail,
            #[cfg(test)]
            sway: walk.sway,
            homes: walk.homes,
            parts: Err(ReadError::DirectoryMissing {
                candidates: Vec::new(),
            }),
        }
    }
}

/// The first candidate that is a directory, without links.
fn find(spec: &Spec, walk: &mut Walk<'_>) -> Result<Spot, ReadError> {
    for candidate in &spec.candidates {
        match walk.follow(candidate) {
            Ok(WalkEnd::Directory(spot)) => {
                walk.absence = None; // Earlier candidates may be missing.
                return Ok(spot);
            }
            Ok(WalkEnd::File(_) | WalkEnd::Special(..)) | Err(ReadError::Missing { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Err(ReadError::DirectoryMissing {
        candidates: spec.candidates.clone(),
    })
}

fn choose(spec: &Spec, settled: Option<Layout>, spot: &Spot) -> Layout {
    if let Some(FileNames { chain, key }) = spec.files.clone() {
        return Layout::Named { chain, key };
    }
    // A dangling link counts as existing. Each name is only looked up once, so that one that appears meanwhile doesn't count
    // for one layout and not for another.
    let existing: BTreeSet<&str> = Layout::USUAL
        .iter()
        .flat_map(Layout::names)
        .filter(|name| spot.has(name))
        .collect();
    let exists = |name: &str| existing.contains(name);
    let settled = settled.filter(|layout| Layout::USUAL.contains(layout));
    let of_settled = settled.clone().filter(|layout| layout.names().any(exists));
    let complete = Layout::USUAL
        .iter()
        // Any other process would read one that comes before the settled one.
        .take_while(|layout| of_settled.as_ref() != Some(layout))
        .find(|layout| layout.names().all(exists))
        .cloned();
    let begun = || {
        Layout::USUAL
            .into_iter()
            .find(|layout| layout.characteristic().into_iter().any(exists))
    };
    complete
        .or(of_settled)
        .or(settled)
        .or_else(begun)
        .unwrap_or(Layout::Certbot)
}

/// Where the layout's files are, in the order of its names, then the CA and CRL files.
fn follow(
    spec: &Spec,
    layout: &Layout,
    spot: &Spot,
    walk: &mut Walk<'_>,
) -> Result<Vec<FoundFile>, ReadError> {
    // Follow all of them before reporting the first error, so that the trail has every name.
    let mut ends: Vec<_> = layout
        .names()
        .map(|name| regular(walk.follow_from(spot.clone(), Path::new(name))))
        .collect();
    ends.extend(spec.trust_files.present().map(|(piece, path)| {
        let found = regular(walk.follow_from(spot.clone(), path));
        found.map_err(|error| error.about_trust_file(piece))
    }));
    ends.into_iter().collect()
}

pub(super) fn regular(end: Result<WalkEnd, ReadError>) -> Result<FoundFile, ReadError> {
    match end? {
        WalkEnd::File(found) => Ok(found),
        WalkEnd::Directory(spot) => Err(ReadError::NotRegular {
            path: spot.path,
            kind: NotRegular::Directory,
        }),
        WalkEnd::Special(path, kind) => Err(ReadError::NotRegular { path, kind }),
    }
}

/// Reads what `follow` found, and says whether it stayed the same meanwhile.
fn open_all(spec: &Spec, layout: &Layout, ends: &[FoundFile]) -> Result<(Parts, bool), ReadError> {
    let mut undisturbed = true;
    let mut contents = Vec::new();
    let names = layout.names().count();
    let one_file = layout.chain() == [layout.key()];
    let wanted = if one_file { 1 } else { names };
    for found in ends.iter().take(wanted) {
        let (content, same) = open(found)?;
        undisturbed &= same;
        contents.push(content);
    }
    let key = if one_file {
        contents.first().cloned()
    } else {
        contents.pop()
    };
    let trust_files = spec.trust_files.present().zip(&ends[names..]);
    let trust_files = trust_files.map(|((piece, _), found)| {
        let (content, same) = open(found).map_err(|error| error.about_trust_file(piece))?;
        undisturbed &= same;
        Ok((piece, content))
    });
    let trust_files = trust_files.collect::<Result<_, ReadError>>()?;
    let parts = Parts {
        chain: contents,
        key: key.unwrap_or_default(),
        trust_files,
    };
    Ok((parts, undisturbed))
}

/// Reads one file, and says whether it stayed the same since it was found.
pub(super) fn open(found: &FoundFile) -> Result<(Zeroizing<Vec<u8>>, bool), ReadError> {
    let stamp = &found.stamp;
    let failed = |source| ReadError::from_path(&stamp.path, source);
    let mut file = found.open().map_err(failed)?;
    let now = |file: &File| {
        let metadata = file.metadata().map_err(failed)?;
        Ok::<_, ReadError>(Stamp::from_path(&stamp.path, &metadata, StampKind::File))
    };
    let first = now(&file)?;
    if first.size > MAX_SIZE {
        return Err(ReadError::TooLarge {
            path: stamp.path.clone(),
            size: first.size,
        });
    }
    let content = content(&mut file, first.size).map_err(failed)?;
    let last = now(&file)?;
    let same = first == *stamp && last == *stamp && content.len() as u64 == stamp.size;
    Ok((content, same))
}

/// At most one byte more than `size`, to notice a file that grows, in a buffer that never moves: a reallocation would leave a
/// copy of the private key behind.
fn content(file: &mut File, size: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    let room = usize::try_from(size.min(MAX_SIZE)).map_err(io::Error::other)? + 1;
    let mut buffer = Zeroizing::new(vec![0; room]);
    let mut filled = 0;
    while filled < room {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    buffer.truncate(filled);
    Ok(buffer)
}
