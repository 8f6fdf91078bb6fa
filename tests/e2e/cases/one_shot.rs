//! `sync` as a deploy hook, on a host where nobody comes after it.

use crate::{
    stage::{HOST, NAME, Stage, says},
    world::{
        World,
        ca::Issued,
        config::{Config, Instance},
        in_place::InPlace,
    },
};

/// A host without the daemon, whose lineage is plain files.
struct Host<'w> {
    stage: Stage<'w>,
    files: InPlace,
}

/// How `sync` is called.
#[derive(Clone, Copy, Debug)]
enum Caller {
    /// By who has just written the lineage.
    Hook,
    /// By a clock or a person.
    Cron,
}

impl<'w> Host<'w> {
    fn new(world: &'w World) -> Self {
        let files = InPlace::new(world, "files");
        let stage = Stage::build(world).files(files.path()).start();
        files.renew(&stage.first);
        Self { stage, files }
    }

    fn configured(&mut self, change: impl FnOnce(Instance) -> Instance) {
        let instance = change(self.stage.instance(self.files.path()));
        self.stage.config = Config::new(self.stage.world).instance(instance).write();
    }

    fn next(&self) -> Issued {
        self.stage.ca.issue(&[HOST])
    }

    fn put(&self, key: &str, chain: &str) {
        self.files.put("privkey.pem", key.as_bytes());
        self.files.put("fullchain.pem", chain.as_bytes());
    }

    /// What `sync` must come to, with these words in its problem.
    #[track_caller]
    fn syncs(&self, by: Caller, outcome: &str, code: i32, words: &[&str]) {
        let lineage = self.files.path().to_str().unwrap();
        let arguments: &[&str] = match by {
            Caller::Hook => &["sync", "--json", "--lineage", lineage],
            Caller::Cron => &["sync", "--json"],
        };
        let done = self.stage.pgcertd(arguments);
        let row = done.instance(NAME);
        println!("{by:?}: {row}");
        assert_eq!(row["outcome"], outcome, "{by:?}: {row}");
        assert_eq!(done.code(), code, "{by:?}: {row}");
        let problem = row["problem"].as_str().unwrap_or_default();
        says(problem, words);
    }
}

#[test]
fn a_hooks_call_says_that_the_writer_is_done() {
    let world = or_skip!(World::new());
    let host = Host::new(&world);
    let mut served = host.stage.first.clone();

    // The authority gives one certificate less than before.
    let shorter = host.next();
    host.put(&shorter.key_pem, &shorter.leaf_pem);
    let words = ["shorter than the installed one", "pgcertd", "sync 16-main"];
    host.syncs(Caller::Cron, "waiting", 1, &words);
    host.stage.keeps(&served);
    host.syncs(Caller::Hook, "deployed", 0, &[]);
    host.stage.keeps(&shorter);
    served = shorter;

    let next = host.next();
    let (whole, key) = (next.fullchain_pem(), &next.key_pem);
    let cut = &whole[..whole.len() - 100];
    let in_the_leaf = &next.leaf_pem[..300];
    for (what, key, chain, words) in [
        (
            "cut in the last certificate",
            &**key,
            cut,
            "begins but does not end",
        ),
        (
            "cut in the leaf",
            key,
            in_the_leaf,
            "begins but does not end",
        ),
        ("an empty file", key, "", "empty"),
        ("half a key", &key[..40], &whole, "key file"),
        (
            "the key of before",
            &served.key_pem,
            &whole,
            "does not belong",
        ),
    ] {
        println!("{what}");
        host.put(key, chain);
        host.syncs(
            Caller::Cron,
            "waiting",
            1,
            &["waiting for the rest", "sync 16-main"],
        );
        host.syncs(Caller::Hook, "refused", 1, &[words, "; "]);
        host.stage.keeps(&served);
    }
    host.files.remove("privkey.pem");
    host.syncs(Caller::Hook, "refused", 1, &["privkey.pem"]);
    host.put(key, &whole);
    host.syncs(Caller::Hook, "deployed", 0, &[]);
    host.stage.keeps(&next);
}

#[test]
fn status_0_means_served_or_says_why_nothing_was_due() {
    let world = or_skip!(World::new());
    let mut host = Host::new(&world);

    host.configured(|instance| instance.set("delay", "1h"));
    let delayed = host.next();
    host.files.renew(&delayed);
    for by in [Caller::Hook, Caller::Cron] {
        let words = [
            "configured delay until",
            "if no daemon is running",
            "sync 16-main",
        ];
        host.syncs(by, "waiting", 0, &words);
    }
    host.stage.keeps(&host.stage.first.clone());

    // Others place the files, and what is loaded shows nowhere.
    host.configured(|instance| instance.set("mode", "reload").set("verify", "none"));
    world.place(&delayed, &host.stage.cert);
    let before = host.stage.reloads();
    host.syncs(Caller::Hook, "deployed", 0, &[]);
    assert_eq!(host.stage.reloads(), before + 1);
    assert_eq!(host.stage.cluster.served(), delayed.fingerprint);

    // Who places them has not.
    let next = host.next();
    host.files.renew(&next);
    host.stage.cluster.stop();
    for mode in ["reload", "observe"] {
        host.configured(|instance| instance.set("mode", mode));
        for by in [Caller::Hook, Caller::Cron] {
            host.syncs(
                by,
                "unchanged",
                1,
                &["is down", "does not have", "sync 16-main"],
            );
        }
    }
    // One that is down gets it all the same, and says so.
    host.configured(|instance| instance);
    host.syncs(Caller::Hook, "installed", 0, &["not running"]);
    host.stage.cluster.start().unwrap();
    host.stage.keeps(&next);
    host.syncs(Caller::Hook, "unchanged", 0, &[]);
}
