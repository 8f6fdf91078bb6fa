//! PostgreSQL 19 with `ssl_sni = on`: the name that a client asks for decides which certificate it gets
//! (`pg_hosts.conf`).

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::PathBuf,
    time::Duration,
};

use pgcertd::{
    config::Address,
    instance::{
        hosts::Hosts,
        probe::{AskedName, Opening, Prober},
    },
    privilege::Ids,
};
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config as Runs, TestRunner},
};
use serde_json::Value;

use crate::{
    stage::{HOST, NAME, Stage, of_kind, problem, says},
    world::{
        SOON, World,
        ca::{Issued, KeyType, Options},
        cluster::ClusterBuilder,
        config::{Config, Instance},
        daemon::{Launch, Outcome, eventually_state, pgcertd},
        eventually, give,
        lineage::Lineage,
        postgres::BY_NAME,
    },
};

/// A server by names, which has a certificate of the instance and others.
struct Named<'w> {
    stage: Stage<'w>,
    /// Where the files of certificates lie that pgcertd has nothing to do with.
    others: PathBuf,
}

impl<'w> Named<'w> {
    fn new(world: &'w World) -> Self {
        Self::with(world, |cluster| cluster)
    }

    fn with(
        world: &'w World,
        cluster: impl FnOnce(ClusterBuilder<'w>) -> ClusterBuilder<'w>,
    ) -> Self {
        let stage = Stage::build(world)
            .cluster(|build| cluster(build.version(BY_NAME).setting("ssl_sni", "on")))
            .instance(|instance| {
                let instance = instance.set("verify_timeout", "3s");
                instance.set("server_names", vec![HOST])
            })
            .start();
        let others = world.postgres_directory("others", 0o700);
        Named { stage, others }
    }

    /// A certificate of somebody else on this server, for this name, and its file.
    fn other(&self, name: &str) -> (Issued, String) {
        let issued = self.stage.ca.issue(&[name]);
        let file = self.others.join(format!("{name}.pem"));
        fs::write(&file, issued.combined_pem()).unwrap();
        give(&file, self.stage.world.postgres(), 0o600);
        (issued, file.to_str().unwrap().to_owned())
    }

    /// Our file, twice: certificate and key.
    fn ours(&self) -> String {
        let file = self.stage.cert.display();
        format!("{file} {file}")
    }

    fn hosts_file(&self) -> PathBuf {
        self.stage.cluster.data_directory().join("pg_hosts.conf")
    }

    fn line(&self, number: u32) -> String {
        format!("{} line {number}", self.hosts_file().display())
    }

    fn write_hosts(&self, text: &str) {
        fs::write(self.hosts_file(), text).unwrap();
        give(&self.hosts_file(), self.stage.world.postgres(), 0o600);
    }

    /// The server takes these lines at once.
    #[track_caller]
    fn with_hosts(&mut self, text: &str) {
        self.write_hosts(text);
        self.stage.cluster.reload_by_hand();
    }

    #[track_caller]
    fn serves_by(&self, name: &str, issued: &Issued) {
        eventually(SOON, &format!("{name} gets it"), || {
            let peer = self.stage.cluster.peer_named(name)?;
            if peer.fingerprint == issued.fingerprint {
                Ok(())
            } else {
                Err(peer.fingerprint)
            }
        });
    }

    fn status(&self) -> Value {
        pgcertd(self.stage.world, &self.stage.config, &["status", "--json"]).instance(NAME)
    }
}

#[test]
fn the_line_that_gives_our_name_another_certificate_is_named() {
    let world = or_skip!(World::with_postgres(BY_NAME));
    let mut named = Named::new(&world);
    let (ours, file) = (named.ours(), named.hosts_file().display().to_string());
    let (_, other) = named.other("other.example.com");
    let loud = HOST.to_uppercase();
    let wrong = [
        (
            format!("{HOST} {other} {other}\n* {ours}\n"),
            named.line(1),
            &*other,
        ),
        (
            format!("# us\n\n\"{loud}\"\\\n {other} {other}\n"),
            named.line(3),
            HOST,
        ),
        (format!("* {other} {other}\n"), named.line(1), HOST),
        (
            format!("/no_sni/ {ours}\nelse.example {ours}\n"),
            file,
            HOST,
        ),
    ];
    for (text, place, word) in wrong {
        named.with_hosts(&text);
        let seen = named.status();
        assert_eq!(seen["state"], "not_used", "{text}: {seen}");
        says(&problem(&seen), &[&place, word]);
    }
    let right = [
        format!("{HOST} {ours}\n* {other} {other}\n"),
        format!("* {ours}\nelse.example {other} {other}\n"),
        format!("a.example,{loud} {ours} # us\n/no_sni/ {other} {other}\n"),
        // ssl_cert_file is ours.
        "# nobody\n".to_owned(),
    ];
    for text in right {
        named.with_hosts(&text);
        let seen = named.status();
        assert_eq!(seen["state"], "in_sync", "{text}: {seen}");
    }
}

/// What is set up on it, and what of that the server's user and the operator see.
impl Named<'_> {
    #[track_caller]
    fn setup(&self, arguments: &[&str]) -> Outcome {
        self.setup_by(&Launch::new(self.stage.world), arguments)
    }

