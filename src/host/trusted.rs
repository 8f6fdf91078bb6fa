//! Whether a program that somebody else names may be run as a user.
//!
//! Whoever can write a program, or a directory on the way to it, decides what it does. As a user it may only do what root or
//! that user himself has decided; and root's own deeds are decided by nobody's file.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::directory::{Bender, LinkAtEnd, OnTheWay, ReachError, is_writable_by_others, walk};
use crate::host::privilege::Ids;

/// Why a program is not run as a user.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Untrusted {
    /// Root does what its own commands say, and not what a file says.
    #[error(
        "root runs no program that a server's files or processes name; a server's data directory or configuration belongs to \
         the user that it runs as"
    )]
    AsRoot,
    /// Another user could have put it there.
    #[error(
        "{who} may write {}, and could have put another program there; let root or user {uid} own it, and nobody else write it",
        path.display()
    )]
    Writable {
        /// The program, or a directory or link on the way.
        path: PathBuf,
        who: String,
        /// The user as whom it would run.
        uid: u32,
    },
    /// It is not there, or no path from the root.
    #[error(transparent)]
    Reach(io::Error),
    /// It is a directory, for one.
    #[error("it is not a regular file")]
    NotAFile,
}

impl From<ReachError> for Untrusted {
    fn from(error: ReachError) -> Self {
        Untrusted::Reach(error.into_io())
    }
}

/// Checks that nobody but root and `user` decides what the program at `path` is.
///
/// # Errors
/// Somebody else does, or there is no program.
pub(super) fn trusted(path: &Path, user: Ids) -> Result<(), Untrusted> {
    if user.uid == 0 {
        return Err(Untrusted::AsRoot);
    }
    let reached = walk(path, LinkAtEnd::Followed, |step| {
        let stranger = strangers(step)
            .into_iter()
            .find(|who| *who != Bender::User(user.uid));
        stranger.map_or(Ok(()), |who| {
            Err(Untrusted::Writable {
                path: step.path.to_owned(),
                who: who.to_string(),
                uid: user.uid,
            })
        })
    })?;
    match FileType::from_raw_mode(reached.stat.st_mode) {
        FileType::RegularFile => Ok(()),
        _ => Err(Untrusted::NotAFile),
    }
}

/// Who, beside root, decides what lies at this component, and what is in it.
fn strangers(step: &OnTheWay<'_>) -> Vec<Bender> {
    const STICKY: u32 = 0o1000;
    let mut strangers = step.benders();
    let is_sticky_directory = FileType::from_raw_mode(step.stat.st_mode) == FileType::Directory
        && step.stat.st_mode & STICKY != 0;
    // A link's own mode says nothing. What lies in a sticky directory is asked of the next component.
    if !step.is_link() && !is_sticky_directory && is_writable_by_others(step.stat) {
        strangers.push(Bender::Others);
    }
    strangers
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that panics has failed")]
    use super::*;
    use crate::host::privilege::is_root;
    use crate::skipped::Skipped;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    const OWNER: Ids = Ids {
        uid: 4242,
        gid: 4242,
    };

    #[test]
    fn a_program_is_run_only_where_root_and_its_user_alone_decide_what_it_is() {
        if !is_root() {
            return Skipped::because("only root gives files away").count();
        }
        let ground = tempfile::tempdir().unwrap();
        fs::set_permissions(ground.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let file = |directory: &Path, owner: u32, mode: u32| {
            fs::create_dir_all(directory).unwrap();
            let program = directory.join("postgres");
            fs::write(&program, "").unwrap();
            chown(&program, Some(owner), Some(owner)).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(mode)).unwrap();
            program
        };
        let at = |name: &str| ground.path().join(name);
        let refused = |path: &Path| matches!(trusted(path, OWNER), Err(Untrusted::Writable { .. }));

        assert!(trusted(&file(&at("root"), 0, 0o755), OWNER).is_ok());
        assert!(trusted(&file(&at("own"), OWNER.uid, 0o755), OWNER).is_ok());
        assert!(trusted(Path::new("/bin/sh"), OWNER).is_ok());
        // Nothing is run as root because a file says so.
        let as_root = Ids { uid: 0, gid: 0 };
        let of_root = trusted(Path::new("/bin/sh"), as_root);
        assert!(matches!(of_root, Err(Untrusted::AsRoot)));
        // Another user's; one that a group, or everybody, may write.
        assert!(refused(&file(&at("other"), 4243, 0o755)));
        assert!(refused(&file(&at("group"), OWNER.uid, 0o775)));
        assert!(refused(&file(&at("all"), 0, 0o757)));
        // A directory on the way that others may write, unless it is sticky and the entry is not theirs.
        let open = file(&at("open/bin"), 0, 0o755);
        fs::set_permissions(at("open"), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(refused(&open));
        fs::set_permissions(at("open"), fs::Permissions::from_mode(0o1777)).unwrap();
        assert!(trusted(&open, OWNER).is_ok());
        chown(at("open"), Some(4243), Some(4243)).unwrap();
        assert!(refused(&open));
        // A link of another user's, whatever it leads to.
        symlink("/bin/sh", at("link")).unwrap();
        std::os::unix::fs::lchown(at("link"), Some(4243), None).unwrap();
        assert!(refused(&at("link")));
        assert!(matches!(
            trusted(ground.path(), OWNER),
            Err(Untrusted::NotAFile)
        ));
        assert!(matches!(
            trusted(&at("missing"), OWNER),
            Err(Untrusted::Reach(_))
        ));
    }
}
