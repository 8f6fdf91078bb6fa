//! Which server gets which lineage.

use std::{fs, os::unix::process::CommandExt};

use super::bench::{Bench, HOST, NAME};
use crate::world::{
    SOON, World,
    cluster::Cluster,
    command,
    config::Config,
    daemon::{Launch, eventually_state},
    lineage::Lineage,
    process::{run, run_reading},
};

const OTHER: &str = "billing.example.com";

/// Adds a second lineage, which no name of this host speaks for either.
fn second_lineage(bench: &Bench<'_>) -> crate::world::ca::Issued {
    let issued = bench.ca.issue(&[OTHER]);
    Lineage::new(bench.world, OTHER).renew(&issued);
    issued
}

#[test]
fn of_two_servers_each_gets_the_lineage_whose_names_it_serves_already() {
    let world = or_skip!(World::new());
    let bench = Bench::new(&world);
    let other = second_lineage(&bench);
    let mut all = Vec::new();
    for (name, host, wanted) in [("a", HOST, &bench.issued), ("b", OTHER, &other)] {
        let old = bench.ca.issue(&[host]);
        let file = world.path().join(format!("{name}.pem"));
        fs::write(&file, old.combined_pem()).unwrap();
        crate::world::give(&file, world.postgres(), 0o600);
        let cluster = Cluster::build(&world).name(name).tls(&file).start();
        let data = cluster.data_directory().to_str().unwrap().to_owned();
        let setup = ["setup", "--yes", "--data-directory", &data];
        let done = Launch::new(&world).run(&bench.config, &setup);
        println!("{}{}", done.stdout(), done.stderr());
        assert_eq!(done.code(), 0);
        assert_eq!(cluster.served(), wanted.fingerprint);
        all.push(cluster);
    }
    // Which of several servers is meant is asked, and of nobody else but a person.
    let done = Launch::new(&world).run(&bench.config, &["setup", "--yes"]);
    if done.code() == 2 {
        let data = bench.cluster.data_directory().to_str().unwrap();
        assert!(done.stderr().contains(data), "{}", done.stderr());
    }
}

#[test]
fn of_two_lineages_that_fit_alike_a_person_chooses_and_a_command_says_how() {
    let world = or_skip!(World::new());
    let bench = Bench::new(&world);
    let other = second_lineage(&bench);
    let before = bench.sight();
    let refused = bench.setup(&["--yes"]);
    assert_eq!(refused.code(), 2);
    for host in [HOST, OTHER] {
        let flag = format!("--lineage {host}");
        assert!(refused.stderr().contains(&flag), "{}", refused.stderr());
    }
    bench.sight().is(&before, "refused");

    // A terminal, at which a person first chooses and says no, and then yes.
    for (typed, code) in [("1\nn\n", 1), ("1\ny\n", 0)] {
        let data = bench.cluster.data_directory().display();
        let line = format!(
            "{} setup --data-directory {data} --config {}",
            env!("CARGO_BIN_EXE_pgcertd"),
            bench.config.path().display()
        );
        let mut script = command("script");
        script.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
        let done = run_reading(&mut script, typed.as_bytes(), SOON * 2);
        println!("{}", done.stdout);
        assert_eq!(done.code(), code, "{}", done.stdout);
        assert!(done.stdout.contains("  1     billing.example.com"));
        if code == 1 {
            bench.sight().is(&before, "no");
        }
    }
    assert_eq!(bench.cluster.served(), other.fingerprint);
    eventually_state(&world, &bench.config, NAME, "in_sync");
}

/// Without `--data-directory`: in a process namespace of its own, where no other server runs.
#[test]
fn alone_on_a_host_a_server_is_found_without_being_named() {
    let world = or_skip!(World::new());
    let mut bench = Bench::new(&world);
    bench.cluster.stop();
    let data = bench.cluster.data_directory();
    let script = format!(
        "setpriv --reuid=postgres --regid=postgres --clear-groups \
         {postgres} -D {data} 2>/dev/null &\n\
         server=$!\n\
         until grep -q ready {data}/postmaster.pid 2>/dev/null; do sleep 0.05; done\n\
         {program} setup --yes --config {config}; code=$?\n\
         kill -INT $server; wait $server; exit $code",
        data = data.display(),
        postgres = bench.cluster.program("postgres").display(),
        program = env!("CARGO_BIN_EXE_pgcertd"),
        config = bench.config.path().display(),
    );
    let mut unshare = command("unshare");
    unshare
        .args([
            "--pid",
            "--fork",
            "--mount-proc",
            "--kill-child",
            "sh",
            "-c",
            &script,
        ])
        .process_group(0);
    let done = run(&mut unshare, SOON * 3);
    println!("{}{}", done.stdout, done.stderr);
    assert_eq!(done.code(), 0);
    bench.cluster.start().unwrap();
    bench.verified();
}

#[test]
fn an_instance_that_the_config_has_keeps_it_and_gets_the_rest() {
    let world = or_skip!(World::new());
    let mut bench = Bench::new(&world);
    let entry = crate::world::config::Instance::for_cluster(&bench.cluster, HOST);
    bench.config = Config::new(&world).instance(entry).write();
    let text = fs::read_to_string(bench.config.path()).unwrap();
    crate::world::daemon::pgcertd(&world, &bench.config, &["sync"]);
    eventually_state(&world, &bench.config, "main", "not_used");
    let before = bench.sight();

    let wrong = bench.setup(&["--yes", "--lineage", OTHER]);
    assert_eq!(wrong.code(), 2, "{}", wrong.stderr());
    let launch = Launch::new(&world);
    let done = launch.run(&bench.config, &["setup", "--yes", "--instance", "main"]);
    println!("{}{}", done.stdout(), done.stderr());
    assert_eq!(done.code(), 0);
    bench.verified();
    eventually_state(&world, &bench.config, "main", "in_sync");
    assert_eq!(fs::read_to_string(bench.config.path()).unwrap(), text);
    assert!(!bench.fragment().parent().unwrap().exists());

    let undone = launch.run(&bench.config, &["setup", "--yes", "--undo", "main"]);
    println!("{}{}", undone.stdout(), undone.stderr());
    bench.sight().is(&before, "after the undo");
    eventually_state(&world, &bench.config, "main", "not_used");
}
