//! The `pgcertd` binary: arguments in, exit status out.

use std::process::ExitCode;

fn main() -> ExitCode {
    pgcertd::main(std::env::args_os())
}
