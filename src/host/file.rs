//! Files that somebody else names: a configuration, a crontab, a lineage, a client's account.
//!
//! Whatever lies there, a pipe, a device, something endless, reading it neither waits nor takes more than the reader
//! allows. Nothing is opened before it is known to be a regular file: a path is first taken hold of ([`Unopened`]), which
//! wakes no device and no FIFO, then looked at, and what is opened for reading is that very file and not whatever its
//! path leads to by then.
//!
//! This says nothing of who may read; that is the thread's. Nor does it bound the time of a file system that does not
//! answer: whoever reads below a user's home asks through [`patience`](crate::host::patience).

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

/// How regular files are opened: what became a FIFO or a terminal since must neither hold nor take us.
const READ: OFlags = OFlags::RDONLY
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// Whatever lies at a path, held by a descriptor that has not opened it (`O_PATH`, open(2)).
#[derive(Debug)]
pub struct Unopened {
    descriptor: OwnedFd,
    metadata: Metadata,
}

impl Unopened {
    /// The root of the file system as this process sees it.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn root() -> io::Result<Unopened> {
        Unopened::hold(CWD, Path::new("/"), OFlags::DIRECTORY)
    }

    /// What `path` leads to; a link at its end is followed or held itself.
    ///
    /// # Errors
    /// What the system says.
    pub fn at(path: &Path, links: Links) -> io::Result<Unopened> {
        Unopened::hold(CWD, path, links.flags())
    }

    /// What `directory` has under this name, which is no path: a link is held itself.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn within(directory: impl AsFd, name: &OsStr) -> io::Result<Unopened> {
        Unopened::hold(directory, Path::new(name), OFlags::NOFOLLOW)
    }

    /// What this directory has under this name, which is no path: a link is held itself.
    ///
    /// # Errors
    /// What the system says; this is no directory.
    pub(crate) fn entry(&self, name: &OsStr) -> io::Result<Unopened> {
        // As a directory first: a file system that is mounted when it is entered is mounted for one alone (autofs).
        let flags = OFlags::NOFOLLOW | OFlags::DIRECTORY;
        match Unopened::hold(&self.descriptor, Path::new(name), flags) {
            Err(error) if is_other_kind(&error) => {
                Unopened::hold(&self.descriptor, Path::new(name), OFlags::NOFOLLOW)
            }
            entered => entered,
        }
    }

    fn hold(directory: impl AsFd, path: &Path, flags: OFlags) -> io::Result<Unopened> {
        let flags = flags | OFlags::PATH | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(directory, path, flags, Mode::empty())?);
        Ok(Unopened {
            metadata: file.metadata()?,
            descriptor: file.into(),
        })
    }

    /// What it is, whose, and what may be done with it, as of the moment when it was taken hold of.
    pub(crate) fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// What a link says; an error where it is none.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn link(&self) -> io::Result<PathBuf> {
        let target = rustix::fs::readlinkat(&self.descriptor, "", Vec::new())?;
        Ok(OsString::from_vec(target.into_bytes()).into())
    }

    /// Whether an access control list says more of it than its mode does; where that cannot be told, it does.
    pub(crate) fn has_acl(&self) -> bool {
        match rustix::fs::getxattr_query(self.by_number(), "system.posix_acl_access") {
            Ok(_) => true,
            Err(Errno::NODATA | Errno::OPNOTSUPP) => false,
            Err(_) => true,
        }
    }

    /// Opens it for reading, if it is a regular file; nothing else is ever opened.
    ///
    /// `directory` and `name` are where it was found, for a place without `/proc`: what lies there now counts if it is
    /// still the same.
    ///
    /// # Errors
    /// It is no regular file, or the system says no.
    pub(crate) fn open(&self, directory: impl AsFd, name: &Path) -> io::Result<File> {
        if let Some(other) = NotRegular::from_metadata(&self.metadata) {
            let told = format!("it is a {other}, not a regular file");
            return Err(io::Error::other(told));
        }
        match rustix::fs::open(self.by_number(), READ, Mode::empty()) {
            Ok(opened) => Ok(File::from(opened)),
            Err(Errno::NOENT | Errno::NOTDIR) => {
                let file = File::from(rustix::fs::openat(directory, name, READ, Mode::empty())?);
                let now = file.metadata()?;
                let (then, same) = (&self.metadata, "it was replaced while it was looked at");
                if (now.dev(), now.ino()) == (then.dev(), then.ino()) {
                    Ok(file)
                } else {
                    Err(io::Error::other(same))
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Opens it for listing, if it is a directory.
    ///
    /// # Errors
    /// It is no directory, or the system says no.
    pub(crate) fn list(&self) -> io::Result<rustix::fs::Dir> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&self.descriptor, ".", flags, Mode::empty())?;
        Ok(rustix::fs::Dir::new(opened)?)
    }

    /// The path at which the kernel gives this very thing again.
    fn by_number(&self) -> String {
        format!("/proc/self/fd/{}", self.descriptor.as_raw_fd())
    }
}

impl AsFd for Unopened {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Whether what was opened as a directory is something else.
fn is_other_kind(error: &io::Error) -> bool {
    let said = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(said, Some(Errno::NOTDIR | Errno::LOOP))
}

/// What lies where a regular file is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotRegular {
    Directory,
    /// A symbolic link that is not followed.
    Link,
    Fifo,
    Socket,
    /// A character or block device.
    Device,
}

impl NotRegular {
    /// What it is; none for a regular file.
    pub(crate) fn from_metadata(metadata: &Metadata) -> Option<NotRegular> {
        let kind = metadata.file_type();
        if kind.is_file() {
            None
        } else if kind.is_dir() {
            Some(NotRegular::Directory)
        } else if kind.is_symlink() {
            Some(NotRegular::Link)
        } else if kind.is_fifo() {
            Some(NotRegular::Fifo)
        } else if kind.is_socket() {
            Some(NotRegular::Socket)
        } else {
            Some(NotRegular::Device)
        }
    }
}

impl fmt::Display for NotRegular {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            NotRegular::Directory => "directory",
            NotRegular::Link => "symbolic link",
            NotRegular::Fifo => "FIFO",
            NotRegular::Socket => "socket",
            NotRegular::Device => "device",
        })
    }
}

