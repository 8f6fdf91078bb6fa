//! Files that somebody else names: a configuration, a crontab, a client.
//!
//! Whatever lies there, a pipe, a device, something endless, reading it neither waits nor takes
//! more than the reader allows. It says nothing of who may read; that is the thread's.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

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
