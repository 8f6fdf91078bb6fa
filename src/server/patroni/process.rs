//! Finds the process of the Patroni that was started with a certain configuration file.
//!
//! Patroni writes no pid file. It is the process of its user that is a Python running a script `patroni` with that file,
//! and that handles SIGHUP. Processes that only started it (sudo, an init, a shell script) have the same arguments. As always,
//! the process is held by a pidfd before anything is proven, and only signalled through that.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::process::Signal;

use super::fileless::{BY_FILE, told_by_environment, without_file};
use super::script::{is_script, not_patroni};
use super::{RestApi, environment};
use crate::config;
use crate::host::command::Launch;
use crate::host::look::{self, CannotLook, FileId, if_allowed};
use crate::host::namespaces::{self, Network};
use crate::host::privilege::Ids;
use crate::host::process::{self as processes, HeldProcess};
use crate::problem::Problem;
use crate::server::identity::is_of_user;
use crate::server::postmaster::Absence;
use crate::server::settings::TlsSettings;

/// How long `patroni --version` may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What to do if the process with the file can't be taken for Patroni.
const FIT: &str = "see that Patroni itself runs, `python… patroni FILE`, as the user that config_file belongs to, or set owner";

/// The variable that may contain a whole configuration.
const IN_ENVIRONMENT: &[u8] = b"PATRONI_CONFIGURATION=";

/// A running Patroni whose identity was proven.
#[derive(Debug)]
pub(crate) struct Patroni {
    /// Its process number as this host counts.
    pub(crate) pid: u32,
    /// Its Python, if this user may see it and that path is the same file here.
    pub(crate) python: Option<PathBuf>,
    /// Its arguments, from its script on.
    pub(crate) arguments: Vec<PathBuf>,
    /// `OPENSSL_CONF` from its environment, which decides what its OpenSSL accepts.
    pub(crate) openssl_conf: Option<String>,
    /// `PATRONI_*` from its environment, as far as it concerns the REST API; `None` if this user may not see the
    /// environment, so that what it sets is unknown.
    pub(crate) environment: Option<Vec<(String, String)>>,
    /// What the configuration says, or why that is unknown.
    pub(crate) api: Result<RestApi, Problem>,
    /// Its working directory, where relative paths start.
    pub(crate) directory: Option<PathBuf>,
    /// The network in which it listens.
    pub(crate) network: Network,
    /// Where its root directory appears here, if it has its own.
    pub(crate) root: Option<PathBuf>,
    /// Where its configuration comes from.
    pub(crate) origin: ConfigOrigin,
    pub(crate) held: HeldProcess,
}

/// Where the configuration of a Patroni comes from that has a file among its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConfigOrigin {
    File,
    /// From `PATRONI_CONFIGURATION` if the file did not exist when it started, which is unknown.
    Either,
}

/// Why no process is that Patroni.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Missing {
    None,
    /// Several have the file.
    Several(Vec<u32>),
    /// One has it, but does not handle SIGHUP: it is starting, or only checks its configuration.
    Starting(u32),
    /// None has it, but these processes of its user run without a file.
    WithoutFile(Vec<u32>),
    /// One has it, but is not the Patroni that was expected.
    Unfit {
        pid: u32,
        evidence: String,
    },
    /// A check failed, so that is unknown.
    NotKnown(CannotLook),
}

impl From<CannotLook> for Missing {
    fn from(cannot: CannotLook) -> Missing {
        Missing::NotKnown(cannot)
    }
}

impl Missing {
    /// The same as a reason for which an instance is down.
    pub(crate) fn absence(&self, config_file: &Path) -> Absence {
        let file = config_file.display();
        let (why, fix) = match self {
            Missing::WithoutFile(pids) => {
                let why = format!("no Patroni runs with {file}; {}", told_by_environment(pids));
                return Absence::Unsupported { why, fix: BY_FILE };
            }
            Missing::NotKnown(cannot) => return Absence::NotKnown(cannot.clone()),
            Missing::None => (
                format!("no Patroni runs with {file}"),
                "start it: systemctl start patroni",
            ),
            Missing::Several(pids) => {
                let why = format!(
                    "more than one Patroni runs with {file} ({pids:?}), and none was touched"
                );
                let fix = "see which of them is left over, and end it";
                return Absence::Unsupported { why, fix };
            }
            Missing::Starting(pid) => (
                format!(
                    "process {pid} has {file}, and does not handle SIGHUP yet; it was not touched"
                ),
                "wait until Patroni has started",
            ),
            Missing::Unfit { pid, evidence } => {
                let why = format!(
                    "process {pid} has {file}, and cannot be taken for its Patroni ({evidence}); it was not touched"
                );
                return Absence::Unsupported { why, fix: FIT };
            }
        };
        Absence::NotFound { why, fix }
    }
}

