//! A directory without events, as on NFS: what happens behind the mount is seen by `poll` alone.

use std::path::{Path, PathBuf};

use super::{AWAITED, Inbox, Scene, Source};
use crate::world::{
    SOON, World, command, faults::has_fuse, in_place::InPlace, process::run, record::Record,
    skipped::Skipped,
};

/// A directory that shows another one by FUSE, until it is dropped: as with NFS, the kernel raises no
/// event for what another than it has done.
struct Mirror(PathBuf);

impl Mirror {
    fn mount(of: &Path, at: PathBuf) -> Result<Self, Skipped> {
        has_fuse()?;
        run(command("bindfs").arg(of).arg(&at), SOON)
            .result()
            .unwrap();
        Ok(Self(at))
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        let unmounted = run(command("umount").arg("--lazy").arg(&self.0), SOON).result();
        if let Err(error) = unmounted {
            eprintln!("{} is still mounted: {error}", self.0.display());
        }
    }
}

#[test]
fn a_directory_without_events_is_polled() {
    let world = or_skip!(World::new());
    let inbox = Inbox::new(&world);
    let files = InPlace::new(&world, "exported");
    files.renew(&inbox.next());
    let mirror = or_skip!(Mirror::mount(files.path(), world.directory("mounted")));
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
