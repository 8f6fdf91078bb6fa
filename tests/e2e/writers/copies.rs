//! Files that are brought from elsewhere: by rsync, by cp.

use std::{path::Path, process::Command};

use super::{Inbox, Scene, Source};
use crate::world::{
    SOON, World, command,
    process::run,
    slow_motion::{SlowMotion, Steps},
};

#[track_caller]
fn bring(copy: &mut Command, from: &Path, to: &Path) {
    run(copy.arg(from).arg(to), SOON).result().unwrap();
}

#[test]
fn files_that_rsync_brings_are_installed_together() {
    let world = or_skip!(World::new());
    let inbox = Inbox::new(&world);
    let here = world.directory("brought");
    // rsync brings what lies in a directory whose name ends so.
    let from = inbox.path("");
    // Two renewals within a second, of files of the same size, are none for rsync otherwise.
    let usual = ["--archive", "--ignore-times"];
    let ways = [&usual as &[&str], &[usual[0], usual[1], "--inplace"]];
    inbox.next();
    bring(command("rsync").args(ways[0]), &from, &here);
    let source = Source::pems(&here);
    let slow = SlowMotion::at(&world, Steps::Contents, &source.paths());
    let mut scene = Scene::with_source(&world, source);
    for way in ways {
        inbox.next();
        bring(slow.command("rsync").args(way), &from, &here);
        scene.serves_what_was_left(&format!("slowly: rsync {way:?}"));
        inbox.next();
        bring(command("rsync").args(way), &from, &here);
        scene.serves_what_was_left(&format!("rsync {way:?}"));
    }
    assert!(slow.pauses() >= 6, "{}", slow.pauses());
    scene.ends();
}

#[test]
fn files_that_cp_writes_over_are_installed_together_whichever_comes_first() {
    let world = or_skip!(World::new());
    let inbox = Inbox::new(&world);
    let here = world.directory("copied");
    let source = Source::pems(&here);
    let slow = SlowMotion::at(&world, Steps::Contents, &source.paths());
    let names = ["fullchain.pem", "privkey.pem"];
    inbox.next();
    for name in names {
        bring(&mut command("cp"), &inbox.path(name), &here.join(name));
    }
    let mut scene = Scene::with_source(&world, source);
    for order in [names, [names[1], names[0]]] {
        inbox.next();
        for name in order {
            bring(&mut slow.command("cp"), &inbox.path(name), &here.join(name));
        }
        scene.serves_what_was_left(&format!("{order:?}"));
    }
    assert!(slow.pauses() >= 8, "{}", slow.pauses());
    scene.has_awaited(2);
    scene.ends();
}