    #[track_caller]
    fn setup_by(&self, launch: &Launch, arguments: &[&str]) -> Outcome {
        let done = launch.run(&self.stage.config, &[&["setup"], arguments].concat());
        let (out, errors) = (done.stdout(), done.stderr());
        println!("--- setup {arguments:?}: {}\n{out}{errors}", done.code());
        done
    }

    #[track_caller]
    fn is_set_up(&self) {
        assert_eq!(self.setup(&["--yes", "--instance", NAME]).code(), 0);
    }

    fn hosts_text(&self) -> String {
        fs::read_to_string(self.hosts_file()).unwrap()
    }

    /// Nothing came of a set-up.
    #[track_caller]
    fn is_as_before(&self, text: &str, served: &Issued) {
        assert_eq!(self.hosts_text(), text);
        let installed = fs::read_to_string(&self.stage.cert).unwrap();
        assert_eq!(installed, self.stage.first.combined_pem());
        assert!(!self.stage.cert.with_file_name("setup.json").exists());
        self.serves_by(HOST, served);
    }

    /// ALTER SYSTEM would set what the server does not even open.
    #[track_caller]
    fn no_setting_was_changed(&self) {
        let auto = self.stage.cluster.data_directory();
        let altered = fs::read_to_string(auto.join("postgresql.auto.conf")).unwrap();
        assert!(!altered.contains("ssl_"), "{altered}");
    }
}

#[test]
fn setup_adds_the_line_of_our_name_and_the_undo_gives_the_file_back() {
    let world = or_skip!(World::with_postgres(BY_NAME));
    let mut named = Named::new(&world);
    let (ours, (foreign, other)) = (named.ours(), named.other("other.example.com"));
    named.stage.cluster.set("ssl_cert_file", &other);
    named.stage.cluster.set("ssl_key_file", &other);
    let line = format!("{HOST} {ours}");
    let rest = format!("* {other} {other}");
    let mut newest = None;
    named.with_hosts(&rest);
    let shown = named.setup(&["--dry-run", "--instance", NAME]);
    assert_eq!(shown.code(), 0);
    says(shown.stdout(), &[&format!("+{line}"), "pg_hosts.conf"]);
    let shown = named.setup(&["--dry-run", "--json", "--instance", NAME]);
    assert_eq!(shown.json()["host_line"]["line"], *line);
    let printed = named.setup(&["--print", "--instance", NAME]);
    says(printed.stdout(), &[&line, "pg_hosts.conf"]);
    assert!(!printed.stdout().contains("ssl_cert_file"), "{printed:?}");
    assert_eq!(named.hosts_text(), rest);
    for text in [
        format!("# by hand\n{rest}\n"),
        rest.clone(),
        format!("{rest} \\\n"),
        format!("else.example {other} \\\n {other}\n/no_sni/ {other} {other}\n"),
    ] {
        named.with_hosts(&text);
        fs::set_permissions(named.hosts_file(), fs::Permissions::from_mode(0o640)).unwrap();
        named.is_set_up();
        assert!(named.hosts_text().starts_with(&text), "{text}");
        named.serves_by(HOST, newest.as_ref().unwrap_or(&named.stage.first));
        assert_eq!(named.status()["state"], "in_sync");
        named.serves_by("else.example", &foreign);
        named.no_setting_was_changed();
        let next = named.stage.renew();
        named.stage.synced(&[], "deployed", 0);
        named.serves_by(HOST, &next);
        newest = Some(next);
        let again = named.setup(&["--yes", "--json", "--instance", NAME]).json();
        assert_eq!(again["outcome"], "unchanged", "{again}");

        assert_eq!(named.setup(&["--yes", "--undo", NAME]).code(), 0);
        assert_eq!(named.hosts_text(), text);
        let mode = fs::metadata(named.hosts_file()).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o640);
        let backups = fs::read_dir(named.stage.cert.parent().unwrap()).unwrap();
        let mut names = backups.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert!(!names.any(|name| name.starts_with("pg_hosts")), "{text}");
        let others_get = text.contains("* ").then(|| foreign.fingerprint.clone());
        eventually(SOON, "the undo was loaded", || {
            let peer = named.stage.cluster.peer_named(HOST).ok();
            peer.map(|peer| peer.fingerprint) == others_get
        });
    }
}

