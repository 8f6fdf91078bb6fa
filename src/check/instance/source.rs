//! The lineage: what it holds, and whether the service may read it.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use nix::fcntl::AtFlags;
use nix::unistd::{AccessFlags, faccessat};
use rustix::fs::{Access, Mode, OFlags};

use super::look::InstanceLook;
use crate::bundle::Expiry;
use crate::check::finding::Finding;
use crate::check::names::quoted;
use crate::check::unit::{UNIT, Unit};
use crate::deploy::plan::Readiness;
use crate::host::privilege::{Ids, PrivilegeError, Rights, Worker, is_root};
use crate::lineage::read::{self, Reading, Steerer, Users};
use crate::lineage::tracked::told;
use crate::lineage::{ReadError, Source, Spec, StampKind};
use crate::text::day;

/// Whether the lineage holds what may be installed.
pub(in crate::check) fn source(look: &InstanceLook) -> Option<Finding> {
    let seen = &look.seen;
    let bundle = match (&seen.readiness, seen.source.bundle()) {
        (Readiness::Refused { problem, .. }, _) => {
            let is_denied = matches!(look.seen.source, Source::Invalid { denied: true, .. });
            return Some(if is_denied && !is_root() {
                Finding::unseen(&problem.what, "root")
            } else {
                Finding::problem(problem.clone())
            });
        }
        (Readiness::Later { problem, .. } | Readiness::Delayed { problem, .. }, _) => {
            return Some(Finding::notice(problem.to_string()));
        }
        (Readiness::Ready, None) => {
            let finding = Finding::problem("the lineage is empty");
            return Some(finding.fix("issue the certificate, or correct lineage in the config"));
        }
        (Readiness::Ready, Some(bundle)) => bundle,
    };
    let needed = seen.needed(bundle);
    let (leaf, first) = (bundle.leaf(), needed.first_end());
    let whose = if first == leaf {
        String::new()
    } else {
        format!(", when {} above the leaf expires", first.subject())
    };
    let told = format!(
        "lineage {} holds {} for {} until {}{whose}",
        look.instance().lineage.name,
        leaf.fingerprint().short(),
        leaf.names().join(", "),
        day(first.not_after())
    );
    let set_right: Vec<String> = bundle.set_right().iter().map(ToString::to_string).collect();
    Some(match first.expiry(Timestamp::now(), look.instance().expiry) {
        Expiry::Fine if set_right.is_empty() => Finding::good(told),
        Expiry::Fine => Finding::notice(format!("{told}, installed with {}", set_right.join(", ")))
            .because("another program that reads these files may not accept them as they are")
            .fix("this instance needs nothing; to correct the files themselves, look at what writes them"),
        _ => Finding::notice(told)
            .because("it is about to expire, and should have been renewed by now")
            .fix("make sure that the ACME client's timer renews it"),
    })
}

/// Whether the service's user may read the lineage; none if there is nothing to read.
pub(in crate::check) async fn readable(look: &InstanceLook) -> Option<Finding> {
    let name = &look.instance().lineage.name;
    let denied = matches!(look.seen.source, Source::Invalid { denied: true, .. });
    let Some(unit) = look.context.unit.as_ref() else {
        // What holds no bundle may not have been read at all; `source` says why.
        return look.seen.source.bundle().map(|_| {
            Finding::good(format!(
                "this user can read lineage {name}; {UNIT} is not installed"
            ))
        });
    };
    // A user who is not there is a finding of the host's.
    let uid = unit.uid()?;
    let user = unit.user();
    if !is_root() && (Ids::own().uid != uid || denied) {
        let seen = format!("whether user {user} can read lineage {name} is not known");
        return Some(Finding::unseen(
            seen,
            format!("root, to look as user {user}"),
        ));
    }
    if denied && is_root() && unit.reads_everything() {
        // Root itself may not: `source` says so, and what to do.
        return None;
    }
    match looked(Spec::from(look.instance()), unit, uid).await {
        Err(error) => Some(Finding::problem(error.to_string())),
        Ok(SourceLook::Read) => Some(Finding::good(format!(
            "user {user} can read lineage {name}"
        ))),
        Ok(SourceLook::Nothing) => None,
        Ok(SourceLook::Denied { path, closed }) => {
            let finding = Finding::problem(format!("user {user} may not read {}", path.display()));
            Some(match opened(&closed, unit) {
                Some(command) => finding.command(command),
                None => finding.fix(format!(
                    "give user {user} access: the unit's capability has no effect on this file system (root_squash of NFS, FUSE)"
                )),
            })
        }
    }
}

