//! The installed files: what is in them, whose they are, where they lie.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Case, ServerReader};
use crate::check::unit::root_operation;
use crate::check::{Finding, FindingKind, group_name, quoted, user_name};
use crate::config::Mode;
use crate::deploy::Keeper;
use crate::deploy::state::Observation;
use crate::host::privilege::{Ids, is_root};
use crate::report::day;
use crate::server::InstanceSnapshot;
use crate::server::files::{Installed, Targets};
use crate::server::mounts;
use crate::server::process::Process;

pub(super) async fn findings(
    case: &Case,
    keeper: &mut Keeper,
    sight: &InstanceSnapshot,
    seen: &Observation,
) -> Vec<Finding> {
    let mut findings = installed(case, sight, seen);
    findings.extend(writable(case, keeper, &sight.targets).await);
    findings.extend(of_service(case, sight));
    findings
}

/// What of the owner's own files is closed to it, so that nothing of the instance can be looked
/// at: a directory, or the key itself.
pub(super) async fn closed(case: &Case, keeper: &mut Keeper) -> Vec<Finding> {
    let looked = keeper.instance.on_files(|targets| {
        let meta = std::fs::symlink_metadata(&targets.key).ok();
        let rule = meta.filter(std::fs::Metadata::is_file).map(|meta| {
            let (uid, gid) = (meta.uid(), meta.gid());
            targets.key_rule(Ids { uid, gid }, meta.mode() & 0o7777)
        });
        Ok((targets.clone(), rule.and_then(Result::err)))
    });
    // Why not even the data directory can be looked at is said by the one who asks.
    let Ok((targets, fault)) = looked.await else {
        return Vec::new();
    };
    let own = Ids::own().uid;
    if !is_root() && own != targets.owner.uid {
        return Vec::new();
    }
    let mut findings = writable(case, keeper, &targets).await;
    findings.retain(|finding| finding.mend.is_some());
    findings.extend(fault.map(|fault| {
        let seen = format!("{} {fault}", targets.key.display());
        Finding::problem(FindingKind::KeyRule, seen).command(owned(&targets))
    }));
    findings
}

/// What would be loaded, and whether Postgres takes the key's owner and mode.
fn installed(case: &Case, sight: &InstanceSnapshot, seen: &Observation) -> Vec<Finding> {
    let config = case.instance();
    let (look, targets) = (&sight.look, &sight.targets);
    let by_others = "whoever places the files there has to: mode is not \"manage\"";
    let mended = |finding: Finding| match config.mode {
        Mode::Manage => finding.command(case.sync(&[])),
        Mode::Reload | Mode::Observe => finding.sentence(by_others),
    };
    if let Some(fault) = targets.key_fault(&look.found) {
        let seen = format!("{} {fault}", targets.key.display());
        return vec![Finding::problem(FindingKind::KeyRule, seen).command(owned(targets))];
    }
    let cert = config.cert_file.display();
    let content = match &look.installed {
        Installed::Usable(bundle) => {
            let (leaf, until) = (bundle.fingerprint(), day(seen.end_of(bundle)));
            let leaf = leaf.short();
            Finding::good(
                FindingKind::Installed,
                format!("{cert} would load: {leaf} until {until}"),
            )
        }
        Installed::Absent => mended(Finding::notice(
            FindingKind::Installed,
            format!("{cert} does not exist yet"),
        )),
        Installed::Unusable(why) => mended(Finding::problem(
            FindingKind::Installed,
            format!(
                "{} would not load what is installed: {why}",
                config.kind().name()
            ),
        )),
    };
    let is_there = !matches!(look.installed, Installed::Absent);
    let rule = is_there.then(|| {
        let mode = "owner and mode of the key are right";
        Finding::good(FindingKind::KeyRule, mode)
    });
    std::iter::once(content).chain(rule).collect()
}

/// The command that gives the key the owner and the mode that an install gives it. Where others
/// may write, no step of root's follows a link.
pub(super) fn owned(targets: &Targets) -> String {
    let (file, mode) = (quoted(&targets.key), targets.key_mode());
    let Ids { uid, gid } = targets.owner;
    let (user, group) = (user_name(uid), group_name(gid));
    let change = match uid {
        0 => format!("chmod {mode:04o} {file}"),
        _ => {
            format!("setpriv --reuid {user} --regid {group} --clear-groups chmod {mode:04o} {file}")
        }
    };
    format!("chown -h {user}:{group} {file} && {change}")
}

