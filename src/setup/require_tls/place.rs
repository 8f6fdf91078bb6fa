//! One file in its directory, replaced by one rename.
//!
//! The directory may be one that the server's user can write in, so it is opened once, its owner
//! is taken from the descriptor, and everything goes through it without following a link. Reading
//! has the rights of the server's user, creating and renaming those of the directory's owner, and
//! what only root may give (owner, label) is given on the descriptor of the new file.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FileType, Gid, Mode, OFlags, Uid, XattrFlags};
use rustix::io::Errno;

use super::error::{OPEN_DIRECTORY, TighteningError};
use crate::host::file::Unopened;
use crate::host::privilege::{Ids, Rights, Worker};
use crate::host::slot::FileSlot;

/// As much as the server's own reader is given ([`OnDisk`](crate::server::hba::OnDisk)).
const LARGEST: u64 = 16 << 20;

/// More than the kernel lets an attribute hold on most file systems.
const LARGEST_ATTRIBUTE: usize = 64 << 10;

/// What is kept beside owner and mode: the SELinux label and the access list.
const ATTRIBUTES: [&str; 2] = ["security.selinux", "system.posix_acl_access"];

#[derive(Debug)]
pub(in crate::setup) struct HbaFile {
    slot: FileSlot,
    owner: Ids,
}

/// A regular file, as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::setup) struct Plain {
    pub(crate) bytes: Vec<u8>,
    attributes: Attributes,
}

/// Whose a file is, and who may do what with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attributes {
    ids: Ids,
    mode: u32,
    /// In the order of [`ATTRIBUTES`].
    extended: [Option<Vec<u8>>; 2],
}

impl Attributes {
    fn from_file(file: &impl std::os::fd::AsFd) -> Result<Attributes, Errno> {
        let stat = rustix::fs::fstat(file)?;
        let mut extended = [None, None];
        for (value, name) in extended.iter_mut().zip(ATTRIBUTES) {
            let mut buffer = vec![0; LARGEST_ATTRIBUTE];
            *value = match rustix::fs::fgetxattr(file, name, buffer.as_mut_slice()) {
                Ok(length) => Some(buffer[..length].to_vec()),
                Err(Errno::NODATA | Errno::OPNOTSUPP) => None,
                Err(error) => return Err(error),
            };
        }
        Ok(Attributes {
            ids: Ids {
                uid: stat.st_uid,
                gid: stat.st_gid,
            },
            mode: stat.st_mode & 0o7777,
            extended,
        })
    }

    /// Gives a file that was just made, and that nobody else can open yet, what it lacks of these.
    fn give(&self, file: &OwnedFd) -> Result<(), Errno> {
        let now = Attributes::from_file(file)?;
        if now.ids != self.ids {
            let (uid, gid) = (Uid::from_raw(self.ids.uid), Gid::from_raw(self.ids.gid));
            rustix::fs::fchown(file, Some(uid), Some(gid))?;
        }
        rustix::fs::fchmod(file, Mode::from_raw_mode(self.mode))?;
        let all = ATTRIBUTES.into_iter().zip(&self.extended);
        for ((name, wanted), now) in all.zip(&now.extended) {
            match (wanted, now) {
                (Some(wanted), now) if now.as_ref() != Some(wanted) => {
                    rustix::fs::fsetxattr(file, name, wanted, XattrFlags::empty())?;
                }
                // The directory's default; a label cannot be taken away, and is the kernel's.
                (None, Some(_)) if name != ATTRIBUTES[0] => rustix::fs::fremovexattr(file, name)?,
                _ => {}
            }
        }
        Ok(())
    }
}

