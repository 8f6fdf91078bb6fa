//! The `pgcertd` binary: arguments in, exit status out.

fn main() {}
