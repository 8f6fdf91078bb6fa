//! The installed files: what is in them, who owns them, where they are.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::look::InstanceLook;
use super::owners::of_key;
use super::words::setup;
use crate::check::finding::Finding;
use crate::check::unit::root_operation;
use crate::config::Mode;
use crate::host::privilege::is_root;
use crate::server::files::Installed;
use crate::text::day;

pub(in crate::check) fn data_directory(look: &InstanceLook) -> Option<Finding> {
    let error = match &look.seen.sight {
        Ok(sight) => {
            let what = look.instance().place.key();
            let what = what.replace("data_directory", "data directory");
            let home = sight.targets.data.display();
            return Some(Finding::good(format!("{what} {home}")));
        }
        Err(_) if look.owners.is_shut_out() => return None,
        Err(error) => error,
    };
    let problem = error.problem();
    Some(if error.is_denied() && !is_root() {
        Finding::unseen(problem.what, "root, or the server's user")
            .because("without that nothing is known about its files and its server")
    } else {
        Finding::problem(problem)
    })
}

pub(in crate::check) fn targets(look: &mut InstanceLook) -> Vec<Finding> {
    std::mem::take(&mut look.owners.targets)
}

/// Whether what is installed would load.
pub(in crate::check) fn installed(look: &InstanceLook) -> Option<Finding> {
    let (sight, config) = (look.sight()?, look.instance());
    if sight.targets.key_fault(&sight.look.found).is_some() {
        return None;
    }
    let cert = config.cert_file.display();
    let finding = match &sight.look.installed {
        Installed::Usable(bundle) => {
            let (leaf, until) = (bundle.fingerprint(), day(look.seen.end_of(bundle)));
            let leaf = leaf.short();
            return Some(Finding::good(format!(
                "{cert} would load: {leaf} until {until}"
            )));
        }
        Installed::Absent => Finding::notice(format!("{cert} does not exist yet")),
        Installed::Unusable(why) => {
            let server = config.kind().name();
            Finding::problem(format!(
                "{server} would not load the installed files: {why}"
            ))
        }
    };
    Some(match config.mode {
        Mode::Manage => finding.command(config.command(&["sync"])),
        Mode::Reload | Mode::Observe => {
            finding.fix("whoever places the files there has to: mode is not \"manage\"")
        }
    })
}

/// Whether the server accepts the key's owner and mode.
pub(in crate::check) fn key_rule(look: &InstanceLook) -> Option<Finding> {
    let Some(sight) = look.sight() else {
        return look.owners.key.clone();
    };
    match sight.targets.key_fault(&sight.look.found) {
        Some(fault) => Some(of_key(&sight.targets, fault)),
        None if matches!(sight.look.installed, Installed::Absent) => None,
        None => Some(Finding::good("owner and mode of the key are right")),
    }
}

/// Whether the service has the rights that the instance's mode needs.
pub(in crate::check) fn service_user(look: &InstanceLook) -> Option<Finding> {
    let targets = &look.sight()?.targets;
    let server = targets.server.uid;
    let files = match look.instance().mode {
        Mode::Manage => targets.owner.uid,
        Mode::Reload => server,
        Mode::Observe => return None,
    };
    let unit = look.context.unit.as_ref().as_ref()?;
    unit.uid()?;
    Some(match unit.foreign_to([files, server]) {
        Some(foreign) => Finding::problem(foreign).command(root_operation()),
        None => {
            let user = unit.user();
            Finding::good(format!("the service's user {user} may write and signal"))
        }
    })
}

/// Whether the server sees the files in their directories.
pub(in crate::check) fn single(look: &InstanceLook) -> Option<Finding> {
    Some(match look.pinned.as_ref()? {
        Ok(None) => {
            Finding::good("no installed file is mounted individually where the server runs")
        }
        Ok(Some(pinned)) => Finding::problem(pinned.problem()),
        Err(cannot) => {
            let what = "whether an installed file is mounted individually where the server runs is not known";
            Finding::not_known(what, cannot)
        }
    })
}

/// Whether the installed or the previous key lies in a data directory.
pub(in crate::check) async fn apart(look: &InstanceLook) -> Option<Finding> {
    let (sight, config) = (look.sight()?, &look.context.config);
    let reader = look.reader.as_ref()?.as_ref().ok()?;
    let data = config.data_directories();
    let targets = &sight.targets;
    let previous = targets.state.join("previous.pem");
    let keys = [
        (targets.key.clone(), "the installed key"),
        (targets.cert.clone(), "the installed certificate"),
        (previous.clone(), "the previous key"),
    ];
    let looked = reader.call(move || {
        let within = |(key, what): &(PathBuf, &'static str)| {
            let home = data.iter().find(|data| lies_in(key, data))?;
            Some((key.clone(), *what, home.clone()))
        };
        keys.iter().find_map(within)
    });
    Some(match looked.await {
        Err(error) => Finding::problem(error.to_string()),
        Ok(None) => Finding::good("no key lies in a data directory"),
        Ok(Some((key, what, home))) => {
            let keys = if key == previous {
                "move state_directory elsewhere".to_owned()
            } else {
                format!("remove cert_file and key_file of {}", look.instance().name)
            };
            Finding::notice(format!(
                "{what}, {}, lies in the data directory {}",
                key.display(),
                home.display()
            ))
            .fix(format!(
                "{keys} in {}, then run `{}`",
                config.file.display(),
                setup(look.instance(), &[])
            ))
        }
    })
}

/// Whether a file is in a directory, by its path or by where that leads.
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
