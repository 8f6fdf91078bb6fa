//! One file that holds chain and key, as HAProxy's users make it.

use std::io::Write;

use super::{Inbox, Scene, Source};
use crate::{
    stage::HOST,
    world::{World, ca::Options, in_place::InPlace},
};

#[test]
fn a_source_of_one_combined_file_is_followed_written_over_and_renamed() {
    let world = or_skip!(World::new());
    let (inbox, files) = (Inbox::new(&world), InPlace::new(&world, "combined"));
    files.put("pg.pem", inbox.next().combined_pem().as_bytes());
    let mut scene = Scene::with_source(&world, Source::named(files.path(), "pg.pem", "pg.pem"));

    files.swap("pg.pem", inbox.next().combined_pem().as_bytes());
    scene.serves_what_was_left("it was renamed into place");

    // The key first, and torn after the leaf; from another issuer, so that its length tells nothing.
    let options = Options {
        intermediates: 2,
        ..Options::default()
    };
    let third = inbox.ca.issue_with(&[HOST], &options);
    let mut file = files.truncate("pg.pem");
    file.write_all(third.key_pem.as_bytes()).unwrap();
    file.write_all(third.leaf_pem.as_bytes()).unwrap();
    scene.leaves_it("the intermediate is still to come");
    file.write_all(third.chain_pem().as_bytes()).unwrap();
    drop(file);
    scene.serves_what_was_left("it was written over");
    scene.ends();
}
