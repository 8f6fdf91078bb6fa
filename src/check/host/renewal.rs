//! Whether something will renew each lineage.

use super::survey::{AcmeSurvey, SurveyedLineage};
use super::timers::{Timer, Timers};
use crate::acme::{Client, ClientHome, Schedule, deletion};
use crate::check::{Finding, FindingKind, quoted};

const KIND: FindingKind = FindingKind::Renewal;

/// Whether cron runs, and what starts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cron {
    Running,
    /// It does not; the unit that would start it, where there is one.
    Stopped(Option<String>),
}

/// A finding for each lineage that an instance names.
pub(super) fn findings(survey: &AcmeSurvey, timers: &Timers, cron: &Cron) -> Vec<Finding> {
    let of = |lineage| finding(lineage, &survey.found.schedules, timers, cron);
    survey.lineages.iter().map(of).collect()
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
                Finding::unseen(KIND, seen, "root")
            } else {
                Finding::notice(KIND, seen).sentence("see that its file system answers")
            };
        }
        // Copied from another host, or issued by hand: what is served and until when is watched all the same.
        Ok(None) => {
            let seen =
                format!("{name} is of no ACME client that is known here; its expiry is watched");
            return Finding::good(KIND, seen);
        }
        Ok(Some(origin)) => origin,
    };
    if let Some((file, line)) = &lineage.left_alone {
        let seen = format!(
            "certbot does not renew {name}: {} says {line}",
            file.display()
        );
        let command = format!("sed -i {} {}", deletion(line), quoted(file));
        return Finding::problem(KIND, seen).command(command);
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
        Some(schedule) => Finding::good(KIND, format!("{} renews {name}", schedule.by)),
        None if *timers == Timers::Silent => Finding::notice(
            KIND,
            format!("what renews {name} is not known: systemctl does not answer"),
        )
        .sentence("look at `systemctl list-timers`"),
        None if *timers == Timers::Outside => Finding::notice(
            KIND,
            format!("what renews {name} is not known: this is a container, and it runs elsewhere"),
        )
        .sentence("look there whether it runs; the expiry is watched here all the same"),
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
    let problem = |why: String| Finding::problem(KIND, format!("nothing renews {name}: {why}"));
    if let Some(timer) = timers.first() {
        let timer = &timer.schedule.by;
        let command = format!("systemctl enable --now {}", quoted(timer));
        return problem(format!("{timer} is not active")).command(command);
    }
    if let (Some(line), Cron::Stopped(unit)) = (lines.first(), cron) {
        let stopped = problem(format!("{} would, and cron does not run", line.by));
        return match unit {
            Some(unit) => stopped.command(format!("systemctl enable --now {}", quoted(unit))),
            None => stopped.sentence("install cron, and start it"),
        };
    }
    let client = origin.client.program();
    let timers = match systemd {
        Timers::NoSystemd => "systemd does not run here",
        Timers::Known(_) | Timers::Outside | Timers::Silent => "no timer",
    };
    problem(format!("{timers}, and no crontab runs {client}")).sentence(match origin.client {
        Client::Certbot => {
            "add to root's crontab (`crontab -e`), or run the same by a timer: 17 3,15 * * * certbot -q renew"
        }
        Client::AcmeSh => "run `acme.sh --install-cronjob` as the user who has it",
        Client::Dehydrated => {
            "add to root's crontab (`crontab -e`), or run the same by a timer: 17 3 * * * dehydrated -c"
        }
        Client::Lego => "have a crontab or a timer run `lego renew` once a day, with the options that it was run with",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acme::Unread;
    use crate::check::{Mend, Weight};

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

    fn mended(finding: &Finding) -> &str {
        match &finding.mend {
            Some(Mend::Command(line)) => line,
            Some(Mend::Sentence(text)) => text,
            None => "",
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
    fn the_mend_starts_what_is_there() {
        let certbots = lineage(Ok(Some(Client::Certbot)));
        let cron = Cron::Stopped(Some("cron.service".into()));
        let found = finding(&certbots, &[cron_line(Some("idle"))], &timer(false), &cron);
        assert_eq!(found.weight, Weight::Problem);
        assert_eq!(mended(&found), "systemctl enable --now certbot.timer");
        let found = finding(&certbots, &[cron_line(None)], &Timers::Known(vec![]), &cron);
        assert_eq!(mended(&found), "systemctl enable --now cron.service");
        let found = finding(&certbots, &[], &Timers::NoSystemd, &cron);
        assert!(
            found.seen.contains("systemd does not run here"),
            "{found:?}"
        );
        assert!(mended(&found).contains("certbot -q renew"), "{found:?}");
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
    fn another_clients_timer_renews_it_not() {
        let acme_shs = lineage(Ok(Some(Client::AcmeSh)));
        let found = finding(&acme_shs, &[cron_line(None)], &timer(true), &Cron::Running);
        assert_eq!(found.weight, Weight::Problem);
        assert!(mended(&found).contains("--install-cronjob"), "{found:?}");
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
