//! consul-template and those that write like it: a file beside, synced, renamed, then the next file.
//!
//! Debian has no such program, and it would need a Vault: a stand-in does what its renderer does.

use std::{
    fs::{self, Permissions},
    io::Write,
    os::unix::fs::PermissionsExt,
    path::Path,
};

use super::{AWAITED, Inbox, Scene, Source};
use crate::world::World;

/// Stands in for one `template` stanza that is rendered: a file of a random name in the same
/// directory, fsync, mode, rename.
fn stand_in_for_rendering(file: &Path, content: &str) {
    let directory = file.parent().unwrap();
    let mut beside = tempfile::Builder::new()
        .prefix("")
        .tempfile_in(directory)
        .unwrap();
    beside.write_all(content.as_bytes()).unwrap();
    beside.as_file().sync_all().unwrap();
    fs::set_permissions(beside.path(), Permissions::from_mode(0o600)).unwrap();
    beside.persist(file).unwrap();
}

#[test]
fn templates_that_are_rendered_one_after_the_other_are_installed_together() {
    let world = or_skip!(World::new());
    let inbox = Inbox::new(&world);
    let directory = world.directory("rendered");
    let [chain, key] = ["tls.crt", "tls.key"].map(|name| directory.join(name));
    let first = inbox.next();
    stand_in_for_rendering(&chain, &first.fullchain_pem());
    stand_in_for_rendering(&key, &first.key_pem);
    let mut scene = Scene::with_source(&world, Source::usual(&directory, "tls.crt", "tls.key"));

    let second = inbox.next();
    stand_in_for_rendering(&chain, &second.fullchain_pem());
    stand_in_for_rendering(&key, &second.key_pem);
    scene.serves_what_was_left("both at once");

    let third = inbox.next();
    stand_in_for_rendering(&key, &third.key_pem);
    scene.awaits(AWAITED);
    stand_in_for_rendering(&chain, &third.fullchain_pem());
    scene.serves_what_was_left("the chain came later");

    // Rendered again with what was there: nothing is loaded anew, which the end shows.
    stand_in_for_rendering(&chain, &third.fullchain_pem());
    stand_in_for_rendering(&key, &third.key_pem);
    scene.leaves_it("nothing is new");
    scene.ends();
}
