//! The host refuses a look (no descriptors, a seccomp filter, a hidden `/proc`, a failing disk, a server that is late):
//! that is no answer, and nothing is done as if it were one.

mod asked;
mod kinds;
mod late;

use std::{fs, path::Path, process::Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    stage::{NAME, Stage, problem, says},
    world::{
        SOON, World,
        attached::Attached,
        ca::Issued,
        cluster::Cluster,
        command,
        config::Config,
        daemon::{Daemon, Launch, Outcome},
        eventually, give, on_one_line,
        process::Process,
    },
};

/// What stands in the way: which errno of which call, of which path alone, and the word that its remedy has.
struct Fault<'a> {
    call: &'static str,
    errno: &'static str,
    path: Option<&'a str>,
    /// What pgcertd calls the call.
    told: &'static str,
    remedy: &'static str,
}

impl<'a> Fault<'a> {
    fn in_call(call: &'static str, errno: &'static str, remedy: &'static str) -> Self {
        Fault {
            call,
            errno,
            path: None,
            told: call,
            remedy,
        }
    }

    fn at(self, path: &'a str) -> Self {
        Fault {
            path: Some(path),
            ..self
        }
    }

    /// Where the C library calls it by another name than pgcertd.
    fn told(self, told: &'static str) -> Self {
        Fault { told, ..self }
    }

    fn arguments(&self) -> Vec<String> {
        let (trace, inject) = (
            format!("trace={}", self.call),
            format!("inject={}:error={}", self.call, self.errno),
        );
        let path = self.path.iter().flat_map(|path| ["-P", path]);
        let all = path.chain(["-e", &trace, "-e", &inject]);
        all.map(str::to_owned).collect()
    }

    fn launch(&self, world: &World) -> Launch {
        let arguments = self.arguments();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Launch::new(world).strace(&arguments)
    }

    fn name(&self) -> String {
        format!("{} of {:?}: {}", self.call, self.path, self.errno)
    }
}

/// `pidfd_open` fails in every way that a host or a filter has it fail.
fn of_pidfd() -> Vec<Fault<'static>> {
    let fault = |errno, remedy| Fault::in_call("pidfd_open", errno, remedy);
    vec![
        fault("EMFILE", "LimitNOFILE="),
        fault("ENFILE", "fs.file-max"),
        fault("ENOMEM", "memory"),
        fault("EPERM", "seccomp"),
        fault("EACCES", "seccomp"),
        fault("ENOSYS", "Linux 5.3"),
        fault("EINVAL", "seccomp"),
        fault("EIO", "kernel's log"),
    ]
}

/// The files of a process's entry in `/proc` that are looked at.
fn entries(pid: u32) -> [String; 4] {
    ["status", "exe", "ns/net", "cmdline"].map(|name| format!("/proc/{pid}/{name}"))
}

/// Looks at those fail.
fn of_entries([status, exe, net, cmdline]: &[String; 4]) -> Vec<Fault<'_>> {
    vec![
        Fault::in_call("openat", "EMFILE", "LimitNOFILE=")
            .told("open")
            .at(status),
        Fault::in_call("openat", "EPERM", "hidepid=")
            .told("open")
            .at(status),
        Fault::in_call("read", "EIO", "kernel's log").at(status),
        Fault::in_call("readlink", "ENOMEM", "memory").at(exe),
        Fault::in_call("statx", "EIO", "kernel's log")
            .told("stat")
            .at(net),
        Fault::in_call("openat", "ENFILE", "fs.file-max")
            .told("open")
            .at(cmdline),
    ]
}

/// Not known, not well, and told with the call and its remedy.
#[track_caller]
fn is_not_known(outcome: &Outcome, name: &str, fault: &Fault<'_>) {
    let what = fault.name();
    let row = outcome.instance(name);
    let told = problem(&row);
    println!("{what}: {row}");
    assert_eq!(row["state"], "unverified", "{what}: {row}");
    assert_eq!(outcome.code(), 1, "{what}: {row}");
    says(&told, &["not known", fault.told, fault.remedy]);
    assert!(!told.contains("remove the file"), "{what}: {told}");
}

