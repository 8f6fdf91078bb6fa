//! The builders of `world` do what they say, without pgcertd.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::PathBuf,
    time::Duration,
};

use rustix::process::Signal;

use crate::world::{
    SOON, World,
    acme::{Certbot, Pebble},
    ca::{Ca, DAY, KeyType, Options},
    client::openssl_verify,
    cluster::{Cluster, processes_in},
    command,
    config::{Config, Instance},
    daemon::Launch,
    eventually,
    faults::{Immutable, StrictOpenssl, Tmpfs, bystander},
    in_place::InPlace,
    lineage::{KINDS, Kind, Lineage, Step, steps},
    postgres::STRICT,
    process::run,
    skipped,
};

#[test]
fn a_client_that_verifies_accepts_a_cluster_with_a_certificate_of_ours() {
    let world = or_skip!(World::new());
    let (ours, theirs) = (Ca::new(&world, "Ours"), Ca::new(&world, "Theirs"));
    let issued = ours.issue(&["pg.example.com"]);
    let target = world.target("16-main");
    world.place(&issued, &target);
    let cluster = Cluster::build(&world).tls(&target).start();

    let accepted = cluster.verify_full(ours.root(), "pg.example.com");
    assert_eq!(accepted.as_deref(), Ok("TLSv1.3"));
    let other_name = cluster
        .verify_full(ours.root(), "other.example.com")
        .unwrap_err();
    assert!(
        other_name.contains("does not match host name"),
        "{other_name}"
    );
    let other_root = cluster
        .verify_full(theirs.root(), "pg.example.com")
        .unwrap_err();
    assert!(
        other_root.contains("certificate verify failed"),
        "{other_root}"
    );

    let served = cluster.peer().unwrap();
    assert_eq!(served.fingerprint, issued.fingerprint);
    assert_eq!(served.serial, issued.serial);
    assert_eq!(served.certificates, 2);
}

#[test]
fn a_reload_serves_the_new_certificate_and_a_session_lives_through_it() {
    let world = or_skip!(World::new());
    let ca = Ca::new(&world, "Test Root");
    let (old, new) = (ca.issue(&["pg.example.com"]), ca.issue(&["pg.example.com"]));
    let target = world.target("16-main");
    world.place(&old, &target);
    let mut cluster = Cluster::build(&world).config_apart().tls(&target).start();
    let mut session = cluster.session();
    let load = cluster.pgbench(4, 2);

    world.place(&new, &target);
    assert_eq!(cluster.served(), old.fingerprint);
    cluster.reload_by_hand();
    assert_eq!(cluster.served(), new.fingerprint);

    assert_eq!(session.lives(), Ok(()));
    assert!(load.finish().unwrap() > 0);
    assert_eq!(session.ask("select 1 + 1").as_deref(), Ok("2"));
    cluster.stop();
    let broken = session.lives().unwrap_err();
    assert!(broken.contains("terminating connection"), "{broken}");
}

#[test]
fn a_restart_on_a_broken_file_gives_the_log() {
    let world = or_skip!(World::new());
    let ca = Ca::new(&world, "Test Root");
    let target = world.target("16-main");
    world.place(&ca.issue(&["pg.example.com"]), &target);
    let mut cluster = Cluster::build(&world).tls(&target).start();

    fs::write(&target, "").unwrap();
    let log = cluster.restart().unwrap_err();
    assert!(
        log.contains("could not load server certificate file"),
        "{log}"
    );
    assert!(!cluster.is_running());
    cluster.set("ssl", "off");
    cluster.start().unwrap();
    assert_eq!(cluster.sql("show ssl"), "off");
}

#[test]
fn a_killed_postmaster_leaves_its_pid_file_and_starts_again() {
    let world = or_skip!(World::new());
    let mut cluster = Cluster::build(&world).start();
    let port = cluster.port();
    cluster.kill9();
    assert!(cluster.data_directory().join("postmaster.pid").exists());
    assert!(processes_in(cluster.data_directory()).is_empty());
    cluster.start().unwrap();
    assert_eq!(cluster.port(), port);
    cluster.freeze();
    cluster.thaw();
    assert_eq!(cluster.sql("select 1"), "1");
}

