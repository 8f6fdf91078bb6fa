//! The whole way there and back.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use super::bench::{Bench, HOST, NAME};
use crate::world::{
    SOON, World,
    acme::{Certbot, Pebble},
    cluster::Cluster,
    config::{Config, path},
    daemon::{Daemon, Launch, eventually_state},
    eventually, give, in_own_mounts,
    network::{ADDRESS, in_own_network},
    on_one_line,
    process::run,
};

#[test]
fn one_command_leads_from_a_shared_pair_to_verify_full_and_one_leads_back() {
    let world = or_skip!(World::new());
    let bench = Bench::new(&world);
    let before = bench.sight();
    let stamps = bench.stamps();

    let dry = bench.setup(&["--dry-run"]);
    assert_eq!(dry.code(), 0);
    bench.sight().is(&before, "a dry run changes nothing");
    assert_eq!(bench.stamps(), stamps, "not even a time");

    let done = bench.setup(&["--yes"]);
    assert_eq!(done.code(), 0);
    let wide = done.stdout().lines().find(|line| {
        line.chars().count() > 80 && ![" psql ", " undo "].iter().any(|mark| line.contains(mark))
    });
    assert_eq!(wide, None);
    bench.verified();
    assert_eq!(bench.cluster.served(), bench.issued.fingerprint);
    eventually_state(&world, &bench.config, NAME, "in_sync");

    let again = bench.setup(&["--yes"]);
    assert_eq!(again.code(), 0);
    assert!(again.stdout().contains("nothing to change"));
    let back = bench.undo(&["--yes"]);
    assert_eq!(back.code(), 0);
    let state = world.path().join("state");
    bench
        .sight()
        .without(&[&state])
        .is(&before, "after the undo");
    assert_eq!(bench.undo(&["--yes"]).code(), 2, "once is enough");
}

#[test]
fn a_dry_run_and_a_print_change_nothing_with_yes_either() {
    let world = or_skip!(World::new());
    let bench = Bench::new(&world);
    let before = bench.sight();
    for arguments in [
        ["--yes", "--dry-run"],
        ["--dry-run", "--yes"],
        ["--yes", "--print"],
    ] {
        assert_eq!(bench.setup(&arguments).code(), 0, "{arguments:?}");
        bench.sight().is(&before, "a dry run");
    }
    let told = bench.setup(&["--yes", "--dry-run", "--json"]).json();
    assert_eq!(told["outcome"], "would_change", "{told}");
    assert_eq!(bench.setup(&["--yes"]).code(), 0);
    let set_up = bench.sight();
    assert_eq!(bench.undo(&["--yes", "--dry-run"]).code(), 0);
    bench.sight().is(&set_up, "a dry run of an undo");
}

/// As Debian has them.
#[test]
fn what_require_tls_would_change_is_shown_with_its_tabs() {
    let world = or_skip!(World::new());
    let mut bench = Bench::new(&world);
    let file = bench.cluster.config_directory().join("pg_hba.conf");
    let line = "host\tall\tall\t0.0.0.0/0\ttrust\t# \u{1b}[2J";
    let text = fs::read_to_string(&file).unwrap() + line + "\n";
    fs::write(&file, &text).unwrap();
    give(&file, bench.cluster.owner(), 0o600);
    bench.cluster.reload_by_hand();
    let wanted = "-host\tall\tall\t0.0.0.0/0\ttrust\t# \\u{1b}[2J";
    for launch in [Launch::new(&world), Launch::new(&world).on_a_terminal()] {
        let told = bench.setup_by(&launch, &["--dry-run", "--require-tls"]);
        assert!(told.stdout().contains(wanted), "{:?}", told.stdout());
    }
}

