//! The timers of this host that run an ACME client.

use super::asked::{contained, property, said};
use crate::acme::Schedule;
use crate::check::unit::systemd_runs;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Timer {
    /// What it renews, and with what.
    pub(super) schedule: Schedule,
    /// Whether it is waiting for its time.
    pub(super) active: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Timers {
    /// The timers that run an ACME client.
    Known(Vec<Timer>),
    /// systemd is not process 1 here.
    NoSystemd,
    /// This is a container without systemd: what runs beside it isn't visible.
    Outside,
    /// `systemctl` does not answer.
    Silent,
}

pub(super) async fn timers() -> Timers {
    if !systemd_runs() {
        return if contained() {
            Timers::Outside
        } else {
            Timers::NoSystemd
        };
    }
    match known().await {
        Some(timers) => Timers::Known(timers),
        None => Timers::Silent,
    }
}

async fn known() -> Option<Vec<Timer>> {
    let plain = ["--type=timer", "--no-legend", "--no-pager", "--plain"];
    let files = said("systemctl", &[&["list-unit-files"], &plain[..]].concat()).await?;
    let loaded = said(
        "systemctl",
        &[&["list-units", "--all"], &plain[..]].concat(),
    )
    .await?;
    let mut names: Vec<&str> = files
        .lines()
        .chain(loaded.lines())
        .filter_map(|line| line.split_whitespace().next())
        // A template is no timer.
        .filter(|name| !name.contains("@."))
        .collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        return Some(Vec::new());
    }
    let show = ["show", "--property=Id,ActiveState,Unit", "--"];
    let shown = said("systemctl", &[&show, &names[..]].concat()).await?;
    let services: Vec<&str> = blocks(&shown)
        .filter_map(|text| property(text, "Unit"))
        .collect();
    let show = ["show", "--property=Id,ExecStart", "--"];
    let run = said("systemctl", &[&show, &services[..]].concat()).await?;
    Some(acme_timers(&shown, &run))
}

/// Pairs the timers with what their services run.
fn acme_timers(timers: &str, services: &str) -> Vec<Timer> {
    let commands = |service: &str| {
        let own = blocks(services).find(|text| property(text, "Id") == Some(service));
        own.map(commands).unwrap_or_default()
    };
    blocks(timers)
        .filter_map(|timer| {
            let run = property(timer, "Unit").map(commands).unwrap_or_default();
            Some(Timer {
                schedule: Schedule::of_timer(property(timer, "Id")?, &run)?,
                active: property(timer, "ActiveState") == Some("active"),
            })
        })
        .collect()
}

/// The command lines in `ExecStart={ path=… ; argv[]=… ; … }`.
fn commands(service: &str) -> String {
    let starts = service
        .lines()
        .filter(|line| line.starts_with("ExecStart="));
    let run = starts.filter_map(|line| {
        let (_, run) = line.split_once("argv[]=")?;
        Some(run.split(" ; ").next().unwrap_or(run))
    });
    run.collect::<Vec<_>>().join("\n")
}

fn blocks(shown: &str) -> impl Iterator<Item = &str> {
    shown.split("\n\n").filter(|block| !block.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From Debian 12 (systemd 252), with a timer of the administrator's own.
    const TIMERS: &str = "Unit=certbot.service\nId=certbot.timer\nActiveState=active\n\n\
        Unit=fstrim.service\nId=fstrim.timer\nActiveState=active\n\n\
        Unit=renew.service\nId=tls.timer\nActiveState=inactive\n";
    const SERVICES: &str = "ExecStart={ path=/usr/bin/certbot ; argv[]=/usr/bin/certbot -q renew --no-random-sleep-on-renew ; ignore_errors=no ; start_time=[n/a] ; stop_time=[n/a] ; pid=0 ; code=(null) ; status=0/0 }\nId=certbot.service\n\n\
        ExecStart={ path=/sbin/fstrim ; argv[]=/sbin/fstrim --listed-in /etc/fstab ; ignore_errors=no }\nId=fstrim.service\n\n\
        ExecStart={ path=/root/.acme.sh/acme.sh ; argv[]=/root/.acme.sh/acme.sh --cron ; ignore_errors=no }\nId=renew.service\n";

    #[test]
    fn a_timer_counts_by_what_its_service_runs() {
        let timers = acme_timers(TIMERS, SERVICES);
        let told: Vec<_> = timers
            .iter()
            .map(|timer| {
                (
                    timer.schedule.by.as_str(),
                    timer.schedule.client.program(),
                    timer.active,
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                ("certbot.timer", "certbot", true),
                ("tls.timer", "acme.sh", false)
            ]
        );
        assert!(
            timers[0]
                .schedule
                .command
                .ends_with("--no-random-sleep-on-renew")
        );
    }
}