#[test]
fn nothing_is_left_of_a_world_whose_test_panics() {
    let world = or_skip!(World::new());
    let path = world.path().to_owned();
    let left = std::thread::spawn(move || {
        let target = world.target("frozen");
        world.place(&Ca::new(&world, "Test Root").issue(&["localhost"]), &target);
        let mut frozen = Cluster::build(&world).name("frozen").tls(&target).start();
        let session = frozen.session();
        let pid = frozen.pid();
        frozen.freeze();
        let left: (u32, u32) = (pid, session.backend_pid());
        // What is declared in the order of use is dropped in the reverse order.
        let (_world, _cluster, _session) = (world, frozen, session);
        std::panic::resume_unwind(Box::new(left));
    })
    .join()
    .unwrap_err();
    let (postmaster, backend) = *left.downcast::<(u32, u32)>().unwrap();
    assert!(!path.exists());
    for pid in [postmaster, backend] {
        assert!(
            !PathBuf::from(format!("/proc/{pid}")).exists(),
            "{pid} lives"
        );
    }
}

#[test]
fn a_leaf_verifies_with_every_kind_of_key_and_any_length_of_chain() {
    let world = or_skip!(World::new());
    let ca = Ca::new(&world, "Test Root");
    for key in [
        KeyType::P256,
        KeyType::P384,
        KeyType::P521,
        KeyType::Ed25519,
        KeyType::Rsa2048,
    ] {
        for intermediates in [0, 1, 3] {
            let options = Options {
                key,
                intermediates,
                ..Options::default()
            };
            let issued = ca.issue_with(&["pg.example.com", "127.0.0.1"], &options);
            assert_eq!(issued.intermediates.len(), intermediates);
            let verified = openssl_verify(ca.root(), &issued.fullchain_pem());
            assert!(verified.is_ok(), "{key:?} {intermediates}: {verified:?}");
        }
    }
}

#[test]
fn postgres_does_not_start_with_a_weak_key() {
    let world = or_skip!(World::with_debians(
        "an OpenSSL that refuses keys of 1024 bits by default"
    ));
    let options = Options {
        key: KeyType::Rsa1024,
        ..Options::default()
    };
    let weak = Ca::new(&world, "Test Root").issue_with(&["pg.example.com"], &options);
    let target = world.target("16-main");
    world.place(&weak, &target);
    let log = Cluster::build(&world)
        .tls(&target)
        .create()
        .start()
        .unwrap_err();
    assert!(log.contains("ee key too small"), "{log}");
}

#[test]
fn a_strict_openssl_refuses_rsa_2048_at_a_reload_and_serves_on() {
    let world = or_skip!(World::with_debians(STRICT));
    let ca = Ca::new(&world, "Test Root");
    let good = ca.issue(&["pg.example.com"]);
    let options = Options {
        key: KeyType::Rsa2048,
        ..Options::default()
    };
    let target = world.target("16-main");
    world.place(&good, &target);
    let strict = StrictOpenssl::new(&world);
    let mut cluster = Cluster::build(&world)
        .tls(&target)
        .setting("ssl_dh_params_file", strict.dh_params.to_str().unwrap())
        .with_env("OPENSSL_CONF", strict.conf.to_str().unwrap())
        .start();

    world.place(&ca.issue_with(&["pg.example.com"], &options), &target);
    cluster.reload_by_hand();
    eventually(SOON, "the log names the refusal", || {
        cluster.log().contains("SSL configuration was not reloaded")
    });
    assert_eq!(cluster.served(), good.fingerprint);
}

