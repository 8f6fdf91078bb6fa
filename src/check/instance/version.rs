//! Whether the server is of a version that pgcertd is tested with.

use std::ops::RangeInclusive;

use super::look::InstanceLook;
use crate::check::finding::Finding;
use crate::config::ServerKind;
use crate::server::process::Process;

/// The major versions of PostgreSQL that the tests deploy to.
pub(in crate::check) const TESTED: RangeInclusive<u32> = 13..=19;

pub(in crate::check) async fn version(look: &mut InstanceLook) -> Option<Finding> {
    let sight = look.seen.sight.as_ref().ok()?;
    if look.instance().kind() == ServerKind::Postgres {
        return Some(of_postgres(look).await);
    }
    let user = sight.targets.server;
    match sight.server.process()? {
        Process::Postmaster(_) => None,
        Process::PgBouncer(pgbouncer) => Some(of_pgbouncer(pgbouncer.version(user).await)),
        Process::Patroni(patroni) => Some(of_patroni(patroni.version(user).await)),
    }
}

async fn of_postgres(look: &mut InstanceLook) -> Finding {
    let version = match look.keeper.instance.server_version().await {
        Err(error) => return Finding::problem(error.problem()),
        Ok(version) => version,
    };
    let Some(version) = version else {
        let home = look.instance().home().display();
        return Finding::problem(format!(
            "{home} has no PG_VERSION file, so it is no server's data directory"
        ))
        .because("pgcertd finds the server's user and process by it")
        .fix("set data_directory to what SHOW data_directory says on that server");
    };
    let seen = format!("PostgreSQL {version}");
    if version.parse().is_ok_and(|number| TESTED.contains(&number)) {
        return Finding::good(seen);
    }
    let (first, last) = (TESTED.start(), TESTED.end());
    Finding::notice(seen).fix(format!(
        "use PostgreSQL {first} to {last}, or see whether a deployment succeeds: {}",
        look.instance().command(&["sync", "--force"])
    ))
}

/// Whether a PgBouncer of this version loads its TLS files at a reload (its changelog, 1.16.0).
fn of_pgbouncer(version: Option<(u32, u32)>) -> Finding {
    other(
        ("PgBouncer", "pgbouncer"),
        version.map(|(major, minor)| format!("{major}.{minor}")),
        version.is_some_and(|version| version >= (1, 16)),
        "PgBouncer 1.16 and later",
    )
}

/// Whether a Patroni of this version loads a renewed certificate at a reload: from 2.1.0 on, but for
/// 3.0.3 (its release notes, 2.1.0 and 3.0.4).
fn of_patroni(version: Option<(u32, u32, u32)>) -> Finding {
    other(
        ("Patroni", "patroni"),
        version.map(|(major, minor, patch)| format!("{major}.{minor}.{patch}")),
        version.is_some_and(|version| version >= (2, 1, 0) && version != (3, 0, 3)),
        "Patroni 2.1 and later, except 3.0.3",
    )
}

/// For a server that isn't Postgres: its name and program, its version, and whether that is one of those `supported`.
fn other(
    (name, program): (&str, &str),
    version: Option<String>,
    is_supported: bool,
    supported: &str,
) -> Finding {
    let Some(version) = version else {
        return Finding::notice(format!("the version of {name} is not known")).fix(format!(
            "run {program} --version: pgcertd supports {supported}"
        ));
    };
    let seen = format!("{name} {version}");
    if is_supported {
        return Finding::good(seen);
    }
    Finding::problem(seen)
        .because("a reload of this version doesn't load renewed certificates")
        .fix(format!("upgrade it: pgcertd supports {supported}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::finding::Weight;

    #[test]
    fn a_patroni_whose_reload_loads_no_certificate_is_a_problem() {
        let weight = |version| of_patroni(version).weight;
        assert_eq!(weight(Some((2, 0, 2))), Weight::Problem);
        assert_eq!(weight(Some((2, 1, 0))), Weight::Good);
        assert_eq!(weight(Some((3, 0, 3))), Weight::Problem);
        assert_eq!(weight(Some((4, 1, 0))), Weight::Good);
        assert_eq!(weight(None), Weight::Notice);
    }

    #[test]
    fn a_pooler_whose_reload_loads_no_tls_files_is_a_problem() {
        let weight = |version| of_pgbouncer(version).weight;
        assert_eq!(weight(Some((1, 15))), Weight::Problem);
        assert_eq!(weight(Some((1, 16))), Weight::Good);
        assert_eq!(weight(Some((2, 0))), Weight::Good);
        assert_eq!(weight(None), Weight::Notice);
    }
}
