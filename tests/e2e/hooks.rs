//! The hooks that certbot saves, as certbot itself writes them down.

use std::{collections::BTreeSet, fs, path::PathBuf};

use pgcertd::testing::{
    acme::{Area, Hook, Judge, Removal, Scope, Share, Tree},
    config::ServerKind,
};

use crate::world::{
    SOON, World,
    acme::{Certbot, Pebble},
    command,
    process::run,
};

const DOMAIN: &str = "pg.example.com";

/// The hooks that the library reads below certbot's directory.
fn saved(certbot: &Certbot) -> Vec<Hook> {
    let home = certbot.live().parent().unwrap().to_owned();
    let found = Area::Certbot(home).look(&Tree::of_this_host(), false);
    assert!(found.unread.is_empty(), "{:?}", found.unread);
    found.hooks
}

/// The commands would need one of three kinds of quotes each; those of a renewal run, and change nothing here.
#[test]
fn hooks_are_read_and_taken_away_as_certbot_has_them() {
    let world = or_skip!(World::new());
    let pebble = Pebble::start(&world);
    let certbot = Certbot::new(&world, &pebble);
    let tls = world.directory("pg, tls");
    let (lineage, target) = (certbot.lineage(DOMAIN), tls.join("server.key"));
    let copy = |note: &str| {
        let (from, to) = (lineage.display(), target.display());
        format!("cp {from}/privkey.pem \"{to}\" && echo {note}")
    };
    let hooks = [
        "echo before".to_owned(),
        copy("'it is \"done\", #1'"),
        copy("a=b\\ c"),
    ];
    certbot.issue_with(
        DOMAIN,
        &[
            "--pre-hook",
            &hooks[0],
            "--post-hook",
            &hooks[1],
            "--deploy-hook",
            &hooks[2],
        ],
    );
    fs::remove_file(&target).unwrap();

    let all = saved(&certbot);
    let commands: BTreeSet<&str> = all.iter().map(|hook| hook.commands.as_str()).collect();
    let given: BTreeSet<&str> = hooks.iter().map(String::as_str).collect();
    assert_eq!(commands, given);
    assert!(
        all.iter()
            .all(|hook| hook.lineage.as_ref() == Some(&lineage))
    );

    let scope = Scope {
        kind: ServerKind::Postgres,
        home: world.path().join("data"),
        files: BTreeSet::from([target.clone()]),
        directories: BTreeSet::new(),
        lineages: BTreeSet::from([lineage.clone()]),
    };
    let judge = Judge::new(Tree::of_this_host(), vec![scope]);
    let mut gone: Vec<PathBuf> = Vec::new();
    for hook in &all {
        let Some(judgement) = judge.judge_hook(hook) else {
            assert_eq!(hook.commands, hooks[0], "not seen to be old");
            continue;
        };
        assert_eq!(judgement.share, Share::All, "{hook:?}");
        let Removal::Command(line) = hook.removal(&judge, &judgement) else {
            panic!("no command takes {hook:?} away");
        };
        run(command("sh").args(["-c", &line]), SOON)
            .result()
            .unwrap();
        gone.push(hook.place.file().to_owned());
    }
    assert_eq!(gone.len(), 2);

    // What is left is certbot's still.
    let kept: Vec<String> = saved(&certbot)
        .into_iter()
        .map(|line| line.commands)
        .collect();
    assert_eq!(kept, hooks[..1]);
    let (first, _) = certbot.leaf(DOMAIN);
    certbot.renew();
    assert_ne!(certbot.leaf(DOMAIN).0, first);
    assert!(!target.exists(), "a hook copied again");
}