#[test]
fn a_renewal_has_certbots_steps_in_certbots_order() {
    let world = or_skip!(World::new());
    let ca = Ca::new(&world, "Test Root");
    let first = ca.issue(&["pg.example.com"]);
    let reused = ca.issue_with(
        &["pg.example.com"],
        &Options {
            reuse_key: Some(first.key_pem.clone()),
            not_after: std::time::SystemTime::now() + 30 * DAY,
            ..Options::default()
        },
    );
    let third = ca.issue(&["pg.example.com"]);
    let mut lineage = Lineage::new(&world, "pg.example.com");
    let read = |lineage: &Lineage, kind| fs::read_to_string(lineage.link(kind)).ok();

    lineage.renew(&first);
    assert_eq!(read(&lineage, Kind::Fullchain), Some(first.fullchain_pem()));
    let mode = fs::metadata(lineage.link(Kind::Privkey)).unwrap().mode();
    assert_eq!(mode & 0o777, 0o600);

    lineage.renew(&reused);
    assert_eq!(read(&lineage, Kind::Privkey), Some(first.key_pem.clone()));

    let mut renewal = lineage.renew_until(&third, Step::Link(Kind::Privkey));
    assert_eq!(read(&lineage, Kind::Privkey), Some(third.key_pem.clone()));
    assert_eq!(
        read(&lineage, Kind::Fullchain),
        Some(reused.fullchain_pem())
    );
    assert_eq!(renewal.step(), Some(Step::Unlink(Kind::Chain)));
    assert_eq!(read(&lineage, Kind::Chain), None);
    renewal.finish();
    assert_eq!(read(&lineage, Kind::Fullchain), Some(third.fullchain_pem()));
    assert_eq!(fs::read_dir(lineage.path()).unwrap().count(), 5);
    assert_eq!(steps().len(), 5 * KINDS.len());

    lineage.set_back(1);
    assert_eq!(read(&lineage, Kind::Fullchain), Some(first.fullchain_pem()));
    lineage.delete();
    assert!(!lineage.path().exists());
}

#[test]
fn files_are_written_in_place_or_swapped() {
    let world = or_skip!(World::new());
    let issued = Ca::new(&world, "Test Root").issue(&["pg.example.com"]);
    let files = InPlace::new(&world, "acme");
    files.renew(&issued);
    let path = files.path().join("fullchain.pem");
    let inode = fs::metadata(&path).unwrap().ino();
    files.put("fullchain.pem", b"other");
    assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
    files.swap("fullchain.pem", b"another");
    assert_ne!(fs::metadata(&path).unwrap().ino(), inode);
}

#[test]
fn certbot_renews_against_pebble_and_its_links_move() {
    let world = or_skip!(World::new());
    let pebble = Pebble::start(&world);
    let certbot = Certbot::new(&world, &pebble);
    let domain = "pg.example.com";
    let link = |kind: &str| fs::read_link(certbot.lineage(domain).join(kind)).unwrap();
    let key = || fs::read(certbot.lineage(domain).join("privkey.pem")).unwrap();

    certbot.issue(domain);
    assert!(link("fullchain.pem").ends_with("fullchain1.pem"));
    let first = certbot.leaf(domain);
    certbot.renew();
    assert!(link("fullchain.pem").ends_with("fullchain2.pem"));
    assert_ne!(certbot.leaf(domain), first);
    let second_key = key();
    certbot.renew_reusing_key();
    assert!(link("fullchain.pem").ends_with("fullchain3.pem"));
    assert_eq!(key(), second_key);
    let chain = fs::read_to_string(certbot.lineage(domain).join("fullchain.pem")).unwrap();
    assert!(openssl_verify(pebble.root(), &chain).is_ok());
}

#[test]
fn a_configuration_is_toml_with_state_in_the_world() {
    let world = or_skip!(World::new());
    let cluster = Cluster::build(&world).name("16-billing").create();
    let config = Config::new(&world)
        .watch("debounce", "50ms")
        .defaults("verify_timeout", "2s")
        .instance(
            Instance::for_cluster(&cluster, "pg.example.com")
                .set("server_names", vec!["pg.example.com"])
                .set("mode", "observe"),
        )
        .write();
    let text = fs::read_to_string(config.path()).unwrap();
    let read: toml::Table = text.parse().unwrap();
    assert_eq!(read["watch"]["debounce"].as_str(), Some("50ms"));
    assert_eq!(read["instance"][0]["name"].as_str(), Some("16-billing"));
    let state = fs::metadata(config.state_directory()).unwrap();
    assert_eq!(state.uid(), world.postgres().uid);
}

