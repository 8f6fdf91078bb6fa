//! Hooks of an ACME client, as `pgcertd check` judges them by the servers that are instances.

use std::{fs, os::unix::fs::PermissionsExt};

use serde_json::Value;

use crate::{
    stage::{HOST, Stage},
    world::{
        World,
        config::{Config, Instance},
        pgbouncer::PgBouncer,
    },
};

/// What is found of a hook, and how it goes.
#[derive(Debug)]
enum Found {
    /// It is none of pgcertd's business.
    Nothing,
    /// It says this, and a command takes it away.
    Gone(&'static str),
    /// It says this, and a person is to edit it.
    Edited(&'static str),
}

#[test]
fn a_hook_is_old_by_what_it_does_to_the_servers_that_are_instances() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let pooler = PgBouncer::before(&world, &stage.cluster, "pooler");
    stage.config = Config::new(&world)
        .instance(stage.instance(HOST))
        .instance(Instance::of_pgbouncer(
            "pooler",
            HOST,
            &pooler.config_file(),
        ))
        .write();
    let data = stage.cluster.data_directory().display();
    let target = stage.cert.display();
    let (live, another) = (stage.lineage.path().display(), world.directory("another"));
    let another = another.display();
    let (postgres, pgbouncer) = ("PostgreSQL", "restarts PgBouncer");
    let copies = "copies to";
    let hooks: Vec<(String, Found)> = vec![
        ("systemctl restart postgrest".into(), Found::Nothing),
        ("systemctl restart postgres_exporter".into(), Found::Nothing),
        ("docker restart postgres-exporter".into(), Found::Nothing),
        ("pkill -HUP -u postgres postgrest".into(), Found::Nothing),
        (format!("pg_ctl reload -D {another}"), Found::Nothing),
        (
            "systemctl restart patroni".into(),
            Found::Edited("restarts PostgreSQL"),
        ),
        (
            "patronictl restart bed --force".into(),
            Found::Edited("restarts PostgreSQL"),
        ),
        (
            "systemctl restart pgbouncer".into(),
            Found::Edited(pgbouncer),
        ),
        ("service pgbouncer stop".into(), Found::Edited(pgbouncer)),
        (
            "psql -p 6432 pgbouncer -c RELOAD".into(),
            Found::Edited("reloads PgBouncer"),
        ),
        (
            format!("pg_ctl restart -D {data}"),
            Found::Gone("restarts PostgreSQL"),
        ),
        (format!("cat {live}/*.pem >{target}"), Found::Gone(copies)),
        (
            format!("cat {live}/*.pem >/etc/haproxy/pg.pem\npg_ctl restart -D {data}"),
            Found::Edited("restarts PostgreSQL"),
        ),
        (
            format!("pg_ctl reload -D {data} && systemctl restart postgrest"),
            Found::Edited("reloads PostgreSQL"),
        ),
        (
            format!("trap 'systemctl reload haproxy' EXIT; pg_ctl reload -D {data}"),
            Found::Edited(postgres),
        ),
    ];
    let deploy = world.path().join("letsencrypt/renewal-hooks/deploy");
    fs::create_dir_all(&deploy).unwrap();
    for (number, (commands, _)) in hooks.iter().enumerate() {
        let file = deploy.join(format!("{number:02}"));
        fs::write(&file, format!("#!/bin/sh\n{commands}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    let document = stage.pgcertd(&["check", "--json"]).json();
    let found: Vec<&Value> = document["host"].as_array().unwrap().iter().collect();
    for (number, (commands, expected)) in hooks.iter().enumerate() {
        let file = deploy.join(format!("{number:02}"));
        let file = file.to_str().unwrap();
        let mut own = found.iter().filter(|finding| finding["id"] == "old_hook");
        let own = own.find(|finding| {
            finding["seen"]
                .as_str()
                .is_some_and(|seen| seen.contains(file))
        });
        let what = format!("{commands}: {own:?}");
        let said = own.map(|finding| finding["seen"].as_str().unwrap());
        match expected {
            Found::Nothing => assert!(own.is_none(), "{what}"),
            Found::Gone(deed) => {
                assert!(said.is_some_and(|seen| seen.contains(deed)), "{what}");
                assert_eq!(
                    own.unwrap()["mend"]["command"],
                    format!("chmod -x {file}"),
                    "{what}"
                );
            }
            Found::Edited(deed) => {
                assert!(said.is_some_and(|seen| seen.contains(deed)), "{what}");
                let mend = &own.unwrap()["mend"];
                assert!(mend["command"].is_null(), "{what}");
                let sentence = mend["sentence"].as_str().unwrap();
                assert!(sentence.contains(file) && sentence.contains(deed), "{what}");
                assert!(!sentence.contains("chmod"), "{what}");
            }
        }
    }
}
