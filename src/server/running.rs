//! The postmasters of this host, whether an instance covers them or not.
//!
//! A look that fails is told beside what was found: a server that could not be looked at has not vanished.

use std::path::PathBuf;

use super::dry_start::is_throw_away;
use super::postmaster::against_executable;
use crate::host::look::{self, CannotLook, if_allowed};
use crate::host::namespaces::{self, Apart};
use crate::host::process::{self, Search};

/// A postmaster that runs on this host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Running {
    /// Its data directory, as it sees it itself.
    pub(crate) data_directory: PathBuf,
    /// Its process number as this host counts.
    pub(crate) pid: u32,
    /// What it has of its own, where that is not what this process sees under the same name.
    pub(crate) apart: Option<Apart>,
}

/// The postmasters on this host, as far as this user may look at them, by their data directories.
pub(crate) fn running() -> Search<Running> {
    let mut search = process::search(one_running);
    search.found.sort();
    search
}

/// The process, if it is a postmaster that may be looked at: a postgres whose parent is none, in a data directory.
fn one_running(pid: u32) -> Result<Option<Running>, CannotLook> {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    if !is_postgres(pid)? {
        return Ok(None);
    }
    let Some(stat) = process::stat_of(pid)? else {
        return Ok(None);
    };
    let cwd = proc.join("cwd");
    let parent = u32::try_from(stat.ppid).unwrap_or_default();
    let leads =
        !is_postgres(parent)? && if_allowed(look::metadata(&cwd.join("PG_VERSION")))?.is_some();
    let data_directory = if leads {
        if_allowed(look::link(&cwd))?
    } else {
        None
    };
    let Some(data_directory) = data_directory.filter(|home| !is_throw_away(home)) else {
        return Ok(None);
    };
    let apart = namespaces::apart(&proc)?;
    Ok(Some(Running {
        data_directory,
        pid,
        apart,
    }))
}

fn is_postgres(pid: u32) -> Result<bool, CannotLook> {
    let exe = if_allowed(look::link(&PathBuf::from(format!("/proc/{pid}/exe"))))?;
    Ok(exe.is_some_and(|exe| against_executable(&exe).is_none()))
}

/// The data directories of postmasters on this host that are not among `covered`, as far as this user may look at
/// them.
pub(crate) fn uncovered<'a>(covered: impl IntoIterator<Item = &'a PathBuf>) -> Search<PathBuf> {
    let covered = covered
        .into_iter()
        .map(|home| if_allowed(look::file_id(home)));
    let known: Vec<_> = match covered.collect::<Result<Vec<_>, _>>() {
        Ok(known) => known.into_iter().flatten().collect(),
        // Without those, one that is covered would be taken for one that is not.
        Err(cannot) => {
            return Search {
                found: Vec::new(),
                missed: Some(cannot),
            };
        }
    };
    let Search { found, mut missed } = running();
    let mut uncovered = Vec::new();
    for running in found {
        // Through the process, since in a container its path is another one.
        let cwd = PathBuf::from(format!("/proc/{}/cwd", running.pid));
        match if_allowed(look::file_id(&cwd)) {
            Ok(Some(own)) if !known.contains(&own) => uncovered.push(running.data_directory),
            Ok(_) => {}
            Err(cannot) => missed = missed.or(Some(cannot)),
        }
    }
    uncovered.dedup();
    Search {
        found: uncovered,
        missed,
    }
}

/// The processes that are called as a server is, have no such parent, and may not be looked at: whether they are
/// servers, and where, cannot be told.
pub(crate) fn unnamed() -> Search<u32> {
    process::search(|pid| Ok(may_be_a_hidden_postmaster(pid)?.then_some(pid)))
}

fn may_be_a_hidden_postmaster(pid: u32) -> Result<bool, CannotLook> {
    let is_called_so = |comm: &str| matches!(comm, "postgres" | "postmaster" | "edb-postgres");
    let stat = if_allowed(process::stat_of(pid))?;
    let Some(own) = stat.filter(|own| is_called_so(&own.comm)) else {
        return Ok(false);
    };
    // One that has ended, and that its parent has not asked for yet, has no executable any more:
    // so is each `postgres -C` for a moment. proc(5) has the states.
    if matches!(own.state, 'Z' | 'X' | 'x') {
        return Ok(false);
    }
    let parent = u32::try_from(own.ppid).unwrap_or_default();
    let parent = if_allowed(process::stat_of(parent))?;
    if parent.is_some_and(|parent| is_called_so(&parent.comm)) {
        return Ok(false);
    }
    match look::link(&PathBuf::from(format!("/proc/{pid}/exe"))) {
        Err(cannot) if cannot.is_denied() => Ok(true),
        Err(cannot) => Err(cannot),
        Ok(_) => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that panics has failed")]
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn one_that_has_ended_is_no_server_that_cannot_be_looked_at() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("postgres");
        // A copy could be "busy" to a process that another test starts at this moment.
        std::os::unix::fs::symlink("/bin/true", &program).unwrap();
        let mut child = std::process::Command::new(&program).spawn().unwrap();
        let number = child.id();
        let deadline = Instant::now() + Duration::from_secs(30);
        let zombie = loop {
            assert!(Instant::now() < deadline);
            let stat = process::stat_of(number).unwrap().unwrap();
            if stat.state == 'Z' {
                assert_eq!(stat.comm, "postgres");
                break number;
            }
            std::thread::yield_now();
        };
        let executable = std::fs::read_link(format!("/proc/{number}/exe"));
        let hidden = may_be_a_hidden_postmaster(zombie);
        child.wait().unwrap();
        assert!(executable.is_err());
        assert_eq!(hidden, Ok(false));
    }
}