#[test]
fn pgcertd_is_started_by_any_user() {
    let world = or_skip!(World::new());
    let config = Config::new(&world).write();
    for launch in [
        Launch::new(&world),
        Launch::new(&world).by_user("postgres"),
        Launch::new(&world).like_the_unit(),
        Launch::new(&world).strace(&["-e", "trace=execve"]),
    ] {
        let outcome = launch.run(&config, &["--version"]);
        assert!(outcome.code() >= 0, "{outcome:?}");
        assert!(!outcome.stderr().contains("setpriv"), "{outcome:?}");
        assert!(!outcome.stderr().contains("strace"), "{outcome:?}");
    }
    let traced = fs::read_to_string(world.path().join("strace.log")).unwrap();
    assert!(traced.contains("execve"), "{traced}");
}

/// Does what the harness asks of the daemon, and no more.
const STUB: &str = r#"#!/usr/bin/python3
import os, signal, socket, sys
say = lambda text: print(text, flush=True)
say([line.split() for line in open("/proc/self/status") if line.startswith(("Uid", "CapEff"))])
signal.signal(signal.SIGHUP, lambda *_: say("hangup"))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.sendto(b"READY=1\nSTATUS=well", os.environ["NOTIFY_SOCKET"])
while True:
    signal.pause()
"#;

#[test]
fn a_daemon_is_awaited_hung_up_on_and_stopped() {
    let world = or_skip!(World::new());
    let config = Config::new(&world).write();
    let stub = world.path().join("stub");
    fs::write(&stub, STUB).unwrap();
    fs::set_permissions(&stub, fs::Permissions::from_mode(0o755)).unwrap();
    let uid = world.postgres().uid.to_string();
    for (launch, uid, capabilities) in [
        (Launch::new(&world), "0", None),
        (
            Launch::new(&world).by_user("postgres"),
            &*uid,
            Some("0000000000000000"),
        ),
        (
            Launch::new(&world).like_the_unit(),
            &*uid,
            Some("0000000000000004"),
        ),
        (Launch::new(&world).strace(&["-e", "trace=none"]), "0", None),
    ] {
        let mut daemon = launch.program(&stub).daemon(&config);
        daemon.ready();
        assert!(daemon.notified().contains(&"STATUS=well".to_owned()));
        let exe = fs::read_link(format!("/proc/{}/exe", daemon.pid())).unwrap();
        assert!(exe.to_str().unwrap().contains("python3"), "{exe:?}");
        let identity = daemon.wait_for_log("Uid");
        assert!(
            identity.contains(&format!("['Uid:', '{uid}'")),
            "{identity}"
        );
        if let Some(capabilities) = capabilities {
            assert!(identity.contains(capabilities), "{identity}");
        }
        daemon.hangup();
        daemon.wait_for_log("hangup");
        assert!(daemon.is_running());
        assert_eq!(daemon.stop().code(), Some(0));
    }
}

#[test]
fn faults_of_the_host_come_and_go() {
    let world = or_skip!(World::new());
    let directory = world.directory("small");
    {
        let small = Tmpfs::mount(&directory, "64k", world.postgres());
        let filler = small.fill();
        assert!(fs::metadata(filler).unwrap().len() <= 64 << 10);
        assert!(fs::write(directory.join("more"), "x").is_err());
        small.remount("ro");
        assert!(fs::remove_file(directory.join("filler")).is_err());
    }
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);

    let file = directory.join("fixed");
    fs::write(&file, "x").unwrap();
    if let Ok(_immutable) = Immutable::set(&file) {
        assert!(fs::remove_file(&file).is_err());
    }
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();

    let mut sleeper = bystander(world.postgres());
    assert_eq!(sleeper.wait(Duration::from_millis(50)), None);
}

