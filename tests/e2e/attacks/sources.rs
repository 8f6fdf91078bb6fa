//! What the writer of a lineage could not read never passes, and nothing but files is opened where others write.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt, chown, lchown, symlink},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use rustix::fs::{CWD, FileType, Mode, RenameFlags};

use crate::{
    stage::{HOST, NAME, Stage, says},
    world::{
        Owner, SOON, World,
        ca::Issued,
        config::{Config, Instance},
        daemon::{Daemon, Launch, eventually_state, pgcertd},
        eventually, give,
    },
};

const ROOT: Owner = Owner { uid: 0, gid: 0 };

/// A server whose lineage the user postgres may write, and a key of another service that only root may read: its
/// certificate is good for the server too.
struct Scene<'w> {
    stage: Stage<'w>,
    lineage: PathBuf,
    other: Issued,
}

impl<'w> Scene<'w> {
    fn new(world: &'w World) -> Self {
        let lineage = world.postgres_directory("theirs", 0o755);
        let stage = Stage::build(world).files(&lineage).start();
        let other = stage.ca.issue(&[HOST]);
        let closed = world.directory("other");
        for (name, text, mode) in [
            ("fullchain.pem", other.fullchain_pem(), 0o644),
            ("privkey.pem", other.key_pem.clone(), 0o600),
        ] {
            fs::write(closed.join(name), text).unwrap();
            give(&closed.join(name), ROOT, mode);
        }
        let scene = Scene {
            stage,
            lineage,
            other,
        };
        scene.own(world, &scene.stage.first);
        scene
    }

    /// Files of postgres's, as its ACME client would leave them.
    fn own(&self, world: &World, issued: &Issued) {
        for (name, text) in [
            ("fullchain.pem", issued.fullchain_pem()),
            ("privkey.pem", issued.key_pem.clone()),
        ] {
            let new = self.lineage.join("new");
            fs::write(&new, text).unwrap();
            give(&new, world.postgres(), 0o600);
            fs::rename(new, self.lineage.join(name)).unwrap();
        }
    }

    /// Takes a name away, and gives its path.
    fn free(&self, name: &str) -> PathBuf {
        let path = self.lineage.join(name);
        fs::remove_file(&path).unwrap();
        path
    }

    fn public_chain(&self, world: &World) {
        let path = self.free("fullchain.pem");
        fs::write(&path, self.other.fullchain_pem()).unwrap();
        give(&path, world.postgres(), 0o644);
    }

    /// No file below the state directory has a line of the other service's key.
    fn keeps_its_own(&self, what: &str) {
        self.stage.keeps(&self.stage.first);
        let line = self.other.key_pem.lines().nth(1).unwrap();
        for entry in fs::read_dir(self.stage.cert.parent().unwrap()).unwrap() {
            let path = entry.unwrap().path();
            let text = fs::read(&path).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            assert!(!text.contains(line), "{what}: {}", path.display());
        }
    }
}

#[test]
fn a_link_of_the_lineages_writer_to_a_key_of_roots_is_refused_by_daemon_and_root() {
    let world = or_skip!(World::new());
    let scene = Scene::new(&world);
    let daemon = scene.stage.unit();
    eventually_state(&world, &scene.stage.config, NAME, "in_sync");

    scene.public_chain(&world);
    let link = scene.free("privkey.pem");
    symlink("../other/privkey.pem", &link).unwrap();
    let owner = world.postgres();
    lchown(&link, Some(owner.uid), Some(owner.gid)).unwrap();

    let problem = scene.stage.both_say("source_invalid");
    let file = world.path().join("other/privkey.pem");
    let words = [file.to_str().unwrap(), "user postgres", "belongs to root"];
    says(&problem, &words);
    let forced = scene.stage.pgcertd(&["sync", "--force", "--json"]);
    assert_eq!(forced.code(), 1);
    scene.keeps_its_own("after a forced sync as root");

    // Its own files in their place are taken, for daemon and root alike.
    let next = scene.stage.ca.issue(&[HOST]);
    scene.own(&world, &next);
    scene.stage.serves(&next);
    eventually_state(&world, &scene.stage.config, NAME, "in_sync");
    scene.stage.ends(daemon, &next);
}