/// A process that has the file among its arguments.
struct PatroniCandidate {
    pid: u32,
    parent: u32,
    /// It is process 1 of its pid namespace: Patroni then forwards signals to a child of the same name.
    is_init: bool,
    held: HeldProcess,
    evidence: Option<PatroniEvidence>,
}

/// What speaks against a candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
enum PatroniEvidence {
    /// It does not handle SIGHUP.
    Starting,
    /// It is a Patroni, but this speaks against it.
    Of(String),
    /// It is another program, which may have started Patroni.
    Another(String),
}

impl Patroni {
    /// Finds the Patroni of the user `owner` that has `config_file`. Blocks.
    ///
    /// # Errors
    /// There is none, more than one, or one that does not match; or a check failed.
    pub(crate) fn find(config_file: &Path, owner: u32) -> Result<Patroni, Missing> {
        let Some(file) = look::file_id(config_file)? else {
            return Err(Missing::None);
        };
        let search = processes::search_of(owner, |pid| candidate(pid, file, owner));
        let mut fit = leading(search.whole()?);
        match (fit.pop(), fit.is_empty()) {
            (None, _) => Err(match without_file(Some(owner)).whole()? {
                pids if pids.is_empty() => Missing::None,
                pids => Missing::WithoutFile(pids),
            }),
            (Some(last), false) => {
                let mut pids: Vec<u32> = fit
                    .iter()
                    .map(|patroni_candidate| patroni_candidate.pid)
                    .collect();
                pids.push(last.pid);
                pids.sort_unstable();
                Err(Missing::Several(pids))
            }
            (Some(one), true) => match one.evidence {
                Some(PatroniEvidence::Starting) => Err(Missing::Starting(one.pid)),
                Some(PatroniEvidence::Of(evidence) | PatroniEvidence::Another(evidence)) => {
                    Err(Missing::Unfit {
                        pid: one.pid,
                        evidence,
                    })
                }
                None => Patroni::from_candidate(one, config_file),
            },
        }
    }

    fn from_candidate(candidate: PatroniCandidate, config_file: &Path) -> Result<Patroni, Missing> {
        let held = candidate.held;
        let whole = if_allowed(held.read("environ"))?;
        let openssl_conf = whole.as_deref().and_then(|bytes| {
            let mut variables = bytes.split(|byte| *byte == 0);
            let value = variables.find_map(|bytes| bytes.strip_prefix(b"OPENSSL_CONF="))?;
            String::from_utf8(value.to_vec()).ok()
        });
        let words = held.arguments()?.unwrap_or_default();
        Ok(Patroni {
            pid: candidate.pid,
            python: python(&held, &words)?,
            arguments: words
                .into_iter()
                .skip_while(|name| !is_script(name))
                .map(PathBuf::from)
                .collect(),
            openssl_conf,
            environment: whole.as_deref().map(environment),
            api: Err("Patroni's configuration has not been read".into()),
            directory: if_allowed(held.link("cwd"))?,
            network: namespaces::network_of(&held)?,
            root: namespaces::root(&held.entry())?,
            origin: origin(whole.as_deref(), config_file, held.began())?,
            held,
        })
    }

    /// How its configuration is read, by whoever may.
    pub(crate) fn reading(&self) -> impl FnOnce(&Path) -> Result<RestApi, Problem> + Send + use<> {
        let set = self.environment.clone().unwrap_or_default();
        let directory = self.directory.clone();
        move |config_file| {
            let api = super::read(config_file, &set).map_err(|error| error.to_string())?;
            Ok(match directory {
                Some(directory) => api.from(&directory),
                None => api,
            })
        }
    }

    /// What it says of the certificate of its REST API, for `config`.
    ///
    /// # Errors
    /// Its configuration cannot be read, may not be what it has read, or it names other files than those of `config`, and
    /// whether its environment outweighs that may not be seen.
    pub(crate) fn tls(&self, config: &config::InstanceConfig) -> Result<TlsSettings, Problem> {
        if self.origin == ConfigOrigin::Either {
            let what = format!(
                "whether Patroni, process {}, has read {} is not known: it has PATRONI_CONFIGURATION in its environment, which counts \
                 where there is no such file at its start",
                self.pid,
                config.home().display()
            );
            return Err(Problem::new(
                what,
                "restart Patroni, which then reads the file",
            ));
        }
        let settings = self.api.clone()?.tls(&config.place);
        let other = settings.other_files(&config.cert_file, &config.key_file);
        let other = other.map_err(|cannot| cannot.problem())?;
        match (other, &self.environment) {
            (Some(other), None) => Err(Problem::new(
                format!(
                    "{}, and whether PATRONI_RESTAPI_* in the environment of process {} outweighs that may not be seen",
                    other.what, self.pid
                ),
                "let pgcertd run as its user, or as root with CAP_SYS_PTRACE",
            )),
            _ => Ok(settings),
        }
    }

