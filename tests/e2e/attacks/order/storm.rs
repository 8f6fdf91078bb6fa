//! A lineage that moves on while somebody waits for the lock: nobody deploys what it held before. Each
//! command for itself; then two `sync` loops beside the daemon, a lineage that is renewed all the time, and
//! clients that never stop connecting.

use std::{
    collections::HashMap,
    fs,
    path::PathBuf,
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::channel,
    },
    thread,
    time::{Duration, Instant},
};

use notify::{
    EventKind, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use pgcertd::testing::{
    config::Address,
    server::probe::{Opening, Prober},
};

use crate::crashes::stage::{Files, Stage};
use crate::stage::HOST;
use crate::world::{
    SOON, World,
    ca::Issued,
    command,
    daemon::{Daemon, eventually_state, pgcertd},
    eventually,
    process::Process,
};

/// How long the storm lasts.
const STORM: Duration = Duration::from_secs(12);

/// The pause between two renewals.
const RENEWAL: Duration = Duration::from_millis(150);

/// Connects until `over`; gives how many connections were made, and what is wrong with them: those that began after
/// another had got a newer generation than they got.
fn connects(
    address: &Address,
    generations: &Mutex<HashMap<String, usize>>,
    newest: &AtomicUsize,
    over: &AtomicBool,
) -> (usize, Vec<String>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let prober = Prober::new().unwrap();
    let (mut made, mut wrong) = (0, Vec::new());
    while !over.load(Ordering::SeqCst) {
        let before = newest.load(Ordering::SeqCst);
        let look = prober.look(address, Opening::Request, SOON);
        let Ok(served) = runtime.block_on(look) else {
            continue;
        };
        made += 1;
        let leaf = served.leaf.fingerprint().to_string();
        let generation = generations.lock().unwrap()[&leaf];
        if generation < before {
            wrong.push(format!("{generation} after {before}"));
        }
        newest.fetch_max(generation, Ordering::SeqCst);
    }
    (made, wrong)
}

fn in_a_storm(files: Files) {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world, files);
    let daemon = Daemon::start(&world, &stage.config);
    eventually_state(&world, &stage.config, "16-main", "in_sync");
    let now = stage.now.fingerprint.clone();
    let generations = Arc::new(Mutex::new(HashMap::from([(now, 0)])));
    let (newest, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let address = Address {
        host: "127.0.0.1".into(),
        port: stage.cluster.port(),
    };
    let mut last = stage.now.clone();
    let crate::stage::Stage {
        ca,
        lineage,
        config,
        cluster,
        ..
    } = &mut *stage;
    let (config, cluster) = (&*config, &*cluster);
    let (made, wrong, syncs) = thread::scope(|scope| {
        let syncs: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut syncs = 0;
                    while !over.load(Ordering::SeqCst) {
                        pgcertd(&world, config, &["sync"]);
                        syncs += 1;
                    }
                    syncs
                })
            })
            .collect();
        let clients: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| connects(&address, &generations, &newest, &over)))
            .collect();
        let began = Instant::now();
        let mut generation = 0;
        while began.elapsed() < STORM {
            generation += 1;
            last = ca.issue(&[HOST]);
            generations
                .lock()
                .unwrap()
                .insert(last.fingerprint.clone(), generation);
            lineage.renew(&last);
            thread::sleep(RENEWAL);
        }
        eventually(SOON, "the last one is served", || {
            cluster.served() == last.fingerprint
        });
        over.store(true, Ordering::SeqCst);
        let syncs: usize = syncs.into_iter().map(|sync| sync.join().unwrap()).sum();
        let (mut made, mut wrong) = (0, Vec::new());
        for client in clients {
            let (connections, faults) = client.join().unwrap();
            made += connections;
            wrong.extend(faults);
        }
        (made, wrong, syncs)
    });
    println!(
        "{} renewals, {syncs} syncs, {made} connections, {} of them back in time",
        stage.lineage.generation(),
        wrong.len()
    );
    assert_eq!(wrong, Vec::<String>::new());
    assert!(made > 100, "{made} connections tell too little");
    assert_eq!(stage.cluster.served(), last.fingerprint);
    assert_eq!(daemon.stop().code(), Some(0));
    stage.cluster.restart().unwrap();
}