/// The config may name none, and may name more later: each line is taken out.
#[test]
fn setup_adds_a_line_for_the_leafs_name_and_later_one_for_those_that_were_added() {
    let world = or_skip!(World::with_postgres(BY_NAME));
    let mut named = Named::new(&world);
    let (ours, (foreign, other)) = (named.ours(), named.other("other.example.com"));
    let text = format!("/no_sni/ {other} {other}");
    named.with_hosts(&text);
    let entry = || Instance::for_cluster(&named.stage.cluster, HOST);
    let nameless = Config::new(&world).instance(entry()).write();
    let more = entry().set(
        "server_names",
        vec!["PG.Example.com", "a.example", "A.example"],
    );
    named.stage.config = nameless;
    named.is_set_up();
    let once = format!("{text}\n{HOST} {ours}\n");
    assert_eq!(named.hosts_text(), once);
    named.serves_by(HOST, &named.stage.first);
    assert_eq!(named.stage.cluster.served(), foreign.fingerprint);

    named.stage.config = Config::new(&world).instance(more).write();
    let wider = named.stage.ca.issue(&[HOST, "a.example"]);
    named.stage.lineage.renew(&wider);
    named.is_set_up();
    assert_eq!(named.hosts_text(), format!("{once}a.example {ours}\n"));
    named.serves_by("a.example", &wider);
    assert_eq!(named.setup(&["--yes", "--undo", NAME]).code(), 0);
    assert_eq!(named.hosts_text(), text);
    assert_eq!(named.stage.cluster.served(), foreign.fingerprint);
    named.no_setting_was_changed();
}

/// A second line for a name would have the server refuse the whole file.
#[test]
fn setup_names_the_line_that_gives_our_name_another_certificate_and_changes_nothing() {
    let world = or_skip!(World::with_postgres(BY_NAME));
    let mut named = Named::new(&world);
    let (ours, (_, other)) = (named.ours(), named.other("other.example.com"));
    let loud = HOST.to_uppercase();
    for text in [
        format!("* {ours}\na.example,{loud} {other} {other}\n"),
        format!("# us\n{HOST} {ours}x {ours}x\n"),
    ] {
        named.write_hosts(&text);
        let refused = named.setup(&["--yes", "--instance", NAME]);
        assert_eq!(refused.code(), 1);
        says(
            refused.stderr(),
            &[&named.line(2), &format!("take {HOST} out")],
        );
        assert_eq!(named.hosts_text(), text);
    }
    // Without a line the settings count, and the first line would take the certificate from every other name.
    for text in ["", "# nobody\n"] {
        named.with_hosts(text);
        named.is_set_up();
        assert_eq!(named.hosts_text(), text);
    }
    // A link is somebody else's to keep.
    let text = format!("* {other} {other}\n");
    let kept = named.others.join("hosts");
    fs::write(&kept, &text).unwrap();
    give(&kept, world.postgres(), 0o600);
    fs::remove_file(named.hosts_file()).unwrap();
    std::os::unix::fs::symlink(&kept, named.hosts_file()).unwrap();
    let refused = named.setup(&["--yes", "--instance", NAME]);
    assert_eq!(refused.code(), 1);
    let line = format!("{HOST} {ours}");
    says(refused.stderr(), &[kept.to_str().unwrap(), &line]);
    assert_eq!(fs::read_to_string(&kept).unwrap(), text);
    named.no_setting_was_changed();
}

