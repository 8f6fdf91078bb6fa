//! Which timers and cron jobs run an ACME client.

use std::path::{Path, PathBuf};

use super::certbot;
use super::client::Client;
use super::command::{self, Simple};
use super::contents::Schedule;
use super::origin::ClientHome;

impl Schedule {
    /// From a timer and the commands that it starts; none if they don't run an ACME client.
    pub(crate) fn of_timer(timer: &str, commands: &str) -> Option<Schedule> {
        let known = match timer {
            "certbot.timer" | "certbot-renew.timer" | "snap.certbot.renew.timer" => {
                Some(Client::Certbot)
            }
            _ => None,
        };
        let run = command::parse(commands);
        let run = run
            .simple
            .iter()
            .find_map(renewal)
            .map(|(client, _)| client);
        Some(Schedule {
            client: run.or(known)?,
            by: timer.to_owned(),
            command: commands.to_owned(),
            idle: None,
        })
    }

    /// Whether it renews this lineage of its client.
    pub(crate) fn renews(&self, origin: &ClientHome) -> bool {
        if self.client != origin.client {
            return false;
        }
        let words: Vec<&str> = self.command.split([' ', '\t', '=', '\'', '"']).collect();
        let has = |wanted: &str| {
            words
                .iter()
                .any(|word| word.trim_end_matches('/') == wanted)
        };
        let named = |option: &str, value: Option<&std::ffi::OsStr>| {
            !has(option) || value.is_some_and(|value| has(&value.to_string_lossy()))
        };
        match self.client {
            Client::Certbot => {
                let home = certbot::home_of(&origin.directory);
                let other = home.is_some_and(|home| home != Path::new(certbot::HOME));
                named("--cert-name", origin.directory.file_name())
                    && named("--config-dir", home.map(Path::as_os_str))
                    && (!other || has("--config-dir"))
            }
            Client::AcmeSh | Client::Dehydrated | Client::Lego => true,
        }
    }
}

/// The renewals in a command or script that cron runs.
pub(super) fn of_cron(file: &Path, commands: &str, systemd: bool) -> Vec<Schedule> {
    let parsed = command::parse(commands);
    let left_to_systemd = systemd && parsed.simple.iter().any(asks_for_systemd);
    let run = parsed.simple.iter().filter_map(renewal);
    run.map(|(client, _)| Schedule {
        client,
        by: file.display().to_string(),
        command: commands.to_owned(),
        idle: left_to_systemd
            .then(|| "it does nothing under systemd, and leaves the work to certbot.timer".into()),
    })
    .collect()
}

/// Debian's `test -x /usr/bin/certbot -a \! -d /run/systemd/system`.
fn asks_for_systemd(simple: &Simple) -> bool {
    let words: Vec<&str> = simple.arguments().collect();
    matches!(simple.program(), "test" | "[" | "[[")
        && words
            .windows(3)
            .any(|test| test == ["!", "-d", "/run/systemd/system"])
}

/// The client that a command runs to renew, and the words after its name.
fn renewal(simple: &Simple) -> Option<(Client, Vec<&str>)> {
    let words: Vec<&str> = simple
        .command()
        .iter()
        .map(|word| word.text.as_str())
        .collect();
    // `snap run certbot.renew`
    let snap = simple.program() == "snap";
    let at = words.iter().position(|word| {
        let name = Path::new(word).file_name().unwrap_or_default();
        Client::of_program(&name.to_string_lossy()).is_some()
    })?;
    if at > 0 && !snap {
        return None;
    }
    let program = PathBuf::from(words[at]);
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    let client = Client::of_program(&name)?;
    let rest = words[at + 1..].to_vec();
    let has = |wanted: &[&str]| rest.iter().any(|word| wanted.contains(word));
    let renews = match client {
        Client::Certbot => snap || has(&["renew", "certonly", "run"]),
        Client::AcmeSh => has(&["--cron", "--renew", "--renew-all", "--renewAll", "-r"]),
        Client::Dehydrated => has(&["-c", "--cron"]),
        Client::Lego => has(&["renew", "run"]),
    };
    renews.then_some((client, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certbots(directory: &str) -> ClientHome {
        ClientHome {
            client: Client::Certbot,
            directory: directory.into(),
        }
    }

    /// From the package.
    const DEBIAN: &str = "test -x /usr/bin/certbot -a \\! -d /run/systemd/system && perl -e 'sleep int(rand(43200))' && certbot -q renew --no-random-sleep-on-renew";

    #[test]
    fn debians_crontab_of_certbot_is_idle_where_systemd_runs() {
        let found = |systemd| of_cron(Path::new("/etc/cron.d/certbot"), DEBIAN, systemd);
        assert!(found(true)[0].idle.is_some());
        assert_eq!(found(false)[0].idle, None);
        assert_eq!(found(false)[0].client, Client::Certbot);
    }

    #[test]
    fn each_client_is_known_by_what_makes_it_renew() {
        let client = |command: &str| {
            let found = of_cron(Path::new("/etc/crontab"), command, true);
            found.first().map(|schedule| schedule.client)
        };
        for (command, expected) in [
            ("/usr/bin/certbot renew -q", Some(Client::Certbot)),
            ("sudo -u acme certbot -q renew", Some(Client::Certbot)),
            ("certbot certificates", None),
            (
                "\"/root/.acme.sh\"/acme.sh --cron --home \"/root/.acme.sh\" > /dev/null",
                Some(Client::AcmeSh),
            ),
            ("acme.sh --list", None),
            ("/usr/bin/dehydrated -c", Some(Client::Dehydrated)),
            (
                "lego --email a@b.c --domains d.e renew --days 30",
                Some(Client::Lego),
            ),
            ("echo certbot renew", None),
        ] {
            assert_eq!(client(command), expected, "{command}");
        }
    }

    #[test]
    fn a_timer_is_known_by_its_name_or_by_what_it_starts() {
        let client = |timer, run| Schedule::of_timer(timer, run).map(|schedule| schedule.client);
        assert_eq!(client("certbot-renew.timer", ""), Some(Client::Certbot));
        assert_eq!(
            client("tls.timer", "/opt/certbot renew"),
            Some(Client::Certbot)
        );
        assert_eq!(
            client(
                "x.timer",
                "/usr/bin/snap run --timer=0:0-23:59/2 certbot.renew"
            ),
            Some(Client::Certbot)
        );
        assert_eq!(client("fstrim.timer", "/sbin/fstrim --all"), None);
    }

    #[test]
    fn a_certbot_with_a_home_of_its_own_renews_what_is_there_alone() {
        let run = |command: &str| of_cron(Path::new("/etc/crontab"), command, true).remove(0);
        let (own, other) = (
            certbots("/etc/letsencrypt/live/a"),
            certbots("/srv/le/live/a"),
        );
        assert!(run("certbot renew").renews(&own));
        assert!(!run("certbot renew").renews(&other));
        assert!(run("certbot renew --config-dir /srv/le").renews(&other));
        assert!(!run("certbot renew --config-dir /srv/le").renews(&own));
        assert!(!run("certbot renew --cert-name b").renews(&own));
    }
}
