//! What each kind of thread can do under the shipped unit, whatever it is asked to: this test program,
//! copied into the machine, takes pgcertd's place there and tries.

use std::{
    fs::{self, OpenOptions},
    path::Path,
    process::Command,
    sync::Arc,
};

use pgcertd::testing::{
    host::file::{Links, Unopened},
    host::privilege::{self, Ids, Rights, Worker},
};
use rustix::fs::inotify;

use crate::stand::Stand;

/// A lineage that only root may enter, and the files of two instances.
const KEY: &str = "/srv/probe/live/privkey.pem";
const OURS: &str = "/var/lib/pgcertd/ours/server.pem";
const THEIRS: &str = "/var/lib/pgcertd/theirs/server.pem";

/// All that is tried, on each of these.
const FILES: [&str; 5] = [KEY, OURS, THEIRS, "/etc/passwd", "/etc/shadow"];

/// What may succeed, of all.
const EXPECTED: [&str; 20] = [
    // Its user's rights alone. What it reads and writes it leaves to the others; it starts children.
    "main reads /var/lib/pgcertd/ours/server.pem",
    "main writes /var/lib/pgcertd/ours/server.pem",
    "main creates in /var/lib/pgcertd/ours",
    "main watches /var/lib/pgcertd/ours",
    "main reads /var/lib/pgcertd/theirs/server.pem",
    "main writes /var/lib/pgcertd/theirs/server.pem",
    "main creates in /var/lib/pgcertd/theirs",
    "main watches /var/lib/pgcertd/theirs",
    "main reads /etc/passwd",
    "main watches /etc",
    "main runs /bin/true",
    // A watch tells that something happened, and shows nothing.
    "reader reads /srv/probe/live/privkey.pem",
    "reader watches /srv/probe/live",
    "reader watches /var/lib/pgcertd/ours",
    "reader watches /var/lib/pgcertd/theirs",
    "reader watches /etc",
    "watcher watches /srv/probe/live",
    "watcher watches /var/lib/pgcertd/ours",
    "watcher watches /var/lib/pgcertd/theirs",
    "watcher watches /etc",
];

const EXPECTED_OF_THE_WRITER: [&str; 6] = [
    "writer reads /var/lib/pgcertd/ours/server.pem",
    "writer writes /var/lib/pgcertd/ours/server.pem",
    "writer creates in /var/lib/pgcertd/ours",
    "writer watches /var/lib/pgcertd/ours",
    "writer watches /var/lib/pgcertd/theirs",
    "writer watches /etc",
];

const EXPECTED_OF_THE_PUBLISHER: [&str; 5] = [
    "publisher writes /var/lib/pgcertd/ours/server.pem",
    "publisher creates in /var/lib/pgcertd/ours",
    "publisher watches /var/lib/pgcertd/ours",
    "publisher watches /var/lib/pgcertd/theirs",
    "publisher watches /etc",
];

/// In pgcertd's place: all of the unit but what it runs.
const DROP_IN: &str = "[Service]
Type=oneshot
Restart=no
WatchdogSec=0
RuntimeDirectory=
ExecReload=
ExecStart=
ExecStart=/srv/probe/program --ignored --exact --nocapture probe::inside_the_unit
StandardOutput=file:/srv/probe/report
";

/// Tries everything in each kind of thread of a process that runs as the unit has it; gives what it saw.
pub fn each_thread_can_do_what_it_is_for_and_nothing_else(stand: &Stand) {
    let machine = &stand.machine;
    machine.sh(&format!(
        "install -d -o postgres -m 0700 /var/lib/pgcertd/ours /var/lib/pgcertd/theirs
        install -d -m 0700 {}
        echo key >{KEY}
        chmod 0600 {KEY}
        for file in {OURS} {THEIRS}; do
            install -o postgres -m 0600 {KEY} $file
        done
        cp /lib/systemd/system/pgcertd.service /etc/systemd/system/probe.service",
        directory_of(KEY)
    ));
    let program = std::env::current_exe().unwrap();
    machine.copy_in(&program, "/srv/probe/program", 0o755);
    stand.drop_in("probe", "probe", DROP_IN);
    let done = machine.run(["systemctl", "start", "probe"]);
    let report = machine.read("/srv/probe/report");
    assert_eq!(done.code(), 0, "{}{report}", done.stderr);
    let could = |report: &str| -> Vec<String> {
        let lines = report
            .lines()
            .filter_map(|line| line.strip_prefix("could: "));
        lines.map(str::to_owned).collect()
    };
    let expected = EXPECTED.into_iter().chain(EXPECTED_OF_THE_WRITER);
    let expected: Vec<&str> = expected.chain(EXPECTED_OF_THE_PUBLISHER).collect();
    assert_eq!(could(&report), expected, "{report}");
}

#[test]
#[ignore = "runs in a machine, in the place of pgcertd"]
fn inside_the_unit() {
    privilege::enter_main().unwrap();
    tried("main");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let directories = |file: &str| [directory_of(file).into()].into();
    let kinds = [
        (
            "reader",
            Rights::Reader {
                directories: [(directory_of(KEY).into(), held(directory_of(KEY)))].into(),
            },
        ),
        ("watcher", Rights::Watcher),
        (
            "writer",
            Rights::Writer {
                owner: Ids::own(),
                write: directories(OURS),
                read: directories(OURS),
            },
        ),
        (
            "publisher",
            Rights::Publisher {
                owner: Ids::own(),
                write: directories(OURS),
            },
        ),
    ];
    for (name, rights) in kinds {
        runtime.block_on(async {
            let worker = Worker::start(name, move || rights).await.unwrap();
            worker.call(move || tried(name)).await.unwrap();
        });
    }
}

/// Tries everything in this thread, and tells.
fn tried(name: &str) {
    let tell = |what: String, done: std::io::Result<()>| match done {
        Ok(()) => println!("could: {name} {what}"),
        Err(error) => println!("could not: {name} {what}: {error}"),
    };
    for file in FILES {
        let directory = directory_of(file);
        tell(format!("reads {file}"), fs::read(file).map(drop));
        let opened = OpenOptions::new().append(true).open(file);
        tell(format!("writes {file}"), opened.map(drop));
        tell(format!("creates in {directory}"), created(directory));
        if file != "/etc/shadow" {
            tell(format!("watches {directory}"), watched(directory));
        }
    }
    let ran = Command::new("/bin/true").status().map(drop);
    tell("runs /bin/true".into(), ran);
}

fn created(directory: &str) -> std::io::Result<()> {
    let new = Path::new(directory).join("new");
    // Not to be read: who publishes reads nothing.
    OpenOptions::new().write(true).create_new(true).open(&new)?;
    fs::remove_file(new)
}

fn watched(directory: &str) -> std::io::Result<()> {
    let watches = inotify::init(inotify::CreateFlags::CLOEXEC)?;
    inotify::add_watch(watches, directory, inotify::WatchFlags::CREATE)?;
    Ok(())
}

fn held(directory: &str) -> Arc<Unopened> {
    Arc::new(Unopened::at(Path::new(directory), Links::Refused).unwrap())
}

fn directory_of(file: &str) -> &str {
    file.rsplit_once('/')
        .map_or("/", |(directory, _)| directory)
}