#[test]
fn what_a_person_has_changed_since_stays_when_it_is_taken_back() {
    let world = or_skip!(World::new());
    let bench = Bench::new(&world);
    assert_eq!(bench.setup(&["--yes"]).code(), 0);
    let text = fs::read_to_string(bench.fragment()).unwrap() + "mode = \"observe\"\n";
    fs::write(bench.fragment(), &text).unwrap();
    bench
        .cluster
        .sql("alter system set ssl_cert_file = '/mine.pem'");
    let undone = bench.undo(&["--yes"]);
    assert_eq!(undone.code(), 1);
    assert!(
        undone.stdout().contains("'/mine.pem' since"),
        "{}",
        undone.stdout()
    );
    assert!(
        undone.stdout().contains("was changed since"),
        "{}",
        undone.stdout()
    );
    assert_eq!(fs::read_to_string(bench.fragment()).unwrap(), text);
    let show = bench.cluster.sql("select setting from pg_file_settings where name = 'ssl_cert_file' order by seqno desc limit 1");
    assert_eq!(show, "/mine.pem");
}

/// From a real certbot's lineage and `ssl = off`, with what clients trust by default.
#[test]
fn a_certbot_lineage_and_a_server_without_tls_need_one_command() {
    let world = or_skip!(World::new());
    let pebble = Pebble::start(&world);
    let certbot = Certbot::new(&world, &pebble);
    certbot.issue(HOST);
    let cluster = Cluster::build(&world).name("main").start();
    let config = Config::new(&world)
        .watch("directories", vec![path(&certbot.live())])
        .write();
    let data = cluster.data_directory().to_str().unwrap();
    // Pebble's root stands in for one that a client has by default.
    let launch = Launch::new(&world).env("SSL_CERT_FILE", pebble.root().to_str().unwrap());
    let setup = ["setup", "--yes", "--json", "--data-directory", data];
    let done = launch.run(&config, &setup);
    assert_eq!(done.code(), 0, "{}{}", done.stdout(), done.stderr());
    let document = done.json();
    assert_eq!(document["outcome"], "set_up", "{document}");
    let connection = document["connection"].as_str().unwrap();
    let system = format!(
        "host={HOST} port={} sslmode=verify-full sslrootcert=system",
        cluster.port()
    );
    assert_eq!(connection, system);
    cluster.verify_full(pebble.root(), HOST).unwrap();

    // What the set-up has begun the daemon goes on with.
    let daemon = Daemon::start(&world, &config);
    eventually_state(&world, &config, NAME, "in_sync");
    certbot.renew();
    let (renewed, _) = certbot.leaf(HOST);
    eventually(SOON, "the renewal is served", || {
        cluster.served() == renewed
    });
    assert!(daemon.stop().success());
}

/// The host's own address stands in for another host's: to pg_hba.conf it is as remote.
#[test]
fn with_require_tls_remote_clients_without_it_are_refused_and_the_undo_lets_them_in() {
    in_own_network(|| {
        let world = or_skip!(World::new());
        let mut bench = Bench::with(&world, |cluster| cluster.setting("listen_addresses", "*"));
        let file = bench.cluster.config_directory().join("pg_hba.conf");
        let text = fs::read_to_string(&file).unwrap() + "host all all all trust\n";
        fs::write(&file, &text).unwrap();
        give(&file, bench.cluster.owner(), 0o600);
        bench.cluster.reload_by_hand();
        let plain = format!("host={ADDRESS} sslmode=disable");
        let encrypted = format!("host={ADDRESS} sslmode=require");
        eventually(SOON, "remote clients are let in", || {
            bench.cluster.try_by(&plain, "select 1")
        });
        let before = bench.sight();

        let dry = bench.setup(&["--dry-run", "--require-tls"]);
        assert!(
            dry.stdout().contains("-host all all all trust"),
            "{}",
            dry.stdout()
        );
        bench.sight().is(&before, "a dry run changes nothing");
        let done = bench.setup(&["--yes", "--require-tls"]);
        assert_eq!(done.code(), 0);
        assert!(
            done.stdout().contains("without TLS is refused"),
            "{}",
            done.stdout()
        );
        let refused = bench.cluster.try_by(&plain, "select 1").unwrap_err();
        // Up to 13 with "SSL off", later with "no encryption".
        assert!(refused.contains("no pg_hba.conf entry"), "{refused}");
        bench.cluster.try_by(&encrypted, "select 1").unwrap();
        bench.verified();

        let mine = fs::read_to_string(&file).unwrap() + "# mine\n";
        fs::write(&file, &mine).unwrap();
        let undone = bench.undo(&["--yes"]);
        assert_eq!(undone.code(), 1);
        assert!(undone.stdout().contains("left"), "{}", undone.stdout());
        assert_eq!(fs::read_to_string(&file).unwrap(), mine);
    });
}