impl HbaFile {
    /// Opens the directory of `path`, with the rights of the calling thread.
    pub(super) fn find(path: &Path) -> Result<HbaFile, TighteningError> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(TighteningError::files(path, "use it as a file")(
                Errno::INVAL,
            ));
        };
        HbaFile::open(parent, OFlags::empty(), name)
    }

    /// A file of this name in `directory`, which must itself be no link.
    pub(in crate::setup) fn within(
        directory: &Path,
        name: &OsStr,
    ) -> Result<HbaFile, TighteningError> {
        HbaFile::open(directory, OFlags::NOFOLLOW, name)
    }

    fn open(directory: &Path, flags: OFlags, name: &OsStr) -> Result<HbaFile, TighteningError> {
        let path = directory.join(name);
        let fail = |action| TighteningError::files(&path, action);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | flags;
        let opened =
            rustix::fs::open(directory, flags, Mode::empty()).map_err(fail(OPEN_DIRECTORY))?;
        let stat = rustix::fs::fstat(&opened).map_err(fail("look at its directory"))?;
        Ok(HbaFile {
            slot: FileSlot::new(opened, &path)
                .map_err(|_| Errno::INVAL)
                .map_err(fail("use it as a file"))?,
            owner: Ids {
                uid: stat.st_uid,
                gid: stat.st_gid,
            },
        })
    }

    pub(super) fn owner(&self) -> Ids {
        self.owner
    }

    /// What is there, with the rights of the calling thread; nothing but a regular file that has
    /// this one name can be replaced by a rename.
    pub(super) fn read(&self) -> Result<Plain, TighteningError> {
        let fail = |action| TighteningError::files(self.slot.path(), action);
        // It is looked at before it is opened: the server's user may have put a device there.
        let found = Unopened::within(self.slot.directory(), self.slot.name())
            .map_err(errno)
            .map_err(fail("open it"))?;
        if found.metadata().is_symlink() {
            return Err(TighteningError::Link {
                file: self.slot.path().to_owned(),
                target: found.link().map_err(errno).map_err(fail("read the link"))?,
            });
        }
        let stat = rustix::fs::fstat(&found).map_err(fail("look at it"))?;
        let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
        let odd = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile if size > LARGEST => Some("larger than any such file"),
            FileType::RegularFile if stat.st_nlink > 1 => {
                Some("a file with a second name (a hard link)")
            }
            FileType::RegularFile => None,
            _ => Some("no regular file"),
        };
        if let Some(what) = odd {
            return Err(TighteningError::Odd {
                file: self.slot.path().to_owned(),
                what,
            });
        }
        let opened = found.open(self.slot.directory(), Path::new(self.slot.name()));
        let file = opened.map_err(errno).map_err(fail("open it"))?;
        let attributes = Attributes::from_file(&file).map_err(fail("read its attributes"))?;
        let mut bytes = Vec::new();
        // One byte more than is allowed tells a file that grows.
        let read = file.take(LARGEST + 1).read_to_end(&mut bytes);
        read.map_err(errno).map_err(fail("read it"))?;
        if bytes.len() as u64 > LARGEST {
            return Err(TighteningError::Odd {
                file: self.slot.path().to_owned(),
                what: "larger than any such file",
            });
        }
        Ok(Plain { bytes, attributes })
    }

    /// Puts `new` in the place of what was found there.
    ///
    /// # Errors
    /// It is not what was found any more, or the directory cannot be written.
    pub(in crate::setup) async fn replace(
        self: &Arc<HbaFile>,
        reader: &Worker,
        found: Plain,
        new: Vec<u8>,
    ) -> Result<(), TighteningError> {
        let writer = self.writer().await?;
        self.stage(&writer, Some(&found.attributes), new).await?;
        let place = Arc::clone(self);
        let still = reader.call(move || match place.read()? {
            now if now == found => Ok(()),
            _ => Err(TighteningError::Changed {
                file: place.slot.path().to_owned(),
            }),
        });
        let put = match still.await? {
            Ok(()) => {
                let place = Arc::clone(self);
                writer.call(move || place.put()).await?
            }
            error => error,
        };
        self.or_discard(&writer, put).await
    }

    /// Makes a file here that is only its owner's, or leaves what is there if it holds the same.
    pub(in crate::setup) async fn create(
        self: &Arc<HbaFile>,
        bytes: Vec<u8>,
    ) -> Result<(), TighteningError> {
        let writer = self.writer().await?;
        let (place, wanted) = (Arc::clone(self), bytes.clone());
        let there = writer.call(move || place.read().is_ok_and(|plain| plain.bytes == wanted));
        if there.await? {
            return Ok(());
        }
        self.stage(&writer, None, bytes).await?;
        let place = Arc::clone(self);
        let put = writer.call(move || place.put()).await?;
        self.or_discard(&writer, put).await
    }

    /// Reads what lies here with the rights of the directory's owner.
    pub(super) async fn read_as_owner(self: &Arc<HbaFile>) -> Result<Plain, TighteningError> {
        let (writer, place) = (self.writer().await?, Arc::clone(self));
        writer.call(move || place.read()).await?
    }

    /// Takes away what lies here.
    pub(in crate::setup) async fn remove(self: &Arc<HbaFile>) -> Result<(), TighteningError> {
        let (writer, place) = (self.writer().await?, Arc::clone(self));
        Ok(writer.call(move || place.slot.remove()).await??)
    }

    /// A thread with the rights of the directory's owner, in the directory alone. The descriptor's
    /// name in `/proc` leads there whatever became of the path.
    async fn writer(&self) -> Result<Worker, TighteningError> {
        let directory = format!("/proc/self/fd/{}", self.slot.directory().as_raw_fd()).into();
        let rights = Rights::Writer {
            owner: self.owner,
            write: [directory].into(),
            read: [].into(),
        };
        Ok(Worker::start("writer", move || rights).await?)
    }

    /// Writes a file beside this place, durably. It is the directory's owner's alone until it is given its attributes.
    async fn stage(
        self: &Arc<HbaFile>,
        writer: &Worker,
        attributes: Option<&Attributes>,
        bytes: Vec<u8>,
    ) -> Result<(), TighteningError> {
        let place = Arc::clone(self);
        let file = writer.call(move || place.slot.create_beside()).await??;
        // Here, since the writer may give nothing away.
        let done = match attributes.map_or(Ok(()), |attributes| attributes.give(&file)) {
            Ok(()) => {
                let place = Arc::clone(self);
                let written = writer.call(move || place.slot.write_beside(file, &bytes));
                written.await?
            }
            Err(error) => {
                let action = "give the new file beside it the owner, mode and label of the old one";
                Err(self.slot.failed(action)(error))
            }
        };
        let done = done.map_err(TighteningError::from);
        self.or_discard(writer, done).await
    }

    /// Takes the new file away where it did not get into its place.
    async fn or_discard(
        self: &Arc<HbaFile>,
        writer: &Worker,
        done: Result<(), TighteningError>,
    ) -> Result<(), TighteningError> {
        if done.is_err() {
            let place = Arc::clone(self);
            // The first error is the one to tell; what stays behind is removed next time.
            let _second = writer.call(move || place.slot.discard()).await;
        }
        done
    }

    fn put(&self) -> Result<(), TighteningError> {
        self.slot.commit()?;
        Ok(self.slot.sync_directory()?)
    }
}

fn errno(error: io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}
