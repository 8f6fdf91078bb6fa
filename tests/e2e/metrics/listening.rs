//! Whom the daemon answers, and where.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
        net::UnixListener,
    },
    path::Path,
};

use super::{says, scraped};
use crate::{
    stage::{NAME, Stage},
    world::{
        SOON, World,
        config::{Config, path},
        daemon::{Daemon, Launch},
        eventually, give,
        port::Port,
        prometheus::curl,
    },
};

const RESYNC: &str = "pgcertd_resync_seconds 1.0";

/// A config without an instance, which is compared each second.
fn bare(world: &World) -> Config {
    Config::new(world).watch("resync", "1s")
}

/// What a daemon answers at a Unix socket.
fn at_socket(socket: &Path) -> Result<String, String> {
    let socket = socket.to_str().unwrap();
    curl(&["--unix-socket", socket, "http://localhost/metrics"])
}

#[test]
fn nothing_but_get_metrics_is_answered() {
    let world = or_skip!(World::new());
    let port = Port::claim();
    let config = bare(&world).metrics("listen", port.address()).write();
    let daemon = Daemon::start(&world, &config);
    says(&port.address(), &[RESYNC]);
    let base = format!("http://{}", port.address());
    let status = |arguments: &[&str]| {
        let mut all = vec![
            "--write-out",
            "%{http_code} %{content_type}",
            "--output",
            "/dev/null",
        ];
        all.extend(arguments);
        // With a status of 400 and above curl fails, and prints it all the same.
        let done = crate::world::process::run(
            crate::world::command("curl").arg("--silent").args(all),
            SOON,
        );
        done.stdout
    };
    let metrics = format!("{base}/metrics");
    assert_eq!(
        status(&[&metrics]),
        "200 text/plain; version=0.0.4; charset=utf-8"
    );
    let open = "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5";
    assert_eq!(
        status(&["-H", open, &metrics]),
        "200 application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    for path in ["/", "/metrics/", "/metrics/x", "/../metrics"] {
        let url = format!("{base}{path}");
        let answer = status(&["--path-as-is", &url]);
        assert!(answer.starts_with("404 "), "{path}: {answer}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let answer = status(&["--request", method, &metrics]);
        assert!(answer.starts_with("405 "), "{method}: {answer}");
    }
    let long = format!("X-Long: {}", "x".repeat(60_000));
    let answer = status(&["-H", &long, &metrics]);
    assert!(answer.starts_with("431 "), "{answer}");
    assert_eq!(daemon.stop().code(), Some(0));
}

/// More of them than are served at once.
#[test]
fn clients_that_never_send_or_never_read_hold_nobody() {
    let world = or_skip!(World::new());
    let port = Port::claim();
    let mut stage = Stage::build(&world)
        .config(|config| config.metrics("listen", port.address()))
        .start();
    let daemon = Daemon::start(&world, &stage.config);
    says(
        &port.address(),
        &[&format!("pgcertd_in_sync{{server=\"{NAME}\"}} 1.0")],
    );
    let mut idle = Vec::new();
    // Those that are answered and never read give their place away; there are too many others.
    for number in 0..30 {
        let mut client = TcpStream::connect(port.address()).unwrap();
        client.set_read_timeout(Some(SOON)).unwrap();
        let sent = match number {
            0..4 => "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
            4..16 => "GET /metrics HTTP/1.1\r\nHost:",
            _ => "",
        };
        client.write_all(sent.as_bytes()).unwrap();
        idle.push(client);
    }
    // A renewal goes its way meanwhile, and whoever asks is answered in the end.
    let second = stage.renewal_is_served();
    says(
        &port.address(),
        &[&format!(
            "pgcertd_deployments_total{{server=\"{NAME}\",outcome=\"deployed\"}} 1"
        )],
    );
    for client in &mut idle[4..] {
        // An end, or a reset where something was sent: anything but silence.
        let ended = client.read(&mut [0]);
        let silent = ended.is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        assert!(!silent, "a client that never sends is kept");
    }
    stage.ends(daemon, &second);
}

#[test]
fn a_reload_moves_the_listener_and_keeps_the_old_one_until_the_new_one_is_had() {
    let world = or_skip!(World::new());
    let (old, new) = (Port::claim(), Port::claim());
    let config = bare(&world).metrics("listen", old.address()).write();
    let mut daemon = Daemon::start(&world, &config);
    says(&old.address(), &[RESYNC]);

    let taken = TcpListener::bind(new.address()).unwrap();
    bare(&world).metrics("listen", new.address()).write();
    daemon.hangup();
    let line = daemon.wait_for_log("the metrics cannot be served");
    for words in [
        &*new.address(),
        "Address already in use",
        "ss -ltnp",
        &format!("they stay at {}", old.address()),
    ] {
        assert!(line.contains(words), "{words}: {line}");
    }
    says(
        &old.address(),
        &["pgcertd_events_total{event=\"metrics_not_served\"} 1"],
    );

    drop(taken);
    says(
        &new.address(),
        &["pgcertd_events_total{event=\"metrics_served\"} 1"],
    );
    daemon.wait_for_log("the metrics are served there now");
    eventually(SOON, "the old one is closed", || {
        TcpStream::connect(old.address()).is_err()
    });
    // And off.
    bare(&world).write();
    daemon.hangup();
    eventually(SOON, "the new one is closed", || {
        TcpStream::connect(new.address()).is_err()
    });
    assert_eq!(daemon.stop().code(), Some(0));
}

#[test]
fn a_socket_is_for_everybody_and_goes_with_the_daemon() {
    let world = or_skip!(World::new());
    let config = bare(&world);
    let socket = config.runtime_directory().join("metrics.sock");
    let config = config
        .metrics("listen", format!("unix:{}", socket.display()))
        .write();
    for launch in [Launch::new(&world), Launch::new(&world).like_the_unit()] {
        let mut daemon = launch.daemon(&config);
        daemon.ready();
        let text = eventually(SOON, "it answers at the socket", || at_socket(&socket));
        assert!(text.contains(RESYNC), "{text}");
        let meta = fs::symlink_metadata(&socket).unwrap();
        assert!(meta.file_type().is_socket());
        assert_eq!(meta.permissions().mode() & 0o777, 0o666);
        // A reload that leaves it where it is, leaves it.
        daemon.hangup();
        daemon.wait_for_log("reloaded; pgcertd now keeps");
        assert!(at_socket(&socket).is_ok());
        assert_eq!(daemon.stop().code(), Some(0));
        assert!(!socket.exists());
    }
}

#[test]
fn a_socket_that_was_left_behind_is_replaced_where_nobody_answers() {
    let world = or_skip!(World::new());
    let config = bare(&world);
    let socket = config.runtime_directory().join("metrics.sock");
    let config = config.metrics("listen", path(&socket)).write();
    let daemon = Daemon::start(&world, &config);
    eventually(SOON, "it answers at the socket", || at_socket(&socket));
    daemon.kill9();
    assert!(socket.exists(), "nobody has removed it");
    let daemon = Daemon::start(&world, &config);
    eventually(SOON, "the next one answers there", || at_socket(&socket));
    assert!(
        !daemon.log().contains("cannot be served"),
        "{}",
        daemon.log()
    );
    assert_eq!(daemon.stop().code(), Some(0));

    // Somebody does answer.
    let other = UnixListener::bind(&socket).unwrap();
    let inode = |socket: &Path| fs::metadata(socket).unwrap().ino();
    let theirs = inode(&socket);
    give(&socket, world.postgres(), 0o000);
    let mut daemon = Launch::new(&world).like_the_unit().daemon(&config);
    daemon.ready();
    let line = daemon.wait_for_log("answers there: Permission denied");
    assert!(line.contains("remove it (`rm "), "{line}");
    give(&socket, world.postgres(), 0o666);
    // Not the line of before, which has the same words.
    let line = daemon.wait_for_log(": another process answers there");
    assert!(line.contains("ss -lxp src"), "{line}");
    assert_eq!(inode(&socket), theirs, "what answers is left alone");
    drop(other);
    eventually(SOON, "it is replaced once nobody does", || {
        at_socket(&socket)
    });
    assert_eq!(daemon.stop().code(), Some(0));

    // It is no socket.
    fs::write(&socket, "mine").unwrap();
    let daemon = Daemon::start(&world, &config);
    let line = daemon.wait_for_log("something other than a socket is there");
    assert!(line.contains("`rm "), "{line}");
    assert_eq!(fs::read_to_string(&socket).unwrap(), "mine");
    assert_eq!(daemon.stop().code(), Some(0));
    assert_eq!(fs::read_to_string(&socket).unwrap(), "mine");
    assert!(scraped("127.0.0.1:1").is_err());
}