#[test]
fn no_other_way_of_the_writer_to_a_key_of_roots_is_taken() {
    let world = or_skip!(World::new());
    type Plant = fn(&World, &Scene) -> Option<PathBuf>;
    let ways: [(&str, &str, Plant); 6] = [
        ("a hard link", "owns the directory", |world, scene| {
            let key = world.path().join("other/privkey.pem");
            fs::hard_link(key, scene.free("privkey.pem")).unwrap();
            None
        }),
        (
            "a file of root's that was moved there",
            "owns the directory",
            |_, scene| {
                let path = scene.free("privkey.pem");
                fs::write(&path, &scene.other.key_pem).unwrap();
                give(&path, ROOT, 0o600);
                None
            },
        ),
        (
            "a link of root's in a directory of postgres's",
            "owns the directory",
            |_, scene| {
                symlink("../other/privkey.pem", scene.free("privkey.pem")).unwrap();
                None
            },
        ),
        (
            "the lineage is a link of postgres's",
            "owns the link",
            |world, _| {
                fs::set_permissions(world.path().join("other"), PermissionsExt::from_mode(0o700))
                    .unwrap();
                let link = world.path().join("led");
                symlink("other", &link).unwrap();
                lchown(&link, Some(world.postgres().uid), None).unwrap();
                Some(link)
            },
        ),
        (
            "a directory of root's below one of postgres's",
            "owns the directory",
            |world, _| {
                let home = world.postgres_directory("home", 0o755);
                fs::rename(world.path().join("other"), home.join("moved")).unwrap();
                Some(home.join("moved"))
            },
        ),
        (
            "a directory that every user can write to",
            "every user can write to",
            |world, _| {
                let open = world.directory("open");
                give(&open, ROOT, 0o777);
                fs::rename(world.path().join("other"), open.join("moved")).unwrap();
                Some(open.join("moved"))
            },
        ),
    ];
    for (what, word, plant) in ways {
        let world = or_skip!(World::new());
        let mut scene = Scene::new(&world);
        scene.public_chain(&world);
        if let Some(lineage) = plant(&world, &scene) {
            scene.stage.config = Config::new(&world)
                .instance(scene.stage.instance(&lineage))
                .write();
        }
        let done = scene.stage.pgcertd(&["sync", "--json"]);
        let instance = done.instance(NAME);
        let problem = instance["problem"].as_str().unwrap_or_default();
        says(problem, &[word, "could not read it without pgcertd"]);
        scene.keeps_its_own(what);
    }
    drop(world);
}

#[test]
fn a_ca_file_that_the_lineages_writer_links_to_is_judged_as_the_key_is() {
    let world = or_skip!(World::new());
    let scene = Scene::new(&world);
    let link = scene.lineage.join("ca.pem");
    symlink("../other/privkey.pem", &link).unwrap();
    chown(&scene.lineage, Some(world.postgres().uid), None).unwrap();
    lchown(&link, Some(world.postgres().uid), None).unwrap();
    let instance: Instance = scene
        .stage
        .instance(&scene.lineage)
        .set("ca_source", "ca.pem");
    let config = Config::new(&world).instance(instance).write();
    let seen = eventually_state(&world, &config, NAME, "source_invalid");
    let problem = seen["problem"].as_str().unwrap();
    says(problem, &["could not read it without pgcertd"]);
    scene.keeps_its_own("a CA file");
}

