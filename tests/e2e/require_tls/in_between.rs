//! What happens between the write and the reload.

use std::{cell::RefCell, panic::AssertUnwindSafe, sync::Once};

use super::*;

thread_local! {
    /// What happens in this thread, once it has written the files and reloaded nothing.
    static THEN: RefCell<Option<Box<dyn FnOnce()>>> = const { RefCell::new(None) };
}

/// The point is all threads', the other tests' as well: each does its own thing.
fn once_written(then: impl FnOnce() + 'static) {
    static POINT: Once = Once::new();
    POINT.call_once(|| {
        let own = || {
            if let Some(then) = THEN.with_borrow_mut(Option::take) {
                then();
            }
        };
        fail::cfg_callback("hba_written", own).unwrap();
    });
    THEN.set(Some(Box::new(then)));
}

#[test]
fn a_record_that_was_stored_first_undoes_a_change_that_was_cut_off() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    hba(&mut stage.cluster, OPEN);
    let hand = Hand::on(&world, &stage.cluster);
    let tightening = hand.tightening();
    let record = tightening.record(&hand.keep);
    let reloaded = reloads(&mut stage.cluster);
    once_written(|| panic!("cut off, as by a kill"));
    let cut_off = AssertUnwindSafe(|| hand.apply(&tightening));
    assert!(std::panic::catch_unwind(cut_off).is_err());
    assert_ne!(hand.text(), OPEN);
    assert_eq!(reloads(&mut stage.cluster), reloaded + 1);
    let hand = Hand::on(&world, &stage.cluster);
    // What was being written, or a trap of the server's user, who may write there.
    let victim = world.path().join("victim");
    fs::write(&victim, "mine").unwrap();
    let beside = hand.hba.with_file_name(".pg_hba.conf.pgcertd-new");
    symlink(&victim, &beside).unwrap();
    hand.undo(&record).unwrap();
    assert_eq!(hand.text(), OPEN);
    assert_eq!(fs::read_to_string(&victim).unwrap(), "mine");
    assert!(fs::symlink_metadata(&beside).is_err());
}

#[test]
fn what_the_server_does_not_accept_goes_back_and_nothing_is_reloaded() {
    let world = or_skip!(World::new());
    let mut cluster = of_seventeen(&world);
    including(&mut cluster);
    let hand = Hand::on(&world, &cluster);
    let tightening = hand.tightening();
    let reloaded = reloads(&mut cluster);
    let late = cluster.config_directory().join("hba.d/30.conf");
    let owner = cluster.owner();
    let breaks = late.clone();
    once_written(move || {
        fs::write(&breaks, "host all all nonsense\n").unwrap();
        give(&breaks, owner, 0o600);
    });
    let error = hand.apply(&tightening).unwrap_err();
    println!("{error}");
    assert!(
        matches!(&error, TighteningError::Refused { file, .. } if *file == late),
        "{error}"
    );
    assert_included(&cluster, |_| false);
    assert_eq!(
        (hand.text().as_str(), reloads(&mut cluster)),
        (INCLUDING, reloaded + 1)
    );
}
