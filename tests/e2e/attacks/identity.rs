//! Who owns a data directory, which program serves it and whose process it is: paths that an attacker bends.
//!
//! The tests play user postgres, who owns the data directory and its parent, and look at what root's commands then do.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink},
    path::{Path, PathBuf},
};

use crate::{
    stage::{HOST, NAME, Stage},
    world::{
        Owner, SOON, World,
        config::{Config, Instance, path},
        daemon::{Daemon, Launch, Outcome, pgcertd},
        eventually, give, on_one_line,
    },
};

const ROOT: Owner = Owner { uid: 0, gid: 0 };

/// The user of another service on the same host.
const OTHER: Owner = Owner {
    uid: 4242,
    gid: 4242,
};

/// A program that notes as whom it runs.
struct Tattler {
    program: PathBuf,
    report: PathBuf,
}

impl Tattler {
    fn in_directory(world: &World, directory: &Path) -> Self {
        let told = world.directory("told");
        fs::set_permissions(&told, fs::Permissions::from_mode(0o777)).unwrap();
        let (program, report) = (directory.join("postgres"), told.join("users"));
        let script = format!("#!/bin/sh\nid -u >>{}\n", report.display());
        fs::write(&program, script).unwrap();
        give(&program, world.postgres(), 0o755);
        Self { program, report }
    }

    /// As whom it ran, each user once.
    fn users(&self) -> Vec<String> {
        let told = fs::read_to_string(&self.report).unwrap_or_default();
        let mut users: Vec<String> = told.lines().map(str::to_owned).collect();
        users.sort();
        users.dedup();
        users
    }
}

/// What a data directory needs to look like one whose server last started as this program.
fn last_started(data: &Path, program: &Path, owner: Owner) {
    fs::write(data.join("PG_VERSION"), "15\n").unwrap();
    let options = data.join("postmaster.opts");
    fs::write(&options, format!("{} \"-D\" \"x\"\n", program.display())).unwrap();
    give(&options, owner, 0o644);
}

/// A link of this user's.
fn bend(target: &Path, link: &Path, owner: Owner) {
    symlink(target, link).unwrap();
    lchown(link, Some(owner.uid), Some(owner.gid)).unwrap();
}

/// The data directory's own files are set aside, so that something else can take its name.
fn set_aside(data: &Path) -> PathBuf {
    let aside = data.with_file_name("aside");
    fs::rename(data, &aside).unwrap();
    aside
}

/// What a command said, however its lines were broken.
fn in_one_line(outcome: &Outcome) -> String {
    let said = [outcome.stdout(), outcome.stderr()].concat();
    on_one_line(&said)
}

/// All of root's commands that look at an instance; the output of each.
fn all_commands(stage: &Stage<'_>) -> Vec<Outcome> {
    let commands: [&[&str]; 6] = [
        &["status"],
        &["check"],
        &["sync"],
        &["sync", "--force"],
        &["rollback", NAME],
        &["sessions", NAME],
    ];
    let ran = commands.map(|words| stage.pgcertd(words));
    for outcome in &ran {
        println!("{}{}", outcome.stdout(), outcome.stderr());
    }
    ran.into()
}

/// All commands end with a status that says so, and with these words.
#[track_caller]
fn all_refuse(stage: &Stage<'_>, tattler: &Tattler, words: &str) {
    // Postgres takes its own files away, which root without any capability could not read.
    let state = stage.cert.parent().unwrap();
    if state.exists() {
        fs::remove_dir_all(state).unwrap();
    }
    let ran = all_commands(stage);
    assert_eq!(tattler.users(), Vec::<String>::new());
    for outcome in ran {
        assert_ne!(outcome.code(), 0, "{outcome:?}");
        let said = in_one_line(&outcome);
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn a_data_directory_that_is_a_link_to_one_of_roots_has_nothing_run_as_root() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    stage.cluster.stop();
    let data = stage.cluster.data_directory().to_owned();
    let tattler = Tattler::in_directory(&world, &world.postgres_directory("bin", 0o755));
    // Root owns it, and everybody may write in it.
    let trap = world.directory("trap");
    fs::set_permissions(&trap, fs::Permissions::from_mode(0o1777)).unwrap();
    last_started(&trap, &tattler.program, world.postgres());
    set_aside(&data);
    bend(&trap, &data, world.postgres());
    all_refuse(&stage, &tattler, "symbolic link");
}

#[test]
fn a_link_in_the_middle_of_the_path_is_no_better() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    stage.cluster.stop();
    let data = stage.cluster.data_directory().to_owned();
    let tattler = Tattler::in_directory(&world, &world.postgres_directory("bin", 0o755));
    for (name, owner) in [("roots", ROOT), ("others", OTHER)] {
        let home = data.parent().unwrap();
        let aside = home.with_file_name("aside");
        fs::rename(home, &aside).unwrap();
        let trap = world.directory(name);
        let within = world.directory(&format!("{name}/data"));
        last_started(&within, &tattler.program, world.postgres());
        give(&within, owner, 0o755);
        give(&trap, owner, 0o755);
        give(home.parent().unwrap(), world.postgres(), 0o755);
        bend(&trap, home, world.postgres());
        all_refuse(&stage, &tattler, "decides where");
        fs::remove_file(home).unwrap();
        fs::rename(&aside, home).unwrap();
    }
}

