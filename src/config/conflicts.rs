//! What only shows when all instances are known: two of them in each other's way, or a file that pgcertd must
//! not write.
//!
//! What is written counts alone, so that most of this concerns instances with mode "manage": the others may
//! well serve a file out of the lineage itself.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::document::Location;
use super::error::ConfigError;
use super::keys::WrittenInstance;
use super::paths::{LinkPolicy, Real, Twin};
use super::table::Keys;
use super::{InstanceConfig, Mode};

/// Debian's self-signed pair for every service of a host, from the package ssl-cert.
pub(crate) const SHARED: [&str; 2] = [
    "/etc/ssl/certs/ssl-cert-snakeoil.pem",
    "/etc/ssl/private/ssl-cert-snakeoil.key",
];

/// What pgcertd itself keeps beside the default target.
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

/// An instance, and where the values stand that can conflict with another's.
pub(super) struct CheckedInstance<'a> {
    pub(super) instance: InstanceConfig,
    pub(super) keys: Keys<'a, WrittenInstance>,
    pub(super) name: Location<'a>,
    /// That of `data_directory` or `config_file`.
    pub(super) home: Location<'a>,
}

/// A file of an instance, and the value to point at: its own, or where it is a default, the instance's name.
struct ClaimedFile<'a> {
    key: &'static str,
    path: &'a Path,
    twin: Twin,
    at: Location<'a>,
    written: bool,
}

/// The first conflict, if there is one.
pub(super) fn refuse(
    checked: &[CheckedInstance<'_>],
    watched: &[PathBuf],
    state_directory: &Path,
) -> Result<(), ConfigError> {
    one_name_each(checked)?;
    let real = look(checked, watched, state_directory);
    one_home_each(checked, &real)?;
    let sources = sources(checked, watched, &real);
    let links = LinkPolicy::from_lineages(lineages(checked), watched);
    let state_directory = real.directory(state_directory);
    for one in checked {
        let targets = targets(one, &real);
        one_path_for_one_file(&targets)?;
        for target in targets {
            not_kept(&target, &state_directory)?;
            if one.instance.mode == Mode::Manage {
                not_shared(&target, &real)?;
                outside_sources(&target, &sources)?;
                outside_links(&target, &links)?;
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

/// Where certbot keeps every generation of what it links in a directory `live`, which this process may not be able to see.
fn archives(checked: &[CheckedInstance<'_>], watched: &[PathBuf]) -> Vec<PathBuf> {
    let parents = lineages(checked).filter_map(Path::parent);
    let directories = watched.iter().map(PathBuf::as_path).chain(parents);
    let live = directories.filter(|directory| directory.file_name() == Some("live".as_ref()));
    live.map(|live| live.with_file_name("archive")).collect()
}

fn one_name_each(checked: &[CheckedInstance<'_>]) -> Result<(), ConfigError> {
    for (first, second) in pairs(checked) {
        if first.instance.name == second.instance.name {
            let message = format!("another instance has this name, {}", first.name.line());
            let note = "expected a name of its own for each instance";
            return Err(second.name.refuse(&message, note));
        }
    }
    Ok(())
}

/// A data directory has one server, and so has the file that a server is started with; PostgreSQL 19 may have a
/// certificate a name, which are an instance each.
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
                ", or the same path with files and server_names of its own for each: a certificate a name, as \
                 PostgreSQL 19 has it with ssl_sni",
            ),
            None => ("config_file", ""),
        };
        let message = format!(
            "the instance {} has this {what}, {}",
            first.instance.name,
            first.home.line()
        );
        let note = format!("expected a {what} of its own for each instance{or}");
        return Err(second.home.refuse(&message, &note));
    }
    Ok(())
}

/// Whether both are names of one server, each with files of its own.
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
    // By one path, whoever works on one of them holds the other off.
    one.data_directory()
        .is_some_and(|path| Some(path) == other.data_directory())
        && has_names
        && names_of_one.is_disjoint(&names_of_other)
        && !targets(first, real).iter().any(is_shared)
}

/// One file by two paths would be written as two, and the key would take the place of the chain.
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
            "key_file" => "expected one path in both for one file, or two files",
            _ => "expected a file of its own for each",
        };
        return Err(second.at.refuse(&message, note));
    }
    Ok(())
}