/// `sync` and `check` fail as well, and nothing was written.
#[track_caller]
fn nothing_is_done(
    launch: &Launch,
    config: &Config,
    name: &str,
    fault: &Fault<'_>,
    kept: (&Path, &Issued),
) {
    let synced = launch.run(config, &["sync", "--json"]);
    let row = synced.instance(name);
    println!("sync: {row}");
    assert_eq!(row["outcome"], "unverified", "{row}");
    assert_eq!(synced.code(), 1, "{row}");
    says(&problem(&row), &[fault.told, fault.remedy]);
    let checked = launch.run(config, &["check"]);
    let told = checked.stdout();
    assert_eq!(checked.code(), 1, "{told}");
    says(
        &on_one_line(told),
        &["whether", "not known", fault.told, fault.remedy],
    );
    let (target, issued) = kept;
    assert_eq!(fs::read_to_string(target).unwrap(), issued.combined_pem());
}

#[test]
fn a_running_server_is_not_taken_for_down_by_a_look_that_fails() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let entries = entries(stage.cluster.pid());
    let second = stage.renew();
    for fault in of_pidfd().iter().chain(&of_entries(&entries)) {
        let status = fault
            .launch(&world)
            .run(&stage.config, &["status", "--json"]);
        is_not_known(&status, NAME, fault);
    }
    for fault in [&of_pidfd()[0], &of_entries(&entries)[4]] {
        let kept = (stage.cert.as_path(), &stage.first);
        nothing_is_done(&fault.launch(&world), &stage.config, NAME, fault, kept);
    }
    assert_eq!(stage.reloads(), 0);
    // The next look that succeeds mends it.
    stage.synced(&[], "deployed", 0);
    stage.becomes("in_sync");
    stage.ends_serving(&second);
}

#[test]
fn the_daemon_waits_while_it_cannot_look_and_deploys_once_it_can() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let daemon = stage.daemon();
    let fault = &of_pidfd()[0];
    let attached = Attached::to(&world, daemon.pid(), &fault.arguments());
    let second = stage.renew();
    let line = daemon.wait_for_log(": unverified");
    says(&line, &["not known", "pidfd_open", "LimitNOFILE="]);
    assert!(!daemon.log().contains("not_running"), "{}", daemon.log());
    assert_eq!(
        fs::read_to_string(&stage.cert).unwrap(),
        stage.first.combined_pem()
    );
    assert_eq!(stage.reloads(), 0);
    attached.detach();
    stage.serves(&second);
    stage.becomes("in_sync");
    stage.ends(daemon, &second);
}

#[test]
fn nothing_is_written_that_the_server_may_never_see() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let second = stage.renew();
    let table = format!("/proc/{}/mountinfo", stage.cluster.pid());
    let fault = Fault::in_call("openat", "EIO", "kernel's log").at(&table);
    let synced = fault.launch(&world).run(&stage.config, &["sync", "--json"]);
    let row = synced.instance(NAME);
    assert_eq!(
        (row["outcome"].as_str(), synced.code()),
        (Some("failed"), 1),
        "{row}"
    );
    says(
        &problem(&row),
        &[
            "not known",
            "nothing was written",
            "open",
            &table,
            "kernel's log",
        ],
    );
    assert_eq!(
        fs::read_to_string(&stage.cert).unwrap(),
        stage.first.combined_pem()
    );
    assert_eq!(stage.reloads(), 0);
    stage.synced(&[], "deployed", 0);
    stage.ends_serving(&second);
}

#[test]
fn files_that_cannot_be_compared_are_not_other_files() {
    let world = or_skip!(World::new());
    // The server calls its file by another name than the config.
    let target = world.target(NAME);
    let place = target.parent().unwrap().to_owned();
    let alias = world.path().join("alias");
    std::os::unix::fs::symlink(&place, &alias).unwrap();
    let named = alias.join("server.pem");
    let named = named.to_str().unwrap().to_owned();
    let stage = Stage::build(&world)
        .cluster(|cluster| {
            cluster
                .setting("ssl_cert_file", &named)
                .setting("ssl_key_file", &named)
        })
        .start();
    stage.becomes("in_sync");
    for errno in ["EIO", "ENOMEM", "EACCES"] {
        let fault = Fault::in_call("statx", errno, "").at(&named);
        let status = fault
            .launch(&world)
            .run(&stage.config, &["status", "--json"]);
        let row = status.instance(NAME);
        // It serves what is installed, whatever that is called.
        assert_eq!(row["state"], "in_sync", "{errno}: {row}");
        let checked = fault.launch(&world).run(&stage.config, &["check"]);
        let told = on_one_line(checked.stdout());
        assert_eq!(checked.code(), 1, "{told}");
        says(
            &told,
            &[
                "which files the server uses is not known",
                "stat of",
                &named,
            ],
        );
    }
    stage.ends_serving_the_first();
}