/// Whether the owner can write where it has to.
async fn writable(case: &Case, keeper: &mut Keeper, targets: &Targets) -> Vec<Finding> {
    let kind = FindingKind::Targets;
    if case.instance().mode != Mode::Manage {
        let seen = "the files are placed by others (mode), and left to them";
        return vec![Finding::good(kind, seen)];
    }
    if !is_root() && Ids::own().uid != targets.owner.uid {
        let user = user_name(targets.owner.uid);
        let seen = format!("whether user {user} can write the files is not known");
        return vec![Finding::unseen(kind, seen, format!("root, or user {user}"))];
    }
    let directories = targets.directories();
    let state = targets.state.clone();
    let looked = keeper.instance.on_files(move |targets| {
        // The state directory is made by the first run.
        let absent = |path: &Path| matches!(path.try_exists(), Ok(false));
        let made = |pair: &(PathBuf, String)| pair.0 != state || !absent(&pair.0);
        let unwritable = targets.unwritable(&directories).into_iter().filter(made);
        Ok(unwritable
            .map(|(directory, why)| {
                let shut = shut_above(&directory);
                (!absent(&directory), directory, why, shut)
            })
            .collect::<Vec<_>>())
    });
    let unwritable = match looked.await {
        Err(error) => return vec![Finding::problem(kind, error.to_string())],
        Ok(unwritable) => unwritable,
    };
    if unwritable.is_empty() {
        return vec![Finding::good(kind, "their owner can write the files")];
    }
    let (user, group) = (user_name(targets.owner.uid), group_name(targets.owner.gid));
    unwritable
        .into_iter()
        .map(|(exists, directory, why, shut)| {
            let shown = directory.display();
            let seen = format!("user {user} cannot write in {shown}: {why}");
            let finding = Finding::problem(kind, seen);
            let own = directory == targets.state || !exists;
            match (shut, own) {
                (Some(above), _) => finding.command(format!("chmod o+x {}", quoted(&above))),
                (None, true) => finding.command(format!(
                    "install -d -o {user} -g {group} -m 0750 {}",
                    quoted(&directory)
                )),
                // It may be others' as well, /etc/ssl/private for one.
                (None, false) => finding.sentence(format!(
                    "leave cert_file and key_file at their default and run `{}`, or let user {user} write in {shown} if that is its alone",
                    case.setup(&[])
                )),
            }
        })
        .collect()
}

/// The first directory above that the calling thread may not pass through.
fn shut_above(directory: &Path) -> Option<PathBuf> {
    let mut above: Vec<&Path> = directory.ancestors().skip(1).collect();
    above.reverse();
    let shut = |path: &&&Path| {
        let (access, flags) = (rustix::fs::Access::EXEC_OK, rustix::fs::AtFlags::EACCESS);
        let asked = rustix::fs::accessat(rustix::fs::CWD, **path, access, flags);
        asked == Err(rustix::io::Errno::ACCESS)
    };
    above.iter().find(shut).map(|path| path.to_path_buf())
}

/// Whether the service may do to this instance what is asked of it.
fn of_service(case: &Case, sight: &InstanceSnapshot) -> Option<Finding> {
    let server = sight.targets.server.uid;
    let files = match case.instance().mode {
        Mode::Manage => sight.targets.owner.uid,
        Mode::Reload => server,
        Mode::Observe => return None,
    };
    let unit = case.unit.as_ref().as_ref()?;
    unit.uid()?;
    Some(match unit.foreign_to([files, server]) {
        Some(foreign) => {
            Finding::problem(FindingKind::ServiceUser, foreign).command(root_operation())
        }
        None => Finding::good(
            FindingKind::ServiceUser,
            format!("the service's user {} may write and signal", unit.user()),
        ),
    })
}

/// Whether the server sees the files in their directories.
pub(super) async fn single(sight: &InstanceSnapshot, process: &Process) -> Finding {
    let kind = FindingKind::SingleFile;
    match mounts::look(process, &sight.targets).await {
        Ok(None) => Finding::good(kind, "no target is mounted by itself where the server runs"),
        Ok(Some(pinned)) => Finding::from_problem(kind, pinned.problem()),
        Err(cannot) => {
            let what = "whether a target is mounted by itself where the server runs is not known";
            Finding::not_known(kind, what, &cannot)
        }
    }
}

/// Whether the installed or the previous key lies in a data directory.
pub(super) async fn apart(
    case: &Case,
    sight: &InstanceSnapshot,
    eyes: &ServerReader,
) -> Option<Finding> {
    let kind = FindingKind::KeysApart;
    let data = case.config.data_directories();
    let targets = &sight.targets;
    let keys = [
        (targets.key.clone(), "the installed key"),
        (targets.cert.clone(), "the installed certificate"),
        (targets.state.join("previous.pem"), "the previous key"),
    ];
    let looked = eyes.see(move || {
        let within = |(key, what): &(PathBuf, &'static str)| {
            let home = data.iter().find(|data| lies_in(key, data))?;
            Some((key.clone(), *what, home.clone()))
        };
        keys.iter().find_map(within)
    });
    Some(match looked.await {
        Err(error) => Finding::problem(kind, error.to_string()),
        Ok(None) => Finding::good(kind, "no key lies in a data directory"),
        Ok(Some((key, what, home))) => {
            let name = &case.instance().name;
            let file = case.config.file.display();
            let keys = if key.starts_with(&targets.state) && what == "the previous key" {
                "move state_directory elsewhere".to_owned()
            } else {
                format!("remove cert_file and key_file of {name}")
            };
            Finding::notice(
                kind,
                format!(
                    "{what}, {}, lies in the data directory {}",
                    key.display(),
                    home.display()
                ),
            )
            .sentence(format!("{keys} in {file}, then run `{}`", case.setup(&[])))
        }
    })
}

/// Whether a file lies in a directory, by its words or by what they lead to.
fn lies_in(file: &Path, directory: &Path) -> bool {
    let identity = |path: &Path| {
        let meta = std::fs::metadata(path).ok()?;
        Some((meta.dev(), meta.ino()))
    };
    let wanted = identity(directory);
    let homes: BTreeSet<PathBuf> = [
        file.parent().map(Path::to_owned),
        file.parent().and_then(|place| place.canonicalize().ok()),
    ]
    .into_iter()
    .flatten()
    .collect();
    let above = homes.iter().flat_map(|found| found.ancestors());
    file.starts_with(directory)
        || wanted.is_some() && above.into_iter().any(|path| identity(path) == wanted)
}