/// The previous bundle and the operator's hold are written beside the default target.
fn not_kept(target: &ClaimedFile<'_>, state_directory: &Twin) -> Result<(), ConfigError> {
    let name = target.path.file_name().unwrap_or_default();
    if KEPT.iter().any(|kept| name == *kept) && target.twin.inside(state_directory) {
        let message = format!(
            "`{}` is {}, where pgcertd keeps something else",
            target.key,
            target.path.display()
        );
        let note = "expected another file, such as server.pem beside it, the default of cert_file";
        return Err(target.at.refuse(&message, note));
    }
    Ok(())
}

fn not_shared(target: &ClaimedFile<'_>, real: &Real) -> Result<(), ConfigError> {
    if SHARED
        .iter()
        .any(|shared| target.twin.same(&real.target(Path::new(shared))))
    {
        let message = format!(
            "{} is shared by the services of this host",
            target.path.display()
        );
        let note = "expected a file of the instance's own, and ssl_cert_file and ssl_key_file in \
                    postgresql.conf that name it";
        return Err(target.at.refuse(&message, note));
    }
    Ok(())
}

/// What an installed file may not lie in: words for it, and its path.
fn sources(
    checked: &[CheckedInstance<'_>],
    watched: &[PathBuf],
    real: &Real,
) -> Vec<(String, Twin)> {
    let archives = archives(checked, watched);
    let directories = (watched
        .iter()
        .map(|path| ("the watched directory", path.as_path())))
    .chain(lineages(checked).map(|path| ("the lineage", path)))
    .chain(
        archives
            .iter()
            .map(|path| ("certbot's archive", path.as_path())),
    )
    .map(|(what, path)| (format!("{what} {}", path.display()), real.directory(path)));
    let elsewhere = checked
        .iter()
        .flat_map(|one| sources_elsewhere(&one.instance))
        .map(|path| (format!("a source, {}", path.display()), real.target(path)));
    directories.chain(elsewhere).collect()
}

/// The sources of CA and CRL files that lie outside the lineage.
fn sources_elsewhere(instance: &InstanceConfig) -> impl Iterator<Item = &Path> {
    let both = [&instance.ca, &instance.crl].into_iter().flatten();
    both.map(|companion| companion.source.as_path())
        .filter(|path| path.is_absolute())
}

fn outside_sources(
    target: &ClaimedFile<'_>,
    sources: &[(String, Twin)],
) -> Result<(), ConfigError> {
    let Some((words, twin)) = sources.iter().find(|(_, twin)| target.twin.inside(twin)) else {
        return Ok(());
    };
    let (key, path) = (target.key, target.path.display());
    let message = if target.twin.same(twin) {
        format!("`{key}` is {path}, which is {words}")
    } else {
        format!("`{key}` is {path}, inside {words}")
    };
    Err(target.at.refuse(&message, OUTSIDE))
}

/// What to do about a target that a lineage consists of.
const OUTSIDE: &str = "expected a file outside of what certificates come from; with mode = \"reload\" or \
                       \"observe\" pgcertd does not write it";

/// A renewal that is written there would be the next one's source.
fn outside_links(target: &ClaimedFile<'_>, links: &LinkPolicy) -> Result<(), ConfigError> {
    if !links.lead_through(&target.twin) {
        return Ok(());
    }
    let message = format!(
        "`{}` is {}, which is a file of a lineage: a link of the lineage leads there, or does so in another generation",
        target.key,
        target.path.display()
    );
    Err(target.at.refuse(&message, OUTSIDE))
}

/// Two that write one file would undo each other's deployments for ever.
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
    // The later value is at fault, unless it is a default that the earlier one reached into.
    let at = if other.written || !one.written {
        &other.at
    } else {
        &one.at
    };
    let [first, second] = instances.map(|instance| &instance.name);
    let path = other.path.display();
    let message = format!("the instances {first} and {second} both write {path}");
    let note = "expected files of its own for each instance that pgcertd writes, since each would undo the \
                other's; with mode = \"reload\" or \"observe\" it does not write";
    at.refuse(&message, note)
}

/// The one to four files of an instance.
fn targets<'a>(one: &'a CheckedInstance<'a>, real: &Real) -> Vec<ClaimedFile<'a>> {
    let targets = one.instance.targets_by_key();
    let claimed = targets.map(|(key, path)| {
        let written = one.keys.location(key).or_else(|| match key {
            // Where the target is a default, its source is what brought it.
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

/// Every two elements, the earlier one first.
fn pairs<T>(all: &[T]) -> impl Iterator<Item = (&T, &T)> {
    all.iter()
        .enumerate()
        .flat_map(move |(index, second)| all[..index].iter().map(move |first| (first, second)))
}
