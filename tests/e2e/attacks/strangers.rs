//! Users of the host for whom pgcertd does nothing: their servers get no key, and they reach no process of root's.

use std::{fs, os::unix::process::CommandExt};

use serde_json::Value;

use crate::{
    setup::bench::{Bench, HOST},
    world::{
        SOON, World,
        ca::Ca,
        cluster::Cluster,
        command,
        config::Config,
        daemon::Launch,
        lineage::Lineage,
        process::{Done, Process, run},
    },
};

/// A user who may start a PostgreSQL of his own.
const STRANGER: &str = "nobody";

/// Runs a line of shell where these servers run and no others, each by its user; `$PGCERTD` is the program, `$CONFIG`
/// the config.
fn alone(servers: &[(&str, &Cluster)], config: &Config, line: &str) -> Done {
    let starts: String = servers
        .iter()
        .map(|(user, cluster)| {
            let data = cluster.data_directory().display();
            let postgres = cluster.program("postgres");
            format!(
                "setpriv --reuid={user} --regid=$(id -g {user}) --clear-groups {} -D {data} 2>/dev/null &\n\
                 until grep -q ready {data}/postmaster.pid 2>/dev/null; do sleep 0.05; done\n",
                postgres.display()
            )
        })
        .collect();
    let script = format!("{starts}{line}\ncode=$?\nkill -INT $(jobs -p)\nwait\nexit $code");
    let mut unshare = command("unshare");
    unshare
        .args([
            "--pid",
            "--fork",
            "--mount-proc",
            "--kill-child",
            "bash",
            "-c",
            &script,
        ])
        .env("PGCERTD", env!("CARGO_BIN_EXE_pgcertd"))
        .env("CONFIG", config.path())
        .process_group(0);
    let done = run(&mut unshare, SOON * 3);
    println!(
        "--- {line}: {}\n{}{}",
        done.code(),
        done.stdout,
        done.stderr
    );
    done
}

/// A server of the stranger's that does not run yet, on a pair that is good for clients.
fn theirs(world: &World, name: &str) -> Cluster {
    Cluster::build(world).name(name).create()
}

fn installed(world: &World, key: &str) -> bool {
    let line = key.lines().nth(1).unwrap().to_owned();
    let found = run(
        command("grep")
            .args(["-rlF", "-e", &line])
            .arg(world.path()),
        SOON,
    );
    !found.stdout.is_empty()
}

#[test]
fn setup_that_is_not_asked_gives_a_strangers_server_nothing() {
    let world = or_skip!(World::new());
    let strange = or_skip!(World::of_user(STRANGER));
    let mut bench = Bench::new(&world);
    let before = bench.sight();
    bench.cluster.stop();
    let theirs = theirs(&strange, "theirs");
    let data = theirs.data_directory().to_str().unwrap();

    // Postgres's own server is down: the stranger's is the only one.
    for flags in [
        "--yes",
        "--dry-run",
        "--print",
        "--yes --json",
        "--yes --instance new",
    ] {
        let line = format!("$PGCERTD setup {flags} --config $CONFIG");
        let done = alone(&[(STRANGER, &theirs)], &bench.config, &line);
        assert_eq!(done.code(), 2, "{flags}");
        let told = done.stdout + &done.stderr;
        for word in [data, "user nobody", "postgres"] {
            assert!(told.contains(word), "{flags}: {word}: {told}");
        }
    }
    bench.cluster.start().unwrap();
    bench.sight().is(&before, "nothing was done");
    assert!(!installed(&strange, &bench.issued.key_pem));
}

#[test]
fn of_a_server_of_postgres_and_a_strangers_the_first_is_set_up_in_silence() {
    let world = or_skip!(World::new());
    let strange = or_skip!(World::of_user(STRANGER));
    let mut bench = Bench::new(&world);
    bench.cluster.stop();
    // It was there first, and shows a certificate for another lineage: that steers nothing.
    let other = bench.ca.issue(&["billing.example.com"]);
    Lineage::new(&world, "billing.example.com").renew(&other);
    let theirs = theirs(&strange, "theirs");
    let servers = [(STRANGER, &theirs), ("postgres", &bench.cluster)];
    let line = format!(
        "$PGCERTD setup --yes --lineage {HOST} --config $CONFIG && $PGCERTD setup --yes --config $CONFIG"
    );
    let done = alone(&servers, &bench.config, &line);
    assert_eq!(done.code(), 0);
    assert!(done.stdout.contains("user  postgres"), "{}", done.stdout);
    // Run again, as a play does: the stranger's is named and left alone.
    let data = theirs.data_directory().to_str().unwrap();
    assert!(done.stdout.contains("Every server"), "{}", done.stdout);
    let squeezed: String = done.stdout.split_whitespace().collect();
    assert!(squeezed.contains(data), "{}", done.stdout);
    assert!(!installed(&strange, &bench.issued.key_pem));
    assert!(!installed(&strange, &other.key_pem));
    bench.cluster.start().unwrap();
    bench.verified();
}