#[test]
fn setup_shows_no_lineage_whose_chain_its_writer_could_not_read() {
    let world = or_skip!(World::new());
    let scene = Scene::new(&world);
    fs::set_permissions(world.path().join("other"), PermissionsExt::from_mode(0o700)).unwrap();
    fs::remove_dir_all(world.path().join("letsencrypt")).unwrap();
    let live = world.directory("letsencrypt/live");
    let theirs = live.join("theirs");
    fs::rename(&scene.lineage, &theirs).unwrap();
    let chain = theirs.join("fullchain.pem");
    fs::remove_file(&chain).unwrap();
    symlink("../../../other/fullchain.pem", &chain).unwrap();
    lchown(&chain, Some(world.postgres().uid), None).unwrap();
    let config = Config::new(&world).write();
    let data = scene.stage.cluster.data_directory().to_str().unwrap();
    let done = pgcertd(
        &world,
        &config,
        &["setup", "--dry-run", "--data-directory", data],
    );
    assert_ne!(done.code(), 0, "{}", done.stdout());
    let words = ["user postgres", "could not read it without pgcertd"];
    says(done.stderr(), &words);
}

#[test]
fn check_names_who_may_change_a_lineage() {
    let world = or_skip!(World::new());
    let scene = Scene::new(&world);
    let of = |config: &Config| {
        let done = pgcertd(&world, config, &["check", "--json"]);
        let json = done.json();
        let findings = json["instances"][0]["findings"].as_array().unwrap().clone();
        let mut found = findings
            .iter()
            .filter(|finding| finding["id"] == "lineage_writers");
        let found = found.next().unwrap_or_else(|| panic!("{json}")).clone();
        let seen = found["seen"].as_str().unwrap().to_owned();
        (found["weight"].as_str().unwrap().to_owned(), seen)
    };
    let (weight, seen) = of(&scene.stage.config);
    assert_eq!(weight, "notice", "{seen}");
    says(&seen, &["user postgres owns the directory"]);

    let config = Config::new(&world)
        .instance(scene.stage.instance(HOST))
        .write();
    let (weight, seen) = of(&config);
    assert_eq!(
        (&*weight, seen.contains("only root")),
        ("good", true),
        "{seen}"
    );

    fs::set_permissions(
        world.path().join("letsencrypt"),
        PermissionsExt::from_mode(0o777),
    )
    .unwrap();
    let (weight, seen) = of(&config);
    assert_eq!(weight, "problem", "{seen}");
    says(&seen, &["every user can write to"]);
}

/// A device that swallows everything, in the world's own directory.
fn device(world: &World) -> PathBuf {
    let path = world.path().join("device");
    let null = rustix::fs::makedev(1, 3);
    rustix::fs::mknodat(
        CWD,
        &path,
        FileType::CharacterDevice,
        Mode::from_raw_mode(0o666),
        null,
    )
    .unwrap();
    path
}

/// The lines in which something opened the device, and did more than hold it.
fn openings(world: &World, device: &Path) -> Vec<String> {
    let log = world.path().join("strace.log");
    let text = eventually(SOON, "strace has written all", || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        text.contains("+++ exited with").then_some(text)
    });
    // A call that another thread's comes into is told on two lines; the first has its flags.
    let mut begun: BTreeMap<&str, &str> = BTreeMap::new();
    let mut whole = Vec::new();
    for line in text.lines() {
        let (pid, call) = line.split_once(' ').unwrap_or_default();
        match (call.contains("<unfinished"), call.contains(" resumed>")) {
            (true, _) => drop(begun.insert(pid, call)),
            (_, true) => whole.push(format!("{}{call}", begun.remove(pid).unwrap_or_default())),
            _ => whole.push(call.to_owned()),
        }
    }
    let shown = format!("<{}", device.display());
    whole.retain(|call| call.contains(&shown) && call.contains("open") && !call.contains("O_PATH"));
    whole
}

const OPENINGS: [&str; 4] = ["-y", "-e", "trace=open,openat,openat2", "-s256"];

