//! Whether something will renew each lineage.

use super::cron::Cron;
use super::look::HostLook;
use super::survey::SurveyedLineage;
use super::timers::{Timer, Timers};
use crate::acme::{Client, ClientHome, Schedule, deletion};
use crate::check::finding::Finding;
use crate::check::names::quoted;

/// A finding for each lineage that an instance names.
pub(in crate::check) fn renewal(look: &HostLook) -> Vec<Finding> {
    // `old_hook` says why they cannot be read.
    let Ok(files) = &look.files else {
        return Vec::new();
    };
    let (schedules, lineages) = (&files.survey.found.schedules, &files.survey.lineages);
    let finding = |lineage| finding(lineage, schedules, &files.timers, &files.cron);
    lineages.iter().map(finding).collect()
}

fn finding(
    lineage: &SurveyedLineage,
    crontabs: &[Schedule],
    timers: &Timers,
    cron: &Cron,
) -> Finding {
    let name = &lineage.name;
    let origin = match &lineage.origin {
        Err(unread) => {
            let seen = format!("what renews {name} is not known: {unread}");
            return if unread.denied {
                Finding::unseen(seen, "root")
            } else {
                Finding::notice(seen).fix("find out why its file system doesn't answer")
            };
        }
        // Copied from another host, or issued by hand: what is served and until when is watched all the same.
        Ok(None) => {
            return Finding::good(format!(
                "{name} belongs to no ACME client known here; its expiry is watched"
            ));
        }
        Ok(Some(origin)) => origin,
    };
    if let Some((file, line)) = &lineage.left_alone {
        let shown = file.display();
        return Finding::problem(format!(
            "certbot does not renew {name}: {shown} says {line}"
        ))
        .command(format!("sed -i {} {}", deletion(line), quoted(file)));
    }
    let known = match timers {
        Timers::Known(timers) => timers.as_slice(),
        Timers::NoSystemd | Timers::Outside | Timers::Silent => &[],
    };
    let own: Vec<&Timer> = known
        .iter()
        .filter(|timer| timer.schedule.renews(origin))
        .collect();
    let lines: Vec<&Schedule> = crontabs
        .iter()
        .filter(|schedule| schedule.renews(origin) && schedule.idle.is_none())
        .collect();
    let at_work = own
        .iter()
        .find(|timer| timer.active)
        .map(|found| &found.schedule);
    let by_cron = lines.first().copied().filter(|_| *cron == Cron::Running);
    match at_work.or(by_cron) {
        Some(schedule) => Finding::good(format!("{} renews {name}", schedule.by)),
        None if *timers == Timers::Silent => Finding::notice(format!(
            "what renews {name} is not known: systemctl does not answer"
        ))
        .fix("look at `systemctl list-timers`"),
        None if *timers == Timers::Outside => Finding::notice(format!(
            "what renews {name} is not known: this is a container, and it runs elsewhere"
        ))
        .fix("check there that it runs; the expiry is watched here all the same"),
        None => unrenewed(origin, name, &own, &lines, timers, cron),
    }
}

