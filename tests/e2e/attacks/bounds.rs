//! Whatever somebody else controls has a bound: answers, files, waits, clients.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    os::unix::{fs::symlink, net::UnixListener},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use crate::{
    stage::{HOST, NAME},
    world::{
        Owner, SOON, World, command,
        config::{Config, Instance, path},
        daemon::{Daemon, Launch},
        eventually, give,
        lineage::Lineage,
        on_one_line,
        port::Port,
        process::{Process, run},
        prometheus::curl,
    },
};

/// No command needs more memory than this, in KiB, whatever somebody else puts in its way.
const MEMORY: u64 = 64 << 10;

const ROOT: Owner = Owner { uid: 0, gid: 0 };

/// Something that lies in place of `status.json`, and a word of what is said about it.
type Odd = (&'static str, fn(&Path, Owner), &'static str);

const ODD: &[Odd] = &[
    (
        "a pipe",
        |file, owner| {
            nix::unistd::mkfifo(file, nix::sys::stat::Mode::from_bits_truncate(0o666)).unwrap();
            give(file, owner, 0o666);
        },
        "not a regular file",
    ),
    (
        "a link to what never ends",
        |file, _| symlink("/dev/zero", file).unwrap(),
        "not a regular file",
    ),
    (
        "a link to a device",
        |file, _| symlink("/dev/tty", file).unwrap(),
        "not a regular file",
    ),
    (
        "a link to a file of root's",
        |file, _| {
            let secret = file.with_file_name("secret");
            fs::write(&secret, "{}").unwrap();
            symlink(secret, file).unwrap();
        },
        "not a regular file",
    ),
    (
        "a link to itself",
        |file, _| symlink(file, file).unwrap(),
        "not a regular file",
    ),
    (
        "a socket",
        |file, _| drop(UnixListener::bind(file).unwrap()),
        "not a regular file",
    ),
    (
        "a directory",
        |file, _| fs::create_dir(file).unwrap(),
        "not a regular file",
    ),
    (
        "more than anybody has to say",
        |file, owner| {
            File::create(file).unwrap().set_len(3 << 30).unwrap();
            give(file, owner, 0o644);
        },
        "bytes",
    ),
    (
        "a file of a stranger's",
        |file, _| {
            fs::write(file, "{}").unwrap();
            give(
                file,
                Owner {
                    uid: 65534,
                    gid: 65534,
                },
                0o644,
            );
        },
        "user 65534",
    ),
    (
        "lists in lists",
        |file, owner| {
            fs::write(file, "[".repeat(4 << 20)).unwrap();
            give(file, owner, 0o644);
        },
        "invalid type",
    ),
    (
        "a state that there is not",
        |file, owner| {
            let view = r#"{"version":1,"uncovered":[],"checked":"9999-12-30T22:00:00Z","daemon":null,
            "instances":[{"name":"a","lineage":"b","state":"forged"}]}"#;
            fs::write(file, view).unwrap();
            give(file, owner, 0o644);
        },
        "unknown variant",
    ),
];

/// Puts something in place of `status.json`.
fn lay(config: &Config, owner: Owner, make: fn(&Path, Owner)) -> PathBuf {
    let directory = config.runtime_directory();
    let _there_or_not = fs::remove_dir_all(directory);
    fs::create_dir_all(directory).unwrap();
    give(directory, owner, 0o755);
    let file = directory.join("status.json");
    make(&file, owner);
    file
}

#[test]
fn whatever_lies_in_place_of_the_daemons_view_is_neither_waited_for_nor_swallowed() {
    let world = or_skip!(World::new());
    let config = Config::new(&world).write();
    for (what, make, said) in ODD {
        let file = lay(&config, world.postgres(), *make);
        let told = Launch::new(&world).measured().run(&config, &["status"]);
        println!("{what}: {told:?}");
        assert!(told.peak() < MEMORY, "{what}: {told:?}");
        assert!(
            told.stdout().contains("daemon not running"),
            "{what}: {told:?}"
        );
        let complaint = told.stderr();
        assert!(complaint.contains(said), "{what}: {told:?}");
        assert!(
            complaint.contains(file.to_str().unwrap()),
            "{what}: {told:?}"
        );
    }
}