#[test]
fn the_undo_takes_our_line_alone_out_of_a_file_that_was_edited_since() {
    let world = or_skip!(World::with_postgres(BY_NAME));
    let named = Named::new(&world);
    let (ours, (_, other)) = (named.ours(), named.other("other.example.com"));
    let undo = || named.setup(&["--yes", "--undo", NAME]);
    let before = format!("* {other} {other}");
    let line = format!("{HOST} {ours}");
    named.write_hosts(&before);
    named.is_set_up();
    named.write_hosts(&format!(
        "# more\n{before}\n{line}\nb.example {other} {other}\n"
    ));
    assert_eq!(undo().code(), 0);
    let rest = format!("# more\n{before}\nb.example {other} {other}\n");
    assert_eq!(named.hosts_text(), rest);

    // It has become another line, or another user says that it was: neither is ours to take out.
    named.is_set_up();
    let edited = format!("{before}\n{HOST},c.example {ours}\n");
    named.write_hosts(&edited);
    let record = named.stage.cert.with_file_name("setup.json");
    let remembered = fs::read_to_string(&record).unwrap();
    assert_eq!(undo().code(), 1);
    assert_eq!(named.hosts_text(), edited);
    assert!(!record.exists());
    let forged = remembered.replace(HOST, "other.example.com");
    fs::write(
        &record,
        forged.replace("\"before\": \"", "\"before\": \"../"),
    )
    .unwrap();
    give(&record, world.postgres(), 0o600);
    assert_eq!(undo().code(), 1);
    assert_eq!(named.hosts_text(), edited);
}

#[test]
fn a_line_that_the_server_does_not_load_goes_again() {
    let world = or_skip!(World::with_postgres(BY_NAME));
    let mut named = Named::with(&world, |cluster| cluster.strict());
    let (foreign, other) = named.other("other.example.com");
    let text = format!("* {other} {other}\n");
    named.with_hosts(&text);
    named.stage.renew();
    // Seen before anything is changed.
    fs::write(&other, foreign.leaf_pem.clone()).unwrap();
    let refused = named.setup(&["--yes", "--instance", NAME]);
    assert_eq!(refused.code(), 1);
    says(refused.stderr(), &[&other, &named.line(1)]);
    named.is_as_before(&text, &foreign);
    // Seen by the server alone.
    let kind = of_kind(KeyType::Rsa2048);
    let weak = named.stage.ca.issue_with(&["other.example.com"], &kind);
    fs::write(&other, weak.combined_pem()).unwrap();
    let failed = named.setup(&["--yes", "--instance", NAME]);
    assert_eq!(failed.code(), 1);
    says(failed.stdout(), &["as it was before"]);
    named.is_as_before(&text, &foreign);
}