/// Who besides root may change the lineage's files; none if that cannot be seen, which `source` reports.
pub(in crate::check) async fn writers(look: &InstanceLook) -> Option<Finding> {
    if matches!(look.seen.source, Source::Invalid { denied: true, .. }) {
        return None;
    }
    let reader = match Worker::start("reader", reads_everything).await {
        Ok(reader) => reader,
        Err(error) => return Some(Finding::problem(error.to_string())),
    };
    let spec = Spec::from(look.instance());
    let sway = |users: Users| {
        let spec = spec.clone();
        reader.call(move || read::sway(&spec, &users))
    };
    let first = sway(Users::default()).await.ok().flatten()?;
    let users = told(first.users().clone()).await;
    // A group may turn out to be its user's own.
    let sway = sway(users.clone()).await.ok().flatten()?;
    let name = &look.instance().lineage.name;
    let steerers: Vec<String> = sway
        .steerers()
        .map(|(who, say)| format!("{} {say}", users.called(who)))
        .collect();
    if steerers.is_empty() {
        return Some(Finding::good(format!(
            "only root can change the files of lineage {name}"
        )));
    }
    let seen = format!("lineage {name}: {}", steerers.join(", "));
    let everyone = sway.steerers().any(|(who, _)| who == Steerer::Everyone);
    Some(if everyone {
        Finding::problem(seen).fix(
            "keep the lineage where only root or its ACME client's user can write (chmod go-w)",
        )
    } else {
        Finding::notice(seen).fix(
            "make sure that they may choose the certificate; pgcertd never gives anyone access to a file that they couldn't read themselves",
        )
    })
}

fn reads_everything() -> Rights {
    Rights::Service {
        owner: Ids::own(),
        groups: Vec::new(),
        reads_everything: true,
    }
}

/// What the service can read.
enum SourceLook {
    Read,
    /// There is nothing to read.
    Nothing,
    Denied {
        path: PathBuf,
        closed: Closed,
    },
}

/// What the service may not pass or read on the way to the lineage's files.
type Closed = Vec<(PathBuf, Access)>;

async fn looked(spec: Spec, unit: &Unit, uid: u32) -> Result<SourceLook, PrivilegeError> {
    let mut groups = unit.groups();
    let gid = if groups.is_empty() {
        uid
    } else {
        groups.remove(0)
    };
    let owner = Ids { uid, gid };
    let rights = Rights::Service {
        owner,
        groups,
        reads_everything: unit.reads_everything(),
    };
    let service = Worker::start("service", move || rights).await?;
    let of_service = spec.clone();
    let reading = service
        .call(move || {
            read::read(&of_service, None, &Users::default())
                .parts
                .map(drop)
        })
        .await?;
    let path = match reading {
        Ok(()) => return Ok(SourceLook::Read),
        Err(ReadError::Denied { path, .. }) => path,
        Err(_) => return Ok(SourceLook::Nothing),
    };
    // Which directories and files there are, only one who may look can tell.
    let reader = Worker::start("reader", reads_everything).await?;
    let on_the_way = reader
        .call(move || held(&read::read(&spec, None, &Users::default())))
        .await?;
    let closed = service.call(move || closed(on_the_way)).await?;
    Ok(SourceLook::Denied { path, closed })
}

/// Each directory and file on the way to the lineage's files, with a descriptor that doesn't open it, and the right
/// that is needed there: to pass a directory on the way, and to list the last one, which is watched.
fn held(reading: &Reading) -> Vec<(PathBuf, Access, OwnedFd)> {
    let watched = &reading.trail.directories;
    let passed: BTreeSet<&Path> = watched.iter().flat_map(|file| file.ancestors()).collect();
    let directories = passed.into_iter().map(|path| {
        if watched.contains(path) {
            (path, Access::READ_OK | Access::EXEC_OK)
        } else {
            (path, Access::EXEC_OK)
        }
    });
    let files = reading
        .stamps
        .iter()
        .filter(|stamp| stamp.kind == StampKind::File)
        .map(|stamp| (stamp.path.as_path(), Access::READ_OK));
    directories
        .chain(files)
        .filter_map(|(path, access)| {
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            let opened = rustix::fs::open(path, flags, Mode::empty()).ok()?;
            Some((path.to_owned(), access, opened))
        })
        .collect()
}

/// Those that the calling thread may not use; directories above don't count.
fn closed(held: Vec<(PathBuf, Access, OwnedFd)>) -> Closed {
    // EACCESS: by the rights of this thread.
    let flags = AtFlags::AT_EACCESS | AtFlags::AT_EMPTY_PATH;
    held.into_iter()
        .filter(|(_, access, opened)| {
            let asked = AccessFlags::from_bits_truncate(access.bits().cast_signed());
            faccessat(opened, c"", asked, flags) == Err(nix::errno::Errno::EACCES)
        })
        .map(|(path, access, _)| (path, access))
        .collect()
}

/// The command that gives the service's group access; certbot keeps a key's group and mode when it renews. None if
/// the modes are not the reason.
fn opened(closed: &Closed, unit: &Unit) -> Option<String> {
    let group = unit.group_name()?;
    let words = |of: &dyn Fn(&Access) -> bool| {
        let paths = closed.iter().filter(|(_, access)| of(access));
        let words: Vec<String> = paths.map(|(path, _)| quoted(path)).collect();
        words.join(" ")
    };
    let mut steps = vec![format!("chgrp {} {}", quoted(&group), words(&|_| true))];
    for (mode, wanted) in [
        ("g+x", Access::EXEC_OK),
        ("g+rx", Access::READ_OK | Access::EXEC_OK),
        ("g+r", Access::READ_OK),
    ] {
        let paths = words(&|access| *access == wanted);
        if !paths.is_empty() {
            steps.push(format!("chmod {mode} {paths}"));
        }
    }
    (!closed.is_empty()).then(|| steps.join(" && "))
}
