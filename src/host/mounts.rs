//! Files that are mounted by themselves.
//!
//! A file that is mounted by itself into a container is mounted by its inode: when it is replaced
//! by a rename, which is how a write is atomic, the container keeps the old file for
//! ever. That shows in the mount tables of the two (`/proc/PID/mountinfo`, proc(5)), which everyone may read.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::look::{self, CannotLook};

/// This thread's own mount table.
pub(crate) const OURS: &str = "/proc/thread-self/mountinfo";

/// One mount, as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    /// `major:minor` of the file system.
    device: String,
    /// What of the file system is mounted.
    root: PathBuf,
    /// Whether that has been replaced or removed since.
    deleted: bool,
    point: PathBuf,
}

impl Mount {
    /// Reads a line: `36 35 98:0 /mnt1 /mnt2 rw,noatime ...`.
    fn parse(line: &[u8]) -> Option<Mount> {
        let mut fields = line.split(|byte| *byte == b' ').skip(2);
        let device = String::from_utf8(fields.next()?.to_vec()).ok()?;
        let root = unescaped(fields.next()?);
        let point = PathBuf::from(OsString::from_vec(unescaped(fields.next()?)));
        let living = root.strip_suffix(b"//deleted");
        Some(Mount {
            device,
            deleted: living.is_some(),
            root: PathBuf::from(OsString::from_vec(living.unwrap_or(&root).to_vec())),
            point,
        })
    }

    fn table(text: &[u8]) -> Vec<Mount> {
        text.split(|byte| *byte == b'\n')
            .filter_map(Mount::parse)
            .collect()
    }

    /// What a path below the mount point is in the file system.
    fn inside(&self, path: &Path) -> Option<PathBuf> {
        Some(self.root.join(path.strip_prefix(&self.point).ok()?))
    }

    /// Where something of the file system is seen.
    fn outside(&self, path: &Path) -> Option<PathBuf> {
        let below = path.strip_prefix(&self.root).ok()?;
        (!self.deleted).then(|| self.point.join(below))
    }
}

/// Blank, tab, newline and backslash stand there as three octal digits.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let digits = after
            .get(..3)
            .and_then(|bytes| std::str::from_utf8(bytes).ok());
        let byte = digits.and_then(|text| u8::from_str_radix(text, 8).ok());
        match (first, byte) {
            (b'\\', Some(byte)) => {
                plain.push(byte);
                rest = &after[3..];
            }
            _ => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    plain
}

/// The mount that a path is seen through: the last of those nearest above it.
fn through<'a>(table: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    table
        .iter()
        .filter(|mount| path.starts_with(&mount.point))
        .max_by_key(|mount| mount.point.as_os_str().len())
}

/// Where another process sees `target` as a file that is mounted by itself, by this process's mount
/// table and its own; nothing where it does not, or sees it in its directory as well: which of
/// the two it uses is then not known here.
///
/// `target` is a path without links.
fn alone(ours: &[u8], theirs: &[u8], target: &Path) -> Option<PathBuf> {
    let (ours, theirs) = (Mount::table(ours), Mount::table(theirs));
    let mount = through(&ours, target)?;
    let file = mount.inside(target)?;
    let same_device: Vec<&Mount> = theirs
        .iter()
        .filter(|entry| entry.device == mount.device)
        .collect();
    let mounted = same_device.iter().find(|mount| mount.root == file)?;
    let in_directory = |found: &&Mount| {
        let seen = (found.root != file).then(|| found.outside(&file)).flatten();
        // Something else may be mounted over it.
        seen.is_some_and(|seen| {
            through(&theirs, &seen).is_some_and(|top| std::ptr::eq(top, *found))
        })
    };
    let in_directory = same_device.iter().any(in_directory);
    (!in_directory).then(|| mounted.point.clone())
}

/// The first of `files` that a process sees as a file mounted by itself, and where; `theirs` is its mount table.
///
/// # Errors
/// A mount table cannot be read.
pub(crate) fn first_alone(
    theirs: &Path,
    files: impl IntoIterator<Item = PathBuf>,
) -> Result<Option<(PathBuf, PathBuf)>, CannotLook> {
    // A process that has ended sees nothing.
    let Some(theirs) = look::read(theirs)? else {
        return Ok(None);
    };
    let ours = Path::new(OURS);
    let ours = look::read(ours)?.ok_or_else(|| CannotLook::missing(ours))?;
    let seen = |file: PathBuf| {
        let at = alone(&ours, &theirs, &without_links(&file))?;
        Some((file, at))
    };
    Ok(files.into_iter().find_map(seen))
}

