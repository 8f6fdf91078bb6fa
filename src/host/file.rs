//! Files that someone else names: a configuration, a crontab, a lineage, a client's account.
//!
//! Whatever the path leads to, a pipe, a device, an endless file, reading neither blocks nor takes more than the caller
//! allows. Nothing is opened before it is known to be a regular file: first a descriptor is taken that opens no device
//! and no FIFO ([`Unopened`]), then it is checked, and then that very file is opened for reading, not whatever its path leads
//! to by then.
//!
//! What may be read depends on the rights of the thread. Nor is there a time-out for file systems that don't respond: to read
//! below a user's home, go through [`patience`](crate::host::patience).

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

use super::look::FileId;

/// How regular files are opened: if it has become a FIFO or a terminal since, that must neither block us nor become our
/// terminal.
const READ: OFlags = OFlags::RDONLY
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// Whatever a path leads to, held by a descriptor that does not open it (`O_PATH`, open(2)).
#[derive(Debug)]
pub struct Unopened {
    descriptor: OwnedFd,
    metadata: Metadata,
}

impl Unopened {
    /// The root of the file system as this process sees it.
    ///
    /// # Errors
    /// The system call failed.
    pub(crate) fn root() -> io::Result<Unopened> {
        Unopened::hold(CWD, Path::new("/"), OFlags::DIRECTORY)
    }

    /// Whatever `path` leads to; a link at its end is followed, or held itself.
    ///
    /// # Errors
    /// The system call failed.
    pub fn at(path: &Path, links: Links) -> io::Result<Unopened> {
        Unopened::hold(CWD, path, links.flags())
    }

    /// Whatever has this name, which must not be a path, in `directory`; a link is held itself.
    ///
    /// # Errors
    /// The system call failed.
    pub(crate) fn within(directory: impl AsFd, name: &OsStr) -> io::Result<Unopened> {
        Unopened::hold(directory, Path::new(name), OFlags::NOFOLLOW)
    }

    /// Whatever has this name, which must not be a path, in this directory; a link is held itself.
    ///
    /// # Errors
    /// The system call failed, or this is not a directory.
    pub(crate) fn entry(&self, name: &OsStr) -> io::Result<Unopened> {
        // As a directory first: an autofs is only mounted when it is opened as one.
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

    /// Its metadata at the moment when it was opened.
    pub(crate) fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The target of the link; an error if it is not one.
    ///
    /// # Errors
    /// The system call failed.
    pub(crate) fn link(&self) -> io::Result<PathBuf> {
        let target = rustix::fs::readlinkat(&self.descriptor, "", Vec::new())?;
        Ok(OsString::from_vec(target.into_bytes()).into())
    }

    /// Whether it has an access control list, or that is unknown.
    pub(crate) fn has_acl(&self) -> bool {
        match rustix::fs::getxattr_query(self.by_number(), "system.posix_acl_access") {
            Ok(_) => true,
            Err(Errno::NODATA | Errno::OPNOTSUPP) => false,
            Err(_) => true,
        }
    }

    /// Opens it for reading, if it is a regular file; nothing else is ever opened.
    ///
    /// `directory` and `name` are where it was found, in case there is no `/proc`: that is opened if it is still the same file.
    ///
    /// # Errors
    /// It is not a regular file, or the system call failed.
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
                if FileId::from_metadata(&now) == FileId::from_metadata(&self.metadata) {
                    Ok(file)
                } else {
                    Err(io::Error::other("it was replaced while it was being read"))
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Opens it for listing, if it is a directory.
    ///
    /// # Errors
    /// It is not a directory, or the system call failed.
    pub(crate) fn list(&self) -> io::Result<rustix::fs::Dir> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&self.descriptor, ".", flags, Mode::empty())?;
        Ok(rustix::fs::Dir::new(opened)?)
    }

    /// A path that leads to exactly this file.
    fn by_number(&self) -> String {
        format!("/proc/self/fd/{}", self.descriptor.as_raw_fd())
    }
}

impl AsFd for Unopened {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Whether it could not be opened as a directory because it is something else.
fn is_other_kind(error: &io::Error) -> bool {
    let said = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(said, Some(Errno::NOTDIR | Errno::LOOP))
}

/// What was found instead of a regular file.
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
    /// `None` for a regular file.
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

/// Whether a symbolic link at the end of a path is followed. Those before it are.
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

/// The conditions for reading a file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms<'a> {
    /// The maximum size in bytes.
    pub(crate) largest: u64,
    pub(crate) links: Links,
    /// The users who may own it; empty for anybody.
    pub(crate) owners: &'a [u32],
}

/// The content of a regular file of at most `largest` bytes, whoever owns it; links are followed.
///
/// # Errors
/// It cannot be opened or read, is not a regular file, or is larger.
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

/// The first `count` bytes of a regular file, or all if it has fewer.
///
/// # Errors
/// It cannot be opened or read, or is not a regular file.
pub(crate) fn begin(path: &Path, count: u64) -> io::Result<Vec<u8>> {
    let file = Unopened::at(path, Links::Followed)?.open(CWD, path)?;
    let mut bytes = Vec::new();
    file.take(count).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// As [`read`], for a file that must belong to one of `owners` and not be a link.
///
/// # Errors
/// As for [`read`]; or it is a link, or belongs to someone else.
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

/// The content of a regular file that meets `terms`.
///
/// # Errors
/// It doesn't, or cannot be opened or read.
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

/// The content of `file`, which had `size` bytes; an error if it is more than `largest`, even if it has only grown since.
fn bounded(file: impl Read, size: u64, largest: u64) -> io::Result<Vec<u8>> {
    let too_large = || io::Error::other(format!("it has more than {largest} bytes"));
    if size > largest {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).map_err(io::Error::other)?);
    // Reading one byte more than allowed detects a file that grows.
    file.take(largest.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > largest {
        Err(too_large())
    } else {
        Ok(bytes)
    }
}

/// Whether two paths only differ in numbers, as those of two generations of the file that a link leads to (certbot's
/// `fullchain7.pem`).
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
