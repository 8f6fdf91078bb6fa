//! Whether a program named by someone else may be run as a given user.
//!
//! Whoever can write to a program, or to a directory in its path, controls what it does. So a program is only run as a user
//! if nobody but root and that user controls it, and never as root.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::directory::{Bender, OnTheWay, ReachError, is_writable_by_others, walk};
use super::file::Links;
use crate::host::privilege::Ids;

/// Why a program must not be run as a user.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Untrusted {
    #[error(
        "pgcertd never runs a program as root because a server's files or processes name it; a server's data directory or \
         configuration should belong to the user that the server runs as"
    )]
    AsRoot,
    /// Another user could have replaced it.
    #[error(
        "{who} can write to {} and could have replaced the program; make root or user {uid} its owner, and let nobody else write to it",
        path.display()
    )]
    Writable {
        /// The program, or a directory or link in its path.
        path: PathBuf,
        who: String,
        /// The user that it would run as.
        uid: u32,
    },
    /// It does not exist, or the path is not absolute.
    #[error(transparent)]
    Reach(io::Error),
    #[error("it is not a regular file")]
    NotAFile,
}

impl From<ReachError> for Untrusted {
    fn from(error: ReachError) -> Self {
        Untrusted::Reach(error.into_io())
    }
}

/// Checks that nobody but root and `user` controls the program at `path`.
///
/// # Errors
/// Someone else does, or there is no such program.
pub(super) fn trusted(path: &Path, user: Ids) -> Result<(), Untrusted> {
    if user.uid == 0 {
        return Err(Untrusted::AsRoot);
    }
    let reached = walk(path, Links::Followed, |step| {
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

/// Who besides root controls this component and its contents.
fn strangers(step: &OnTheWay<'_>) -> Vec<Bender> {
    const STICKY: u32 = 0o1000;
    let mut strangers = step.benders();
    let is_sticky_directory = FileType::from_raw_mode(step.stat.st_mode) == FileType::Directory
        && step.stat.st_mode & STICKY != 0;
    // The mode of a link means nothing. For a sticky directory, the next component is checked.
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
    use crate::testing::skipped::Skipped;
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
