//! What a crash between the renames has left of two bundles: it makes room for the one that was
//! proven, whatever runs and whatever the source holds.

use super::*;
use crate::deploy::plan::Trigger;

/// Of `new`, which is on trial, a CA or CRL file lies beside the pair of `old`, and the source has
/// nothing to give.
fn torn(old: &Arc<Bundle>, new: &Arc<Bundle>) -> Moment {
    let half = Source::Waiting {
        problem: "half".into(),
    };
    let mut moment = Moment::with_bundle(old).with_source(half);
    moment.previous = Some(Arc::clone(old));
    moment.trial = Some((&**new).into());
    moment.brought = true;
    moment
}

#[test]
fn what_a_crash_has_left_of_two_bundles_makes_room_for_the_proven_one() {
    let ca = Ca::new();
    let (old, new) = (ca.bundle(), ca.bundle());
    let up = torn(&old, &new).plan();
    up.deploys(&old, true);
    assert_eq!(up.cause(), Trigger::Mend);
    let down = torn(&old, &new).down().plan();
    down.deploys(&old, true);
    assert_eq!(down.cause(), Trigger::Untried);
    // On the way back from what was refused.
    let mut refused = torn(&old, &new).held(&new, HeldBy::Postgres).down();
    refused.installed = Installed::Usable(Arc::clone(&new));
    let refused = refused.plan();
    refused.deploys(&old, true);
    assert_eq!(refused.cause(), Trigger::Mend);
}

#[test]
fn while_the_server_runs_the_source_mends_what_a_crash_has_left() {
    let ca = Ca::new();
    let (old, new) = (ca.bundle(), ca.bundle());
    let tried_again = torn(&old, &new).with_source(ready(&new));
    tried_again.plan().deploys(&new, true);
}

#[test]
fn nothing_makes_room_once_the_previous_bundle_lies_there_whole() {
    let ca = Ca::new();
    let (old, new) = (ca.bundle(), ca.bundle());
    let mut whole = torn(&old, &new);
    whole.brought = false;
    whole.plan().is_nothing();
}
