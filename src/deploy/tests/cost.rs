//! What it costs to decide.

use super::*;
use crate::instructions::{Instructions, counted};

/// What `sync` decides about a server that is down, since valgrind knows no pidfd, by which one that is up is held.
fn sync(moment: Moment) -> Moment {
    Moment {
        intent: Intent::default(),
        ..moment.down()
    }
}

#[test]
fn a_decision_costs_less_than_a_signature_but_where_a_root_was_sent_along() {
    let counts = Instructions::under_callgrind(|| {
        let ca = Ca::new();
        let usual = || ca.issue(BEGIN, END, false);
        let (old, new) = (usual(), usual());
        let rooted = ca.bundle();
        let renewal = || sync(Moment::with_bundle(&old).with_source(ready(&new)));
        renewal().plan().deploys(&new, true);
        let scene = renewal();
        counted!(plan_of_a_renewal, scene.plan());
        let scene = sync(Moment::with_bundle(&old));
        counted!(plan_where_all_is_equal, scene.plan());
        let scene = sync(Moment::with_bundle(&rooted));
        counted!(plan_with_a_root, scene.plan());
        let scene = sync(Moment::with_bundle(&old));
        counted!(state_where_all_is_equal, scene.state());
        let root = &rooted.intermediates()[0];
        counted!(one_signature, root.issued(rooted.leaf()).unwrap());
    });
    let counts = match counts {
        Ok(counts) => counts,
        Err(skipped) => return skipped.count(),
    };
    counts.at_most("plan_of_a_renewal", 0.11, "one_signature");
    counts.at_most("plan_where_all_is_equal", 0.11, "one_signature");
    counts.at_most("state_where_all_is_equal", 0.11, "one_signature");
    counts.at_most("plan_with_a_root", 2.5, "one_signature");
}