#[test]
fn a_data_directory_of_roots_own_is_refused_without_any_link() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    stage.cluster.stop();
    let data = stage.cluster.data_directory().to_owned();
    let tattler = Tattler::in_directory(&world, &world.postgres_directory("bin", 0o755));
    set_aside(&data);
    fs::create_dir(&data).unwrap();
    give(&data, ROOT, 0o755);
    last_started(&data, &tattler.program, ROOT);
    all_refuse(&stage, &tattler, "belongs to root");
}

#[test]
fn a_program_that_others_could_have_put_there_is_not_run_and_named() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    stage.cluster.stop();
    let data = stage.cluster.data_directory().to_owned();
    let postgres = world.postgres();
    // The server's own user may choose its program: it runs as that user and as nobody else.
    let own = Tattler::in_directory(&world, &world.postgres_directory("own", 0o755));
    last_started(&data, &own.program, postgres);
    let told = stage.pgcertd(&["check"]);
    println!("{}", told.stdout());
    assert_eq!(own.users(), [postgres.uid.to_string()]);
    fs::remove_file(&own.report).unwrap();

    let open = world.directory("open");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    let in_open = Tattler::in_directory(&world, &open);
    let others = Tattler::in_directory(&world, &world.directory("others"));
    give(&others.program, OTHER, 0o755);
    let group = Tattler::in_directory(&world, &world.directory("group"));
    give(&group.program, postgres, 0o775);
    let linked = world.directory("linked");
    let through = linked.join("postgres");
    bend(&own.program, &through, OTHER);
    for program in [&in_open.program, &others.program, &group.program, &through] {
        last_started(&data, program, postgres);
        let told = stage.pgcertd(&["check"]);
        let said = in_one_line(&told);
        println!("{}", told.stdout());
        assert!(said.contains("could have replaced the program"), "{said}");
        assert_eq!(told.code(), 1);
    }
    assert_eq!(own.users(), Vec::<String>::new());
    // Options that are another user's say nothing at all.
    last_started(&data, &own.program, OTHER);
    stage.pgcertd(&["check"]);
    assert_eq!(own.users(), Vec::<String>::new());
}

/// Another service's data directory and state directory, with what must stay as it is.
struct Neighbour {
    data: PathBuf,
    state: PathBuf,
}

impl Neighbour {
    fn new(world: &World) -> Self {
        let neighbour = Self {
            data: world.directory("neighbour/data"),
            state: world.directory("neighbour/state"),
        };
        fs::write(neighbour.data.join("PG_VERSION"), "15\n").unwrap();
        fs::write(neighbour.target(), "the neighbour's own").unwrap();
        give(&neighbour.target(), OTHER, 0o600);
        give(&neighbour.data, OTHER, 0o700);
        give(&neighbour.state, OTHER, 0o750);
        neighbour
    }

    fn target(&self) -> PathBuf {
        self.state.join("server.pem")
    }

    #[track_caller]
    fn is_as_it_was(&self) {
        let text = fs::read_to_string(self.target()).unwrap();
        assert_eq!(text, "the neighbour's own");
        let names = fs::read_dir(&self.state).unwrap().count();
        assert_eq!(names, 1, "something was left in {}", self.state.display());
        for (directory, mode) in [(&self.data, 0o700), (&self.state, 0o750)] {
            let meta = fs::metadata(directory).unwrap();
            assert_eq!((meta.uid(), meta.mode() & 0o7777), (OTHER.uid, mode));
        }
    }
}

#[test]
fn roots_sync_writes_nothing_for_another_service_through_links_of_postgres() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    stage.cluster.stop();
    let neighbour = Neighbour::new(&world);
    let state = world.target(NAME).parent().unwrap().to_owned();
    let data = stage.cluster.data_directory().to_owned();

    // The state directory alone: what is in it is not the neighbour's to lose.
    fs::rename(&state, state.with_file_name("aside")).unwrap();
    bend(&neighbour.state, &state, world.postgres());
    all_commands(&stage);
    neighbour.is_as_it_was();
    // Both.
    set_aside(&data);
    bend(&neighbour.data, &data, world.postgres());
    all_commands(&stage);
    neighbour.is_as_it_was();
    // The directory above the state directory, too.
    fs::remove_file(&state).unwrap();
    let above = state.parent().unwrap();
    fs::rename(above, above.with_file_name("state-aside")).unwrap();
    fs::rename(&neighbour.state, neighbour.state.with_file_name(NAME)).unwrap();
    bend(neighbour.state.parent().unwrap(), above, world.postgres());
    all_commands(&stage);
    fs::rename(neighbour.state.with_file_name(NAME), &neighbour.state).unwrap();
    neighbour.is_as_it_was();
}

