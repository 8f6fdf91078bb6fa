//! How ACME clients write: each is followed as it writes, and nothing half is ever installed.

use std::{
    fs,
    io::Write,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    stage::{HOST, Reader, Stage, eventually_both},
    world::{
        World,
        ca::{Issued, Options},
        config::{Config, Instance},
        daemon::Daemon,
        in_place::InPlace,
        throughout,
    },
};

/// Several times `debounce`: long enough for a half file to be taken by a program that would.
const A_WHILE: Duration = Duration::from_millis(700);

/// `files` of an instance.
fn named(instance: Instance, chain: &str, key: &str) -> Instance {
    let mut files = toml::Table::new();
    files.insert("chain".to_owned(), chain.into());
    files.insert("key".to_owned(), key.into());
    instance.set("files", files)
}

fn start(world: &World, instance: Instance) -> (Config, Daemon) {
    let config = Config::new(world).instance(instance).write();
    let daemon = Daemon::start(world, &config);
    eventually_both(world, &config, "in_sync", "at first");
    (config, daemon)
}

#[test]
fn files_that_acme_sh_writes_over_are_installed_whole_or_not_at_all() {
    let Some(world) = World::new() else { return };
    let stage = Stage::new(&world);
    let files = InPlace::new(&world, "acme.sh");
    files.renew(&stage.first);
    let (config, daemon) = start(&world, stage.instance(files.path()));
    let reader = Reader::of(&stage.target);

    let mut served = stage.first.clone();
    for _ in 0..3 {
        let next = stage.ca.issue(&[HOST]);
        files.renew(&next);
        stage.eventually_serves(&next, "a renewal at full speed");
        served = next;
    }

    // The same with a pause in the middle of each file. `fullchain.pem` is torn after its leaf,
    // where it looks whole; from another issuer, so that its length tells nothing.
    let options = Options {
        intermediates: 2,
        ..Options::default()
    };
    let slow = stage.ca.issue_with(&[HOST], &options);
    files.put("cert.pem", slow.leaf_pem.as_bytes());
    files.put("chain.pem", slow.chain_pem().as_bytes());
    let mut key = files.truncate("privkey.pem");
    throughout(A_WHILE, "the key is open and empty", || {
        stage.still(&served)
    });
    key.write_all(slow.key_pem.as_bytes()).unwrap();
    drop(key);
    throughout(A_WHILE, "the chain is still to come", || {
        stage.still(&served)
    });
    let mut chain = files.truncate("fullchain.pem");
    chain.write_all(slow.leaf_pem.as_bytes()).unwrap();
    throughout(A_WHILE, "the chain is cut after the leaf", || {
        stage.still(&served)
    });
    chain.write_all(slow.chain_pem().as_bytes()).unwrap();
    drop(chain);
    stage.eventually_serves(&slow, "all is written");
    assert_eq!(stage.cluster.peer().unwrap().certificates, 3);

    reader.saw_only_whole_files();
    eventually_both(&world, &config, "in_sync", "at the end");
    stage.ends_with(daemon, &slow);
}

/// What the kubelet keeps of a secret: files behind `..data`, which alone is moved.
struct Secret {
    directory: PathBuf,
    version: u32,
}

impl Secret {
    fn new(directory: PathBuf) -> Secret {
        for name in ["tls.crt", "tls.key"] {
            symlink(Path::new("..data").join(name), directory.join(name)).unwrap();
        }
        Secret {
            directory,
            version: 0,
        }
    }

    /// As the kubelet's `AtomicWriter` does.
    fn update(&mut self, issued: &Issued) {
        let name = |version: u32| format!("..2026_11_24_{version}");
        self.version += 1;
        let new = self.directory.join(name(self.version));
        fs::create_dir(&new).unwrap();
        fs::write(new.join("tls.crt"), issued.fullchain_pem()).unwrap();
        fs::write(new.join("tls.key"), &issued.key_pem).unwrap();
        let link = self.directory.join("..data_tmp");
        symlink(name(self.version), &link).unwrap();
        fs::rename(link, self.directory.join("..data")).unwrap();
        let old = self.directory.join(name(self.version - 1));
        if old.exists() {
            fs::remove_dir_all(old).unwrap();
        }
    }
}

#[test]
fn a_secret_whose_data_link_is_moved_is_deployed_each_time() {
    let Some(world) = World::new() else { return };
    let stage = Stage::new(&world);
    let mut secret = Secret::new(world.directory("secret"));
    secret.update(&stage.first);
    let (config, daemon) = start(&world, stage.instance(&secret.directory));
    let reader = Reader::of(&stage.target);
    let mut served = stage.first.clone();
    for _ in 0..3 {
        served = stage.ca.issue(&[HOST]);
        secret.update(&served);
        stage.eventually_serves(&served, "the secret was updated");
    }
    reader.saw_only_whole_files();
    eventually_both(&world, &config, "in_sync", "at the end");
    stage.ends_with(daemon, &served);
}