#[test]
fn a_view_from_the_future_is_no_fresh_one() {
    let world = or_skip!(World::new());
    let data = world.postgres_directory("data", 0o700);
    let lineage = Lineage::new(&world, HOST);
    let instance = Instance::new(NAME, lineage.name(), &data);
    let config = Config::new(&world).instance(instance).write();
    let status = |launch: Launch| launch.run(&config, &["status", "--json"]);
    let mut view = status(Launch::new(&world)).json();
    view["daemon"] = serde_json::json!({
        "version": "1", "pid": std::process::id(), "since": "2026-01-01T00:00:00Z",
    });
    view["instances"][0]["state"] = "in_sync".into();
    view["instances"][0]["problem"] = serde_json::Value::Null;
    let mut seen = |checked: &str| {
        view["checked"] = checked.into();
        lay(&config, world.postgres(), |_, _| {});
        let file = config.runtime_directory().join("status.json");
        fs::write(&file, view.to_string()).unwrap();
        give(&file, world.postgres(), 0o644);
        status(Launch::new(&world).by_user("nobody")).instance(NAME)["state"].clone()
    };
    let now = present();
    assert_eq!(seen(&now), "in_sync");
    for other in ["9999-12-30T22:00:00Z", "2026-01-01T00:00:00Z"] {
        assert_eq!(seen(other), "unknown", "{other}");
    }
}

/// The present time.
fn present() -> String {
    let now = run(command("date").args(["-u", "+%FT%TZ"]), SOON);
    now.stdout.trim().to_owned()
}

/// Nobody would be told that the daemon is dead, if its notifier could be held up by what it reads.
#[test]
fn the_notifier_tells_beside_a_pipe_and_ends_when_it_is_told_to() {
    let world = or_skip!(World::new());
    let told = world.path().join("told");
    let script = format!("printf '%s\\n' \"$PGCERTD_SUBJECT\" >>{}", told.display());
    let config = Config::new(&world)
        .notify("command", vec!["/bin/sh", "-c", &script])
        .notify("after", "1s")
        .notify("state_directory", path(&world.path().join("notify")))
        .write();
    let says = |words: &str| {
        eventually(SOON, &format!("people are told: {words}"), || {
            let text = fs::read_to_string(&told).unwrap_or_default();
            if text.contains(words) {
                Ok(())
            } else {
                Err(text)
            }
        });
    };
    let (_, pipe, _) = ODD[0];
    let file = lay(&config, ROOT, pipe);
    let mut notifier = Launch::new(&world).notifier(&config);
    notifier.ready();
    says("pgcertd's view cannot be read");
    fs::remove_file(&file).unwrap();
    says("pgcertd is not running");
    pipe(&file, ROOT);
    assert_eq!(notifier.stop().code(), Some(0));
    // What it remembers is read in the same way.
    let memory = world.path().join("notify/told.json");
    fs::remove_file(&memory).unwrap();
    pipe(&memory, ROOT);
    let mut notifier = Launch::new(&world).notifier(&config);
    notifier.ready();
    notifier.wait_for_log("told.json");
    assert_eq!(notifier.stop().code(), Some(0));
}

/// A server of any user's that answers a login with what no PostgreSQL sends; it runs in place of one. Arguments: the
/// data directory, the directory of its socket, and what it does.
const HOSTILE: &str = r#"
import os, signal, socket, struct, sys, time
data, sockets, does = sys.argv[1:]
signal.signal(signal.SIGHUP, lambda *_: None)
os.chdir(data)
listener = socket.socket(socket.AF_UNIX)
listener.bind(sockets + '/.s.PGSQL.5432')
listener.listen()
lines = [os.getpid(), data, int(time.time()), 5432, sockets, '', '  5432001 0', 'ready   ']
with open('postmaster.pid.new', 'w') as file:
    file.write(''.join(f'{line}\n' for line in lines))
os.rename('postmaster.pid.new', 'postmaster.pid')
def message(kind, body, length=None):
    length = len(body) + 4 if length is None else length
    return kind + struct.pack('>I', length) + body
welcome = message(b'R', struct.pack('>I', 0)) + message(b'Z', b'I')
prepared = message(b'1', b'') + message(b't', struct.pack('>H', 0)) + message(b'n', b'')
row = message(b'D', struct.pack('>H', 0))
def flood(client):
    part = bytes(1 << 20)
    # Enough to be seen, and too little to bring down who runs the tests.
    for _ in range(256):
        client.sendall(part)
    client.recv(1)
def serve(client):
    client.recv(65536)
    if does == 'greeting':
        client.sendall(message(b'R', b'', 0xf0000000))
        return flood(client)
    if does == 'refusal':
        client.sendall(message(b'E', b'', 0x70000000))
        return flood(client)
    client.sendall(welcome)
    client.recv(65536)
    if does == 'row':
        client.sendall(prepared + message(b'D', b'', 0x7fffffff))
        return flood(client)
    if does == 'notices':
        notice = message(b'N', b'SWARNING\0VWARNING\0C01000\0M' + b'x' * 65000 + b'\0\0')
        for _ in range(4096):
            client.sendall(notice)
    if does == 'rows':
        client.sendall(prepared)
        rows = row * 10000
        for _ in range(1000):
            client.sendall(rows)
    client.recv(1)