#[test]
fn no_client_gets_an_older_certificate_than_another_got_before_it() {
    in_a_storm(Files::One);
}

/// What any pgcertd has ever locked.
fn locked(stage: &Stage<'_>) -> [PathBuf; 2] {
    let data = stage.cluster.data_directory().to_owned();
    [data, stage.state.join("lock")]
}

/// Holds all of it, until it is dropped.
fn busy(stage: &Stage<'_>) -> Vec<Process> {
    let hold = |path: PathBuf| {
        let mut flock = command("flock");
        let holder = Process::spawn(flock.arg("--no-fork").arg(&path).args(["sleep", "600"]));
        let comm = format!("/proc/{}/comm", holder.pid());
        // What it runs comes after the lock.
        eventually(SOON, "it is locked", || {
            fs::read_to_string(&comm).is_ok_and(|comm| comm.trim() == "sleep")
        });
        holder
    };
    locked(stage).map(hold).into()
}

/// Waits until somebody has opened what is locked so often as only he does who waits for it: 20 times a second.
fn somebody_waits(stage: &Stage<'_>) {
    let (tell, told) = channel();
    let mut watcher = notify::recommended_watcher(tell).unwrap();
    for path in locked(stage) {
        watcher.watch(&path, RecursiveMode::NonRecursive).unwrap();
    }
    let opened = EventKind::Access(AccessKind::Open(AccessMode::Any));
    let paths = locked(stage);
    let mut opens = 0;
    while opens < 20 {
        let event = told.recv_timeout(SOON).unwrap().unwrap();
        if event.kind == opened && event.paths.iter().any(|path| paths.contains(path)) {
            opens += 1;
        }
    }
}

/// Starts a command, has the lineage renewed while that waits for the lock, and lets it go on.
fn overtaken(stage: &mut Stage<'_>, args: &[&str]) -> (Issued, i32) {
    let held = busy(stage);
    let mut waiting = Process::spawn(
        command(env!("CARGO_BIN_EXE_pgcertd"))
            .args(args)
            .arg("--config")
            .arg(stage.config.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    );
    somebody_waits(stage);
    let newest = stage.renew();
    drop(held);
    let ended = waiting.wait(SOON).unwrap();
    (newest, ended.code().unwrap_or(-1))
}

#[test]
fn a_sync_that_waited_for_the_lock_deploys_what_the_lineage_holds_by_then() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world, Files::One);
    stage.renew();
    let (newest, code) = overtaken(&mut stage, &["sync"]);
    assert_eq!(stage.cluster.served(), newest.fingerprint);
    assert_eq!(code, 0);
    // What is forced is no other.
    stage.renew();
    let (newest, code) = overtaken(&mut stage, &["sync", "--force"]);
    assert_eq!(stage.cluster.served(), newest.fingerprint);
    assert_eq!(code, 0);
}

#[test]
fn a_rollback_that_waited_for_the_lock_holds_what_the_lineage_holds_by_then() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world, Files::Two);
    let (newest, code) = overtaken(&mut stage, &["rollback", "16-main"]);
    assert_eq!(code, 0);
    let held = stage.held();
    assert!(held.contains(&newest.fingerprint), "{held}");
    assert_ne!(stage.cluster.served(), stage.now.fingerprint);
    // So that nobody deploys it as if nothing had been said.
    let done = stage.pgcertd(&["sync", "--json"]);
    assert_eq!(done.instance("16-main")["outcome"], "refused");
}

#[test]
fn a_daemon_that_waited_for_the_lock_deploys_what_the_lineage_holds_by_then() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world, Files::One);
    let daemon = Daemon::start(&world, &stage.config);
    eventually_state(&world, &stage.config, "16-main", "in_sync");
    let held = busy(&stage);
    let passed = stage.renew();
    somebody_waits(&stage);
    let newest = stage.renew();
    drop(held);
    eventually(SOON, "it is served", || {
        stage.cluster.served() == newest.fingerprint
    });
    let line = format!("{} deployed and served", &newest.fingerprint[..6]);
    daemon.wait_for_log(&line);
    let log = daemon.log();
    assert!(
        !log.contains(&format!("{} deployed", &passed.fingerprint[..6])),
        "{log}"
    );
    assert_eq!(daemon.stop().code(), Some(0));
}
