//! What pgcertd starts has no terminal, no privileges to gain, and no endless voice.
//!
//! A server's own program is what its user has put there. Here that is a stand-in, since no PostgreSQL attacks: it passes
//! for a postmaster, and reports what it finds when root runs it to ask for a setting.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Stdio,
};

use crate::stage::Stage;
use crate::{
    stage::{HOST, NAME},
    world::{
        SOON, World,
        ca::Ca,
        command,
        config::{Config, Instance},
        daemon::Launch,
        eventually, give,
        lineage::Lineage,
        port::Port,
        process::{Process, run},
    },
};

/// The program in C, which knows where to report.
const STAND_IN: &str = r#"
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static void heard(int signal) { (void)signal; }

static int report(int argc, char **argv) {
    struct rlimit core, files;
    getrlimit(RLIMIT_CORE, &core);
    getrlimit(RLIMIT_NOFILE, &files);
    int open_files = 0, mine = -1;
    DIR *directory = opendir("/proc/self/fd");
    struct dirent *entry;
    mine = dirfd(directory);
    while ((entry = readdir(directory)))
        if (entry->d_name[0] != '.' && atoi(entry->d_name) > 2 && atoi(entry->d_name) != mine) open_files++;
    char nothing;
    int reads = read(0, &nothing, 1);
    int terminal = open("/dev/tty", O_RDWR);
    FILE *file = fopen(REPORT, "a");
    fprintf(file, "name=%s uid=%d leads=%d terminal=%d no_new_privs=%d core=%ld files=%ld open=%d input=%d\n",
            strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0], getuid(), getsid(0) == getpid(), terminal >= 0,
            prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), (long)core.rlim_max, (long)files.rlim_max, open_files, reads);
    fclose(file);
    if (argc > 0 && access(LOUD, F_OK) == 0) {
        static char words[65536];
        memset(words, 'x', sizeof words);
        for (;;)
            if (write(1, words, sizeof words) < 0) return 1;
    }
    puts("on");
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 4 || strcmp(argv[1], "serve") != 0) return report(argc, argv);
    signal(SIGHUP, heard);
    if (chdir(argv[2]) != 0) return 1;
    FILE *file = fopen("postmaster.pid", "w");
    fprintf(file, "%d\n%s\n%ld\n%s\n/nonexistent\n127.0.0.1\n  5432001         3\nready   \n",
            getpid(), argv[2], (long)time(NULL), argv[3]);
    fclose(file);
    for (;;) pause();
}
"#;

/// A data directory that looks served.
struct Forged {
    config: Config,
    report: PathBuf,
    loud: PathBuf,
    _postmaster: Process,
    _port: Port,
}

impl Forged {
    fn new(world: &World, instance: impl FnOnce(Instance) -> Instance) -> Self {
        let told = world.postgres_directory("told", 0o777);
        let (report, loud) = (told.join("report"), told.join("loud"));
        let bin = world.postgres_directory("forged", 0o755);
        let source = bin.join("stand-in.c");
        fs::write(&source, STAND_IN).unwrap();
        let programs = ["postgres", "pg_ctl", "pgbouncer"].map(|name| bin.join(name));
        run(
            command("gcc")
                .arg(format!("-DREPORT=\"{}\"", report.display()))
                .arg(format!("-DLOUD=\"{}\"", loud.display()))
                .arg("-o")
                .args([&programs[0], &source]),
            SOON,
        )
        .result()
        .unwrap();
        for program in &programs[1..] {
            fs::copy(&programs[0], program).unwrap();
        }
        for program in &programs {
            give(program, world.postgres(), 0o755);
        }
        let ca = Ca::new(world, "Test Root");
        let first = ca.issue(&[HOST]);
        let mut lineage = Lineage::new(world, HOST);
        lineage.renew(&first);
        world.place(&first, &world.target(NAME));
        let data = world.postgres_directory("clusters/forged/data", 0o700);
        fs::write(data.join("PG_VERSION"), "15\n").unwrap();
        let port = Port::claim();
        let postmaster = Process::spawn(
            command(&programs[0])
                .arg("serve")
                .arg(&data)
                .arg(port.number().to_string())
                .uid(world.postgres().uid)
                .gid(world.postgres().gid)
                .stdin(Stdio::null()),
        );
        eventually(SOON, "the stand-in passes for a postmaster", || {
            let text = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
            text.contains("ready")
        });
        let config = Config::new(world)
            .watch("resync", "1h")
            .instance(instance(Instance::new(NAME, HOST, &data)))
            .write();
        Self {
            config,
            report,
            loud,
            _postmaster: postmaster,
            _port: port,
        }
    }

    /// Runs one of root's commands in a terminal, with a descriptor too many.
    fn run(&self, world: &World, words: &str) {
        let program = Launch::new(world).program_path().to_owned();
        let line = format!(
            "sh -c 'exec 9</etc/hostname; exec {} --config {} {words}'",
            program.display(),
            self.config.path().display()
        );
        let done = run(
            command("script").args(["-qec", &line, "/dev/null"]),
            SOON * 3,
        );
        println!("{}", done.stdout);
    }

    /// What each child found, by the names of the fields.
    fn reports(&self) -> Vec<BTreeMap<String, String>> {
        let text = fs::read_to_string(&self.report).unwrap_or_default();
        text.lines()
            .map(|line| {
                let fields = line.split(' ').filter_map(|field| field.split_once('='));
                fields
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .collect()
            })
            .collect()
    }