#[cfg(feature = "failpoints")]
#[test]
fn after_a_fault_or_a_crash_the_line_is_taken_out_and_so_is_what_was_installed() {
    let world = or_skip!(World::with_postgres(BY_NAME));
    let mut named = Named::new(&world);
    let (foreign, other) = named.other("other.example.com");
    let text = format!("* {other} {other}\n");
    named.with_hosts(&text);
    named.stage.renew();
    for point in ["setup_listed", "setup_verified"] {
        let launch =
            |action: &str| Launch::new(&world).env("FAILPOINTS", format!("{point}={action}"));
        let failed = named.setup_by(&launch("return"), &["--yes", "--instance", NAME]);
        assert_eq!(failed.code(), 1, "{point}");
        named.is_as_before(&text, &foreign);
    }
    for point in ["setup_installed", "setup_listed"] {
        let launch = Launch::new(&world).env("FAILPOINTS", format!("{point}=panic"));
        let crashed = named.setup_by(&launch, &["--yes", "--instance", NAME]);
        assert!(crashed.code() < 0, "{point}");
        assert_eq!(named.setup(&["--yes", "--undo", NAME]).code(), 0, "{point}");
        assert_eq!(named.hosts_text(), text, "{point}");
        named.serves_by(HOST, &foreign);
    }

    // What was installed where nothing was goes as well, once no line names it.
    named.stage.cluster.set("ssl_cert_file", &other);
    named.stage.cluster.set("ssl_key_file", &other);
    named.stage.cluster.reload_by_hand();
    fs::remove_file(&named.stage.cert).unwrap();
    let launch = Launch::new(&world).env("FAILPOINTS", "setup_reloaded=panic");
    let crashed = named.setup_by(&launch, &["--yes", "--instance", NAME]);
    assert!(crashed.code() < 0);
    assert!(named.stage.cert.exists());
    assert_eq!(named.setup(&["--yes", "--instance", NAME]).code(), 0);
    assert_eq!(named.setup(&["--yes", "--undo", NAME]).code(), 0);
    assert_eq!(named.hosts_text(), text);
    fs::remove_file(&named.stage.cert).unwrap();
    let crashed = named.setup_by(&launch, &["--yes", "--instance", NAME]);
    assert!(crashed.code() < 0);
    assert_eq!(named.setup(&["--yes", "--undo", NAME]).code(), 0);
    assert!(!named.stage.cert.exists());
    named.serves_by(HOST, &foreign);
}

/// Nothing is installed yet: the line waits for its files.
#[test]
fn setup_of_a_new_instance_adds_a_line_for_its_names_and_takes_over_no_other_names_files() {
    const MORE: &str = "www.example.com";
    let world = or_skip!(World::with_postgres(BY_NAME));
    let mut named = Named::new(&world);
    let (foreign, other) = named.other("other.example.com");
    named.stage.cluster.set("ssl_cert_file", &other);
    named.stage.cluster.set("ssl_key_file", &other);
    let text = format!("* {other} {other}\n");
    named.with_hosts(&text);
    fs::remove_file(&named.stage.cert).unwrap();
    named.stage.config = Config::new(&world).write();
    let issued = named.stage.ca.issue(&[HOST, MORE]);
    named.stage.lineage.renew(&issued);
    let data = named.stage.cluster.data_directory().to_owned();
    let data = data.to_str().unwrap();
    let which = ["--yes", "--data-directory", data, "--instance", NAME];
    let names = [
        "--lineage",
        HOST,
        "--server-name",
        HOST,
        "--server-name",
        MORE,
    ];
    let arguments = [&which[..], &names].concat();
    assert_eq!(named.setup(&arguments).code(), 0);
    assert_eq!(
        named.hosts_text(),
        format!("{text}{HOST},{MORE} {}\n", named.ours())
    );
    named.serves_by(HOST, &issued);
    named.serves_by(MORE, &issued);
    named.serves_by("other.example.com", &foreign);
    assert_eq!(named.status()["state"], "in_sync");
    named.no_setting_was_changed();
    assert_eq!(named.setup(&["--yes", "--undo", NAME]).code(), 0);
    assert_eq!(named.hosts_text(), text);
    named.serves_by(HOST, &foreign);

    // What no other name gets is taken over.
    let (_, own) = named.other("own");
    let text = format!("{text}{HOST},{MORE} {own} {own}\n");
    named.with_hosts(&text);
    assert_eq!(named.setup(&arguments).code(), 0);
    assert_eq!(named.hosts_text(), text);
    named.serves_by(HOST, &issued);
    assert_eq!(fs::read_to_string(&own).unwrap(), issued.combined_pem());
    assert_eq!(fs::read_to_string(&other).unwrap(), foreign.combined_pem());
}