/// Whatever the test itself was started with.
#[test]
fn what_a_test_starts_ignores_no_signal() {
    let _world = or_skip!(World::new());
    let mut child = command("grep");
    child.args(["SigIgn:", "/proc/self/status"]);
    let shown = run(&mut child, SOON).result().unwrap();
    let (_, mask) = shown.split_once(':').unwrap();
    let mask = u64::from_str_radix(mask.trim(), 16).unwrap();
    // Others a C library keeps for itself.
    for signal in [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM] {
        assert_eq!(mask & (1 << (signal.as_raw() - 1)), 0, "{signal:?}");
    }
}

/// Runs another of these tests by a line of shell, in which `"$@"` stands for that; gives all that was said.
fn by_a_line(line: &str, test: &str, env: &[(&str, &str)]) -> String {
    let mut shell = command("sh");
    shell
        .args(["-euc", line])
        .arg(std::env::current_exe().unwrap());
    shell.args(["--exact", "--nocapture", test]);
    let done = run(shell.envs(env.iter().copied()), SOON);
    format!("{}{}", done.stdout, done.stderr)
}

#[test]
fn the_tests_run_where_signals_are_ignored_as_under_nohup() {
    let _world = or_skip!(World::new());
    // dash hands on as ignored what it was told to ignore.
    let line = "trap '' HUP INT QUIT TERM; exec \"$0\" \"$@\"";
    let said = by_a_line(line, "harness::what_a_test_starts_ignores_no_signal", &[]);
    assert!(said.contains("1 passed"), "{said}");
}

#[test]
fn in_a_chroot_that_is_no_mount_point_the_tests_say_so_and_are_skipped() {
    let world = or_skip!(World::new());
    let root = world.directory("root");
    let line = format!(
        "exec unshare --mount --propagation=private sh -euc '
            for entry in /*; do
                if test -L $entry; then cp -P $entry \"$0\"
                elif test -d $entry; then mkdir \"$0$entry\"; mount --rbind $entry \"$0$entry\"
                fi
            done
            exec chroot \"$0\" \"$@\"' {} \"$0\" \"$@\"",
        root.display()
    );
    let needs_mounts =
        "setup::whole::where_systemd_does_not_run_no_daemon_is_said_to_have_taken_the_config";
    let said = by_a_line(&line, needs_mounts, &[]);
    assert!(said.contains("1 passed"), "{said}");
    assert!(
        said.contains("skipped: the root directory is no mount point"),
        "{said}"
    );
    assert!(said.contains("mount --bind"), "{said}");
}

#[test]
fn a_test_that_cannot_run_is_counted_and_fails_where_none_may_be_skipped() {
    let world = or_skip!(World::new());
    let needs_debians = "harness::postgres_does_not_start_with_a_weak_key";
    let record = world.path().join("skipped");
    let env = [
        ("PGCERTD_TEST_POSTGRES", "14"),
        (skipped::RECORD, record.to_str().unwrap()),
        (skipped::NO_SKIPS, "1"),
    ];
    let said = by_a_line("exec \"$0\" \"$@\"", needs_debians, &env[..2]);
    assert!(said.contains("1 passed"), "{said}");
    let said = by_a_line("exec \"$0\" \"$@\"", needs_debians, &env);
    assert!(said.contains("1 failed"), "{said}");
    let recorded = fs::read_to_string(&record).unwrap();
    assert_eq!(recorded.matches(needs_debians).count(), 2, "{recorded}");

    let counted = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/count-skipped");
    let counted = run(command(counted).arg(&record), SOON).result().unwrap();
    let (count, why) = counted.split_once(": ").unwrap();
    assert_eq!(count, "2 skipped");
    assert!(why.starts_with("2 because only Debian's build"), "{why}");
}
