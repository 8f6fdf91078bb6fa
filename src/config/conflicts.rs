//! What only shows once all instances are known: two instances that conflict, or a file that pgcertd must not write.
//!
//! Most of this only concerns instances with mode "manage", since pgcertd writes no files for the others: those may serve
//! a lineage's own files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::document::Location;
use super::error::ConfigError;
use super::keys::WrittenInstance;
use super::paths::{LinkPolicy, Real, Twin};
use super::table::Keys;
use super::{InstanceConfig, Mode};

/// Debian's self-signed certificate and key for all services on a host, from the package ssl-cert.
pub(crate) const SHARED: [&str; 2] = [
    "/etc/ssl/certs/ssl-cert-snakeoil.pem",
    "/etc/ssl/private/ssl-cert-snakeoil.key",
];

/// Files that pgcertd itself keeps next to the default target.
const KEPT: [&str; 8] = [
    "previous.pem",
    "previous-ca.pem",
    "previous-crl.pem",
    "held.json",
    "reload-due",
    "setup.json",
    "trial",
    "proven",
];

/// An instance, and the locations of its values.
pub(super) struct CheckedInstance<'a> {
    pub(super) instance: InstanceConfig,
    pub(super) keys: Keys<'a, WrittenInstance>,
    pub(super) name: Location<'a>,
    /// The location of `data_directory` or `config_file`.
    pub(super) home: Location<'a>,
}

/// A file of an instance, and the value to point at: the path, or the instance's name if the path is a default.
struct ClaimedFile<'a> {
    key: &'static str,
    path: &'a Path,
    twin: Twin,
    at: Location<'a>,
    written: bool,
}

/// What pgcertd must not overwrite.
struct OffLimits {
    state_directory: Twin,
    shared: [Twin; 2],
    /// Where certificates come from: what it is, for people, and its path.
    sources: Vec<(String, Twin)>,
    links: LinkPolicy,
}

