//! The lineage: what it holds, and whether the service may read it.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use nix::fcntl::AtFlags;
use nix::unistd::{AccessFlags, faccessat};
use rustix::fs::{Access, Mode, OFlags};

use super::Case;
use crate::bundle::Expiry;
use crate::check::{Finding, FindingKind, Unit, quoted, unit::UNIT};
use crate::deploy::plan::Readiness;
use crate::deploy::state::Observation;
use crate::host::privilege::{Ids, Rights, Worker, is_root};
use crate::lineage::read::{self, Reading, Steerer, Users};
use crate::lineage::tracked::told;
use crate::lineage::{ReadError, Source, Spec, StampKind};
use crate::report::day;

/// Whether the lineage holds what may be installed.
pub(super) fn fit(case: &Case, seen: &Observation) -> Finding {
    let kind = FindingKind::Source;
    match (&seen.readiness, seen.source.bundle()) {
        (Readiness::Refused { problem, .. }, _) => match case.source {
            Source::Invalid { denied: true, .. } if !is_root() => {
                Finding::unseen(kind, &problem.what, "root")
            }
            _ => Finding::from_problem(kind, problem.clone()),
        },
        (Readiness::Later { problem, .. } | Readiness::Delayed { problem, .. }, _) => {
            Finding::notice(kind, problem.to_string())
        }
        (Readiness::Ready, None) => Finding::problem(kind, "the lineage holds nothing")
            .sentence("issue the certificate, or correct lineage in the config"),
        (Readiness::Ready, Some(bundle)) => {
            let needed = seen.needed(bundle);
            let (leaf, first) = (bundle.leaf(), needed.first_end());
            let whose = if first == leaf {
                String::new()
            } else {
                format!(", when {}, above the leaf, ends", first.subject())
            };
            let told = format!(
                "lineage {} holds {} for {} until {}{whose}",
                case.instance().lineage.name,
                leaf.fingerprint().short(),
                leaf.names().join(", "),
                day(first.not_after())
            );
            let set_right: Vec<String> =
                bundle.set_right().iter().map(ToString::to_string).collect();
            match first.expiry(Timestamp::now(), case.instance().expiry) {
                Expiry::Fine if !set_right.is_empty() => {
                    Finding::notice(kind, format!("{told}, installed with {}", set_right.join(", ")))
                        .because("another program that reads these files may not take them as they are")
                        .sentence("nothing is to be done for this instance; to have it right in the files as well, see what writes them")
                }
                Expiry::Fine => Finding::good(kind, told),
                _ => Finding::notice(kind, told)
                    .because("it is near its end, and a healthy renewal comes before that")
                    .sentence("see that the ACME client's timer renews it"),
            }
        }
    }
}

/// Whether the service's user may read the lineage; none where there is nothing to read.
pub(super) async fn readable(case: &Case) -> Option<Finding> {
    let kind = FindingKind::SourceReadable;
    let name = &case.instance().lineage.name;
    let denied = matches!(case.source, Source::Invalid { denied: true, .. });
    let Some(unit) = case.unit.as_ref() else {
        return (!denied).then(|| {
            let seen = format!("lineage {name} can be read by this user; {UNIT} is not installed");
            Finding::good(kind, seen)
        });
    };
    // A user who is not there has a finding of its own.
    let uid = unit.uid()?;
    let user = unit.user();
    let own = Ids::own().uid;
    if !is_root() && (own != uid || denied) {
        let seen = format!("whether user {user} can read lineage {name} is not known");
        return Some(Finding::unseen(
            kind,
            seen,
            format!("root, to look as user {user}"),
        ));
    }
    if denied && is_root() && unit.reads_everything() {
        // Root itself may not: `source` says so, and what to do.
        return None;
    }
    match looked(case, unit, uid).await {
        Err(error) => Some(Finding::problem(kind, error.to_string())),
        Ok(SourceLook::Read) => {
            let seen = format!("user {user} can read lineage {name}");
            Some(Finding::good(kind, seen))
        }
        Ok(SourceLook::Nothing) => None,
        Ok(SourceLook::Denied { path, closed }) => {
            let seen = format!("user {user} may not read {}", path.display());
            let finding = Finding::problem(kind, seen);
            Some(match opened(&closed, unit) {
                Some(command) => finding.command(command),
                None => finding.sentence(format!(
                    "let user {user} in there: the unit's capability does not count on this file system (root_squash of NFS, FUSE)"
                )),
            })
        }
    }
}

/// Who beside root may change what the lineage's files are; none where that cannot be seen, which `source` tells.
pub(super) async fn writers(case: &Case) -> Option<Finding> {
    let kind = FindingKind::LineageWriters;
    if matches!(case.source, Source::Invalid { denied: true, .. }) {
        return None;
    }
    let reader = match Worker::start("reader", reads_everything).await {
        Ok(reader) => reader,
        Err(error) => return Some(Finding::problem(kind, error.to_string())),
    };
    let spec = Spec::from(case.instance());
    let sway = |users: Users| {
        let spec = spec.clone();
        let look = move || read::sway(&spec, &users);
        reader.call(look)
    };
    let first = sway(Users::default()).await.ok().flatten()?;
    let users = told(first.users().clone()).await;
    // A group may turn out to be its user's own.
    let sway = sway(users.clone()).await.ok().flatten()?;
    let name = &case.instance().lineage.name;
    let steerers: Vec<String> = sway
        .steerers()
        .map(|(who, say)| format!("{} {say}", users.called(who)))
        .collect();
    if steerers.is_empty() {
        let seen = format!("root alone may change what the files of lineage {name} are");
        return Some(Finding::good(kind, seen));
    }
    let seen = format!("lineage {name}: {}", steerers.join(", "));
    let everyone = sway.steerers().any(|(who, _)| who == Steerer::Everyone);
    Some(if everyone {
        Finding::problem(kind, seen).sentence(
            "keep the lineage where root or its ACME client's user alone may write (chmod go-w)",
        )
    } else {
        Finding::notice(kind, seen)
            .sentence("see that this is who should choose the certificate; nobody gets a file passed that he could not read himself")
    })
}

fn reads_everything() -> Rights {
    Rights::Service {
        owner: Ids::own(),
        groups: Vec::new(),
        reads_everything: true,
    }
}

/// What a look with the service's rights came to.
enum SourceLook {
    Read,
    /// Nothing to read, whatever the rights.
    Nothing,
    Denied {
        path: PathBuf,
        closed: Closed,
    },
}

/// What is closed to the service on the way to the lineage's files.
type Closed = Vec<(PathBuf, Access)>;

async fn looked(
    case: &Case,
    unit: &Unit,
    uid: u32,
) -> Result<SourceLook, crate::host::privilege::PrivilegeError> {
    let spec = Spec::from(case.instance());
    let mut groups = unit.groups();
    let owner = Ids {
        uid,
        gid: if groups.is_empty() {
            uid
        } else {
            groups.remove(0)
        },
    };
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

/// Each directory and file that the lineage's files are reached through, by a descriptor that
/// opens none of them, and what must be allowed there: a directory on the way is passed through,
/// and the last one is watched, for which it must be listed.
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

/// Those of them that are closed to the calling thread; what lies above does not count.
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

/// The command that lets the service's group in; certbot keeps group and mode of a key when it
/// renews. None where the modes are not the reason.
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