#[test]
fn links_that_dehydrated_renames_are_followed() {
    let Some(world) = World::new() else { return };
    let stage = Stage::new(&world);
    let directory = world.directory("dehydrated");
    let renew = |issued: &Issued, timestamp: u32| {
        let files = [
            ("privkey", issued.key_pem.clone()),
            ("chain", issued.chain_pem()),
            ("fullchain", issued.fullchain_pem()),
            ("cert", issued.leaf_pem.clone()),
        ];
        for (word, content) in &files {
            let file = directory.join(format!("{word}-{timestamp}.pem"));
            fs::write(file, content).unwrap();
        }
        for (word, _) in files {
            let beside = directory.join(format!("{word}.pem.new"));
            symlink(format!("{word}-{timestamp}.pem"), &beside).unwrap();
            fs::rename(beside, directory.join(format!("{word}.pem"))).unwrap();
        }
    };
    renew(&stage.first, 1);
    let (config, daemon) = start(&world, stage.instance(&directory));
    let reader = Reader::of(&stage.target);
    let mut served = stage.first.clone();
    for timestamp in 2..5 {
        served = stage.ca.issue(&[HOST]);
        renew(&served, timestamp);
        stage.eventually_serves(&served, "dehydrated has renewed");
    }
    reader.saw_only_whole_files();
    eventually_both(&world, &config, "in_sync", "at the end");
    stage.ends_with(daemon, &served);
}

#[test]
fn one_of_the_lineages_that_lego_keeps_in_one_directory_is_followed() {
    let Some(world) = World::new() else { return };
    let stage = Stage::new(&world);
    let files = InPlace::new(&world, "lego/certificates");
    let renew = |name: &str, issued: &Issued| {
        let suffixes = [
            (".crt", issued.fullchain_pem()),
            (".issuer.crt", issued.chain_pem()),
            (".key", issued.key_pem.clone()),
            (".json", "{}".to_owned()),
        ];
        for (suffix, content) in suffixes {
            files.put(&format!("{name}{suffix}"), content.as_bytes());
        }
    };
    renew(HOST, &stage.first);
    renew("www.example.com", &stage.ca.issue(&["www.example.com"]));
    let instance = stage.instance(files.path());
    let instance = named(instance, "pg.example.com.crt", "pg.example.com.key");
    let (config, daemon) = start(&world, instance);
    let reader = Reader::of(&stage.target);

    // A neighbour that is being written all the time holds nothing back.
    let neighbour = files.truncate("www.example.com.key");
    let second = stage.ca.issue(&[HOST]);
    renew(HOST, &second);
    stage.eventually_serves(&second, "lego has renewed");
    drop(neighbour);
    renew("www.example.com", &stage.ca.issue(&["www.example.com"]));
    stage.keeps(&second, "the neighbour was renewed");
    reader.saw_only_whole_files();
    eventually_both(&world, &config, "in_sync", "at the end");
    stage.ends_with(daemon, &second);
}

#[test]
fn a_source_of_one_combined_file_is_followed_written_over_and_renamed() {
    let Some(world) = World::new() else { return };
    let stage = Stage::new(&world);
    let files = InPlace::new(&world, "combined");
    files.put("pg.pem", stage.first.combined_pem().as_bytes());
    let instance = named(stage.instance(files.path()), "pg.pem", "pg.pem");
    let (config, daemon) = start(&world, instance);
    let reader = Reader::of(&stage.target);

    let second = stage.ca.issue(&[HOST]);
    files.swap("pg.pem", second.combined_pem().as_bytes());
    stage.eventually_serves(&second, "it was renamed into place");

    // The key first, as HAProxy's users do, and torn after it.
    let third = stage.ca.issue(&[HOST]);
    let mut file = files.truncate("pg.pem");
    file.write_all(third.key_pem.as_bytes()).unwrap();
    file.write_all(third.leaf_pem.as_bytes()).unwrap();
    throughout(A_WHILE, "the intermediate is still to come", || {
        stage.still(&second)
    });
    file.write_all(third.chain_pem().as_bytes()).unwrap();
    drop(file);
    stage.eventually_serves(&third, "it was written over");
    reader.saw_only_whole_files();
    eventually_both(&world, &config, "in_sync", "at the end");
    stage.ends_with(daemon, &third);
}