#[test]
fn root_does_not_give_away_a_state_directory_that_postgres_has_renamed() {
    let world = or_skip!(World::new());
    let stage = Stage::new(&world);
    // Another instance keeps its files for root alone.
    let roots = world.directory("state/roots");
    fs::write(roots.join("server.pem"), "a key for root").unwrap();
    give(&roots.join("server.pem"), ROOT, 0o600);
    give(&roots, ROOT, 0o750);
    // The directory above belongs to postgres, as the unit has it.
    let own = world.target(NAME).parent().unwrap().to_owned();
    fs::rename(&own, own.with_file_name("aside")).unwrap();
    fs::rename(&roots, &own).unwrap();
    let told = stage.pgcertd(&["sync"]);
    println!("{}{}", told.stdout(), told.stderr());
    assert_eq!(told.code(), 1);
    for path in [own.clone(), own.join("server.pem")] {
        assert_eq!(fs::metadata(&path).unwrap().uid(), 0, "{}", path.display());
    }
}

#[test]
fn below_a_directory_of_roots_own_a_state_directory_goes_back_to_the_servers_user() {
    let world = or_skip!(World::new());
    let stage = Stage::new(&world);
    let own = world.target(NAME).parent().unwrap().to_owned();
    give(own.parent().unwrap(), ROOT, 0o755);
    give(&own, ROOT, 0o750);
    give(&own.join("server.pem"), ROOT, 0o600);
    let told = stage.pgcertd(&["sync", "--force"]);
    assert_eq!(told.code(), 0, "{told:?}");
    assert_eq!(fs::metadata(&own).unwrap().uid(), world.postgres().uid);
}

#[test]
fn a_directory_that_takes_the_place_of_a_new_one_keeps_its_mode_and_its_owner() {
    let world = or_skip!(World::new());
    let stage = Stage::new(&world);
    let (open, victim) = (
        world.postgres_directory("open", 0o755),
        world.directory("victim"),
    );
    fs::write(victim.join("secret"), "").unwrap();
    fs::set_permissions(&victim, fs::Permissions::from_mode(0o700)).unwrap();
    let new = open.join("made");
    let text = stage.config.text();
    let usual = path(stage.config.state_directory()).to_string();
    let moved = path(&new.join("state")).to_string();
    stage.config.replace(&text.replacen(&usual, &moved, 1));
    // Each change of a mode comes late, so that postgres has the time to be faster than root.
    let slowly = Launch::new(&world).strace(&[
        "-e",
        "trace=chmod,fchmod,fchmodat,chown,fchown,fchownat",
        "-e",
        "inject=chmod,fchmod,fchmodat,chown,fchown,fchownat:delay_enter=100000",
    ]);
    let stopped = std::sync::atomic::AtomicBool::new(false);
    let (ran, swapped) = std::thread::scope(|scope| {
        let attacker = scope.spawn(|| {
            while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
                let is_there = fs::symlink_metadata(&new).is_ok_and(|meta| meta.is_dir());
                if is_there && fs::rename(&new, open.join("aside")).is_ok() {
                    bend(&victim, &new, world.postgres());
                    return true;
                }
                std::thread::yield_now();
            }
            false
        });
        let ran = slowly.run(&stage.config, &["sync", "--force"]);
        stopped.store(true, std::sync::atomic::Ordering::Relaxed);
        (ran, attacker.join().unwrap())
    });
    println!("{}{}", ran.stdout(), ran.stderr());
    assert!(swapped, "the attacker was never faster");
    let meta = fs::metadata(&victim).unwrap();
    assert_eq!((meta.uid(), meta.mode() & 0o7777), (0, 0o700));
    assert_eq!(fs::read_dir(&victim).unwrap().count(), 1);
}

#[test]
fn no_config_has_a_server_of_any_kind_looked_after_as_root() {
    let world = or_skip!(World::new());
    let ini = world.directory("pooler").join("pgbouncer.ini");
    fs::write(&ini, "[pgbouncer]\n").unwrap();
    for owner in [None, Some("root")] {
        let mut instance = Instance::of_pgbouncer("pooler", HOST, &ini);
        if let Some(owner) = owner {
            instance = instance.set("owner", owner);
        }
        let config = Config::new(&world).instance(instance).write();
        for words in [["sync"], ["check"]] {
            let told = pgcertd(&world, &config, &words);
            let said = in_one_line(&told);
            println!("{said}");
            assert_eq!(told.code(), 1);
            assert!(said.contains("belongs to root"), "{said}");
        }
    }
}

#[test]
fn no_metrics_go_where_a_link_of_postgres_leads() {
    let world = or_skip!(World::new());
    let stage = Stage::new(&world);
    let neighbour = Neighbour::new(&world);
    let link = world.postgres_directory("textfiles", 0o755).join("link");
    bend(&neighbour.state, &link, world.postgres());
    let config = Config::new(&world)
        .metrics("textfile", path(&link.join("pgcertd.prom")))
        .instance(Instance::for_cluster(&stage.cluster, HOST))
        .write();
    let daemon = Daemon::start(&world, &config);
    eventually(
        SOON,
        "the daemon writes its metrics, or says why not",
        || link.join("pgcertd.prom").exists() || daemon.log().contains("decides where"),
    );
    neighbour.is_as_it_was();
    assert_eq!(daemon.stop().code(), Some(0));
}