    /// Children of this name were started, and each found nothing that it should not have.
    #[track_caller]
    fn found_nothing(&self, world: &World, name: &str) {
        let uid = world.postgres().uid.to_string();
        let reports = self.reports();
        assert!(
            reports.iter().any(|instance| instance["name"] == name),
            "no {name} was started: {reports:?}"
        );
        for found in reports {
            for (field, expected) in [
                ("uid", uid.as_str()),
                ("leads", "1"),
                ("terminal", "0"),
                ("no_new_privs", "1"),
                ("core", "0"),
                ("open", "0"),
                ("input", "0"),
            ] {
                assert_eq!(found[field], expected, "{field} of {found:?}");
            }
            assert!(found["files"].parse::<u64>().unwrap() <= 1024, "{found:?}");
        }
    }
}

#[test]
fn a_forged_server_is_asked_without_a_terminal_or_a_privilege_of_roots() {
    let world = or_skip!(World::new());
    let forged = Forged::new(&world, |instance| instance);
    for words in ["status", "check", "sync", "sync --force", "setup --dry-run"] {
        forged.run(&world, words);
        forged.found_nothing(&world, "postgres");
        fs::remove_file(&forged.report).unwrap();
    }
}

#[test]
fn a_forged_pg_ctl_finds_no_more() {
    let world = or_skip!(World::new());
    let forged = Forged::new(&world, |instance| instance.set("reload", "pg_ctl"));
    forged.run(&world, "sync --force");
    forged.found_nothing(&world, "pg_ctl");
}

#[test]
fn a_forged_pgbouncer_finds_no_more() {
    let world = or_skip!(World::new());
    let forged = Forged::new(&world, |instance| instance);
    let directory = world.postgres_directory("pooler", 0o755);
    let ini = directory.join("pgbouncer.ini");
    fs::write(&ini, "[pgbouncer]\nclient_tls_sslmode = require\n").unwrap();
    give(&ini, world.postgres(), 0o640);
    let _pooler = Process::spawn(
        command(world.path().join("forged/pgbouncer"))
            .arg("serve")
            .arg(&directory)
            .arg(&ini)
            .uid(world.postgres().uid)
            .gid(world.postgres().gid)
            .stdin(Stdio::null()),
    );
    let pooler = Instance::of_pgbouncer("pooler", HOST, &ini);
    let forged = Forged {
        config: Config::new(&world).instance(pooler).write(),
        ..forged
    };
    eventually(SOON, "the pooler's version is asked for", || {
        forged.run(&world, "check");
        forged
            .reports()
            .iter()
            .any(|instance| instance["name"] == "pgbouncer")
    });
    forged.found_nothing(&world, "pgbouncer");
}

#[test]
fn an_endless_answer_takes_no_memory_and_no_time() {
    let world = or_skip!(World::new());
    let forged = Forged::new(&world, |instance| instance);
    fs::write(&forged.loud, "").unwrap();
    for words in ["status", "check", "sync"] {
        let mut process = Process::spawn(
            command(Launch::new(&world).program_path())
                .arg("--config")
                .arg(forged.config.path())
                .arg(words)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null()),
        );
        let mut peak = 0;
        let ended = eventually(SOON * 3, words, || {
            peak = peak.max(resident(process.pid()));
            process.ended()
        });
        println!("{words}: {ended}, {peak} KiB");
        assert!(peak > 0 && peak < 64 << 10, "{words}: {peak} KiB");
        assert_eq!(ended.code(), Some(1), "{words}");
    }
    assert!(!forged.reports().is_empty());
}

/// The most memory that a process has had so far, in KiB; 0 where it is not there any more.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(0)
}

/// A `reload_command` that notes what it is.
fn noting(world: &World, directory: &Path) -> (PathBuf, PathBuf) {
    let (program, note) = (directory.join("reload"), world.path().join("note"));
    let script = format!(
        "#!/bin/sh\n{{ id -u; grep NoNewPrivs /proc/self/status; (: </dev/tty) 2>/dev/null && echo terminal; \
         ls /proc/self/fd | grep -c 9; kill -HUP \"$1\"; }} >{}\n",
        note.display()
    );
    fs::write(&program, script).unwrap();
    give(&program, crate::world::Owner { uid: 0, gid: 0 }, 0o755);
    (program, note)
}

#[test]
fn the_operators_own_command_keeps_its_rights_and_has_no_terminal_either() {
    let world = or_skip!(World::new());
    let stage = Stage::new(&world);
    let (program, note) = noting(&world, &world.directory("operators"));
    let words = vec![
        program.to_str().unwrap().to_owned(),
        stage.cluster.pid().to_string(),
    ];
    let instance = stage
        .instance(HOST)
        .set("reload", "command")
        .set("reload_command", words);
    let config = Config::new(&world).instance(instance).write();
    let line = format!(
        "sh -c 'exec 9</etc/hostname; exec {} --config {} sync --force'",
        Launch::new(&world).program_path().display(),
        config.path().display()
    );
    let done = run(command("script").args(["-qec", &line, "/dev/null"]), SOON);
    println!("{}", done.stdout);
    assert_eq!(done.code(), 0);
    let note = fs::read_to_string(note).unwrap();
    assert_eq!(note, "0\nNoNewPrivs:\t0\n0\n");
}
