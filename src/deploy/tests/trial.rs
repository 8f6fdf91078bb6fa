//! What a server that is down is to start on: what was proven, and not what nobody has tried.

use super::*;
use crate::deploy::plan::Trigger;
use crate::host::look::CannotLook;

/// `new` is installed and on trial, `old` is kept, and the server is down.
fn on_trial(old: &Arc<Bundle>, new: &Arc<Bundle>) -> Moment {
    let mut moment = Moment::with_bundle(new).down();
    moment.previous = Some(Arc::clone(old));
    moment.trial = Some((&**new).into());
    moment
}

impl Done {
    #[track_caller]
    fn puts_back(&self, old: &Bundle) {
        self.deploys(old, true);
        assert_eq!(self.cause(), Trigger::Untried);
    }

    #[track_caller]
    pub(super) fn cause(&self) -> Trigger {
        match &self.0 {
            Plan::Deploy { cause, .. } => *cause,
            Plan::Nothing => panic!("nothing is planned"),
        }
    }
}

#[test]
fn what_was_not_proven_before_the_server_went_down_makes_room_for_what_was() {
    let ca = Ca::new();
    let (old, new, newer) = (ca.bundle(), ca.bundle(), ca.bundle());
    on_trial(&old, &new).plan().puts_back(&old);
    let mut sync = on_trial(&old, &new);
    sync.intent.follow_up = false;
    sync.plan().puts_back(&old);
    // Whatever the lineage holds meanwhile.
    let renewed = on_trial(&old, &new).with_source(ready(&newer));
    renewed.plan().puts_back(&old);
    let half = Source::Waiting {
        problem: "half".into(),
    };
    on_trial(&old, &new)
        .with_source(half)
        .plan()
        .puts_back(&old);
}

#[test]
fn what_was_put_back_stays_until_the_server_runs_and_is_then_tried_again() {
    let ca = Ca::new();
    let (old, new) = (ca.bundle(), ca.bundle());
    let back = || on_trial(&old, &new).with_installed(Installed::Usable(Arc::clone(&old)));
    back().plan().is_nothing();
    let mut sync = back();
    sync.intent.follow_up = false;
    sync.plan().is_nothing();
    let mut up = back();
    up.up_since = Some(2);
    up.served = Some(Ok(shown(&old)));
    up.plan().deploys(&new, true);
    // Who forces it in while the server is down means it.
    let mut forced = back();
    forced.intent.force = true;
    forced.plan().deploys(&new, true);
    let (seen, config) = back().seen();
    let (state, problem) = seen.state(&config);
    assert_eq!(state, State::NotRunning);
    let told = problem.unwrap().to_string();
    let names = [new.fingerprint().short(), old.fingerprint().short()];
    assert!(names.iter().all(|name| told.contains(name)), "{told}");
}

#[test]
fn nothing_is_put_back_while_the_server_runs_or_may_run() {
    let ca = Ca::new();
    let (old, new) = (ca.bundle(), ca.bundle());
    let mut up = on_trial(&old, &new);
    up.up_since = Some(1);
    up.served = Some(Ok(shown(&new)));
    up.plan().is_nothing();
    let mut hidden = on_trial(&old, &new);
    hidden.absence = Absence::Unreadable("no right".into());
    hidden.plan().is_nothing();
}

#[test]
fn while_nobody_knows_whether_the_server_runs_only_what_cannot_load_is_replaced() {
    let ca = Ca::new();
    let (old, new) = (ca.bundle(), ca.bundle());
    let cannot = CannotLook::missing(std::path::Path::new("/proc"));
    let unknown = |follow_up: bool| {
        let mut moment = Moment::with_bundle(&old).down().with_source(ready(&new));
        moment.absence = Absence::NotKnown(cannot.clone());
        moment.intent.follow_up = follow_up;
        moment
    };
    for follow_up in [true, false] {
        unknown(follow_up).plan().is_nothing();
        assert_eq!(unknown(follow_up).state(), State::Unverified);
        let broken = Installed::Unusable("half".into());
        let mended = unknown(follow_up).with_installed(broken).plan();
        mended.deploys(&new, true);
        let mut tried = on_trial(&old, &new);
        tried.absence = Absence::NotKnown(cannot.clone());
        tried.intent.follow_up = follow_up;
        tried.plan().is_nothing();
        // Nor is a renewal that is under way a reason to call it well.
        let half = Source::Waiting {
            problem: "half".into(),
        };
        let waiting = unknown(follow_up).with_source(half);
        assert_eq!(waiting.state(), State::Unverified);
    }
    let mut forced = unknown(false);
    forced.intent.force = true;
    forced.plan().deploys(&new, true);
}

