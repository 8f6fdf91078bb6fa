//! The installed service, whose daemon is to keep a set-up so: what its sandbox keeps the instance from, the drop-in
//! that opens that, and systemd, which is told of it.
//!
//! The drop-in opens the paths of one instance and nothing else. Its text follows from lines of a few kinds, so that a
//! record that somebody has forged takes no other file away.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::SetupError;
use super::step::new_file::NewFile;
use crate::check::sandbox::{Sandbox, Shortfall, command, needs};
use crate::check::unit::{DROP_INS, UNIT, Unit, root_operation, systemd_runs};
use crate::config::{self, Config, DEFAULT_FILE};
use crate::host::command::Launch;
use crate::host::privilege::Ids;
use crate::problem::Problem;
use crate::text::CommandLine;

/// How long `systemctl` may take: a reload checks the config first, and a stop lets a deployment in hand end.
const PATIENCE: Duration = Duration::from_secs(90);

/// The settings that a drop-in may have, as `doctor::sandbox` proposes them.
const SETTINGS: [&str; 5] = [
    "ReadWritePaths=-/",
    "ExecPaths=-/",
    "BindPaths=-/",
    "BindReadOnlyPaths=-/",
    "ProtectHome=read-only",
];

/// What the service needs so that its daemon can serve an instance.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    /// What is written for that.
    pub(crate) drop_in: Option<NewFile>,
    /// What stays in its way, each with the command that fixes it, where one can.
    pub(crate) obstacles: Vec<(String, Option<CommandLine>)>,
}

impl Admission {
    /// For an instance whose lineage leads through these directories, and whose server has this owner.
    ///
    /// Links are followed here: call it where that may take its time.
    pub(crate) fn for_service(
        config: &Config,
        instance: &config::InstanceConfig,
        lineage: &BTreeSet<PathBuf>,
        owner: Ids,
    ) -> Admission {
        let mut admission = Admission::default();
        let Some(unit) = of_config(config) else {
            return admission;
        };
        if let Some(why) = unit.foreign_to([owner.uid, owner.uid]) {
            let command = CommandLine::checked(root_operation());
            admission.obstacles.push((why, command));
        }
        let needs = needs(config, instance, lineage);
        let Some(shortfall) = Shortfall::between(&Sandbox::from_unit(&unit), &needs) else {
            return admission;
        };
        let name = &instance.name;
        let lines = match shortfall.settings() {
            Ok(lines) => lines,
            Err(elsewhere) => {
                let why = format!("{UNIT}: {shortfall}; {elsewhere}");
                admission.obstacles.push((why, None));
                return admission;
            }
        };
        let drop_in = drop_in(name, lines.iter().map(String::as_str));
        let suffices = file_name(&drop_in)
            .and_then(|file| Unit::of_this_host_with(file, &drop_in.text))
            .is_some_and(|unit| Shortfall::between(&Sandbox::from_unit(&unit), &needs).is_none());
        if suffices && !drop_in.path.exists() && may_be_made(&drop_in.path) {
            admission.drop_in = Some(drop_in);
        } else {
            let command = CommandLine::checked(command(name, &lines));
            admission
                .obstacles
                .push((format!("{UNIT}: {shortfall}"), command));
        }
        admission
    }
}

/// The unit whose daemon has this config; none where none is installed.
fn of_config(config: &Config) -> Option<Unit> {
    let is_the_units = config.file == Path::new(DEFAULT_FILE);
    Unit::of_this_host().filter(|_| is_the_units)
}

fn drop_in<'a>(name: &str, lines: impl Iterator<Item = &'a str>) -> NewFile {
    let mut text = format!(
        "# Written by `pgcertd setup`; `pgcertd setup --undo {name}` takes it back.\n[Service]\n"
    );
    for line in lines {
        text.push_str(line);
        text.push('\n');
    }
    NewFile {
        path: drop_in_file(name),
        text,
    }
}

pub(crate) fn drop_in_file(name: &str) -> PathBuf {
    Path::new(DROP_INS).join(format!("setup-{name}.conf"))
}

fn file_name(drop_in: &NewFile) -> Option<&str> {
    drop_in.path.file_name()?.to_str()
}

/// Whether a set-up writes a drop-in with this text for the instance of this name.
pub(crate) fn writes(name: &str, text: &str) -> bool {
    let lines: Vec<&str> = text.lines().skip(2).collect();
    let is_ours = |line: &&str| {
        let bare = line.replace(['"', '\''], "");
        SETTINGS.iter().any(|setting| bare.starts_with(setting))
    };
    lines.iter().all(is_ours) && drop_in(name, lines.iter().copied()).text == text
}

/// Whether this process may make the file, or the directory that it lies in.
fn may_be_made(path: &Path) -> bool {
    use rustix::fs::{Access, access};
    let there = path.ancestors().skip(1).find(|file| file.is_dir());
    there.is_some_and(|place| access(place, Access::WRITE_OK | Access::EXEC_OK).is_ok())
}

/// Has systemd read the unit again, where it runs.
///
/// # Errors
/// It does not.
pub(crate) async fn read_again() -> Result<(), SetupError> {
    if !systemd_runs() {
        return Ok(());
    }
    systemctl(&["daemon-reload"]).await.map_err(|why| {
        let fix = "the service can serve this instance once systemd has read its unit again";
        Problem::new(why, fix)
            .with("systemctl daemon-reload")
            .into()
    })
}

/// Runs `systemctl`; a sentence where that fails.
///
/// # Errors
/// It could not be run, or said that it has not done it.
pub(crate) async fn systemctl(arguments: &[&str]) -> Result<(), String> {
    let failed = |why: String| format!("systemctl {}: {why}", arguments.join(" "));
    let mut launch = Launch::of_operator("systemctl");
    launch.args(arguments);
    let ran = launch
        .ran(PATIENCE)
        .await
        .map_err(|e| failed(e.to_string()))?;
    if ran.status.success() {
        Ok(())
    } else {
        Err(failed(ran.last_line()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_set_up_writes_is_known_again_and_nothing_else_is() {
        let lines = ["ProtectHome=read-only", "ReadWritePaths=\"-/home/a b\""];
        let ours = drop_in("16-main", lines.into_iter());
        assert_eq!(ours.path, Path::new(DROP_INS).join("setup-16-main.conf"));
        assert!(writes("16-main", &ours.text));
        assert!(!writes("other", &ours.text), "another instance's");
        for more in ["User=root\n", "# mine\n", "ReadWritePaths=relative\n", "\n"] {
            assert!(!writes("16-main", &(ours.text.clone() + more)), "{more:?}");
        }
        assert!(!writes("16-main", "[Service]\nUser=root\n"));
        assert!(!writes("16-main", ""));
    }
}