#[test]
fn require_tls_can_come_later_and_all_of_it_goes_back() {
    let world = or_skip!(World::new());
    let mut bench = Bench::new(&world);
    let file = bench.cluster.config_directory().join("pg_hba.conf");
    let text = fs::read_to_string(&file).unwrap() + "hostnossl all all 0.0.0.0/0 trust\n";
    fs::write(&file, &text).unwrap();
    give(&file, bench.cluster.owner(), 0o600);
    bench.cluster.reload_by_hand();
    let before = bench.sight();
    assert_eq!(bench.setup(&["--yes"]).code(), 0);
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
    assert_eq!(bench.setup(&["--yes", "--require-tls"]).code(), 0);
    assert_ne!(fs::read_to_string(&file).unwrap(), text);
    assert_eq!(bench.undo(&["--yes"]).code(), 0);
    let state = world.path().join("state");
    bench
        .sight()
        .without(&[&state])
        .is(&before, "after the undo");
}

/// One step of a record.
fn step<'r>(record: &'r mut serde_json::Value, name: &str) -> &'r mut serde_json::Value {
    let mut steps = record["steps"].as_array_mut().unwrap().iter_mut();
    steps.find(|step| step["step"] == name).unwrap()
}

/// The first form of a record had a field for each thing that was changed.
#[test]
fn a_record_of_the_first_form_is_undone() {
    let world = or_skip!(World::new());
    let bench = Bench::new(&world);
    let before = bench.sight();
    assert_eq!(bench.setup(&["--yes"]).code(), 0);
    let file = world.path().join("state").join(NAME).join("setup.json");
    let mut record: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    let fragment = step(&mut record, "fragment").clone();
    let settings = step(&mut record, "settings").clone();
    let first_form = serde_json::json!({
        "version": 1,
        "data_directory": record["data_directory"],
        "began": record["began"],
        "finished": record["finished"],
        "fragment": fragment["text"],
        "drop_in": null,
        "directory_made": fragment["directory_made"],
        "target_was_absent": true,
        "settings": settings["settings"],
        "host_lines": [],
        "tightened": null,
    });
    fs::write(&file, first_form.to_string()).unwrap();
    assert_eq!(bench.undo(&["--yes"]).code(), 0);
    let state = world.path().join("state");
    bench
        .sight()
        .without(&[&state])
        .is(&before, "after the undo");
}

/// The record belongs to the server's user, and root acts by it.
#[test]
fn a_forged_record_has_nothing_done_that_no_set_up_does() {
    let world = or_skip!(World::new());
    let bench = Bench::new(&world);
    let victim = world.path().join("victim.pem");
    fs::write(&victim, "root's\n").unwrap();
    assert_eq!(bench.setup(&["--yes"]).code(), 0);
    let file = world.path().join("state").join(NAME).join("setup.json");
    let mut record: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    let text = fs::read_to_string(bench.fragment()).unwrap();
    let forged = format!(
        "{text}owner = \"root\"\ncert_file = \"{}\"\n",
        victim.display()
    );
    step(&mut record, "fragment")["text"] = forged.into();
    record["finished"] = serde_json::Value::Null;
    fs::write(&file, record.to_string()).unwrap();
    fs::remove_file(bench.fragment()).unwrap();
    let done = bench.undo(&["--yes"]);
    assert_eq!(done.code(), 1);
    assert!(
        done.stderr().contains("no set-up writes"),
        "{}",
        done.stderr()
    );
    assert!(victim.exists());
    // The file of before is in the state directory, and called as a set-up calls it.
    let hba = bench.cluster.config_directory().join("pg_hba.conf");
    let sum = Command::new("sha256sum").arg(&hba).output().unwrap().stdout;
    let digest = String::from_utf8(sum).unwrap()[..64].to_owned();
    step(&mut record, "fragment")["text"] = text.clone().into();
    let files = serde_json::json!([{
        "file": hba, "backup": victim, "before": digest, "after": digest,
    }]);
    let tighten = serde_json::json!({"step": "tighten", "tightened": {"files": files}});
    record["steps"].as_array_mut().unwrap().push(tighten);
    fs::write(&file, record.to_string()).unwrap();
    fs::write(bench.fragment(), &text).unwrap();
    let done = bench.undo(&["--yes"]);
    assert!(victim.exists());
    assert_eq!(done.code(), 1);
    // A record that says where nothing lies that it may name is none.
    let launch = Launch::new(&world);
    let odd = launch.run(
        &bench.config,
        &["setup", "--yes", "--undo", "../letsencrypt"],
    );
    assert_eq!(odd.code(), 2, "{}", odd.stderr());
}

