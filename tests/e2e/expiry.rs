//! Certificates that near their end: the daemon says so without an event, `status` shows it, and
//! a renewal ends it.

use std::time::{Duration, SystemTime};

use serde_json::Value;
use toml::Table;

use crate::{
    stage::{HOST, NAME, Stage, says},
    world::{
        SOON, World,
        ca::{DAY, Issued, Options},
        config::{Config, Instance},
        daemon::{Daemon, eventually_state, pgcertd},
        eventually,
    },
};

/// So soon after its issue a certificate crosses a border.
const SHORTLY: Duration = Duration::from_secs(5);

/// A certificate of 90 days, of which so much is left.
fn with_left(stage: &Stage, left: Duration) -> Issued {
    let not_after = SystemTime::now() + left;
    let options = Options {
        not_before: not_after - 90 * DAY,
        not_after,
        ..Options::default()
    };
    stage.ca.issue_with(&[HOST], &options)
}

/// What `status` draws, and its exit status.
fn drawn(world: &World, config: &Config) -> (String, i32) {
    let outcome = pgcertd(world, config, &["status"]);
    (outcome.stdout().to_owned(), outcome.code())
}

fn expiries(world: &World, config: &Config) -> [Value; 3] {
    let seen = eventually_state(world, config, NAME, "in_sync");
    ["source", "installed", "served"].map(|place| seen[place]["expiry"].clone())
}

/// Waits until systemd was told a line that begins so.
#[track_caller]
fn says_soon(daemon: &mut Daemon, line: &str) {
    eventually(SOON, &format!("systemd is told {line:?}"), || {
        let told = daemon.notified();
        if told.iter().any(|change| change.starts_with(line)) {
            Ok(())
        } else {
            Err(told.join("\n"))
        }
    });
}

#[test]
fn a_certificate_that_is_not_renewed_is_warned_of_until_it_is() {
    let world = or_skip!(World::new());
    let mut stage = Stage::build(&world)
        .config(|config| config.watch("resync", "1s"))
        .start();
    let mut daemon = Daemon::start(&world, &stage.config);
    daemon.wait_for_log(": in_sync");
    assert_eq!(expiries(&world, &stage.config), ["fine"; 3]);

    // Nothing happens but that time passes.
    let warned = with_left(&stage, 21 * DAY + SHORTLY);
    stage.lineage.renew(&warned);
    let near = daemon.wait_for_log("expires in 20 days");
    assert!(near.starts_with("warning: 16-main: lineage "), "{near}");
    let (text, code) = drawn(&world, &stage.config);
    says(
        &text, // How many is not told for certain: other tests' servers count, since nothing covers them.
        &[" warning", "? 16-main", "why ", "certbot renew --dry-run"],
    );
    assert_eq!(code, 0, "{text}");
    assert_eq!(expiries(&world, &stage.config), ["warning"; 3]);

    // A renewal that is as near to its end is no news, until it is nearer.
    let critical = with_left(&stage, 7 * DAY + SHORTLY);
    stage.lineage.renew(&critical);
    let near = daemon.wait_for_log("expires in 6 days");
    assert!(near.starts_with("error: 16-main: lineage "), "{near}");
    let (text, code) = drawn(&world, &stage.config);
    says(&text, &["1 problem", "! 16-main", "why "]);
    assert_eq!(code, 1, "{text}");
    assert_eq!(expiries(&world, &stage.config), ["critical"; 3]);
    says_soon(
        &mut daemon,
        "STATUS=16-main: source certificate expires in 6 days; 1 instance in sync",
    );

    let last = with_left(&stage, 3 * SHORTLY);
    stage.lineage.renew(&last);
    stage.serves(&last);
    let expired = daemon.wait_for_log(" ago; find out why");
    assert!(expired.starts_with("error: 16-main"), "{expired}");

    let good = stage.renew();
    daemon.wait_for_log("no certificate is about to expire any more");
    let (text, code) = drawn(&world, &stage.config);
    says(&text, &["  16-main   in_sync"]);
    assert!(
        !text.contains("? 16-main") && !text.contains("needs a new"),
        "{text}"
    );
    assert_eq!(code, 0, "{text}");

    // Each once, and in this order, for all that it was compared every second.
    let log = daemon.log();
    let of_it = |line: &&str| {
        line.contains("has not been renewed: ") || line.contains("is about to expire any more")
    };
    let said: Vec<&str> = log.lines().filter(of_it).collect();
    let expected = [
        "expires in 20 days",
        "expires in 6 days",
        "expired ",
        "is about to expire any more",
    ];
    assert_eq!(said.len(), expected.len(), "{said:#?}");
    for (line, words) in said.iter().zip(expected) {
        assert!(line.contains(words), "{line}");
    }
    stage.ends(daemon, &good);
}

/// A certificate of a day, as Vault issues it, of which so much is left.
fn of_a_day(stage: &Stage, left: Duration) -> Issued {
    let not_after = SystemTime::now() + left;
    let options = Options {
        not_before: not_after - DAY,
        not_after,
        ..Options::default()
    };
    stage.ca.issue_with(&[HOST], &options)
}

#[test]
fn a_writer_that_renews_at_a_tenth_of_the_lifetime_is_not_reported_in_every_cycle() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let table = |warn: &str, critical: &str| {
        let pairs = [("warn", warn), ("critical", critical)];
        Table::from_iter(pairs.map(|(key, value)| (key.to_owned(), value.into())))
    };
    let defaults = || Config::new(&world).defaults("expiry", table("90m", "30m"));
    let own = || Instance::for_cluster(&stage.cluster, HOST).set("expiry", table("12h", "150m"));
    let hour = Duration::from_secs(3600);
    // What is left; how near that is by the usual rule, by thresholds in [defaults], by the instance's own.
    for (left, usual, by_default, by_own) in [
        (10 * hour, "fine", "fine", "warning"),
        (2 * hour, "critical", "fine", "critical"),
        (hour, "critical", "warning", "critical"),
        (hour / 6, "critical", "critical", "critical"),
    ] {
        stage.lineage.renew(&of_a_day(&stage, left));
        let plain = Config::new(&world).instance(stage.instance(HOST)).write();
        pgcertd(&world, &plain, &["sync"]);
        is_judged(&world, &plain, usual);
        let shared = defaults().instance(stage.instance(HOST)).write();
        is_judged(&world, &shared, by_default);
        is_judged(&world, &defaults().instance(own()).write(), by_own);
    }
}

#[track_caller]
fn is_judged(world: &World, config: &Config, expiry: &str) {
    let seen = pgcertd(world, config, &["status", "--json"]);
    for place in ["source", "installed", "served"] {
        let told = seen.json()["instances"][0][place]["expiry"].clone();
        assert_eq!(told, expiry, "{place}: {}", config.text());
    }
    assert_eq!(
        seen.code(),
        i32::from(expiry == "critical"),
        "{}",
        config.text()
    );
    let found = pgcertd(world, config, &["check", "--json"]).json();
    let findings = found["instances"][0]["findings"].as_array().unwrap();
    let source = findings.iter().find(|finding| finding["id"] == "source");
    let source = source.unwrap();
    assert_eq!(source["weight"] == "good", expiry == "fine", "{source}");
}