#[test]
fn a_connection_that_cannot_be_tried_is_told_with_what_forbids_it() {
    let world = or_skip!(World::new());
    let stage = Stage::build(&world)
        .instance(|instance| instance.set("verify_timeout", "1s"))
        .start();
    for (call, errno, remedy) in [
        ("connect", "EACCES", "firewall"),
        ("connect", "EPERM", "firewall"),
        ("connect", "ENETUNREACH", "routes"),
        ("connect", "ENOBUFS", "memory"),
        ("socket", "EMFILE", "LimitNOFILE="),
        ("socket", "EAFNOSUPPORT", "RestrictAddressFamilies="),
    ] {
        let fault = Fault::in_call(call, errno, remedy).told("connect");
        let status = fault
            .launch(&world)
            .run(&stage.config, &["status", "--json"]);
        let row = status.instance(NAME);
        println!("{}: {row}", fault.name());
        assert_eq!(row["state"], "unverified", "{row}");
        assert_eq!(status.code(), 1, "{row}");
        says(&problem(&row), &["cannot be reached", "connect", remedy]);
    }
    stage.becomes("in_sync");
    stage.ends_serving_the_first();
}

#[test]
fn a_server_that_no_instance_covers_does_not_vanish_when_a_look_fails() {
    let world = or_skip!(World::new());
    let cluster = Cluster::build(&world).name("strange").start();
    let config = Config::new(&world).watch("resync", "2s").write();
    let data = cluster.data_directory().to_str().unwrap().to_owned();
    let names = |status: &Outcome| status.json()["uncovered"].to_string().contains(&data);
    let seen = Launch::new(&world).run(&config, &["status", "--json"]);
    assert!(names(&seen), "{}", seen.json());
    assert_eq!(seen.json()["uncovered_unknown"], Value::Null);
    assert_eq!(seen.code(), 0);

    let exe = format!("/proc/{}/exe", cluster.pid());
    for fault in [
        Fault::in_call("readlink", "ENOMEM", "memory").at(&exe),
        Fault::in_call("getdents64", "EIO", "kernel's log").at("/proc"),
    ] {
        let status = fault.launch(&world).run(&config, &["status", "--json"]);
        let json = status.json();
        assert_eq!(status.code(), 1, "{json}");
        says(
            json["uncovered_unknown"].as_str().unwrap(),
            &[fault.told, fault.remedy],
        );
        let checked = fault.launch(&world).run(&config, &["check"]);
        let told = on_one_line(checked.stdout());
        assert_eq!(checked.code(), 1, "{told}");
        says(
            &told,
            &[
                "other PostgreSQL servers",
                "not known",
                fault.told,
                fault.remedy,
            ],
        );
        let setup = fault.launch(&world).run(&config, &["setup", "--yes"]);
        assert_ne!(setup.code(), 0);
        says(setup.stderr(), &["not known", fault.told]);
    }

    // The daemon does not take it for ended.
    let daemon = Daemon::start(&world, &config);
    daemon.wait_for_log(&data);
    let fault = Fault::in_call("readlink", "ENOMEM", "memory").at(&exe);
    let attached = Attached::to(&world, daemon.pid(), &fault.arguments());
    let line = daemon.wait_for_log("may go unnoticed");
    says(&line, &["readlink", &exe, "memory"]);
    // Other tests' servers come and go on this host.
    let has_ended = || {
        let log = daemon.log();
        log.lines()
            .any(|line| line.contains(&data) && line.contains("has stopped"))
    };
    assert!(!has_ended(), "{}", daemon.log());
    attached.detach();
    daemon.wait_for_log("can be looked at again");
    assert!(!has_ended(), "{}", daemon.log());
    assert!(daemon.stop().success());
}