#[test]
fn a_server_that_does_not_load_the_pair_gets_its_settings_back() {
    let world = or_skip!(World::new());
    let bench = Bench::new(&world);
    // An edit that waits for a reload, and that no reload survives.
    let broken = world.path().join("broken-ca.pem");
    fs::write(&broken, "no certificate\n").unwrap();
    bench.cluster.set("ssl_ca_file", broken.to_str().unwrap());
    let before = bench.sight();
    let done = bench.setup(&["--yes"]);
    assert_eq!(done.code(), 1);
    let said = done.stdout();
    assert!(said.contains("test.conf was edited since"), "{said}");
    assert!(said.contains("broken-ca.pem"), "{said}");
    bench.sight().is(&before, "taken back");
}

#[test]
fn the_config_is_not_touched_by_a_set_up_whose_fragment_would_be_wrong() {
    let world = or_skip!(World::new());
    let bench = Bench::new(&world);
    let before = bench.sight();
    let done = bench.setup(&["--yes", "--instance", "-odd"]);
    assert_eq!(done.code(), 2, "{}", done.stderr());
    bench.sight().is(&before, "refused");
}

#[test]
fn where_systemd_does_not_run_no_daemon_is_said_to_have_taken_the_config() {
    let world = or_skip!(World::new());
    let bench = Bench::new(&world);
    // A stand-in: as the real one in a chroot, it does nothing and succeeds.
    let programs = world.directory("programs");
    let systemctl = programs.join("systemctl");
    fs::write(&systemctl, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&systemctl, fs::Permissions::from_mode(0o755)).unwrap();
    let over = world.directory("over");
    let host = "mount -t tmpfs tmpfs \"$1\" && mkdir \"$1/upper\" \"$1/work\"
        mount -t overlay overlay -o \"lowerdir=/etc,upperdir=$1/upper,workdir=$1/work\" /etc
        mkdir -p /etc/pgcertd /etc/systemd/system && mount --bind \"$2\" /etc/pgcertd
        printf '[Service]\\nUser=postgres\\n' >/etc/systemd/system/pgcertd.service
        test ! -d /run/systemd || mount -t tmpfs tmpfs /run/systemd
        PATH=$3:$PATH && export PATH && shift 3
        exec \"$@\"";
    let done = run(
        in_own_mounts(host)
            .args([&over, bench.config.path().parent().unwrap(), &programs])
            .arg(env!("CARGO_BIN_EXE_pgcertd"))
            .args(["setup", "--yes", "--data-directory"])
            .arg(bench.cluster.data_directory()),
        SOON,
    );
    println!("{}{}", done.stdout, done.stderr);
    assert_eq!(done.code(), 0);
    let said = on_one_line(&done.stdout);
    assert!(said.contains("systemd does not run here"), "{said}");
    assert!(!said.contains("has taken"), "{said}");
    assert_eq!(bench.cluster.served(), bench.issued.fingerprint);
}
