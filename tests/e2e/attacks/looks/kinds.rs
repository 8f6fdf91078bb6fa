//! The same for what is no Postgres: a PgBouncer and a Patroni.

use std::{fs, path::PathBuf};

use super::{Fault, entries, is_not_known, nothing_is_done, of_entries, of_pidfd};
use crate::{
    stage::{HOST, problem, says},
    world::{
        World,
        ca::{Ca, Issued},
        cluster::Cluster,
        config::{Config, Instance},
        daemon::{Launch, eventually_state},
        lineage::Lineage,
        patroni::{Settings, Solo},
        pgbouncer::PgBouncer,
        postgres::PATRONI,
    },
};

/// A pooler that shows `first` out of its target.
fn pooler(world: &World, cluster: &Cluster, first: &Issued) -> (PgBouncer, PathBuf, Config) {
    let target = world.target("pooler");
    world.place(first, &target);
    let mut pooler = PgBouncer::before(world, cluster, "pooler");
    pooler.tls(&target);
    pooler.start().unwrap();
    let entry = Instance::of_pgbouncer("pooler", HOST, &pooler.config_file());
    let config = Config::new(world).instance(entry).write();
    (pooler, target, config)
}

#[test]
fn a_running_pgbouncer_is_not_taken_for_down_by_a_look_that_fails() {
    let world = or_skip!(World::new());
    let ca = Ca::new(&world, "Test Root");
    let (first, second) = (ca.issue(&[HOST]), ca.issue(&[HOST]));
    let mut lineage = Lineage::new(&world, HOST);
    lineage.renew(&first);
    let cluster = Cluster::build(&world).start();
    let (mut pooler, target, config) = pooler(&world, &cluster, &first);
    eventually_state(&world, &config, "pooler", "in_sync");
    lineage.renew(&second);
    let entries = entries(pooler.pid());
    let stat = format!("/proc/{}/stat", pooler.pid());
    let table = format!("/proc/{}/net/tcp", pooler.pid());
    let more = [
        Fault::in_call("openat", "EMFILE", "LimitNOFILE=")
            .told("open")
            .at(&stat),
        Fault::in_call("openat", "EIO", "kernel's log")
            .told("open")
            .at(&table),
    ];
    for with_pid_file in [true, false] {
        if !with_pid_file {
            // It is searched for among all processes.
            fs::remove_file(pooler.pid_file()).unwrap();
        }
        for fault in of_pidfd().iter().chain(&of_entries(&entries)).chain(&more) {
            let status = fault.launch(&world).run(&config, &["status", "--json"]);
            is_not_known(&status, "pooler", fault);
        }
    }
    let all = Fault::in_call("getdents64", "EIO", "kernel's log").at("/proc");
    for fault in [&of_pidfd()[0], &all] {
        nothing_is_done(
            &fault.launch(&world),
            &config,
            "pooler",
            fault,
            (&target, &first),
        );
    }
    assert_eq!(pooler.served(), first.fingerprint);
    let synced = Launch::new(&world).run(&config, &["sync", "--json"]);
    assert_eq!(synced.instance("pooler")["outcome"], "deployed");
    assert_eq!(pooler.served(), second.fingerprint);
    pooler.stop();
}

#[test]
fn a_running_patroni_is_not_taken_for_down_by_a_look_that_fails() {
    let world = or_skip!(World::with_debians(PATRONI));
    let ca = Ca::new(&world, "Test Root");
    let (first, second) = (ca.issue(&[HOST]), ca.issue(&[HOST]));
    let mut lineage = Lineage::new(&world, HOST);
    lineage.renew(&first);
    let target = world.target("api");
    world.place(&first, &target);
    let solo = Solo::start(&world, Settings::with_tls(&target));
    let entry = Instance::of_patroni("api", HOST, solo.node.config_file());
    let config = Config::new(&world).instance(entry).write();
    eventually_state(&world, &config, "api", "in_sync");
    lineage.renew(&second);
    let entries = entries(solo.node.pid());
    let file = solo.node.config_file().to_str().unwrap().to_owned();
    let environment = format!("/proc/{}/environ", solo.node.pid());
    let more = [
        Fault::in_call("statx", "ENOMEM", "memory")
            .told("stat")
            .at(&file),
        Fault::in_call("openat", "EMFILE", "LimitNOFILE=")
            .told("open")
            .at(&environment),
    ];
    let of_entries = of_entries(&entries);
    let [status, .., cmdline] = [&of_entries[0], &of_entries[3], &of_entries[5]];
    for fault in of_pidfd()
        .iter()
        .take(4)
        .chain([status, cmdline])
        .chain(&more)
    {
        let status = fault.launch(&world).run(&config, &["status", "--json"]);
        let row = status.instance("api");
        println!("{}: {row}", fault.name());
        assert!(
            row["state"] == "unverified" || row["state"] == "out_of_date",
            "{row}"
        );
        assert_eq!(status.code(), 1, "{row}");
        says(&problem(&row), &[fault.told, fault.remedy]);
    }
    let fault = &of_pidfd()[0];
    nothing_is_done(
        &fault.launch(&world),
        &config,
        "api",
        fault,
        (&target, &first),
    );
    assert_eq!(solo.node.reloads(), 0);
}