#[test]
fn a_server_whose_entry_in_proc_is_hidden_is_not_taken_for_down() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let hidden = Launch::new(&world).with_hidden_processes().without_ptrace();
    let status = hidden.run(&stage.config, &["status", "--json"]);
    let row = status.instance(NAME);
    println!("{row}");
    assert_eq!(
        (row["state"].as_str(), status.code()),
        (Some("unverified"), 1),
        "{row}"
    );
    says(
        &problem(&row),
        &["not known", "hidden", "hidepid=", "ProtectProc="],
    );
    let second = stage.renew();
    let synced = hidden.run(&stage.config, &["sync", "--json"]);
    assert_eq!(synced.code(), 1);
    assert_eq!(
        fs::read_to_string(&stage.cert).unwrap(),
        stage.first.combined_pem()
    );
    // It sees its own, and knows what is left over.
    let own = Launch::new(&world)
        .with_hidden_processes()
        .by_user("postgres");
    let row = own.run(&stage.config, &["status", "--json"]).instance(NAME);
    assert_eq!(
        row["served"]["fingerprint"], *stage.first.fingerprint,
        "{row}"
    );
    stage.synced(&[], "deployed", 0);
    stage.ends_serving(&second);
}

/// A server whose parent never asks how it ended.
struct Orphaned(Process);

impl Orphaned {
    fn started_for(cluster: &Cluster) -> Orphaned {
        let mut parent = command("setpriv");
        parent
            .args(["--reuid=postgres", "--regid=postgres", "--clear-groups"])
            .args(["sh", "-c", "\"$@\" & exec sleep 3600", "sh"])
            .arg(cluster.program("postgres"))
            .arg("-D")
            .arg(cluster.data_directory())
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        Orphaned(Process::spawn(&mut parent))
    }

    fn server(&self) -> Option<u32> {
        let parent = self.0.pid();
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
        children.ok()?.trim().parse().ok()
    }

    fn kill_server(&self) {
        let number = self.server().and_then(|number| i32::try_from(number).ok());
        if let Some(number) = number.and_then(rustix::process::Pid::from_raw) {
            let _gone = rustix::process::kill_process(number, Signal::KILL);
        }
    }
}

impl Drop for Orphaned {
    fn drop(&mut self) {
        self.kill_server();
        self.0.kill();
    }
}

#[test]
fn a_server_that_was_killed_and_that_nobody_has_asked_for_is_down() {
    let world = or_skip!(World::new());
    let stage = Stage::build(&world).create();
    let server = Orphaned::started_for(&stage.cluster);
    stage.becomes("in_sync");
    let number = server.server().unwrap();
    server.kill_server();
    eventually(SOON, "it is a zombie", || {
        let stat = fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
        stat.contains(") Z ")
    });
    let status = stage.pgcertd(&["status", "--json"]);
    let row = status.instance(NAME);
    assert_eq!(
        (row["state"].as_str(), status.code()),
        (Some("not_running"), 0),
        "{row}"
    );
    says(&problem(&row), &["no longer exists"]);
}

/// A number that is a thread's names no process.
#[test]
fn the_number_of_a_thread_is_left_over() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    stage.cluster.stop();
    let (tell, told) = std::sync::mpsc::channel();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        tell.send(rustix::thread::gettid().as_raw_nonzero().get())
            .unwrap();
        let _stopped = stopped.recv();
    });
    let number = told.recv().unwrap();
    let file = stage.cluster.data_directory().join("postmaster.pid");
    let text = format!(
        "{number}\n{}\n1790000000\n{}\n\n127.0.0.1\n  5432001         3\nready   \n",
        stage.cluster.data_directory().display(),
        stage.cluster.port(),
    );
    fs::write(&file, text).unwrap();
    give(&file, stage.cluster.owner(), 0o600);
    let status = stage.pgcertd(&["status", "--json"]);
    drop(stop);
    thread.join().unwrap();
    let row = status.instance(NAME);
    assert_eq!(
        (row["state"].as_str(), status.code()),
        (Some("not_running"), 0),
        "{row}"
    );
    says(&problem(&row), &["no longer exists"]);
    fs::remove_file(&file).unwrap();
    stage.cluster.start().unwrap();
    stage.becomes("in_sync");
}