#[test]
fn a_renewal_is_proven_by_the_names_of_the_instance_and_by_no_others() {
    let world = or_skip!(World::with_postgres(BY_NAME));
    let mut named = Named::new(&world);
    let (ours, (foreign, other)) = (named.ours(), named.other("other.example.com"));
    named.with_hosts(&format!("{HOST} {ours}\n/no_sni/ {other} {other}\n"));
    let second = named.stage.renew();
    named.stage.synced(&[], "deployed", 0);
    named.serves_by(HOST, &second);
    assert_eq!(named.stage.cluster.served(), foreign.fingerprint);
    assert_eq!(named.status()["state"], "in_sync");

    // Whoever asks for no name is turned away, which says nothing of the certificate.
    named.with_hosts(&format!("{HOST} {ours}\n"));
    let third = named.stage.renew();
    named.stage.synced(&[], "deployed", 0);
    named.serves_by(HOST, &third);

    // Without server_names the leaf's own name counts, where the file gives others something else.
    let instance = Instance::for_cluster(&named.stage.cluster, HOST);
    named.stage.config = Config::new(&world).instance(instance).write();
    for text in [
        format!("{HOST} {ours}\n/no_sni/ {other} {other}\n"),
        format!("{HOST} {ours}\n"),
        format!("{HOST} {ours}\n* {other} {other}\n"),
    ] {
        named.with_hosts(&text);
        let next = named.stage.renew();
        named.stage.synced(&[], "deployed", 0);
        named.serves_by(HOST, &next);
        assert_eq!(named.status()["state"], "in_sync", "{text}");
    }
}

#[test]
fn another_hosts_pair_that_cannot_load_is_named_and_ours_waits_for_it() {
    let world = or_skip!(World::with_postgres(BY_NAME));
    let mut named = Named::new(&world);
    let (ours, (other_pair, other)) = (named.ours(), named.other("other.example.com"));
    let good = format!("{HOST} {ours}\nother.example.com {other} {other}\n");
    named.with_hosts(&good);
    let (stranger, _) = named.other("stranger.example.com");
    let weak = Options {
        key: KeyType::Rsa1024,
        ..Options::default()
    };
    let broken = [
        other_pair.leaf_pem.clone(),
        String::new(),
        stranger.leaf_pem.clone() + &other_pair.combined_pem(),
        // Only the server's OpenSSL knows that it takes no such key.
        named
            .stage
            .ca
            .issue_with(&["other.example.com"], &weak)
            .combined_pem(),
    ];
    let mut served = named.stage.first.fingerprint.clone();
    for text in broken {
        fs::write(&other, &text).unwrap();
        let next = named.stage.renew();
        let row = named.stage.synced(&[], "unverified", 1);
        says(&problem(&row), &[&other, "restart"]);
        let seen = named.status();
        assert_eq!(seen["state"], "not_served", "{seen}");
        let check = pgcertd(&world, &named.stage.config, &["check", "--json"]);
        assert_eq!(check.code(), 1, "{check:?}");
        let findings = check.json()["instances"][0]["findings"].clone();
        let findings = findings.as_array().unwrap();
        let restart = findings.iter().find(|finding| finding["id"] == "restart");
        let restart = restart.unwrap()["seen"].as_str().unwrap();
        says(restart, &["would not start", &other]);
        if !text.contains("PRIVATE KEY") || text.matches("CERTIFICATE").count() > 4 {
            for said in [&problem(&row), &problem(&seen), restart] {
                says(said, &[&named.line(2), &other, "mend"]);
            }
        }
        let peer = named.stage.cluster.peer_named(HOST).unwrap();
        assert_eq!(peer.fingerprint, served);
        let installed = fs::read_to_string(&named.stage.cert).unwrap();
        assert_eq!(installed, next.combined_pem());

        fs::write(&other, other_pair.combined_pem()).unwrap();
        named.stage.synced(&[], "deployed", 0);
        named.serves_by(HOST, &next);
        assert_eq!(named.status()["state"], "in_sync");
        served.clone_from(&next.fingerprint);
    }
    // The lines themselves, while a daemon watches, which hears of the edit that mends them.
    let daemon = named.stage.daemon();
    for line in [
        "stray.example.com\n",
        "include nowhere.conf\n",
        "* @nobody k\n",
    ] {
        named.write_hosts(&format!("{good}{line}"));
        let next = named.stage.renew();
        named
            .stage
            .becomes_and_says("not_served", &[&named.line(3), "restart"]);
        named.write_hosts(&good);
        named.serves_by(HOST, &next);
        named.stage.becomes("in_sync");
    }
    assert_eq!(daemon.stop().code(), Some(0));
}

