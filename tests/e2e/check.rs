//! What `check` finds: each fault is planted on a real server, found, mended as it is printed, and
//! no longer found.

mod clients;
mod files;
pub mod finding;
mod labels;
mod rights;
mod server;

use crate::stage::Stage;
use crate::world::{World, config::Config, daemon::pgcertd};
use finding::{INSTANCE, checked};

#[test]
fn a_healthy_host_has_nothing_to_mend() {
    let world = or_skip!(World::new());
    let stage = Stage::build(&world).server_names().start();
    let seen = stage.checked();
    let ids = seen.ids();
    println!("{ids:?}");
    for id in INSTANCE {
        assert!(ids.contains(&(*id).to_owned()), "{id} was not looked at");
    }
    assert_eq!(seen.ill(), Vec::<String>::new());
    let text = stage.check_page();
    println!("{text}");
    let wide = text.lines().find(|line| line.chars().count() > 80);
    // What is longer is a path, which is not broken.
    assert!(wide.is_none_or(|line| line.contains('/')), "{wide:?}");
    stage.ends_serving_the_first();
}

#[test]
fn the_oldest_and_the_newest_version_have_nothing_to_mend_either() {
    for version in [13, 18] {
        let world = or_skip!(World::new());
        let stage = Stage::build(&world)
            .server_names()
            .cluster(|cluster| cluster.version(version))
            .start();
        let seen = stage.checked();
        assert_eq!(seen.ill(), Vec::<String>::new(), "{version}");
        let ids = seen.ids();
        assert!(INSTANCE.iter().all(|id| ids.contains(&(*id).to_owned())));
    }
}

#[test]
fn a_config_without_an_instance_is_worth_a_note() {
    let world = or_skip!(World::new());
    let config = Config::new(&world).write();
    let found = checked(&world, &config, &[]).host("configured");
    assert_eq!(found["weight"], "notice");
    assert_eq!(
        pgcertd(&world, &config, &["check", "--config-only"]).code(),
        0
    );
}
