//! `pgcertd sessions`: who is connected, how it is encrypted, and what a script learns from it.

use std::{fs, net::Ipv4Addr};

use serde_json::Value;

use crate::{
    stage::{HOST, NAME, Stage, says},
    world::{
        SOON, World,
        client::Session,
        daemon::{Launch, Outcome},
        eventually, give,
        network::{ADDRESS, in_own_network},
        on_one_line,
    },
};

/// The row of a session.
#[track_caller]
fn row(outcome: &Outcome, session: &Session) -> Value {
    let told = outcome.instance(NAME);
    let rows = told["sessions"].as_array().unwrap();
    let mut found = rows
        .iter()
        .filter(|row| row["pid"] == session.backend_pid());
    match found.next() {
        Some(row) => row.clone(),
        None => panic!("{} is not in {told}", session.backend_pid()),
    }
}

fn count(outcome: &Outcome) -> usize {
    outcome.instance(NAME)["sessions"].as_array().unwrap().len()
}

#[test]
fn each_session_is_told_with_how_it_is_encrypted_and_plaintext_ones_fail_a_script() {
    let world = or_skip!(World::new());
    let stage = Stage::new(&world);
    let asked = |args: &[&str]| stage.pgcertd(args);

    let nobody = asked(&["sessions"]);
    assert_eq!(nobody.code(), 0, "{nobody:?}");
    assert!(nobody.stdout().contains("no sessions"), "{nobody:?}");

    let cluster = &stage.cluster;
    cluster.sql("create role gitea login");
    cluster.sql("create database shop");
    let tls =
        cluster.session_by("host=127.0.0.1 sslmode=require application_name=website dbname=shop");
    let local = cluster.session_by(&format!("host={}", cluster.sockets().display()));
    let safe = asked(&["sessions", "--plaintext", "--json"]);
    assert_eq!((safe.code(), count(&safe)), (0, 0), "{safe:?}");

    let bare = cluster.session_by("host=127.0.0.1 sslmode=disable user=gitea");
    let told = asked(&["sessions", "--json"]);
    assert_eq!(told.code(), 0, "{told:?}");
    assert_eq!(
        count(&told),
        3,
        "background processes and the asking one are none"
    );
    let encrypted = row(&told, &tls);
    println!("{encrypted}");
    assert_eq!(encrypted["encrypted"], true);
    assert_eq!(encrypted["protocol"], "TLSv1.3");
    let cipher = encrypted["cipher"].as_str().unwrap();
    assert!(cipher.starts_with("TLS_"), "{cipher}");
    assert_eq!(encrypted["application"], "website");
    assert_eq!(encrypted["database"], "shop");
    assert_eq!(encrypted["address"], "127.0.0.1");
    assert!(encrypted["since"].as_str().unwrap().ends_with('Z'));
    let plain = row(&told, &bare);
    assert_eq!(
        (&plain["encrypted"], &plain["user"]),
        (&false.into(), &"gitea".into())
    );
    assert_eq!(
        (&plain["cipher"], &plain["before_deployment"]),
        (&Value::Null, &Value::Null)
    );
    let socket = row(&told, &local);
    assert_eq!(
        (&socket["local"], &socket["address"]),
        (&true.into(), &Value::Null)
    );

    let found = asked(&["sessions", "--plaintext", "--json"]);
    assert_eq!((found.code(), count(&found)), (1, 1), "{found:?}");
    row(&found, &bare);
    let remote = asked(&["sessions", "--plaintext", "--remote", "--json"]);
    assert_eq!((remote.code(), count(&remote)), (0, 0), "{remote:?}");

    let text = asked(&["sessions", NAME]);
    println!("{}", text.stdout());
    for words in [
        "3 sessions, 1 not encrypted",
        "gitea",
        "shop",
        cipher,
        "website",
        "Unix socket",
    ] {
        assert!(text.stdout().contains(words), "{words}: {}", text.stdout());
    }
    assert!(text.stdout().lines().all(|line| line.chars().count() <= 80));
    let marked = text
        .stdout()
        .lines()
        .find(|line| line.starts_with('!'))
        .unwrap();
    assert!(marked.contains(&bare.backend_pid().to_string()), "{marked}");

    let unknown = asked(&["sessions", "17-main"]);
    assert_eq!(unknown.code(), 2, "{unknown:?}");
    assert!(
        unknown.stderr().contains("no instance 17-main"),
        "{unknown:?}"
    );
}

#[test]
fn a_session_from_before_a_renewal_is_told_from_one_after_it() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let told = |stage: &Stage| stage.pgcertd(&["sessions", "--json"]);
    let before = stage.cluster.session();
    assert_eq!(row(&told(&stage), &before)["before_deployment"], false);

    stage.renew();
    assert_eq!(stage.pgcertd(&["sync"]).code(), 0);
    let after = stage.cluster.session();
    let seen = told(&stage);
    assert_eq!(row(&seen, &before)["before_deployment"], true, "{seen:?}");
    assert_eq!(row(&seen, &after)["before_deployment"], false, "{seen:?}");
    let text = stage.pgcertd(&["sessions"]);
    println!("{}", text.stdout());
    assert!(
        text.stdout().contains("1 from before the last deployment"),
        "{text:?}"
    );

    // What changes the file's owner or mode is no deployment.
    give(&stage.cert, world.postgres(), 0o400);
    assert_eq!(row(&told(&stage), &after)["before_deployment"], false);

    // Where the server does not show what is installed, nothing is claimed.
    world.place(&stage.ca.issue(&[HOST]), &stage.cert);
    let seen = told(&stage);
    assert_eq!(row(&seen, &before)["before_deployment"], Value::Null);
    let why = seen.instance(NAME)["deployed_unknown"].clone();
    says(why.as_str().unwrap(), &["is installed and", "is served"]);
}

