//! acme.sh, which writes over the installed files one after the other.
//!
//! It is in no package of Debian, npm or PyPI: a stand-in does what its `--install-cert` does.

use std::{io::Write, path::Path};

use super::{AWAITED, Inbox, Scene, Source};
use crate::{
    stage::HOST,
    world::{
        SOON, World,
        ca::Options,
        in_place::InPlace,
        process::run,
        slow_motion::{SlowMotion, Steps},
        through,
    },
};

/// Stands in for `acme.sh --install-cert --cert-file … --ca-file … --key-file … --fullchain-file …`:
/// by a shell as well, in the same order, through the same redirections.
const STAND_IN_FOR_INSTALL_CERT: &str = r#"
cat "$1/cert.pem" >"$2/cert.pem" || exit 1
cat "$1/chain.pem" >"$2/chain.pem" || exit 1
if [ ! -f "$2/privkey.pem" ]; then
    touch "$2/privkey.pem" && chmod 600 "$2/privkey.pem" || exit 1
fi
cat "$1/privkey.pem" >"$2/privkey.pem" || exit 1
cat "$1/fullchain.pem" >"$2/fullchain.pem" || exit 1
"#;

/// Runs the stand-in.
#[track_caller]
fn install(prefix: &[String], inbox: &Inbox, to: &Path) {
    let mut shell = through(prefix, "sh");
    shell.args(["-c", STAND_IN_FOR_INSTALL_CERT, "sh"]);
    run(shell.arg(&inbox.directory).arg(to), SOON)
        .result()
        .unwrap();
}

#[test]
fn files_that_acme_sh_writes_over_are_installed_whole_or_not_at_all() {
    let world = or_skip!(World::new());
    let (inbox, files) = (Inbox::new(&world), InPlace::new(&world, "acme.sh"));
    inbox.next();
    install(&[], &inbox, files.path());
    let source = Source::pems(files.path());
    let slow = SlowMotion::at(&world, Steps::Contents, &source.paths());
    let mut scene = Scene::with_source(&world, source);

    for _ in 0..2 {
        inbox.next();
        install(&[], &inbox, files.path());
        scene.serves_what_was_left("a renewal at full speed");
    }
    inbox.next();
    install(slow.prefix(), &inbox, files.path());
    scene.serves_what_was_left("a renewal in slow motion");
    assert!(slow.pauses() >= 4, "{}", slow.pauses());

    // A pause in the middle of each file. `fullchain.pem` is torn after its leaf, where it looks
    // whole; from another issuer, so that its length tells nothing.
    let options = Options {
        intermediates: 2,
        ..Options::default()
    };
    let torn = inbox.ca.issue_with(&[HOST], &options);
    files.put("cert.pem", torn.leaf_pem.as_bytes());
    files.put("chain.pem", torn.chain_pem().as_bytes());
    let mut key = files.truncate("privkey.pem");
    scene.leaves_it("the key is open and empty");
    key.write_all(torn.key_pem.as_bytes()).unwrap();
    drop(key);
    scene.awaits(AWAITED);
    let mut chain = files.truncate("fullchain.pem");
    chain.write_all(torn.leaf_pem.as_bytes()).unwrap();
    scene.leaves_it("the chain is cut after the leaf");
    chain.write_all(torn.chain_pem().as_bytes()).unwrap();
    drop(chain);
    scene.serves_what_was_left("all is written");
    assert_eq!(scene.servers[0].cluster.peer().unwrap().certificates, 3);
    scene.ends();
}
