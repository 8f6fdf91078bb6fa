//! Files that somebody else names: a configuration, a crontab, a client.
//!
//! Whatever lies there, a pipe, a device, something endless, reading it neither waits nor takes
//! more than the reader allows. It says nothing of who may read; that is the thread's.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};

/// The bytes of a regular file of at most `largest` bytes.
///
/// # Errors
/// It cannot be opened or read, is no regular file, or is larger.
pub fn read(path: &Path, largest: u64) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let meta = file.metadata()?;
    if !meta.is_file() || meta.len() > largest {
        return Err(io::Error::other(
            "it is not a regular file of a sensible size",
        ));
    }
    let mut bytes = Vec::new();
    file.take(largest).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The bytes of a file that another user publishes: a regular one of at most `largest` bytes that one of `owners` owns,
/// and no link. It is looked at before it is opened, so that no pipe is waited for and no device is touched.
///
/// # Errors
/// There is none, it is not such a file, or it cannot be read.
pub fn read_owned(path: &Path, owners: &[u32], largest: u64) -> io::Result<Vec<u8>> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = rustix::fs::open(path, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&found)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(io::Error::other(
            "it is no regular file, so it was not read",
        ));
    }
    if !owners.contains(&stat.st_uid) {
        let owner = stat.st_uid;
        return Err(io::Error::other(format!(
            "it belongs to user {owner}, who has no business there, so it was not read"
        )));
    }
    // The very file that was looked at, whatever the name leads to by now.
    let same = format!("/proc/self/fd/{}", found.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(same, flags, Mode::empty())?);
    let mut bytes = Vec::new();
    file.take(largest.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > largest) {
        return Err(io::Error::other(format!(
            "it has more than {largest} bytes, so it was not read"
        )));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that panics has failed")]
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::path::PathBuf;

    use super::*;

    fn own(path: &Path) -> io::Result<Vec<u8>> {
        let own = rustix::process::geteuid().as_raw();
        read_owned(path, &[own], 8)
    }

    #[test]
    fn a_published_file_is_read_whole_up_to_its_bound() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "12345678").unwrap();
        assert_eq!(own(&file).unwrap(), b"12345678");
        std::fs::write(&file, "123456789").unwrap();
        assert!(own(&file).unwrap_err().to_string().contains("more than 8"));
        let absent = own(&directory.path().join("absent")).unwrap_err();
        assert_eq!(absent.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_is_no_regular_file_is_neither_followed_nor_waited_for_nor_opened() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("file"), "text").unwrap();
        symlink(at("file"), at("link")).unwrap();
        symlink("/dev/zero", at("zero")).unwrap();
        nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        std::fs::create_dir(at("directory")).unwrap();
        let names = ["link", "zero", "pipe", "socket", "directory"].map(at);
        for path in names.into_iter().chain([PathBuf::from("/dev/zero")]) {
            let error = own(&path).unwrap_err().to_string();
            assert!(
                error.contains("no regular file"),
                "{}: {error}",
                path.display()
            );
        }
    }

    #[test]
    fn what_belongs_to_nobody_who_may_publish_it_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "text").unwrap();
        let owner = file.metadata().unwrap().uid();
        let error = read_owned(&file, &[owner + 1], 8).unwrap_err().to_string();
        assert!(error.contains(&format!("user {owner}")), "{error}");
    }
}