#[test]
fn a_certificate_that_others_place_is_dated_by_its_arrival_and_not_by_its_copied_time() {
    let world = or_skip!(World::new());
    let stage = Stage::build(&world)
        .instance(|instance| instance.set("mode", "reload"))
        .start();
    let before = stage.cluster.session();
    // As `cp -p` of an older file: the content's time is long past.
    let past = std::time::SystemTime::now() - std::time::Duration::from_secs(90 * 86_400);
    let file = fs::File::options().write(true).open(&stage.cert).unwrap();
    file.set_modified(past).unwrap();
    let told = stage.pgcertd(&["sessions", "--json"]);
    assert_eq!(row(&told, &before)["before_deployment"], true, "{told:?}");
}

#[test]
fn the_servers_user_may_ask_and_another_is_told_what_it_lacks() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    // As Debian has it.
    let hba = stage.cluster.config_directory().join("pg_hba.conf");
    fs::write(&hba, "local all postgres peer\nhost all all all trust\n").unwrap();
    stage.cluster.reload_by_hand();
    let session = stage.cluster.session();

    for launch in [
        Launch::new(&world),
        Launch::new(&world).by_user("postgres"),
        Launch::new(&world).like_the_unit(),
    ] {
        let told = launch.run(&stage.config, &["sessions", "--json"]);
        assert_eq!(told.code(), 0, "{told:?}");
        assert_eq!(row(&told, &session)["before_deployment"], false, "{told:?}");
    }
    let told = Launch::new(&world)
        .by_user("nobody")
        .run(&stage.config, &["sessions"]);
    println!("{}", told.stdout());
    assert_eq!(told.code(), 1, "{told:?}");
    let words = [
        "no permission to look",
        "run it as root or as the server's user",
    ];
    let text = on_one_line(told.stdout());
    says(&text, &words);
}

#[test]
fn a_server_that_is_down_has_no_sessions_and_one_that_cannot_be_asked_is_a_problem() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let role = stage.pgcertd(&["sessions", "--user", "nobody"]);
    println!("{}", role.stdout());
    assert_eq!(role.code(), 1, "{role:?}");
    assert!(role.stdout().contains("--user"), "{role:?}");

    stage.cluster.stop();
    let down = stage.pgcertd(&["sessions"]);
    println!("{}", down.stdout());
    assert_eq!(down.code(), 0, "{down:?}");
    assert!(
        down.stdout().contains("not running, nobody is connected"),
        "{down:?}"
    );
    let down = stage.pgcertd(&["sessions", "--json"]).instance(NAME);
    assert_eq!(
        (&down["running"], &down["problem"]),
        (&false.into(), &Value::Null)
    );
}

#[test]
fn a_standby_or_a_backup_is_a_session_and_one_from_another_host_is_remote() {
    in_own_network(|| {
        let world = or_skip!(World::with_debians("the pg_receivewal that the test has"));
        let mut stage = Stage::new(&world);
        let cluster = &stage.cluster;
        let hba = cluster.config_directory().join("pg_hba.conf");
        let text = fs::read_to_string(&hba).unwrap();
        let more = "host all all 192.0.2.0/24 trust\nhost replication all 192.0.2.0/24 trust\n";
        fs::write(&hba, text + more).unwrap();
        cluster.set(
            "listen_addresses",
            &format!("{},{ADDRESS}", Ipv4Addr::LOCALHOST),
        );
        stage.cluster.restart().unwrap();
        let cluster = &stage.cluster;
        let far = cluster.session_by(&format!("host={ADDRESS} sslmode=disable"));
        let near = cluster.session_by("host=127.0.0.1 sslmode=disable");
        let mut sender = cluster.sender(ADDRESS);
        let told = eventually(SOON, "the sender is there", || {
            let told = stage.pgcertd(&["sessions", "--remote", "--json"]);
            let rows = told.instance(NAME)["sessions"].as_array().cloned().unwrap();
            if rows.iter().any(|session| session["replication"] == true) {
                Ok(told)
            } else {
                Err(format!("{told:?}, {:?}", sender.ended()))
            }
        });
        assert_eq!(count(&told), 2, "{told:?}");
        assert_eq!(row(&told, &far)["address"], ADDRESS);
        let sender = told.instance(NAME)["sessions"]
            .as_array()
            .unwrap()
            .iter()
            .find(|session| session["replication"] == true)
            .cloned()
            .unwrap();
        assert_eq!(
            (&sender["encrypted"], &sender["database"]),
            (&true.into(), &Value::Null)
        );
        let found = stage.pgcertd(&["sessions", "--plaintext", "--remote", "--json"]);
        assert_eq!((found.code(), count(&found)), (1, 1), "{found:?}");
        let both = stage.pgcertd(&["sessions", "--plaintext", "--json"]);
        assert_eq!((both.code(), count(&both)), (1, 2), "{both:?}");
        row(&both, &near);
        println!("{}", stage.pgcertd(&["sessions"]).stdout());
    });
}
