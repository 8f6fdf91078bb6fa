//! What a server may answer, and what `probe` shows and says of it.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    thread,
};

use super::{Desk, document, probe};
use crate::world::{
    SOON, World,
    ca::Ca,
    cluster::Cluster,
    command, on_one_line,
    port::Port,
    process::{Done, run},
    resolving,
};

const HOST: &str = "pg.example.com";

#[track_caller]
fn says(text: &str, parts: &[&str]) {
    let text = on_one_line(text);
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

#[track_caller]
fn fits_80_columns(text: &str) {
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

#[test]
fn the_text_shows_chain_dates_names_and_both_verdicts() {
    let world = or_skip!(World::new());
    let ca = Ca::new(&world, "Test Root");
    let issued = ca.issue(&[HOST, "db.example.com"]);
    let mut desk = Desk::new(&world);
    desk.serve(&issued.combined_pem());

    let accepted = desk.probe(HOST, ca.root(), &[]);
    println!("{}", accepted.stdout);
    assert_eq!(accepted.code(), 0, "{accepted:?}");
    fits_80_columns(&accepted.stdout);
    assert!(!accepted.stdout.contains('\u{1b}'), "colours: {accepted:?}");
    let root = format!("sslrootcert={}", ca.root().display());
    says(
        &accepted.stdout,
        &[
            "TLSv1.3 TLS_AES_256_GCM_SHA384 secp256r1",
            "name pg.example.com, db.example.com",
            "left 89 d ██████████ until",
            &format!("SHA-256 {}", issued.fingerprint),
            &format!("serial {}", issued.serial),
            "0 CN=pg.example.com by CN=Test Root Intermediate 1",
            "1 CN=Test Root Intermediate 1 by CN=Test Root",
            "left; ECDSA P-256; ecdsa-with-SHA256",
            "root CN=Test Root",
            "verify-full accepts",
            "verify-ca accepts",
            "sslmode=verify-full",
            &root,
        ],
    );

    let misnamed = desk.probe("pg.example.org", ca.root(), &[]);
    println!("{}", misnamed.stdout);
    assert_eq!(misnamed.code(), 1);
    fits_80_columns(&misnamed.stdout);
    says(
        &misnamed.stdout,
        &[
            "verify-full refuses why it is for pg.example.com, db.example.com, and pg.example.org was asked for fix",
            "verify-ca accepts",
        ],
    );

    let other = Ca::new(&world, "Other Root");
    let unknown = desk.probe(HOST, other.root(), &[]);
    println!("{}", unknown.stdout);
    fits_80_columns(&unknown.stdout);
    says(
        &unknown.stdout,
        &[
            "verify-full refuses why",
            "--ca FILE",
            "verify-ca refuses, for the same reason",
        ],
    );

    // The line that is given for psql, pasted.
    let text = accepted.stdout;
    let line = &text[text.find("psql  \"").unwrap()..];
    let pasted = format!(
        "export PGUSER=postgres; {} -XAtqwc 'select 1'",
        line.trim_end()
    );
    let connected = run(command("sh").arg("-c").arg(pasted), SOON);
    assert_eq!(connected.result().as_deref(), Ok("1"));

    let log = desk.cluster.log();
    for noise in ["SSL", "could not", "protocol", "unexpected"] {
        assert!(!log.contains(noise), "{noise}: {log}");
    }
}

#[test]
fn the_document_has_all_that_is_shown() {
    let world = or_skip!(World::new());
    let ca = Ca::new(&world, "Test Root");
    let issued = ca.issue(&[HOST]);
    let mut desk = Desk::new(&world);
    desk.serve(&issued.combined_pem());
    let said = document(&desk.probe(HOST, ca.root(), &["--json"]));
    println!("{said:#}");
    assert_eq!(said["version"], 1);
    assert_eq!(said["host"], HOST);
    assert_eq!(said["port"], desk.cluster.port());
    assert_eq!(said["accepted"], true);
    assert!(said["problem"].is_null());
    assert_eq!(said["roots"]["from"], ca.root().to_str().unwrap());
    assert_eq!(said["roots"]["count"], 1);
    let address = &said["addresses"][0];
    let at = format!("127.0.0.1:{}", desk.cluster.port());
    assert_eq!(address["address"], at);
    assert!(address["error"].is_null());
    assert_eq!(address["protocol"], "TLSv1.3");
    assert_eq!(address["chain"].as_array().unwrap().len(), 2);
    let leaf = &address["chain"][0];
    assert_eq!(leaf["fingerprint"], issued.fingerprint);
    assert_eq!(leaf["serial"], issued.serial);
    assert_eq!(leaf["names"][0], HOST);
    assert_eq!(leaf["key"], "ECDSA P-256");
    assert_eq!(leaf["signature"], "ecdsa-with-SHA256");
    assert_eq!(address["root"]["subject"], "CN=Test Root");
    for moment in [&leaf["not_before"], &leaf["not_after"]] {
        let text = moment.as_str().unwrap();
        assert!(text.parse::<jiff::Timestamp>().is_ok(), "{text}");
    }
}

/// Runs probe where the name has these addresses.
fn probe_resolving(world: &World, addresses: &[&str], args: &[&str]) -> Done {
    let hosts: Vec<_> = addresses.iter().map(|address| (*address, HOST)).collect();
    let mut probe = resolving(world, &hosts, env!("CARGO_BIN_EXE_pgcertd"));
    run(probe.arg("probe").args(args), SOON)
}

#[test]
fn every_address_of_a_name_is_looked_at() {
    let world = or_skip!(World::new());
    let ca = Ca::new(&world, "Test Root");
    let (here, there) = (ca.issue(&[HOST]), ca.issue(&["db.example.com"]));
    let target = world.target("here");
    world.place(&here, &target);
    let first = Cluster::build(&world).name("here").tls(&target).start();
    let port = first.port().to_string();
    let target = world.target("there");
    world.place(&there, &target);
    let _second = Cluster::build(&world)
        .name("there")
        .tls(&target)
        .setting("listen_addresses", "127.0.0.2")
        .setting("port", &port)
        .setting("unix_socket_directories", "")
        .start();
    let name = format!("{HOST}:{port}");
    let root = ca.root().to_str().unwrap();
    let args = [name.as_str(), "--ca", root];

    // One that nobody answers at is told, and counts for nothing.
    let done = probe_resolving(&world, &["127.0.0.3", "127.0.0.1"], &args);
    println!("{}", done.stdout);
    assert_eq!(done.code(), 0, "{done:?}");
    fits_80_columns(&done.stdout);
    says(
        &done.stdout,
        &[
            &format!("at 127.0.0.1:{port} name"),
            &format!("? 127.0.0.3:{port} cannot be reached"),
        ],
    );

    // One that serves what is refused is as bad as all.
    let done = probe_resolving(&world, &["127.0.0.1", "127.0.0.2"], &args);
    println!("{}", done.stdout);
    assert_eq!(done.code(), 1, "{done:?}");
    says(
        &done.stdout,
        &[
            "verify-full accepts",
            "verify-full refuses",
            "serve different things",
        ],
    );

    let with_json = [&args[..], &["--json"]].concat();
    let done = probe_resolving(&world, &["127.0.0.1", "127.0.0.3", "127.0.0.2"], &with_json);
    let said = document(&done);
    let addresses = said["addresses"].as_array().unwrap();
    assert_eq!(addresses.len(), 3, "{said}");
    let served: Vec<_> = addresses
        .iter()
        .map(|address| address["verify_full"]["accepted"].as_bool())
        .collect();
    assert!(
        served.contains(&Some(true)) && served.contains(&Some(false)),
        "{said}"
    );
    assert_eq!(said["accepted"], false);

    let done = probe_resolving(&world, &["127.0.0.3", "127.0.0.4"], &args);
    assert_eq!(done.code(), 1);
    says(
        &done.stderr,
        &["no answer from any address", "127.0.0.3", "127.0.0.4"],
    );
    let unknown = probe(&["pg.invalid"]);
    assert_eq!(unknown.code(), 1);
    says(&unknown.stderr, &["cannot resolve pg.invalid"]);
}

/// What probe says on standard error, and in the document's place, of a server that shows nothing.
#[track_caller]
fn fails(args: &[&str], parts: &[&str]) {
    let done = probe(&[args, &["--json"]].concat());
    println!("{}", done.stderr);
    assert_eq!(done.code(), 1, "{done:?}");
    says(&done.stderr, parts);
    says(document(&done)["error"].as_str().unwrap(), parts);
}

#[test]
fn a_server_without_tls_is_told_from_one_that_is_none() {
    let world = or_skip!(World::new());
    let cluster = Cluster::build(&world).start();
    let address = format!("127.0.0.1:{}", cluster.port());
    fails(&[&address], &["without TLS (ssl = off); set ssl = on"]);
    let free = Port::claim();
    fails(
        &[&free.address()],
        &["cannot be reached", "listen_addresses"],
    );

    let closes = answering(b"", Then::Close);
    fails(&[&closes], &["closed the connection", "its log says why"]);
    let web = answering(b"HTTP/1.1 400 Bad Request\r\n\r\n", Then::Close);
    fails(
        &[&web],
        &["is not a PostgreSQL server", "is this PostgreSQL's port?"],
    );
    let plain = answering(
        b"Ecould not fork new process for connection: \x1b[31mno\n\0",
        Then::Close,
    );
    fails(
        &[&plain],
        &["could not fork new process for connection: [31mno; its log"],
    );
    let fields = answering(
        b"E\0\0\0\x2aSFATAL\0VFATAL\0C53300\0Mtoo many clients\0\0",
        Then::Close,
    );
    fails(
        &[&fields],
        &["refused the connection: too many clients; its log"],
    );
    let silent = answering(b"", Then::Wait);
    fails(
        &[&silent, "--timeout", "300ms"],
        &[
            "did not answer within 0.3 s while waiting for its answer",
            "--timeout",
        ],
    );
    let no_tls = answering(b"Snonsense nonsense nonsense", Then::Close);
    fails(&[&no_tls], &["TLS handshake with"]);
}

enum Then {
    Close,
    Wait,
}

/// Says this to each of its first two clients when they have spoken.
fn answering(answer: &'static [u8], then: Then) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        let mut kept: Vec<TcpStream> = Vec::new();
        for client in listener.incoming().take(2) {
            let mut client = client.unwrap();
            // The client may have gone by now.
            let _spoken = client.read(&mut [0; 8]);
            let _heard = client.write_all(answer);
            match then {
                Then::Close => {}
                Then::Wait => kept.push(client),
            }
        }
    });
    address
}