#[test]
fn a_person_is_shown_whose_server_it_is_and_a_named_one_is_set_up() {
    let world = or_skip!(World::new());
    let strange = or_skip!(World::of_user(STRANGER));
    let mut bench = Bench::new(&world);
    bench.cluster.stop();
    let theirs = theirs(&strange, "theirs");
    let data = theirs.data_directory().display().to_string();
    // Nothing typed chooses nothing, also where there is one alone.
    let line = "printf '\\n' | script --quiet --return --command \"$PGCERTD setup --config $CONFIG\" /dev/null";
    let done = alone(&[(STRANGER, &theirs)], &bench.config, line);
    assert_eq!(done.code(), 1);
    let squeezed: String = done.stdout.split_whitespace().collect();
    assert!(
        squeezed.contains(&data) && squeezed.contains("ofusernobody"),
        "{}",
        done.stdout
    );
    // Who names it means it, and sees whose it is.
    let line = format!("$PGCERTD setup --dry-run --json --data-directory {data} --config $CONFIG");
    let done = alone(&[(STRANGER, &theirs)], &bench.config, &line);
    assert_eq!(done.code(), 0);
    let document: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(document["user"], STRANGER);
}

#[test]
fn what_a_named_strangers_server_shows_does_not_choose_its_lineage() {
    let world = or_skip!(World::new());
    let strange = or_skip!(World::of_user(STRANGER));
    let mut bench = Bench::new(&world);
    bench.cluster.stop();
    let wanted = bench.ca.issue(&["billing.example.com"]);
    Lineage::new(&world, "billing.example.com").renew(&wanted);
    // It serves the names of that lineage, by a certificate of its own making.
    let own = Ca::new(&strange, "Own Root").issue(&["billing.example.com"]);
    let file = strange.path().join("own.pem");
    fs::write(&file, own.combined_pem()).unwrap();
    crate::world::give(&file, strange.postgres(), 0o600);
    let theirs = Cluster::build(&strange).name("theirs").tls(&file).create();
    let data = theirs.data_directory().display();
    let line = format!("$PGCERTD setup --yes --data-directory {data} --config $CONFIG");
    let done = alone(&[(STRANGER, &theirs)], &bench.config, &line);
    assert_eq!(done.code(), 2, "which lineage has to be said");
    assert!(
        done.stderr.contains("--lineage billing.example.com"),
        "{}",
        done.stderr
    );
    assert!(!installed(&strange, &wanted.key_pem));
}

#[test]
fn a_data_directory_of_roots_is_given_nothing() {
    let world = or_skip!(World::new());
    let bench = Bench::new(&world);
    let data = world.directory("of-root");
    fs::write(data.join("postmaster.pid"), "1\n").unwrap();
    let data = data.to_str().unwrap();
    let arguments = ["setup", "--yes", "--data-directory", data];
    let done = Launch::new(&world).run(&bench.config, &arguments);
    assert_eq!(done.code(), 1);
    assert!(
        done.stderr().contains("belongs to root"),
        "{}",
        done.stderr()
    );
}

#[test]
fn check_and_status_name_the_user_of_a_server_that_nothing_covers() {
    let world = or_skip!(World::new());
    let strange = or_skip!(World::of_user(STRANGER));
    let bench = Bench::new(&world);
    let theirs = Cluster::build(&strange).name("theirs").start();
    let data = theirs.data_directory().to_str().unwrap();
    let done = Launch::new(&world).run(&bench.config, &["check", "--json"]);
    let json = done.json();
    let host = json["host"].as_array().unwrap();
    let mut found = host.iter().filter(|finding| finding["id"] == "uncovered");
    let found = found
        .find(|finding| finding["seen"].as_str().unwrap().contains(data))
        .unwrap();
    assert!(
        found["seen"].as_str().unwrap().contains("user nobody"),
        "{found}"
    );
    let mend = found["mend"]["sentence"].as_str().unwrap();
    assert!(
        mend.contains("user nobody") && !mend.contains("--yes"),
        "{mend}"
    );
    let shown = Launch::new(&world).run(&bench.config, &["status"]);
    assert!(shown.stdout().contains("user nobody"), "{}", shown.stdout());
}

#[test]
fn a_strangers_silent_socket_puts_no_process_of_roots_into_his_hands() {
    let world = or_skip!(World::new());
    let strange = or_skip!(World::of_user(STRANGER));
    let bench = Bench::new(&world);
    let mut theirs = Cluster::build(&strange).name("theirs").start();
    theirs.freeze();
    let mut setup = command(env!("CARGO_BIN_EXE_pgcertd"));
    setup
        .args(["setup", "--dry-run", "--lineage", HOST, "--data-directory"])
        .arg(theirs.data_directory())
        .arg("--config")
        .arg(bench.config.path());
    let mut setup = Process::spawn(&mut setup);
    // He tries each thread of the process, over and over, for as long as it is there.
    let tries = "n=0; while [ -d /proc/$1 ]; do for t in /proc/$1/task/*; do \
                 n=$((n+1)); if kill -TERM ${t##*/} 2>/dev/null; then echo hit ${t##*/}; fi; done; done; echo tried $n";
    let killer = {
        let mut killer = command("setpriv");
        killer.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]);
        killer.args(["sh", "-c", tries, "sh", &setup.pid().to_string()]);
        std::thread::spawn(move || run(&mut killer, SOON * 2))
    };
    let status = setup.wait(SOON).expect("the login is bounded");
    let killer = killer.join().unwrap();
    theirs.thaw();
    assert!(!killer.stdout.contains("hit"), "{}", killer.stdout);
    let tried = killer.stdout.trim().strip_prefix("tried ").unwrap();
    assert!(tried.parse::<u32>().unwrap() > 100, "{tried}");
    assert_eq!(status.code(), Some(1), "{status}");
}
