//! A renewal that comes while the server is down, on a host where nobody follows up: only deploy hooks run `sync`.

use crate::crashes::stage::{Files, Left, Stage};
use crate::stage::HOST;
use crate::world::{World, ca::Issued, daemon::Outcome, postgres::STRICT};

fn synced(stage: &Stage<'_>, arguments: &[&str]) -> Outcome {
    let all = [&["sync", "--json"], arguments].concat();
    stage.pgcertd(&all)
}

#[track_caller]
fn comes_to(stage: &Stage<'_>, arguments: &[&str], outcome: &str) -> String {
    let done = synced(stage, arguments);
    let row = done.instance("16-main");
    println!("{row}");
    assert_eq!((&row["outcome"], done.code()), (&outcome.into(), 0));
    row["problem"].as_str().unwrap_or_default().to_owned()
}

/// A renewal that this Postgres refuses, and nobody before it.
fn bad_renewal(stage: &mut Stage<'_>) -> Issued {
    let weak = stage.weak();
    let bad = stage.ca.issue_with(&[HOST], &weak);
    stage.lineage.renew(&bad);
    bad
}

fn a_refused_renewal_is_taken_back(files: Files) {
    let world = or_skip!(World::with_debians(STRICT));
    let mut stage = Stage::new(&world, files);
    let bad = bad_renewal(&mut stage);
    stage.cluster.stop();

    // The hook of the renewal: nobody says "all is well" without saying what is still open.
    let told = comes_to(&stage, &[], "installed");
    for word in [&bad.fingerprint[..6], "sync"] {
        assert!(told.contains(word), "{word} is not in {told:?}");
    }
    assert_eq!(stage.trial(), bad.fingerprint);
    stage.does_not_start();
    let seen = stage.pgcertd(&["status", "--json"]).instance("16-main");
    let problem = seen["problem"].as_str().unwrap_or_default();
    assert!(problem.contains(&bad.fingerprint[..6]), "{seen}");

    // At most one more.
    comes_to(&stage, &[], "taken_back");
    assert_eq!(stage.left(), Left::holding(&stage.now));
    stage.starts("after the second sync");
    assert_eq!(stage.cluster.served(), stage.now.fingerprint);
    // It is refused like any other now that somebody is there to refuse it.
    stage.rejected(&bad);
    stage.has_no_trial();
}

#[test]
fn a_renewal_that_postgres_refuses_while_it_is_down_is_taken_back_by_the_next_sync() {
    a_refused_renewal_is_taken_back(Files::One);
}

#[test]
fn a_renewal_that_postgres_refuses_while_it_is_down_is_taken_back_with_two_files() {
    a_refused_renewal_is_taken_back(Files::Two);
}

#[test]
fn two_renewals_while_postgres_is_down_lead_back_to_what_was_served() {
    let world = or_skip!(World::with_debians(STRICT));
    let mut stage = Stage::new(&world, Files::One);
    stage.cluster.stop();
    bad_renewal(&mut stage);
    comes_to(&stage, &[], "installed");
    // Another one may be good where the first was not; what was served is not lost by it.
    bad_renewal(&mut stage);
    comes_to(&stage, &[], "installed");
    stage.does_not_start();
    comes_to(&stage, &[], "taken_back");
    stage.starts("after the last sync");
    assert_eq!(stage.cluster.served(), stage.now.fingerprint);
}

#[test]
fn a_good_renewal_while_postgres_is_down_is_what_it_starts_on_and_stays() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world, Files::One);
    let good = stage.renew();
    stage.cluster.stop();
    comes_to(&stage, &[], "installed");
    stage.starts("on the renewal");
    assert_eq!(stage.cluster.served(), good.fingerprint);
    comes_to(&stage, &[], "unchanged");
    stage.has_no_trial();
    stage.cluster.stop();
    comes_to(&stage, &[], "unchanged");
    assert_eq!(stage.left(), Left::holding(&good));
}

#[test]
fn what_a_person_forces_in_while_postgres_is_down_stays() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world, Files::Two);
    let good = stage.renew();
    stage.cluster.stop();
    comes_to(&stage, &["--force"], "installed");
    stage.has_no_trial();
    comes_to(&stage, &[], "unchanged");
    assert_eq!(stage.left(), Left::holding(&good));
    stage.starts("on what was forced in");
}