/// Each has a lineage, files and names of its own; a reload of one loads the files of both.
#[test]
fn the_names_of_one_server_are_an_instance_each() {
    const SECOND: &str = "second";
    const SECOND_HOST: &str = "second.example.com";
    let world = or_skip!(World::with_postgres(BY_NAME));
    let mut named = Named::new(&world);
    let target = world.target(SECOND);
    let mut lineage = Lineage::new(&world, SECOND_HOST);
    let first = named.stage.ca.issue(&[SECOND_HOST]);
    lineage.renew(&first);
    world.place(&first, &target);
    let (ours, theirs) = (named.ours(), target.display());
    named.with_hosts(&format!("{HOST} {ours}\n{SECOND_HOST} {theirs} {theirs}\n"));
    let cluster = &named.stage.cluster;
    let names = |instance: Instance, host: &str| instance.set("server_names", vec![host]);
    named.stage.config = Config::new(&world)
        .watch("resync", "1h")
        .instance(names(Instance::for_cluster(cluster, HOST), HOST))
        .instance(names(
            Instance::new(SECOND, SECOND_HOST, cluster.data_directory()),
            SECOND_HOST,
        ))
        .write();
    let daemon = named.stage.daemon();
    for _ in 0..3 {
        let next = named.stage.ca.issue(&[SECOND_HOST]);
        lineage.renew(&next);
        let ours = named.stage.renew();
        named.serves_by(HOST, &ours);
        named.serves_by(SECOND_HOST, &next);
    }
    for name in [NAME, SECOND] {
        eventually_state(&world, &named.stage.config, name, "in_sync");
    }
    // What one is to blame for is not the other's: a name that is given away.
    named.with_hosts(&format!("{HOST} {ours}\n{SECOND_HOST} {ours}\n"));
    let ours = named.stage.renew();
    named.serves_by(HOST, &ours);
    eventually_state(&world, &named.stage.config, NAME, "in_sync");
    let seen = eventually_state(&world, &named.stage.config, SECOND, "not_used");
    says(&problem(&seen), &[&named.line(2), SECOND_HOST]);
    assert_eq!(daemon.stop().code(), Some(0));
}

/// A line of words that mean something, and of some that do not.
fn line() -> impl Strategy<Value = String> {
    let names = prop::sample::select(vec![
        "a.example",
        "A.EXAMPLE",
        "b.example",
        "a.example,b.example",
        "b.example , c.example",
        "\"a.example\"",
        "*",
        "\"*\"",
        "/no_sni/",
        "\"/no_sni/\"",
        "/No_SNI/",
        "*,a.example",
        "*.example",
        "a.example.",
        "127.0.0.1",
        "@names",
        "\"@names\"",
        "@star",
        "@nowhere",
        "\"\"",
        "a.example a.example",
        "\"a.exam\"ple",
        "all",
    ]);
    let pair = prop::sample::select(vec![
        "ONE ONE",
        "TWO TWO",
        "ONE \\\n ONE",
        "one.pem one.pem",
        "TWO",
        "ONE,TWO ONE",
    ]);
    let rest = prop::sample::select(vec![
        "",
        "",
        "",
        "",
        "",
        "",
        " # note",
        " \"\"",
        " CA",
        " CA \"true\" on",
        " CA echo t",
        " CA echo o",
        " CA echo 0 more",
    ]);
    let whole = prop::sample::select(vec![
        "",
        "# a.example ONE ONE",
        "include more.conf",
        "include_if_exists nowhere.conf",
        "include nowhere.conf",
        "include_dir more.d",
        "include empty.conf",
    ]);
    let line = (names, pair, rest).prop_map(|(names, pair, rest)| format!("{names} {pair}{rest}"));
    prop_oneof![4 => line, 1 => whole.prop_map(str::to_owned)]
}