#[test]
fn nothing_is_put_back_for_what_is_not_on_trial_or_by_what_is_no_better() {
    let ca = Ca::new();
    let (old, new, by_hand) = (ca.bundle(), ca.bundle(), ca.bundle());
    let expired = ca.issue("2025-01-01T00:00:00Z", "2025-04-01T00:00:00Z", true);
    let placed = Installed::Usable(Arc::clone(&by_hand));
    on_trial(&old, &new)
        .with_installed(placed)
        .plan()
        .is_nothing();
    on_trial(&expired, &new).plan().is_nothing();
    let mut first = on_trial(&old, &new);
    first.previous = None;
    first.plan().is_nothing();
    on_trial(&old, &new)
        .held(&old, HeldBy::Operator)
        .plan()
        .is_nothing();
    let mut others_place = on_trial(&old, &new);
    others_place.config = instance("mode = \"reload\"");
    others_place.plan().is_nothing();
}

#[test]
fn what_was_put_back_makes_room_once_it_has_expired() {
    let ca = Ca::new();
    let expired = ca.issue("2025-01-01T00:00:00Z", "2025-04-01T00:00:00Z", true);
    let new = ca.bundle();
    let back = on_trial(&expired, &new).with_installed(Installed::Usable(Arc::clone(&expired)));
    back.plan().deploys(&new, true);
}

#[test]
fn without_verification_what_is_on_trial_is_loaded_again() {
    let ca = Ca::new();
    let (old, new) = (ca.bundle(), ca.bundle());
    let mut unwanted = on_trial(&old, &new);
    unwanted.up_since = Some(1);
    unwanted.served = Some(Err(NotSeen::NotWanted));
    unwanted.plan().deploys(&new, false);
}

#[test]
fn a_refused_bundle_that_a_crash_left_installed_is_taken_back_even_while_the_server_is_down() {
    let ca = Ca::new();
    let (old, new) = (ca.bundle(), ca.bundle());
    for up in [Some(1), None] {
        let mut moment = Moment::with_bundle(&new).held(&new, HeldBy::Postgres);
        moment.previous = Some(Arc::clone(&old));
        moment.up_since = up;
        moment.plan().deploys(&old, true);
    }
}

#[test]
fn a_torn_pair_whose_source_has_nothing_to_give_becomes_the_previous_bundle() {
    let ca = Ca::new();
    let old = ca.bundle();
    let mut moment = Moment::with_bundle(&old)
        .with_source(Source::Waiting {
            problem: "half".into(),
        })
        .with_installed(Installed::Unusable("torn".into()))
        .down();
    moment.previous = Some(Arc::clone(&old));
    moment.plan().deploys(&old, true);
}

#[test]
fn a_server_that_is_down_starts_on_what_was_proven_rather_than_on_an_untried_source() {
    let ca = Ca::new();
    let (old, refused, new) = (ca.bundle(), ca.bundle(), ca.bundle());
    let down = |installed| {
        let mut moment = Moment::with_bundle(&old)
            .with_source(ready(&new))
            .with_installed(installed)
            .down();
        moment.previous = Some(Arc::clone(&old));
        moment
    };
    let torn = || down(Installed::Unusable("torn".into()));
    torn().plan().deploys(&old, true);
    let mut sync = torn();
    sync.intent.follow_up = false;
    sync.plan().deploys(&new, true);

    let left = || down(Installed::Usable(Arc::clone(&refused))).held(&refused, HeldBy::Postgres);
    left().plan().deploys(&old, true);
    let mut nothing_proven = left();
    nothing_proven.previous = None;
    nothing_proven.plan().deploys(&new, true);
}
