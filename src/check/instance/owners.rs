//! What the owner of the installed files may do with them.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::words::setup;
use crate::check::finding::Finding;
use crate::check::names::{group_name, quoted, user_name};
use crate::config::{InstanceConfig, Mode};
use crate::deploy::Keeper;
use crate::deploy::state::Observation;
use crate::host::privilege::{Ids, is_root};
use crate::server::files::Targets;

/// As a thread with the owner's rights sees it.
#[derive(Default)]
pub(super) struct OwnersView {
    /// Whether it can write where it has to.
    pub(super) targets: Vec<Finding>,
    /// What is wrong with the key's owner or mode, if nothing else of the instance can be looked at.
    pub(super) key: Option<Finding>,
}

impl OwnersView {
    pub(super) async fn new(
        config: &InstanceConfig,
        keeper: &mut Keeper,
        seen: &Observation,
    ) -> OwnersView {
        if let Ok(sight) = &seen.sight {
            return OwnersView {
                targets: writable(config, keeper, &sight.targets).await,
                key: None,
            };
        }
        let looked = keeper.instance.on_files(|targets| {
            let meta = std::fs::symlink_metadata(&targets.key).ok();
            let rule = meta.filter(std::fs::Metadata::is_file).map(|meta| {
                let (uid, gid) = (meta.uid(), meta.gid());
                targets.key_rule(Ids { uid, gid }, meta.mode() & 0o7777)
            });
            Ok((targets.clone(), rule.and_then(Result::err)))
        });
        // Why not even the data directory can be looked at is said by `data_directory`.
        let Ok((files, fault)) = looked.await else {
            return OwnersView::default();
        };
        if !is_root() && Ids::own().uid != files.owner.uid {
            return OwnersView::default();
        }
        let mut targets = writable(config, keeper, &files).await;
        targets.retain(Finding::has_fix);
        let key = fault.map(|fault| of_key(&files, fault));
        OwnersView { targets, key }
    }

    /// Whether the owner lacks a right, so that nothing of the instance can be looked at.
    pub(super) fn is_shut_out(&self) -> bool {
        !self.targets.is_empty() || self.key.is_some()
    }
}

pub(super) fn of_key(targets: &Targets, fault: impl std::fmt::Display) -> Finding {
    Finding::problem(format!("{} {fault}", targets.key.display())).command(owned(targets))
}

/// The command that gives the key the owner and mode that an install gives it. No step that root runs follows a link,
/// since others may write there.
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
async fn writable(config: &InstanceConfig, keeper: &mut Keeper, targets: &Targets) -> Vec<Finding> {
    if config.mode != Mode::Manage {
        return vec![Finding::good("others install the files (mode)")];
    }
    let (user, group) = (user_name(targets.owner.uid), group_name(targets.owner.gid));
    if !is_root() && Ids::own().uid != targets.owner.uid {
        let seen = format!("whether user {user} can write the files is not known");
        return vec![Finding::unseen(seen, format!("root, or user {user}"))];
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
        Err(error) => return vec![Finding::problem(error.to_string())],
        Ok(unwritable) => unwritable,
    };
    if unwritable.is_empty() {
        return vec![Finding::good("their owner can write the files")];
    }
    unwritable
        .into_iter()
        .map(|(exists, directory, why, shut)| {
            let shown = directory.display();
            let finding = Finding::problem(format!("user {user} cannot write in {shown}: {why}"));
            match shut {
                Some(above) => finding.command(format!("chmod o+x {}", quoted(&above))),
                None if directory == targets.state || !exists => finding.command(format!(
                    "install -d -o {user} -g {group} -m 0750 {}",
                    quoted(&directory)
                )),
                // It may be others' as well, /etc/ssl/private for one.
                None => finding.fix(format!(
                    "leave cert_file and key_file at their default and run `{}`, or, if {shown} is only for {user}, let that user write in it",
                    setup(config, &[])
                )),
            }
        })
        .collect()
}

/// The topmost directory above it that the calling thread may not pass.
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