/// Judged by the library and by the server: which files are refused as a whole, and what each name gets by the others.
#[test]
fn the_library_reads_random_lines_as_the_server_does() {
    let world = or_skip!(World::with_postgres(BY_NAME));
    let mut named = Named::new(&world);
    let data = named.stage.cluster.data_directory().to_owned();
    let (one, _) = named.other("one");
    let (two, file_two) = named.other("two");
    let owner = world.postgres();
    let beside = |name: &str, text: &str| {
        let file = data.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
        give(&file, owner, 0o600);
        file
    };
    let file_one = beside("one.pem", &one.combined_pem());
    let ca = beside("ca.pem", &named.stage.ca.root_pem());
    beside("names", "# those\na.example c.example\n\nd.example\n");
    beside("star", "*\n");
    beside("empty.conf", "\n");
    beside("more.conf", &format!("b.example {file_two} {file_two}\n"));
    beside("more.d/1.conf", "d.example one.pem one.pem\n");
    beside("more.d/no.txt", "nonsense\n");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let prober = Prober::new().unwrap();
    let address = Address {
        host: "127.0.0.1".into(),
        port: named.stage.cluster.port(),
    };
    let server = Ids {
        uid: owner.uid,
        gid: owner.gid,
    };
    let hosts = [
        "a.example",
        "b.example",
        "c.example",
        "d.example",
        "z.example",
    ];
    let mut names: Vec<AskedName> = hosts.map(AskedName::by_host).into();
    names.push(AskedName::Absent);
    let pairs = [
        (file_one.as_path(), &one.fingerprint),
        (std::path::Path::new(&file_two), &two.fingerprint),
    ];
    let mut before: Vec<Option<String>> = Vec::new();
    let mut runner = TestRunner::new(Runs::default());
    let files = prop::collection::vec(line(), 1..5);
    let (mut refused, mut taken) = (0, 0);
    for round in 0..48 {
        let text = files.new_tree(&mut runner).unwrap().current().join("\n") + "\n";
        let text = text
            .replace("ONE", file_one.to_str().unwrap())
            .replace("TWO", &file_two)
            .replace("CA", ca.to_str().unwrap());
        named.write_hosts(&text);
        let hosts = Hosts::read(&named.hosts_file(), &data, server);
        let mut faults: Vec<String> = hosts.faults_of_file().collect();
        faults.extend(hosts.faults_of_pairs(|_| false));
        let begun = named.stage.cluster.log().len();
        named.stage.cluster.reload_by_hand();
        let got: Vec<Option<String>> = names
            .iter()
            .map(|name| {
                let looked =
                    prober.look_for(&address, name, Opening::Request, Duration::from_secs(5));
                match runtime.block_on(looked) {
                    Ok(served) => Some(served.leaf.fingerprint().to_string()),
                    Err(error) if error.is_alert() => None,
                    Err(error) => panic!("{error}: {text}"),
                }
            })
            .collect();
        let log = named.stage.cluster.log()[begun..].to_owned();
        let is_refused = log.contains("SSL configuration was not reloaded");
        assert_eq!(!faults.is_empty(), is_refused, "{text}\n{faults:?}\n{log}");
        if is_refused {
            refused += 1;
            assert!(before.is_empty() || got == before, "{text}");
            continue;
        }
        taken += 1;
        let expected: Vec<Option<String>> = names
            .iter()
            .map(|name| {
                if hosts.is_empty() {
                    return Some(named.stage.first.fingerprint.clone());
                }
                let given = pairs.iter().find(|(file, _)| hosts.gives(name, file, file));
                given.map(|(_, fingerprint)| (*fingerprint).clone())
            })
            .collect();
        assert_eq!(got, expected, "{round}: {text}\n{log}");
        before = got;
    }
    println!("{refused} refused, {taken} taken");
    assert!(refused > 5 && taken > 5, "{refused} refused, {taken} taken");
}
