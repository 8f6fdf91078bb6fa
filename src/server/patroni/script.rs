//! By what a process is known to be a Patroni: the script or module that its Python runs.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::host::look::{CannotLook, if_allowed};
use crate::host::process::HeldProcess;

/// Whether an argument is what Patroni is started by.
pub(super) fn is_script(argument: &OsString) -> bool {
    let name = Path::new(argument).file_name();
    name.is_some_and(|name| name == "patroni" || name == "patroni.py")
}

/// What says that a process is another program than Patroni, whatever its arguments are: it is no Python, or runs
/// another script. Where its executable may not be looked at, the name by which it was started tells.
pub(super) fn not_patroni(held: &HeldProcess) -> Result<Option<String>, CannotLook> {
    let executable = if_allowed(held.link("exe"))?;
    let arguments = held.arguments()?.unwrap_or_default();
    let Some(program) = executable.or_else(|| arguments.first().map(PathBuf::from)) else {
        return Ok(None);
    };
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    if name.starts_with("patroni") {
        return Ok(None);
    }
    if !name.starts_with("python") && !name.starts_with("pypy") {
        return Ok(Some(format!("its executable is {}", program.display())));
    }
    let runs = script(&arguments);
    Ok((!runs.is_some_and(is_script)).then(|| {
        let runs = runs.map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        format!("it is a Python that runs {runs:?}")
    }))
}

/// What a Python with these arguments runs: a script or a module.
pub(super) fn script(arguments: &[OsString]) -> Option<&OsString> {
    let mut rest = arguments.iter().skip(1);
    while let Some(argument) = rest.next() {
        match argument.as_encoded_bytes() {
            b"-m" => return rest.next(),
            b"-X" | b"-W" | b"--check-hash-based-pycs" => drop(rest.next()),
            // The text of a program follows.
            b"-c" => return None,
            [b'-', ..] => {}
            _ => return Some(argument),
        }
    }
    None
}
