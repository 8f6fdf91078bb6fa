//! Whether the data directory is a server's, of a version that pgcertd is tested with.

use std::ops::RangeInclusive;

use super::Case;
use crate::check::{Finding, FindingKind};
use crate::deploy::Keeper;

/// The major versions of PostgreSQL that the tests deploy to.
const TESTED: RangeInclusive<u32> = 13..=19;

pub(super) async fn finding(case: &Case, keeper: &mut Keeper) -> Finding {
    let kind = FindingKind::Version;
    match keeper.instance.server_version().await {
        Err(error) => Finding::problem(kind, error.to_string()),
        Ok(None) => Finding::problem(
            kind,
            format!(
                "{} holds no file PG_VERSION: it is no server's data directory",
                case.instance().home().display()
            ),
        )
        .because("pgcertd takes the server's user and its process from there")
        .sentence("set data_directory to what SHOW data_directory says on that server"),
        Ok(Some(version)) => {
            let seen = format!("it is of PostgreSQL {version}");
            if version.parse().is_ok_and(|number| TESTED.contains(&number)) {
                Finding::good(kind, seen)
            } else {
                let (first, last) = (TESTED.start(), TESTED.end());
                Finding::notice(kind, seen).sentence(format!(
                    "use PostgreSQL {first} to {last}, or see whether a deployment succeeds: {}",
                    case.sync(&["--force"])
                ))
            }
        }
    }
}
