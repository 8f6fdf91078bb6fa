//! Whether a server would start again, as `check` says and as a restart shows.

use std::{fs, path::Path};

use serde_json::Value;

use crate::{
    check::finding::{line, typed},
    stage::{Stage, says},
    world::{
        Owner, SOON, World,
        ca::Ca,
        command,
        daemon::status,
        eventually, give,
        process::{Process, run},
    },
};

/// What is changed before a restart.
struct Change {
    /// Lines for the settings, which outweigh those before.
    settings: String,
    /// A line at the end of `pg_hba.conf`.
    rule: &'static str,
}

fn settings(lines: &str) -> Change {
    Change {
        settings: lines.to_owned(),
        rule: "",
    }
}

fn rule(rule: &'static str) -> Change {
    Change {
        settings: String::new(),
        rule,
    }
}

/// Each change is loaded as far as the server does, judged by `check`, and tried by a restart.
#[test]
fn what_check_says_of_a_restart_is_what_a_restart_does() {
    let world = or_skip!(World::new());
    let mut stage = Stage::build(&world).server_names().start();
    let data = stage.cluster.data_directory().to_owned();
    let owned = |name: &str, text: &[u8], mode: u32| {
        let path = data.join(name);
        fs::write(&path, text).unwrap();
        give(&path, world.postgres(), mode);
        path.display().to_string()
    };
    let root = fs::read(stage.ca.root()).unwrap();
    let other = Ca::new(&world, "Other Root").issue(&["a.example.com"]);
    let wide = owned("wide.key", other.key_pem.as_bytes(), 0o644);
    let foreign = owned("foreign.key", other.key_pem.as_bytes(), 0o600);
    let empty = owned("empty.pem", b"", 0o644);
    owned("root.crt", &root, 0o644);
    owned("closed.crt", &root, 0o600);
    give(&data.join("closed.crt"), Owner { uid: 0, gid: 0 }, 0o600);
    let chain = owned("chain.pem", other.fullchain_pem().as_bytes(), 0o644);
    let plain = data.join("plain.key");
    fs::write(&plain, &other.key_pem).unwrap();
    let encrypted = owned("encrypted.key", b"", 0o600);
    let mut openssl = command("openssl");
    openssl.args(["pkey", "-aes256", "-passout", "pass:secret", "-in"]);
    let done = run(openssl.arg(&plain).args(["-out", &encrypted]), SOON);
    done.result().unwrap();
    let pair = |key: &str| format!("ssl_cert_file = '{chain}'\nssl_key_file = '{key}'\n");

    let refused = [
        (settings("ssl_ciphers = 'nonsense'"), "cipher"),
        (
            settings("ssl_dh_params_file = '/nonexistent/dh.pem'"),
            "/nonexistent/dh.pem",
        ),
        (
            settings("ssl_min_protocol_version = 'TLSv1.3'\nssl_max_protocol_version = 'TLSv1.2'"),
            "ssl_max_protocol_version",
        ),
        (settings(&format!("ssl_ca_file = '{empty}'")), "empty.pem"),
        (settings("ssl_ca_file = 'closed.crt'"), "Permission denied"),
        (settings(&pair(&wide)), "group or world access"),
        (settings(&pair(&foreign).replace(&chain, "root.crt")), "key"),
        (
            settings(&format!(
                "{}ssl_passphrase_command = 'echo wrong'",
                pair(&encrypted)
            )),
            "encrypted.key",
        ),
        (
            settings("wal_level = minimal\nmax_wal_senders = 3"),
            "max_wal_senders",
        ),
        (
            settings("max_connections = 5\nsuperuser_reserved_connections = 5"),
            "superuser_reserved_connections",
        ),
        (rule("hostssl all all all scram-sha-256 nosuch=1"), "nosuch"),
        (rule("host all all all ldap"), "ldap"),
        (rule("local all all md5 clientcert=verify-ca"), "clientcert"),
    ];
    let mut found = 0;
    for (change, told) in &refused {
        let (restart, plaintext) = judged(&mut stage, change);
        // Not every OpenSSL refuses every word.
        if restart["weight"] == "good" {
            continue;
        }
        found += 1;
        says(
            restart["seen"].as_str().unwrap(),
            &["would not start", told],
        );
        // Whoever edits the rules does not see in the file what is in force.
        if !change.rule.is_empty() {
            assert_eq!(plaintext["weight"], "problem", "{plaintext}");
            says(plaintext["seen"].as_str().unwrap(), &["not known", told]);
        }
    }

    assert!(found >= 10, "{found}");

    let accepted = [
        settings("ssl_ca_file = '../data/root.crt'"),
        settings("ssl_ecdh_curve = 'secp521r1'\nssl_min_protocol_version = 'TLSv1.3'"),
        settings(&format!(
            "{}ssl_passphrase_command = 'echo secret'",
            pair(&encrypted)
        )),
        settings("max_connections = 2000\nshared_buffers = '64MB'"),
        settings("log_line_prefix = 'LOG:  '\nlog_error_verbosity = terse"),
        rule("hostssl all all samenet reject"),
    ];
    for change in &accepted {
        let (restart, plaintext) = judged(&mut stage, change);
        assert_eq!(restart["weight"], "good", "{restart}");
        assert_eq!(plaintext["weight"], "good", "{plaintext}");
    }
    stage.ends_serving_the_first();
}