    /// Its version, major, minor and patch, as it says itself; none where it cannot be run from here. It
    /// runs as `user`.
    pub(crate) async fn version(&self, user: Ids) -> Option<(u32, u32, u32)> {
        let mut launch = Launch::of_server(self.python.as_ref()?, user).ok()?;
        launch.arg(self.arguments.first()?).arg("--version");
        let ran = launch.ran(PATIENCE).await.ok()?;
        version(&String::from_utf8_lossy(&ran.stdout))
    }
}

/// Whether a process with this environment, which began at `began`, has read the file that is at `config_file` now. Where it has `PATRONI_CONFIGURATION` as well and the file is younger, there may have been none
/// (`Config.__init__`).
fn origin(
    environment: Option<&[u8]>,
    config_file: &Path,
    began: SystemTime,
) -> Result<ConfigOrigin, CannotLook> {
    let mut variables = environment.unwrap_or_default().split(|byte| *byte == 0);
    let is_set =
        |bytes: &[u8]| bytes.starts_with(IN_ENVIRONMENT) && bytes.len() > IN_ENVIRONMENT.len();
    // A file system that keeps no times of birth says nothing against the file.
    let born = look::metadata(config_file)?.and_then(|meta| meta.created().ok());
    let is_younger = born.is_some_and(|born| born > began);
    Ok(if variables.any(is_set) && is_younger {
        ConfigOrigin::Either
    } else {
        ConfigOrigin::File
    })
}

/// The process, if it is a Patroni that has the file; what else is against it, as evidence.
fn candidate(pid: u32, file: FileId, owner: u32) -> Result<Option<PatroniCandidate>, CannotLook> {
    if !processes::arguments_of(pid)?.iter().any(is_script) {
        return Ok(None);
    }
    let Some(held) = HeldProcess::open(pid)? else {
        return Ok(None);
    };
    let arguments = held.arguments()?.unwrap_or_default();
    let behind = arguments.iter().skip_while(|word| !is_script(word)).skip(1);
    if !held.is_given(behind, file)? {
        return Ok(None);
    }
    let expected = format!("the configuration is that of user {owner}");
    let evidence = if let Some(other) = not_patroni(&held)? {
        Some(PatroniEvidence::Another(other))
    } else if let Err(other) = is_of_user(&held, owner, &expected) {
        Some(PatroniEvidence::Of(other))
    } else {
        (!held.handles(Signal::HUP)).then_some(PatroniEvidence::Starting)
    };
    Ok(Some(PatroniCandidate {
        pid,
        parent: held.parent(),
        is_init: held.own_number() == Some(1),
        held,
        evidence,
    }))
}

/// Of those, the ones that lead. What another program started is judged without that one. A child that is about to
/// become another program has its parent's arguments until then; only the first process of a namespace hands signals
/// on to a child.
fn leading(mut found: Vec<PatroniCandidate>) -> Vec<PatroniCandidate> {
    let is_another = |candidate: &PatroniCandidate| {
        matches!(candidate.evidence, Some(PatroniEvidence::Another(_)))
    };
    if !found.iter().all(is_another) {
        found.retain(|patroni_candidate| !is_another(patroni_candidate));
    }
    let parents: Vec<u32> = found.iter().map(|candidate| candidate.parent).collect();
    found.retain(|candidate| !(candidate.is_init && parents.contains(&candidate.pid)));
    let fits = found.iter().any(|candidate| candidate.evidence.is_none());
    let leaders = found
        .iter()
        .filter(|candidate| !fits || candidate.evidence.is_none());
    let leaders: Vec<u32> = leaders.map(|candidate| candidate.pid).collect();
    found.retain(|candidate| {
        leaders.contains(&candidate.pid) && !leaders.contains(&candidate.parent)
    });
    // Of several that only bear its arguments, one is named.
    if found.iter().all(is_another) {
        found.truncate(1);
    }
    found
}

/// Its Python, if its path here holds the very file that runs; where that may not be looked at, the
/// one that it was started as.
fn python(held: &HeldProcess, arguments: &[OsString]) -> Result<Option<PathBuf>, CannotLook> {
    if if_allowed(held.link("exe"))?.is_some() {
        return held.executable();
    }
    let first = arguments.first().map(PathBuf::from);
    Ok(first.filter(|first| {
        let name = first.file_name().unwrap_or_default().to_string_lossy();
        first.is_absolute() && name.starts_with("python")
    }))
}