/// What becomes of a symbolic link at the end of a path. Those before it are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    Followed,
    Refused,
}

impl Links {
    fn flags(self) -> OFlags {
        match self {
            Links::Followed => OFlags::empty(),
            Links::Refused => OFlags::NOFOLLOW,
        }
    }
}

/// What a file must be like to be read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms<'a> {
    /// The most bytes that it may hold.
    pub(crate) largest: u64,
    /// Whether a link at the end of its path counts.
    pub(crate) links: Links,
    /// Whose it may be; anybody's where there is none.
    pub(crate) owners: &'a [u32],
}

/// The bytes of a regular file of at most `largest` bytes, whosever it is, links followed.
///
/// # Errors
/// It cannot be opened or read, is no regular file, or is larger.
pub(crate) fn read(path: &Path, largest: u64) -> io::Result<Vec<u8>> {
    let (links, owners) = (Links::Followed, &[][..]);
    read_on(
        path,
        Terms {
            largest,
            links,
            owners,
        },
    )
}

/// The first `count` bytes of a regular file, or all where it has fewer.
///
/// # Errors
/// It cannot be opened or read, or is no regular file.
pub(crate) fn begin(path: &Path, count: u64) -> io::Result<Vec<u8>> {
    let file = Unopened::at(path, Links::Followed)?.open(CWD, path)?;
    let mut bytes = Vec::new();
    file.take(count).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// As [`read`], of a file that belongs to one of `owners`, which is no link.
///
/// # Errors
/// As for [`read`]; it is a link, or belongs to somebody else.
pub(crate) fn read_owned(path: &Path, owners: &[u32], largest: u64) -> io::Result<Vec<u8>> {
    let links = Links::Refused;
    read_on(
        path,
        Terms {
            largest,
            links,
            owners,
        },
    )
}

/// The bytes of a regular file that is as `terms` say.
///
/// # Errors
/// It is not, or cannot be opened or read.
pub(crate) fn read_on(path: &Path, terms: Terms<'_>) -> io::Result<Vec<u8>> {
    let found = Unopened::at(path, terms.links)?;
    let owner = found.metadata().uid();
    if !terms.owners.is_empty() && !terms.owners.contains(&owner) {
        let wanted: Vec<String> = terms.owners.iter().map(u32::to_string).collect();
        return Err(io::Error::other(format!(
            "it belongs to user {owner}, not to {}",
            wanted.join(" or ")
        )));
    }
    let file = found.open(CWD, path)?;
    bounded(file, found.metadata().len(), terms.largest)
}

/// What `file`, which had `size` bytes, holds; an error where that is more than `largest`, also if it has grown since.
fn bounded(file: impl Read, size: u64, largest: u64) -> io::Result<Vec<u8>> {
    let too_large = || io::Error::other(format!("it has more than {largest} bytes"));
    if size > largest {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).map_err(io::Error::other)?);
    // One byte more than is allowed tells a file that grows.
    file.take(largest.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > largest {
        Err(too_large())
    } else {
        Ok(bytes)
    }
}

/// Whether two paths are one but for the numbers in them: of the next generation of what a link leads to, as
/// certbot's `fullchain7.pem`, nothing but its number is new.
pub(crate) fn same_but_for_numbers(one: &Path, other: &Path) -> bool {
    let shape = |path: &Path| {
        let bytes = path.as_os_str().as_bytes().iter();
        let numbers = |byte: &u8| if byte.is_ascii_digit() { b'0' } else { *byte };
        let mut shape: Vec<u8> = bytes.map(numbers).collect();
        shape.dedup_by(|later, earlier| *later == b'0' && *earlier == b'0');
        shape
    };
    shape(one) == shape(other)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that panics has failed")]
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use tempfile::TempDir;

    use super::*;

    fn world() -> TempDir {
        let world = TempDir::new().unwrap();
        fs::write(world.path().join("file"), "text").unwrap();
        world
    }

    #[test]
    fn what_is_no_regular_file_is_named_and_not_opened() {
        let world = world();
        let at = |name: &str| world.path().join(name);
        fs::create_dir(at("directory")).unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();
        rustix::fs::mkfifoat(CWD, at("fifo"), Mode::RUSR).unwrap();
        symlink("/dev/zero", at("device")).unwrap();
        for name in ["directory", "socket", "FIFO", "device"] {
            let error = read(&at(&name.to_lowercase()), 100).unwrap_err();
            let wanted = format!("it is a {name}, not a regular file");
            assert_eq!(error.to_string(), wanted);
        }
    }

    #[test]
    fn a_link_at_the_end_counts_where_the_reader_says_so() {
        let world = world();
        let link = world.path().join("link");
        symlink("file", &link).unwrap();
        assert_eq!(read(&link, 100).unwrap(), b"text");
        let own = rustix::process::geteuid().as_raw();
        let error = read_owned(&link, &[own], 100).unwrap_err();
        assert!(error.to_string().contains("symbolic link"), "{error}");
        let file = world.path().join("file");
        assert_eq!(read_owned(&file, &[own], 100).unwrap(), b"text");
        let error = read_owned(&file, &[own + 1, own + 2], 100).unwrap_err();
        let wanted = format!(
            "it belongs to user {own}, not to {} or {}",
            own + 1,
            own + 2
        );
        assert_eq!(error.to_string(), wanted);
    }

    #[test]
    fn a_file_is_too_large_by_its_size_and_by_what_it_has_grown_to() {
        let world = world();
        let file = world.path().join("file");
        assert_eq!(read(&file, 4).unwrap(), b"text");
        assert!(read(&file, 3).unwrap_err().to_string().contains("3 bytes"));
        // It had two bytes when it was looked at.
        let grown = bounded(File::open(&file).unwrap(), 2, 3).unwrap_err();
        assert!(grown.to_string().contains("more than 3 bytes"), "{grown}");
    }

    #[test]
    fn what_takes_the_place_of_a_file_after_the_look_is_not_opened() {
        let world = world();
        let file = world.path().join("file");
        let found = Unopened::at(&file, Links::Refused).unwrap();
        rustix::fs::mkfifoat(CWD, world.path().join("fifo"), Mode::RUSR).unwrap();
        fs::rename(world.path().join("fifo"), &file).unwrap();
        let mut text = String::new();
        let mut opened = found.open(CWD, &file).unwrap();
        opened.read_to_string(&mut text).unwrap();
        assert_eq!(text, "text");
    }

    #[test]
    fn another_generation_differs_by_its_numbers_alone() {
        let same = |one: &str, other: &str| same_but_for_numbers(Path::new(one), Path::new(other));
        assert!(same(
            "/le/archive/a/fullchain1.pem",
            "/le/archive/a/fullchain23.pem"
        ));
        assert!(same("/r/2026-01-02/chain.pem", "/r/2027-11-12/chain.pem"));
        assert!(same("/a/b.pem", "/a/b.pem"));
        assert!(!same(
            "/le/archive/a/fullchain1.pem",
            "/le/archive/a/privkey1.pem"
        ));
        assert!(!same("/a/server.pem", "/a/server1.pem"));
        assert!(!same("/pg/server.pem", "/pg/other.pem"));
    }
}
