//! A directory without events, as on NFS: what happens behind the mount is seen by `poll` alone.

use super::{AWAITED, Inbox, Scene, Source};
use crate::world::{
    SOON, World, command,
    faults::{Mounted, has_fuse},
    in_place::InPlace,
    process::run,
    record::Record,
};

#[test]
fn a_directory_without_events_is_polled() {
    let world = or_skip!(World::new());
    let inbox = Inbox::new(&world);
    let files = InPlace::new(&world, "exported");
    files.renew(&inbox.next());
    or_skip!(has_fuse());
    let mirror = Mounted(world.directory("mounted"));
    // As with NFS, the kernel raises no event for what another than the mount has done.
    let mut bindfs = command("bindfs");
    run(bindfs.arg(files.path()).arg(&mirror.0), SOON)
        .result()
        .unwrap();
    let events = Record::watching(&mirror.0.join("privkey.pem"));
    let mut scene = Scene::with(&world, vec![Source::pems(&mirror.0)], |config| {
        config.watch("poll", "1s")
    });

    files.renew(&inbox.next());
    scene.serves_what_was_left("it was written over");

    let third = inbox.next();
    files.swap("fullchain.pem", third.fullchain_pem().as_bytes());
    scene.awaits(AWAITED);
    files.swap("privkey.pem", third.key_pem.as_bytes());
    scene.serves_what_was_left("it was renamed into place");

    assert_eq!(events.end(), Vec::<String>::new(), "the mount is silent");
    scene.ends();
}