/// Returns the first conflict as an error.
pub(super) fn refuse(
    checked: &[CheckedInstance<'_>],
    watched: &[PathBuf],
    state_directory: &Path,
) -> Result<(), ConfigError> {
    one_name_each(checked)?;
    let real = look(checked, watched, state_directory);
    one_home_each(checked, &real)?;
    let off_limits = OffLimits {
        state_directory: real.directory(state_directory),
        shared: SHARED.map(|path| real.target(Path::new(path))),
        sources: sources(checked, watched, &real),
        links: LinkPolicy::from_lineages(lineages(checked), watched),
    };
    for one in checked {
        let targets = targets(one, &real);
        one_path_for_one_file(&targets)?;
        for target in targets {
            let objection = objection(&target, one.instance.mode, &off_limits);
            if let Some((message, note)) = objection {
                return Err(target.at.refuse(&message, note));
            }
        }
    }
    one_writer_each(checked, &real)
}

/// Asks the file system about all paths at once.
fn look(checked: &[CheckedInstance<'_>], watched: &[PathBuf], state_directory: &Path) -> Real {
    let instances = || checked.iter().map(|one| &one.instance);
    let archives = archives(checked, watched);
    let directories = lineages(checked)
        .chain(instances().filter_map(InstanceConfig::data_directory))
        .chain(watched.iter().chain(&archives).map(PathBuf::as_path))
        .chain([state_directory]);
    let own_configs = instances().filter(|instance| instance.data_directory().is_none());
    let files = instances()
        .flat_map(|instance| instance.targets().chain(sources_elsewhere(instance)))
        .chain(own_configs.map(InstanceConfig::home))
        .chain(SHARED.map(Path::new));
    Real::from_directories(directories, files)
}

/// Where the lineages may be.
fn lineages<'a>(checked: &'a [CheckedInstance<'_>]) -> impl Iterator<Item = &'a Path> {
    let candidates = checked
        .iter()
        .flat_map(|one| &one.instance.lineage.candidates);
    candidates.map(PathBuf::as_path)
}

/// Where certbot keeps every generation of what it links to in a directory `live`. This process may not be able to see it.
fn archives(checked: &[CheckedInstance<'_>], watched: &[PathBuf]) -> Vec<PathBuf> {
    let parents = lineages(checked).filter_map(Path::parent);
    let directories = watched.iter().map(PathBuf::as_path).chain(parents);
    let live = directories.filter(|directory| directory.file_name() == Some("live".as_ref()));
    live.map(|live| live.with_file_name("archive")).collect()
}

fn one_name_each(checked: &[CheckedInstance<'_>]) -> Result<(), ConfigError> {
    for (first, second) in pairs(checked) {
        if first.instance.name == second.instance.name {
            let message = format!(
                "another instance already has this name, {}",
                first.name.line()
            );
            let note = "expected a different name for each instance";
            return Err(second.name.refuse(&message, note));
        }
    }
    Ok(())
}

/// A data directory belongs to one server, and so does the file that a server is started with. PostgreSQL 19 can have one
/// certificate per name; each is then an instance of its own.
fn one_home_each(checked: &[CheckedInstance<'_>], real: &Real) -> Result<(), ConfigError> {
    let twin = |instance: &InstanceConfig| match instance.data_directory() {
        Some(directory) => real.directory(directory),
        None => real.target(instance.home()),
    };
    let twins: Vec<_> = checked
        .iter()
        .map(|one| (twin(&one.instance), one))
        .collect();
    for ((twin, first), (other, second)) in pairs(&twins) {
        if !twin.same(other) || are_apart_by_name(first, second, real) {
            continue;
        }
        let (what, or) = match second.instance.data_directory() {
            Some(_) => (
                "data directory",
                ", or the same path with separate files and server_names for each: one certificate per name, as \
                 PostgreSQL 19 supports with ssl_sni",
            ),
            None => ("config_file", ""),
        };
        let message = format!(
            "the instance {} already has this {what}, {}",
            first.instance.name,
            first.home.line()
        );
        let note = format!("expected a different {what} for each instance{or}");
        return Err(second.home.refuse(&message, &note));
    }
    Ok(())
}

/// Whether both are certificates of one server, with separate names and files.
fn are_apart_by_name(
    first: &CheckedInstance<'_>,
    second: &CheckedInstance<'_>,
    real: &Real,
) -> bool {
    let (one, other) = (&first.instance, &second.instance);
    let names = |instance: &InstanceConfig| -> BTreeSet<String> {
        let names = instance.server_names.iter();
        names
            .map(|name| name.to_str().to_ascii_lowercase())
            .collect()
    };
    let (names_of_one, names_of_other) = (names(one), names(other));
    let has_names = !names_of_one.is_empty() && !names_of_other.is_empty();
    let files = targets(second, real);
    let is_shared = |file: &ClaimedFile<'_>| {
        files
            .iter()
            .any(|claimed_file| claimed_file.twin.same(&file.twin))
    };
    // The same path, so that they share a lock.
    one.data_directory()
        .is_some_and(|path| Some(path) == other.data_directory())
        && has_names
        && names_of_one.is_disjoint(&names_of_other)
        && !targets(first, real).iter().any(is_shared)
}

/// One file with two paths would be written twice, and the key would replace the chain.
fn one_path_for_one_file(targets: &[ClaimedFile<'_>]) -> Result<(), ConfigError> {
    for (first, second) in pairs(targets) {
        if !first.twin.same(&second.twin) {
            continue;
        }
        let by_another_path = if first.path == second.path {
            ""
        } else {
            ", by another path"
        };
        let message = format!(
            "`{}` is the same file as `{}`, {}{by_another_path}",
            second.key,
            first.key,
            first.path.display()
        );
        let note = match second.key {
            "key_file" => "expected the same path in both, or two different files",
            _ => "expected a different file for each",
        };
        return Err(second.at.refuse(&message, note));
    }
    Ok(())
}

/// See [`OffLimits::sources`].
fn sources(
    checked: &[CheckedInstance<'_>],
    watched: &[PathBuf],
    real: &Real,
) -> Vec<(String, Twin)> {
    let archives = archives(checked, watched);
    let watched = watched
        .iter()
        .map(|path| ("the watched directory", path.as_path()));
    let archives = archives
        .iter()
        .map(|path| ("certbot's archive", path.as_path()));
    let directories = watched
        .chain(lineages(checked).map(|path| ("the lineage", path)))
        .chain(archives)
        .map(|(what, path)| (format!("{what} {}", path.display()), real.directory(path)));
    let elsewhere = checked
        .iter()
        .flat_map(|one| sources_elsewhere(&one.instance))
        .map(|path| (format!("a source, {}", path.display()), real.target(path)));
    directories.chain(elsewhere).collect()
}

/// The sources of CA and CRL files outside the lineage.
fn sources_elsewhere(instance: &InstanceConfig) -> impl Iterator<Item = &Path> {
    let both = [&instance.ca, &instance.crl].into_iter().flatten();
    both.map(|companion| companion.source.as_path())
        .filter(|path| path.is_absolute())
}

/// What is wrong with a target, if anything, and what to do.
fn objection(
    target: &ClaimedFile<'_>,
    mode: Mode,
    off_limits: &OffLimits,
) -> Option<(String, &'static str)> {
    let (key, path, twin) = (target.key, target.path.display(), &target.twin);
    let name = target.path.file_name().unwrap_or_default();
    if KEPT.iter().any(|kept| name == *kept) && twin.inside(&off_limits.state_directory) {
        return Some((
            format!("`{key}` is {path}, which pgcertd uses for something else"),
            "expected another file, such as server.pem beside it, the default of cert_file",
        ));
    }
    if mode != Mode::Manage {
        return None;
    }
    if off_limits.shared.iter().any(|shared| twin.same(shared)) {
        return Some((
            format!("{path} is shared by the services on this host"),
            "expected a file that is only for this instance, named by ssl_cert_file and ssl_key_file in postgresql.conf",
        ));
    }
    let where_it_is = if let Some((words, source)) = off_limits
        .sources
        .iter()
        .find(|(_, source)| twin.inside(source))
    {
        let relation = if twin.same(source) {
            "which is"
        } else {
            "inside"
        };
        format!("{relation} {words}")
    } else if off_limits.links.lead_through(twin) {
        // What is installed there would be the source of the next installation.
        "which belongs to a lineage: one of its links leads to this file, or to another generation of it".into()
    } else {
        return None;
    };
    Some((
        format!("`{key}` is {path}, {where_it_is}"),
        "expected a file outside the directories that certificates come from; with mode = \"reload\" or \"observe\", pgcertd does not \
         write it",
    ))
}

/// Two instances that write one file would overwrite each other's certificates forever.
fn one_writer_each(checked: &[CheckedInstance<'_>], real: &Real) -> Result<(), ConfigError> {
    let writers: Vec<_> = checked
        .iter()
        .filter(|one| one.instance.mode == Mode::Manage)
        .map(|one| (&one.instance, targets(one, real)))
        .collect();
    for ((first, mine), (second, theirs)) in pairs(&writers) {
        for (one, other) in mine
            .iter()
            .flat_map(|one| theirs.iter().map(move |other| (one, other)))
        {
            if one.twin.same(&other.twin) {
                return Err(overlap([first, second], one, other));
            }
        }
    }
    Ok(())
}

fn overlap(
    instances: [&InstanceConfig; 2],
    one: &ClaimedFile<'_>,
    other: &ClaimedFile<'_>,
) -> ConfigError {
    // Point at the later value, unless it is a default that the earlier one clashes with.
    let at = if other.written || !one.written {
        &other.at
    } else {
        &one.at
    };
    let [first, second] = instances.map(|instance| &instance.name);
    let path = other.path.display();
    let message = format!("the instances {first} and {second} both write {path}");
    let note = "expected separate files for each instance that pgcertd writes for, since each would overwrite the \
                other's; with mode = \"reload\" or \"observe\", it does not write";
    at.refuse(&message, note)
}

/// The one to four files of an instance.
fn targets<'a>(one: &'a CheckedInstance<'a>, real: &Real) -> Vec<ClaimedFile<'a>> {
    let targets = one.instance.targets_by_key();
    let claimed = targets.map(|(key, path)| {
        let written = one.keys.location(key).or_else(|| match key {
            // A default target exists because of its source.
            "ca_file" => one.keys.location("ca_source"),
            "crl_file" => one.keys.location("crl_source"),
            _ => None,
        });
        ClaimedFile {
            key,
            path,
            twin: real.target(path),
            written: written.is_some(),
            at: written.unwrap_or_else(|| one.name.clone()),
        }
    });
    claimed.collect()
}

/// All pairs of elements, the earlier one first.
fn pairs<T>(all: &[T]) -> impl Iterator<Item = (&T, &T)> {
    all.iter()
        .enumerate()
        .flat_map(move |(index, second)| all[..index].iter().map(move |first| (first, second)))
}