#[test]
fn a_writer_who_swaps_file_and_device_never_has_the_device_opened() {
    let world = or_skip!(World::new());
    let scene = Scene::new(&world);
    let device = device(&world);
    let trap = scene.lineage.join("trap");
    symlink(&device, &trap).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let swapping = {
        let (stop, chain) = (Arc::clone(&stop), scene.lineage.join("fullchain.pem"));
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                rustix::fs::renameat_with(CWD, &chain, CWD, &trap, RenameFlags::EXCHANGE).unwrap();
            }
        })
    };
    // What is opened comes a moment later than it would, so that the file may be another by then.
    let late = ["-e", "inject=open,openat,openat2:delay_enter=1000"];
    let launch = Launch::new(&world).strace(&[&OPENINGS[..], &late].concat());
    // While the files keep changing they are read again and again, for half a minute.
    launch.run(&scene.stage.config, &["status", "--json"]);
    let opened = openings(&world, &device);
    stop.store(true, Ordering::Relaxed);
    swapping.join().unwrap();
    assert!(opened.is_empty(), "{opened:#?}");
}

#[test]
fn a_device_that_a_users_files_lead_to_is_not_opened_by_roots_check() {
    let world = or_skip!(World::new());
    let scene = Scene::new(&world);
    let device = device(&world);
    let home = world.directory("home/mallory");
    for file in [
        ".config/letsencrypt/cli.ini",
        ".config/letsencrypt/renewal/a.conf",
        ".config/letsencrypt/renewal-hooks/deploy/hook",
        ".acme.sh/account.conf",
        ".acme.sh/a/a.conf",
    ] {
        let path = home.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(&device, &path).unwrap();
    }
    let passwd = world.path().join("passwd");
    let text = fs::read_to_string("/etc/passwd").unwrap();
    let line = format!("mallory:x:70001:70001::{}:/bin/sh\n", home.display());
    fs::write(&passwd, text + &line).unwrap();
    let launch = Launch::new(&world)
        .strace(&OPENINGS)
        .mounted(&passwd, Path::new("/etc/passwd"));
    launch.run(&scene.stage.config, &["check", "--json"]);
    let log = fs::read_to_string(world.path().join("strace.log")).unwrap();
    assert!(log.contains("cli.ini"), "the file was not looked at");
    assert_eq!(openings(&world, &device), Vec::<String>::new());
}

#[test]
fn a_version_file_that_leads_to_a_device_is_not_opened_by_roots_check() {
    let world = or_skip!(World::new());
    let scene = Scene::new(&world);
    let mut other = crate::world::cluster::Cluster::build(&world)
        .name("other")
        .start();
    let device = device(&world);
    let version = other.data_directory().join("PG_VERSION");
    fs::remove_file(&version).unwrap();
    symlink(&device, &version).unwrap();
    let launch = Launch::new(&world).strace(&OPENINGS);
    launch.run(&scene.stage.config, &["check", "--json"]);
    assert_eq!(openings(&world, &device), Vec::<String>::new());
    fs::remove_file(&version).unwrap();
    other.stop();
}

#[test]
fn what_a_container_mounts_as_a_secret_is_read() {
    let world = or_skip!(World::new());
    let scene = Scene::new(&world);
    // As Kubernetes does: a directory that everybody may write in, sticky, and links of root's.
    let secret = world.directory("secret");
    fs::create_dir(secret.join("..2026")).unwrap();
    let next = scene.stage.ca.issue(&[HOST]);
    for (name, text) in [
        ("tls.crt", next.fullchain_pem()),
        ("tls.key", next.key_pem.clone()),
    ] {
        let file = secret.join("..2026").join(name);
        fs::write(&file, text).unwrap();
        give(&file, ROOT, 0o600);
        symlink(format!("..data/{name}"), secret.join(name)).unwrap();
    }
    symlink("..2026", secret.join("..data")).unwrap();
    give(&secret, ROOT, 0o1777);
    let config = Config::new(&world)
        .instance(scene.stage.instance(&secret))
        .write();
    let daemon: Daemon = {
        let mut daemon = Launch::new(&world).like_the_unit().daemon(&config);
        daemon.ready();
        daemon
    };
    scene.stage.serves(&next);
    scene.stage.ends(daemon, &next);
}