/// The file by its directory's own name; a link in the file's place is replaced, not followed.
fn without_links(file: &Path) -> PathBuf {
    let directory = file.parent().and_then(|path| path.canonicalize().ok());
    match (directory, file.file_name()) {
        (Some(directory), Some(name)) => directory.join(name),
        _ => file.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
23 22 0:21 / /proc rw - proc proc rw
30 22 254:1 / /srv/db rw - ext4 /dev/vdb rw
";

    /// A container's own root, its data and more from the host.
    fn container(more: &str) -> String {
        format!(
            "500 400 0:60 / / rw - overlay overlay rw\n\
             501 500 0:61 / /proc rw - proc proc rw\n\
             502 500 254:0 /var/lib/containers/volumes/data/_data /var/lib/postgresql/data rw - ext4 /dev/vda rw\n\
             {more}"
        )
    }

    fn at(theirs: &str, target: &str) -> Option<PathBuf> {
        alone(HOST.as_bytes(), theirs.as_bytes(), Path::new(target))
    }

    const TARGET: &str = "/var/lib/pgcertd/main/server.pem";

    fn mounted(device: &str, root: &str, point: &str) -> String {
        format!("503 500 {device} {root} {point} ro - ext4 /dev/vda rw\n")
    }

    #[test]
    fn a_file_that_is_mounted_by_itself_is_seen_before_and_after_it_was_replaced() {
        for root in [TARGET.to_owned(), format!("{TARGET}//deleted")] {
            let theirs = container(&mounted("254:0", &root, "/certs/server.pem"));
            assert_eq!(
                at(&theirs, TARGET),
                Some(PathBuf::from("/certs/server.pem")),
                "{root}"
            );
        }
    }

    #[test]
    fn a_mounted_directory_or_none_is_well() {
        let directory = container(&mounted("254:0", "/var/lib/pgcertd/main", "/certs"));
        let above = container(&mounted("254:0", "/var/lib", "/host"));
        for theirs in [HOST.to_owned(), directory, above, container("")] {
            assert_eq!(at(&theirs, TARGET), None, "{theirs}");
        }
    }

    #[test]
    fn the_same_path_of_another_file_system_is_another_file() {
        let theirs = container(&mounted("254:1", TARGET, "/certs/server.pem"));
        assert_eq!(at(&theirs, TARGET), None);
    }

    #[test]
    fn a_target_on_a_mounted_file_system_is_known_by_its_place_there() {
        let theirs = container(&mounted("254:1", "/certs/server.pem", "/server.pem"));
        let seen = at(&theirs, "/srv/db/certs/server.pem");
        assert_eq!(seen, Some(PathBuf::from("/server.pem")));
    }

    #[test]
    fn a_copy_of_the_mount_elsewhere_matters_only_where_the_directory_is_not_seen() {
        // A host's own table, with the file mounted into a chroot that is no server's.
        let elsewhere = format!(
            "{HOST}{}",
            mounted("254:0", TARGET, "/srv/chroot/server.pem")
        );
        assert_eq!(at(&elsewhere, TARGET), None);
        // A unit's ReadOnlyPaths= mounts the file over itself.
        let over_itself = format!("{HOST}{}", mounted("254:0", TARGET, TARGET));
        assert_eq!(at(&over_itself, TARGET), Some(PathBuf::from(TARGET)));
    }

    #[test]
    fn names_with_blanks_and_backslashes_are_read_as_the_kernel_writes_them() {
        let root = r"/var/lib/a\040b\134c/server.pem";
        let theirs = container(&mounted("254:0", root, r"/c\011d"));
        let seen = at(&theirs, "/var/lib/a b\\c/server.pem");
        assert_eq!(seen, Some(PathBuf::from("/c\td")));
        assert_eq!(unescaped(br"\04"), br"\04");
    }

    #[test]
    fn what_is_no_mount_table_says_nothing() {
        for text in ["", "\n", "x", "1 2 3:4", "1 2 3:4 /"] {
            assert_eq!(
                alone(text.as_bytes(), text.as_bytes(), Path::new("/x")),
                None
            );
        }
    }

    #[test]
    fn the_kernels_own_table_is_read() -> Result<(), CannotLook> {
        let own = Mount::table(&look::read(Path::new(OURS))?.unwrap_or_default());
        assert!(
            through(&own, Path::new("/proc/self"))
                .is_some_and(|mount| mount.point == Path::new("/proc"))
        );
        Ok(())
    }
}