while True:
    client, _ = listener.accept()
    try:
        serve(client)
    except OSError:
        pass
    client.close()
"#;

/// A process of the user postgres that stands in place of a server.
pub(super) struct ForgedServer {
    pub(super) data: PathBuf,
    _process: Process,
}

impl ForgedServer {
    /// In a data directory of this name; see [`HOSTILE`].
    pub(super) fn start(world: &World, name: &str, does: &str) -> ForgedServer {
        let program = world.directory("programs").join("postgres");
        if !program.exists() {
            let interpreter = fs::canonicalize("/usr/bin/python3").unwrap();
            run(command("cp").arg(interpreter).arg(&program), SOON)
                .result()
                .unwrap();
        }
        let data = world.postgres_directory(name, 0o700);
        let sockets = world.postgres_directory(&format!("sockets-{does}"), 0o755);
        fs::write(data.join("PG_VERSION"), "15\n").unwrap();
        let process = Process::spawn(
            command("setpriv")
                .args(["--reuid=postgres", "--regid=postgres", "--init-groups"])
                .arg(&program)
                .args(["-c", HOSTILE])
                .args([&data, &sockets])
                .arg(does)
                .stdin(Stdio::null()),
        );
        let there = data.join("postmaster.pid");
        eventually(SOON, "it stands there", || there.exists());
        ForgedServer {
            data,
            _process: process,
        }
    }
}

#[test]
fn a_forged_server_has_no_command_make_room_for_what_it_says_will_come() {
    let world = or_skip!(World::new());
    for does in ["row", "rows", "greeting", "refusal", "notices"] {
        let server = ForgedServer::start(&world, &format!("data-{does}"), does);
        let instance = Instance::new(NAME, world.path().join("lineage"), &server.data);
        let config = Config::new(&world).instance(instance).write();
        let data = server.data.to_str().unwrap();
        for arguments in [
            &["sessions"][..],
            &["check"],
            &["setup", "--dry-run", "--data-directory", data],
        ] {
            let told = Launch::new(&world).measured().run(&config, arguments);
            println!("{does}, {arguments:?}: {told:?}");
            assert!(told.peak() < MEMORY, "{does}, {arguments:?}: {told:?}");
        }
        let told = Launch::new(&world).run(&config, &["sessions"]);
        let words = on_one_line(told.stdout());
        assert!(
            words.contains("which no PostgreSQL does"),
            "{does}: {told:?}"
        );
    }
}

#[test]
fn a_scrape_is_answered_beside_any_number_of_clients_that_are_silent_or_slow() {
    let world = or_skip!(World::new());
    let port = Port::claim();
    let config = Config::new(&world)
        .metrics("listen", port.address())
        .write();
    let daemon = Daemon::start(&world, &config);
    let scraped = || {
        curl(&[
            "--max-time",
            "10",
            &format!("http://{}/metrics", port.address()),
        ])
    };
    eventually(SOON, "it answers", scraped);
    let connect = || {
        let client = TcpStream::connect(port.address()).unwrap();
        client.set_nonblocking(true).unwrap();
        client
    };
    let silent: Vec<TcpStream> = (0..64).map(|_| connect()).collect();
    let mut slow: Vec<TcpStream> = (0..64).map(|_| connect()).collect();
    // Those that ask and never read what they get.
    let deaf: Vec<TcpStream> = (0..64).map(|_| connect()).collect();
    for mut client in &deaf {
        drop(client.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    }
    let request = b"GET /metrics HTTP/1.1\r\nX-Long: "
        .iter()
        .chain(std::iter::repeat(&b'x'));
    let mut letters = request.copied();
    for number in 0..4 {
        let letter = [letters.next().unwrap()];
        // One that was let go comes again at once.
        for client in &mut slow {
            if client.write(&letter).is_err() || matches!(client.read(&mut [0; 1]), Ok(0)) {
                *client = connect();
            }
        }
        let text = scraped().unwrap_or_else(|error| panic!("scrape {number}: {error}"));
        assert!(text.contains("pgcertd_resync_seconds"), "{text}");
    }
    // Each of them has gone after a while, whatever it does.
    eventually(Duration::from_secs(20), "they are let go", || {
        let gone = |client: &TcpStream| {
            let mut client = client;
            match client.read(&mut [0; 4096]) {
                Ok(length) => length == 0,
                Err(error) => error.kind() != ErrorKind::WouldBlock,
            }
        };
        silent.iter().all(gone)
    });
    assert_eq!(daemon.stop().code(), Some(0));
}