#[test]
fn a_kind_of_key_that_pgcertd_does_not_know_is_told() {
    let world = or_skip!(World::new());
    let mut desk = Desk::new(&world);
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let text = |file: &str| fs::read_to_string(fixtures.join(file)).unwrap();
    desk.serve(&(text("ed448.chain.pem") + &text("ed448.key")));
    let address = format!("127.0.0.1:{}", desk.cluster.port());
    fails(
        &[&address],
        &["no cipher or key type in common", "libpq may still connect"],
    );
}

#[test]
fn wrong_arguments_are_status_2() {
    for (args, part) in [
        (["127.0.0.1:1", "--ca=/nonexistent"], "/nonexistent"),
        (["127.0.0.1:1", "--ca=/dev/null"], "no certificate"),
        (["127.0.0.1:1", "--timeout=0s"], "is zero"),
        (["127.0.0.1:1", "--timeout=3"], "a duration with a unit"),
        (
            ["127.0.0.1:1", "--hostaddr=localhost"],
            "invalid IP address",
        ),
        (["/run/postgresql", "--json"], "speak TLS over Unix sockets"),
    ] {
        let done = probe(&args);
        assert_eq!(done.code(), 2, "{done:?}");
        says(&done.stderr, &[part]);
    }
}

#[test]
fn direct_tls_is_for_17_and_later() {
    let world = or_skip!(World::new());
    let ca = Ca::new(&world, "Test Root");
    let issued = ca.issue(&[HOST]);
    let old = Desk::new(&world);
    let done = old.probe(HOST, ca.root(), &["--direct"]);
    println!("{}", done.stderr);
    assert_eq!(done.code(), 1);
    says(
        &done.stderr,
        &["takes no direct TLS handshake", "PostgreSQL before 17"],
    );

    for version in [17, 18] {
        let name = version.to_string();
        let target = world.target(&name);
        world.place(&issued, &target);
        let mut cluster = Cluster::build(&world)
            .name(&name)
            .version(version)
            .tls(&target)
            .start();
        let address = format!("{HOST}:{}", cluster.port());
        let root = ca.root().to_str().unwrap();
        let args = [&address, "--hostaddr", "127.0.0.1", "--ca", root];
        for more in [[].as_slice(), &["--direct"]] {
            let done = probe(&[&args, more].concat());
            println!("{}", done.stdout);
            assert_eq!(done.code(), 0, "{done:?}");
        }
        let direct = probe(&[&args[..], &["--direct", "--json"]].concat());
        let said = document(&direct);
        assert_eq!(said["direct"], true);
        assert_eq!(
            said["addresses"][0]["chain"][0]["fingerprint"],
            issued.fingerprint
        );
        let log = cluster.log();
        for noise in ["SSL", "could not", "protocol", "unexpected", "ALPN"] {
            assert!(!log.contains(noise), "{noise}: {log}");
        }
        cluster.set("ssl", "off");
        cluster.reload_by_hand();
        let done = probe(&[&args[..], &["--direct"]].concat());
        assert_eq!(done.code(), 1);
        says(
            &done.stderr,
            &["takes no direct TLS handshake", "PostgreSQL without TLS"],
        );
    }
}

#[test]
fn without_a_file_the_systems_roots_are_trusted() {
    let world = or_skip!(World::new());
    let ca = Ca::new(&world, "Test Root");
    let mut desk = Desk::new(&world);
    desk.serve(&ca.issue(&[HOST]).combined_pem());
    let address = format!("{HOST}:{}", desk.cluster.port());
    let probe_with = |roots: &Path| {
        let mut probe = command(env!("CARGO_BIN_EXE_pgcertd"));
        probe
            .args(["probe", &address, "--hostaddr", "127.0.0.1"])
            .env("SSL_CERT_FILE", roots)
            .env("SSL_CERT_DIR", "/nonexistent");
        run(&mut probe, SOON)
    };
    let accepted = probe_with(ca.root());
    assert_eq!(accepted.code(), 0, "{accepted:?}");
    says(
        &accepted.stdout,
        &["sslrootcert=system\"", "before PostgreSQL 16"],
    );
    let rootless = probe_with(Path::new("/nonexistent"));
    println!("{}", rootless.stdout);
    assert_eq!(rootless.code(), 1, "{rootless:?}");
    says(
        &rootless.stdout,
        &["no root certificate was found", "ca-certificates"],
    );
}