fn unrenewed(
    origin: &ClientHome,
    name: &str,
    timers: &[&Timer],
    lines: &[&Schedule],
    systemd: &Timers,
    cron: &Cron,
) -> Finding {
    let problem = |why: String| Finding::problem(format!("nothing renews {name}: {why}"));
    if let Some(timer) = timers.first() {
        let timer = &timer.schedule.by;
        let command = format!("systemctl enable --now {}", quoted(timer));
        return problem(format!("{timer} is not active")).command(command);
    }
    if let (Some(line), Cron::Stopped(unit)) = (lines.first(), cron) {
        let stopped = problem(format!("{} would, but cron does not run", line.by));
        return match unit {
            Some(unit) => stopped.command(format!("systemctl enable --now {}", quoted(unit))),
            None => stopped.fix("install cron, and start it"),
        };
    }
    let client = origin.client.program();
    let timers = match systemd {
        Timers::NoSystemd => "systemd does not run here",
        Timers::Known(_) | Timers::Outside | Timers::Silent => "no timer",
    };
    problem(format!("{timers}, and no crontab runs {client}")).fix(match origin.client {
        Client::Certbot => {
            "add to root's crontab (`crontab -e`), or run from a timer: 17 3,15 * * * certbot -q renew"
        }
        Client::AcmeSh => "run `acme.sh --install-cronjob` as the user who has it",
        Client::Dehydrated => {
            "add to root's crontab (`crontab -e`), or run from a timer: 17 3 * * * dehydrated -c"
        }
        Client::Lego => "run `lego renew` once a day from a crontab or a timer, with the options of the first run",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acme::Unread;
    use crate::check::finding::Weight;

    fn lineage(origin: Result<Option<Client>, Unread>) -> SurveyedLineage {
        let directory = "/etc/letsencrypt/live/a.b";
        SurveyedLineage {
            name: "a.b".into(),
            candidates: vec![directory.into()],
            origin: origin.map(|client| {
                client.map(|client| ClientHome {
                    client,
                    directory: directory.into(),
                })
            }),
            left_alone: None,
            directories: Default::default(),
        }
    }

    fn timer(active: bool) -> Timers {
        Timers::Known(
            Schedule::of_timer("certbot.timer", "certbot renew")
                .into_iter()
                .map(|schedule| Timer { schedule, active })
                .collect(),
        )
    }

    fn cron_line(idle: Option<&str>) -> Schedule {
        Schedule {
            client: Client::Certbot,
            by: "/etc/cron.d/certbot".into(),
            command: "certbot renew".into(),
            idle: idle.map(str::to_owned),
        }
    }

    #[test]
    fn an_active_timer_or_a_crontab_that_cron_reads_renews() {
        let certbots = lineage(Ok(Some(Client::Certbot)));
        let stopped = Cron::Stopped(None);
        let good = |lines: &[Schedule], timers: &Timers, cron: &Cron| {
            finding(&certbots, lines, timers, cron).weight == Weight::Good
        };
        assert!(good(&[], &timer(true), &stopped));
        assert!(good(&[cron_line(None)], &Timers::NoSystemd, &Cron::Running));
        assert!(!good(&[cron_line(None)], &Timers::NoSystemd, &stopped));
        assert!(!good(
            &[cron_line(Some("idle"))],
            &timer(false),
            &Cron::Running
        ));
        assert!(!good(&[], &Timers::NoSystemd, &Cron::Running));
    }

    #[test]
    fn the_fix_starts_what_is_there() {
        let certbots = lineage(Ok(Some(Client::Certbot)));
        let cron = Cron::Stopped(Some("cron.service".into()));
        let found = finding(&certbots, &[cron_line(Some("idle"))], &timer(false), &cron);
        assert_eq!(found.weight, Weight::Problem);
        assert_eq!(
            found.problem.remedy(),
            "run `systemctl enable --now certbot.timer`"
        );
        let found = finding(&certbots, &[cron_line(None)], &Timers::Known(vec![]), &cron);
        assert_eq!(
            found.problem.remedy(),
            "run `systemctl enable --now cron.service`"
        );
        let found = finding(&certbots, &[], &Timers::NoSystemd, &cron);
        assert!(
            found.problem.what.contains("systemd does not run here"),
            "{found:?}"
        );
        assert!(
            found.problem.remedy().contains("certbot -q renew"),
            "{found:?}"
        );
    }

    #[test]
    fn in_a_container_what_renews_may_be_outside() {
        let certbots = lineage(Ok(Some(Client::Certbot)));
        let stopped = Cron::Stopped(None);
        let found = finding(&certbots, &[], &Timers::Outside, &stopped);
        assert_eq!(found.weight, Weight::Notice, "{found:?}");
        let found = finding(
            &certbots,
            &[cron_line(None)],
            &Timers::Outside,
            &Cron::Running,
        );
        assert_eq!(found.weight, Weight::Good, "{found:?}");
    }

    #[test]
    fn another_clients_timer_does_not_renew_it() {
        let acme_shs = lineage(Ok(Some(Client::AcmeSh)));
        let found = finding(&acme_shs, &[cron_line(None)], &timer(true), &Cron::Running);
        assert_eq!(found.weight, Weight::Problem);
        assert!(
            found.problem.remedy().contains("--install-cronjob"),
            "{found:?}"
        );
    }

    #[test]
    fn what_is_not_known_is_no_problem() {
        let weight = |origin| finding(&lineage(origin), &[], &timer(true), &Cron::Running).weight;
        let unread = |denied| {
            Err(Unread {
                path: "/etc/letsencrypt/renewal/a.b.conf".into(),
                denied,
                why: "no".into(),
            })
        };
        assert_eq!(weight(Ok(None)), Weight::Good);
        assert_eq!(weight(unread(true)), Weight::Unseen);
        assert_eq!(weight(unread(false)), Weight::Notice);
    }
}