/// What `check` says after a reload, of which a restart has to show the same.
#[track_caller]
fn judged(stage: &mut Stage<'_>, change: &Change) -> (Value, Value) {
    let cluster = &mut stage.cluster;
    let (file, hba) = (
        cluster.settings_file(),
        cluster.config_directory().join("pg_hba.conf"),
    );
    let before = (fs::read(&file).unwrap(), fs::read(&hba).unwrap());
    let with = |before: &[u8], more: &str| [before, b"\n", more.as_bytes(), b"\n"].concat();
    fs::write(&file, with(&before.0, &change.settings)).unwrap();
    fs::write(&hba, with(&before.1, change.rule)).unwrap();
    cluster.reload_by_hand();
    let kept = held(cluster.data_directory());
    let seen = stage.checked();
    let cluster = &mut stage.cluster;
    assert_eq!(held(cluster.data_directory()), kept);
    let (restart, plaintext) = (seen.instance("restart"), seen.instance("plaintext"));
    println!("{}{}", change.settings, change.rule);
    println!("  {}\n  {}", restart["seen"], plaintext["seen"]);
    let restarted = cluster.restart();
    let said = if restarted.is_ok() { "good" } else { "problem" };
    assert_eq!(restart["weight"], said, "{restart}: {restarted:?}");
    fs::write(&file, before.0).unwrap();
    fs::write(&hba, before.1).unwrap();
    if restarted.is_ok() {
        cluster.reload_by_hand();
    } else {
        cluster.start().unwrap();
    }
    (restart, plaintext)
}

/// The names in a data directory, and what tells one run of the server from another.
fn held(data: &Path) -> (Vec<String>, String) {
    let entries = fs::read_dir(data).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.collect();
    names.sort();
    let pid_file = fs::read_to_string(data.join("postmaster.pid")).unwrap();
    (names, pid_file)
}

/// A file of rules that was changed after the server loaded it says nothing of what is in force.
#[test]
fn rules_that_are_not_loaded_yet_are_not_taken_for_those_in_force() {
    let world = or_skip!(World::new());
    let mut stage = Stage::build(&world).server_names().start();
    let hba = stage.cluster.config_directory().join("pg_hba.conf");
    let strict = fs::read_to_string(&hba).unwrap();
    let open = format!("{strict}host all all 192.0.2.0/24 trust\n");
    fs::write(&hba, &open).unwrap();
    stage.cluster.reload_by_hand();
    assert_ne!(stage.finds("plaintext", "notice")["why"], "");

    // Without a word of it in the file, the server still lets them in.
    fs::write(&hba, &strict).unwrap();
    let found = stage.finds("plaintext", "notice");
    println!("{found}");
    says(
        found["seen"].as_str().unwrap(),
        &["not known", hba.to_str().unwrap()],
    );
    typed(&line(&found));
    eventually(SOON, "it is reloaded", || {
        stage.checked().instance("plaintext")["weight"] == "good"
    });

    // One of an earlier date that is moved there is as new.
    let aside = hba.with_extension("aside");
    fs::write(&aside, &strict).unwrap();
    give(&aside, world.postgres(), 0o600);
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    fs::File::options()
        .write(true)
        .open(&aside)
        .unwrap()
        .set_modified(old)
        .unwrap();
    fs::rename(&aside, &hba).unwrap();
    stage.finds("plaintext", "notice");
}

/// While a start is tried, nobody takes it for a server of this host.
#[test]
fn a_throw_away_start_is_no_server_that_no_instance_covers() {
    let world = or_skip!(World::new());
    let stage = Stage::build(&world).server_names().start();
    let home = world.postgres_directory("passphrase", 0o700);
    let encrypted = home.join("encrypted.key");
    let key = Ca::new(&world, "Other Root").issue(&["a.example.com"]);
    fs::write(home.join("plain.key"), &key.key_pem).unwrap();
    let mut openssl = command("openssl");
    openssl.args(["pkey", "-aes256", "-passout", "pass:secret", "-in"]);
    openssl
        .arg(home.join("plain.key"))
        .arg("-out")
        .arg(&encrypted);
    run(&mut openssl, SOON).result().unwrap();
    give(&encrypted, world.postgres(), 0o600);
    // The start waits where it asks for the passphrase.
    let (asked, go) = (home.join("asked"), home.join("go"));
    let waits = format!(
        "touch {}; while ! test -e {}; do sleep 0.02; done; echo secret",
        asked.display(),
        go.display()
    );
    let cluster = &stage.cluster;
    cluster.set("ssl_key_file", encrypted.to_str().unwrap());
    cluster.set("ssl_passphrase_command", &waits);
    let mut check = command(env!("CARGO_BIN_EXE_pgcertd"));
    check.args(["check", "--json", "--config"]);
    check.arg(stage.config.path());
    let mut check = Process::spawn(check.stdout(std::process::Stdio::null()));
    eventually(SOON, "a start is tried", || asked.exists());
    let status = status(&world, &stage.config);
    fs::write(&go, "").unwrap();
    assert!(check.wait(SOON).is_some());
    let uncovered = status["uncovered"].to_string();
    assert!(!uncovered.contains("pgcertd-start"), "{uncovered}");
}
