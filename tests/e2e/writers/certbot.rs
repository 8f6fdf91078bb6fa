//! certbot against an ACME server: all that it does to a lineage in its life.

use std::path::Path;

use super::{Scene, Source};
use crate::{
    stage::{HOST, daemon_view_of},
    world::{
        SOON, World,
        acme::{Certbot, Pebble},
        config::path,
        eventually,
        lineage::KINDS,
        process::run,
        slow_motion::{SlowMotion, Steps},
    },
};

/// A certbot that has issued a first certificate, and what slows it down at that lineage's links.
fn issued<'p>(world: &World, pebble: &'p Pebble) -> (Certbot<'p>, SlowMotion) {
    let certbot = Certbot::new(world, pebble);
    certbot.issue(HOST);
    let lineage = certbot.lineage(HOST);
    let links = KINDS.map(|kind| lineage.join(format!("{}.pem", kind.word())));
    let slow = SlowMotion::at(world, Steps::Names, &links);
    (certbot, slow)
}

fn scene<'w>(world: &'w World, certbot: &Certbot) -> Scene<'w> {
    let (live, source) = (certbot.live(), Source::called(&certbot.live(), HOST));
    Scene::with(world, vec![source], |config| {
        config.watch("directories", vec![path(&live)])
    })
}

/// A link that is taken away and made again, four times: so much a renewal does in `live`.
const LINKS: usize = 8;

#[test]
fn certbot_renews_link_by_link_with_a_new_key_the_same_key_and_a_key_of_another_kind() {
    let world = or_skip!(World::new());
    let pebble = Pebble::start(&world);
    let (certbot, slow) = issued(&world, &pebble);
    let mut scene = scene(&world, &certbot);

    certbot.slowed(&slow).renew();
    scene.serves_what_was_left("a new key");
    assert!(slow.pauses() >= LINKS, "{}", slow.pauses());
    scene.has_awaited(1);

    certbot.slowed(&slow).renew_reusing_key();
    scene.serves_what_was_left("the same key");
    assert!(slow.pauses() >= 2 * LINKS, "{}", slow.pauses());

    certbot.renew_with(&["--no-reuse-key", "--key-type", "rsa"]);
    scene.serves_what_was_left("ECDSA became RSA");
    certbot.renew_with(&["--no-reuse-key", "--key-type", "ecdsa"]);
    scene.serves_what_was_left("RSA became ECDSA");
    scene.ends();
}

/// Points one link at an older generation, as an operator does it.
fn set_back(slow: &SlowMotion, lineage: &Path, kind: &str, generation: u32) {
    let mut ln = slow.command("ln");
    ln.arg("-sf")
        .arg(format!("../../archive/{HOST}/{kind}{generation}.pem"))
        .arg(lineage.join(format!("{kind}.pem")));
    run(&mut ln, SOON).result().unwrap();
}

#[test]
fn certbot_adds_a_name_and_an_operator_goes_back_to_the_generation_before() {
    let world = or_skip!(World::new());
    let pebble = Pebble::start(&world);
    let (certbot, slow) = issued(&world, &pebble);
    let mut scene = scene(&world, &certbot);

    certbot.issue_with(HOST, &["--expand", "--domain", "db.example.com"]);
    scene.serves_what_was_left("another name");
    eventually(SOON, "the daemon sees that name served", || {
        let seen = daemon_view_of(&scene.config, "16-1")?;
        let names = seen["served"]["names"].as_array().ok_or("nothing served")?;
        if names.iter().any(|name| name == "db.example.com") {
            Ok(())
        } else {
            Err(seen.to_string())
        }
    });

    for kind in KINDS {
        set_back(&slow, &certbot.lineage(HOST), kind.word(), 1);
    }
    scene.serves_what_was_left("back to the first generation");
    let warning = scene.daemon.wait_for_log("older than the installed one");
    assert!(warning.starts_with("warning: 16-1"), "{warning}");
    scene.has_awaited(1);

    // Nothing is due, but certbot mends links that lead to another than the newest.
    certbot.renew_what_is_due();
    scene.serves_what_was_left("certbot goes forward again");
    scene.ends();
}

#[test]
fn certbot_deletes_a_lineage_and_issues_it_again_under_the_same_name_and_under_another() {
    let world = or_skip!(World::new());
    let pebble = Pebble::start(&world);
    let certbot = Certbot::new(&world, &pebble);
    certbot.issue(HOST);
    let mut scene = scene(&world, &certbot);

    certbot.delete(HOST);
    eventually(SOON, "the daemon says that the lineage is gone", || {
        scene.daemon.log().contains("the lineage has no directory")
    });
    assert_eq!(scene.still(), Ok(()));
    certbot.issue(HOST);
    scene.serves_what_was_left("the same name");

    // A second certificate for the name: certbot calls it -0001, and no instance names that yet.
    let second = format!("{HOST}-0001");
    certbot.issue_with(HOST, &["--duplicate"]);
    assert!(certbot.lineage(&second).is_dir());
    certbot.delete(HOST);
    let gone = "the lineage has no directory";
    eventually(SOON, "the daemon says that it is gone again", || {
        scene.daemon.log().matches(gone).count() == 2
    });
    assert_eq!(scene.still(), Ok(()));
    let text = scene.config.text();
    let named = |name: &str| format!("lineage = \"{name}\"");
    scene
        .config
        .replace(&text.replace(&named(HOST), &named(&second)));
    scene.daemon.hangup();
    scene.servers[0].source = Source::called(&certbot.live(), &second);
    scene.serves_what_was_left("the configuration names the other");
    certbot.renew();
    scene.serves_what_was_left("the other is renewed");
    scene.ends();
}
