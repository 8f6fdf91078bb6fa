//! A file operation that failed: what, where, and what to do about it.

use std::fmt;
use std::path::Path;

use rustix::io::Errno;

use crate::host::look::limit_remedy;
use crate::host::slot::SlotError;
use crate::problem::Problem;

#[derive(Debug, thiserror::Error)]
#[error("{}", self.problem())]
pub(crate) struct FilesError {
    #[source]
    step: SlotError,
    /// What to do about it, if more is known than the error number says.
    fix: Option<String>,
    after: Aftermath,
}

/// The state after a step failed that others had preceded.
#[derive(Debug)]
enum Aftermath {
    /// No step had preceded it.
    Untouched,
    /// The earlier steps were undone.
    PutBack,
    /// That failed as well.
    Mixed(Box<FilesError>),
}

impl fmt::Display for Aftermath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Aftermath::Untouched => Ok(()),
            Aftermath::PutBack => {
                f.write_str("; the files that had been replaced by then are back as they were")
            }
            Aftermath::Mixed(error) => write!(
                f,
                "; putting back the files that had been replaced by then failed as well ({error}): the files are \
                 of two bundles, and the server may not start on them; the next run puts that right"
            ),
        }
    }
}

impl From<SlotError> for FilesError {
    fn from(step: SlotError) -> FilesError {
        FilesError {
            step,
            fix: None,
            after: Aftermath::Untouched,
        }
    }
}

impl FilesError {
    /// Whether the caller lacks permission.
    pub(crate) fn is_denied(&self) -> bool {
        matches!(self.step.source, Errno::ACCESS | Errno::PERM)
    }

    /// Whether a mixed set of files was left.
    pub(super) fn is_mixed(&self) -> bool {
        matches!(self.after, Aftermath::Mixed(_))
    }

    pub(super) fn new(path: &Path, action: &'static str) -> impl FnOnce(Errno) -> FilesError {
        let failed = SlotError::new(path, action);
        move |source| failed(source).into()
    }

    /// Whether the file or its directory does not exist.
    pub(super) fn is_absence(&self) -> bool {
        self.step.source == Errno::NOENT
    }

    /// With what to do about it, if that is known better than from the error number.
    pub(super) fn with_fix(mut self, fix: impl Into<String>) -> FilesError {
        self.fix = Some(fix.into());
        self
    }

    /// With the result of undoing the earlier steps.
    pub(super) fn after_undoing(mut self, undone: Result<(), FilesError>) -> FilesError {
        self.after = match undone {
            Ok(()) => Aftermath::PutBack,
            Err(error) => Aftermath::Mixed(Box::new(error)),
        };
        self
    }

    pub(crate) fn problem(&self) -> Problem {
        let FilesError { step, fix, after } = self;
        let fix = fix.clone();
        let fix = fix.unwrap_or_else(|| remedy(step.source, &step.path));
        Problem::new(format!("{step}{after}"), fix)
    }
}