/// The version in `patroni 3.0.2`.
fn version(said: &str) -> Option<(u32, u32, u32)> {
    let numbers = said.trim().strip_prefix("patroni ")?;
    let mut numbers = numbers.split('.').map(|text| text.parse().ok());
    Some((numbers.next()??, numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that panics has failed")]
    use super::*;

    fn candidate_of(
        pid: u32,
        parent: u32,
        is_init: bool,
        evidence: Option<&str>,
    ) -> PatroniCandidate {
        let held = HeldProcess::open(std::process::id()).unwrap().unwrap();
        PatroniCandidate {
            pid,
            parent,
            is_init,
            held,
            evidence: evidence.map(|text| PatroniEvidence::Of(text.to_owned())),
        }
    }

    fn pids(found: Vec<PatroniCandidate>) -> Vec<u32> {
        leading(found)
            .iter()
            .map(|candidate| candidate.pid)
            .collect()
    }

    #[test]
    fn a_child_that_is_about_to_be_another_program_is_not_taken_for_it() {
        let found = [(10, 1, false), (11, 10, false)];
        let found = found.map(|(pid, parent, init)| candidate_of(pid, parent, init, None));
        assert_eq!(pids(found.into()), [10]);
    }

    #[test]
    fn the_first_process_of_a_container_hands_on_and_its_child_is_patroni() {
        let found = [(10, 1, true), (11, 10, false), (12, 11, false)];
        let found = found.map(|(pid, parent, init)| candidate_of(pid, parent, init, None));
        assert_eq!(pids(found.into()), [11]);
        assert_eq!(pids(vec![candidate_of(10, 1, true, None)]), [10]);
    }

    #[test]
    fn one_that_fits_is_not_hidden_by_another_users() {
        let found = vec![
            candidate_of(10, 1, false, Some("its user is 7")),
            candidate_of(20, 1, false, None),
        ];
        assert_eq!(pids(found), [20]);
    }

    #[test]
    fn what_started_it_is_not_it_and_its_child_is() {
        let another = |pid, parent| {
            let mut one = candidate_of(pid, parent, false, None);
            one.evidence = Some(PatroniEvidence::Another(
                "its executable is /usr/bin/sudo".into(),
            ));
            one
        };
        let patroni = || candidate_of(12, 11, false, None);
        assert_eq!(pids(vec![another(10, 1), another(11, 10), patroni()]), [12]);
        // Even one that is not fit: it is what is to be told of.
        let unfit = candidate_of(12, 11, false, Some("its user is 7"));
        assert_eq!(pids(vec![another(11, 1), unfit]), [12]);
        // A child that is about to be another program has those arguments as well.
        let forked = candidate_of(13, 12, false, None);
        assert_eq!(pids(vec![another(11, 1), patroni(), forked]), [12]);
        // A script of the same name that is a Python too.
        let mut starter = candidate_of(11, 1, false, None);
        starter.evidence = Some(PatroniEvidence::Starting);
        assert_eq!(pids(vec![starter, patroni()]), [12]);
        // Nobody knows where the one is that they have started.
        assert_eq!(pids(vec![another(10, 1), another(11, 10)]), [10]);
    }

    #[test]
    fn a_python_is_known_by_the_script_that_it_runs() {
        let runs = |line: &str| {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            super::super::script::script(&words).is_some_and(is_script)
        };
        for line in [
            "/usr/bin/python3 /usr/bin/patroni /etc/patroni.yml",
            "python3 -u -X dev -W error /venv/bin/patroni /etc/patroni.yml",
            "python3 -m patroni /etc/patroni.yml",
            "python3 -IBs patroni.py /etc/patroni.yml",
        ] {
            assert!(runs(line), "{line}");
        }
        for line in [
            "python3 /srv/start.py patroni /etc/patroni.yml",
            "python3 -c run() patroni /etc/patroni.yml",
            "python3 -m supervisor patroni /etc/patroni.yml",
            "python3",
        ] {
            assert!(!runs(line), "{line}");
        }
    }

    #[test]
    fn its_version_has_three_numbers() {
        assert_eq!(version("patroni 3.0.2\n"), Some((3, 0, 2)));
        assert_eq!(version("Traceback"), None);
    }

    #[test]
    fn another_program_with_the_same_file_is_no_patroni() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut command = std::process::Command::new("tail");
        let mut child = command.arg("-f").arg(file.path()).spawn().unwrap();
        let euid = rustix::process::geteuid().as_raw();
        let found = Patroni::find(file.path(), euid);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found.unwrap_err(), Missing::None);
    }
}
