//! Whether the clock can be right.

use std::path::Path;
use std::time::SystemTime;

use jiff::Timestamp;

use super::asked::{property, said};
use super::look::HostLook;
use crate::check::finding::Finding;
use crate::check::unit::systemd_runs;
use crate::text::day;

/// What systemd says of the clock's synchronisation (timedatectl(1)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sync {
    /// The kernel says that it is synchronised.
    Done,
    /// It isn't; a program for it can be enabled.
    Possible,
    /// It isn't, although that program is enabled.
    Awaited,
    /// It isn't, and there is no such program.
    Unavailable,
    /// The clock belongs to the system that hosts this one.
    Hosted,
    Unknown,
}

pub(in crate::check) async fn clock(look: &HostLook) -> Option<Finding> {
    let issued = look.facts.iter().filter_map(|facts| facts.issued);
    Some(judged(Timestamp::now(), earliest(issued), sync().await))
}

/// A moment that is certainly past, and what happened then.
fn earliest(issued: impl Iterator<Item = Timestamp>) -> Option<(Timestamp, &'static str)> {
    let built = std::env::current_exe()
        .and_then(|own| own.metadata()?.modified())
        .ok();
    let built = built
        .and_then(moment)
        .map(|time| (time, "pgcertd was built"));
    let issued = issued.map(|time| (time, "the installed certificate was issued"));
    issued.chain(built).max_by_key(|(at, _)| *at)
}

fn moment(time: SystemTime) -> Option<Timestamp> {
    Timestamp::try_from(time).ok()
}

async fn sync() -> Sync {
    if !systemd_runs() {
        return Sync::Unknown;
    }
    let asked = ["show", "--property=NTPSynchronized,NTP,CanNTP"];
    let Some(shown) = said("timedatectl", &asked).await else {
        return Sync::Unknown;
    };
    let yes = |key: &str| property(&shown, key) == Some("yes");
    // Written by systemd as process 1 of a container.
    let hosted = Path::new("/run/systemd/container").exists();
    match (yes("NTPSynchronized"), hosted, yes("CanNTP"), yes("NTP")) {
        (true, ..) => Sync::Done,
        (_, true, ..) => Sync::Hosted,
        (_, _, true, false) => Sync::Possible,
        (_, _, true, true) => Sync::Awaited,
        (_, _, false, _) => Sync::Unavailable,
    }
}

fn judged(now: Timestamp, earliest: Option<(Timestamp, &str)>, sync: Sync) -> Finding {
    let absurd = earliest.filter(|(at, _)| now < *at);
    let finding = match (absurd, sync) {
        (Some((at, what)), _) => Finding::problem(format!(
            "the clock says {}, but {what} on {}",
            day(now),
            day(at)
        )),
        (None, Sync::Done) => return Finding::good("the clock is synchronised"),
        (None, Sync::Unknown) => {
            let seen = "the clock is plausible; only systemd knows whether it is synchronised";
            return Finding::good(seen);
        }
        (None, Sync::Hosted) => {
            let seen = "the clock is plausible; the system that hosts this container sets it";
            return Finding::good(seen);
        }
        (None, _) => Finding::notice("the clock is not synchronised"),
    };
    match sync {
        Sync::Possible => finding.command("timedatectl set-ntp true"),
        Sync::Awaited => finding.fix("find out why: `timedatectl timesync-status`"),
        Sync::Hosted => finding.fix("set the clock of the system that hosts this container"),
        Sync::Unavailable => finding.fix("install chrony or systemd-timesyncd"),
        Sync::Done | Sync::Unknown => finding.fix("set the clock: `date --set`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::finding::Weight;

    fn at(day: i64) -> Timestamp {
        Timestamp::constant(day * 86_400, 0)
    }

    #[test]
    fn a_clock_before_what_has_happened_is_absurd_synchronised_or_not() {
        let earliest = Some((at(20_000), "pgcertd was built"));
        for sync in [Sync::Done, Sync::Possible, Sync::Hosted, Sync::Unknown] {
            let found = judged(at(19_999), earliest, sync);
            assert_eq!(found.weight, Weight::Problem, "{sync:?}");
            assert!(found.has_fix(), "{sync:?}");
        }
        for sync in [Sync::Done, Sync::Hosted, Sync::Unknown] {
            assert_eq!(judged(at(20_001), earliest, sync).weight, Weight::Good);
        }
    }

    #[test]
    fn one_that_is_not_synchronised_is_worth_knowing() {
        let found = judged(at(20_000), None, Sync::Possible);
        assert_eq!(found.weight, Weight::Notice);
        assert_eq!(found.problem.remedy(), "run `timedatectl set-ntp true`");
        for sync in [Sync::Awaited, Sync::Unavailable] {
            let found = judged(at(20_000), None, sync);
            assert_eq!(found.weight, Weight::Notice);
            assert!(found.has_fix() && found.problem.command.is_none());
        }
    }

    #[test]
    fn the_last_thing_that_has_happened_counts() {
        let later = Timestamp::now() + jiff::Span::new().hours(24);
        let found = earliest([at(10), later].into_iter());
        assert_eq!(found, Some((later, "the installed certificate was issued")));
        assert_eq!(
            earliest([at(10)].into_iter()).map(|pair| pair.1),
            Some("pgcertd was built")
        );
    }
}