/// What to do about an error, as the end of its sentence.
fn remedy(error: Errno, path: &Path) -> String {
    if let Some(remedy) = limit_remedy(error) {
        return remedy.to_owned();
    }
    let directory = path.parent().unwrap_or(path).display();
    match error {
        Errno::NOENT | Errno::NOTDIR => {
            format!("create the directory {directory} for the server's user")
        }
        Errno::ACCESS => format!(
            "{directory} must be writable, and what lies in it readable, for the owner of the files: chown it, or set owner in pgcertd's config"
        ),
        Errno::PERM => format!(
            "the file or {directory} may be immutable (lsattr, chattr -i), or owned by another user"
        ),
        Errno::ROFS => format!(
            "{directory} is read-only: for the unit, set ReadWritePaths={directory} with `systemctl edit pgcertd` and restart it; else mount it writable"
        ),
        Errno::NOSPC => format!("free some room on the file system of {directory}"),
        Errno::DQUOT => format!("the quota of the owner is used up in {directory}"),
        Errno::LOOP => "it is a symbolic link; replace it by a file or remove it".to_owned(),
        Errno::IO | Errno::NXIO | Errno::NODEV | Errno::NOMEDIUM | Errno::REMOTEIO => format!(
            "the disk below {directory} reports an error: see dmesg, and check the disk (smartctl) and its file system (fsck)"
        ),
        Errno::UCLEAN | Errno::BADMSG | Errno::ILSEQ => format!(
            "the file system of {directory} is damaged: see dmesg, and run fsck on it"
        ),
        Errno::NAMETOOLONG => "choose a shorter path in pgcertd's config".to_owned(),
        Errno::ISDIR | Errno::NOTEMPTY => {
            format!("{} is a directory; move it away, or name a file in pgcertd's config", path.display())
        }
        Errno::EXIST => format!("something else has put a file there; see what else writes in {directory}"),
        Errno::BUSY => format!(
            "{} is in use by the system, mounted for one: see `findmnt {}`, and mount its directory instead",
            path.display(),
            path.display()
        ),
        Errno::TXTBSY => format!("{} is being run as a program or is a swap file; name another path in pgcertd's config", path.display()),
        Errno::XDEV => format!("{directory} spans two file systems or quota projects; keep the file and its directory on one (findmnt -T {directory})"),
        Errno::MLINK => format!("{} has too many names; remove some of its hard links", path.display()),
        Errno::FBIG | Errno::OVERFLOW => "a limit on the size of files is in the way: raise LimitFSIZE= of the unit, or `ulimit -f` of the shell".to_owned(),
        Errno::STALE | Errno::TIMEDOUT | Errno::HOSTDOWN | Errno::HOSTUNREACH | Errno::NETDOWN
        | Errno::NETUNREACH | Errno::CONNRESET | Errno::NOTCONN | Errno::COMM | Errno::SHUTDOWN => format!(
            "the file server behind {directory} does not answer or has forgotten it: see that it runs, and mount {directory} again"
        ),
        Errno::INTR | Errno::AGAIN | Errno::DEADLK | Errno::NOLCK => {
            "it may pass: run `pgcertd sync` again; the daemon does so by itself".to_owned()
        }
        Errno::NOTSUP | Errno::NOSYS | Errno::INVAL | Errno::NOTTY => format!(
            "the file system of {directory}, or a filter on system calls, does not allow this: keep the files on a local file system (findmnt -T {directory}), and see the unit's SystemCallFilter="
        ),
        _ => format!(
            "see the kernel's messages (dmesg) and what {directory} lies on (findmnt -T {directory}), then run `pgcertd sync`"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_of_the_system_says_what_to_do() {
        let path = Path::new("/srv/tls/server.pem");
        for number in 1..=133 {
            let errno = Errno::from_raw_os_error(number);
            let problem = FilesError::new(path, "write the new file")(errno).problem();
            assert!(problem.fix.len() > 20, "{number}: {problem}");
        }
    }

    #[test]
    fn the_usual_limits_name_what_raises_them() {
        let told = |errno| FilesError::new(Path::new("/d/f"), "open it")(errno).to_string();
        for (errno, fix) in [
            (Errno::MFILE, "LimitNOFILE="),
            (Errno::NFILE, "fs.file-max"),
            (Errno::NOMEM, "memory"),
            (Errno::IO, "dmesg"),
            (Errno::NAMETOOLONG, "shorter"),
            (Errno::ISDIR, "directory"),
            (Errno::BUSY, "findmnt"),
            (Errno::XDEV, "file systems"),
            (Errno::FBIG, "LimitFSIZE="),
            (Errno::STALE, "mount /d again"),
        ] {
            let told = told(errno);
            assert!(told.contains(fix), "{told}");
        }
    }

    #[test]
    fn a_step_back_that_fails_as_well_is_told_with_both_errors() {
        let error = |name: &str, errno| FilesError::new(Path::new(name), "put it there")(errno);
        let back = error("/d/cert", Errno::IO).after_undoing(Ok(()));
        assert!(back.problem().what.ends_with("are back as they were"));
        let mixed = error("/d/cert", Errno::IO).after_undoing(Err(error("/d/key", Errno::NOSPC)));
        assert!(mixed.is_mixed() && !back.is_mixed());
        let told = mixed.to_string();
        for part in ["/d/cert", "/d/key", "the next run puts that right"] {
            assert!(told.contains(part), "{told}");
        }
    }
}
