//! Ansible: the chain by one task, the key by another that runs minutes later.

use std::{fs, process::Stdio};

use super::{AWAITED, Inbox, Scene, Source};
use crate::world::{SOON, World, command, eventually, process::Process, tail};

/// Brings the chain, waits for a file, brings the key.
const PLAYBOOK: &str = r#"
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - ansible.builtin.copy: {src: "{{ inbox }}/fullchain.pem", dest: "{{ here }}/fullchain.pem", mode: "0644"}
    - ansible.builtin.wait_for: {path: "{{ go }}", timeout: 60}
    - ansible.builtin.copy: {src: "{{ inbox }}/privkey.pem", dest: "{{ here }}/privkey.pem", mode: "0600"}
"#;

/// `settle_timeout`: so long stand the minutes between the two tasks.
const MINUTES: &str = "3s";

#[test]
fn a_key_that_ansible_brings_minutes_after_the_chain_is_awaited_reported_and_taken() {
    let world = or_skip!(World::new());
    let inbox = Inbox::new(&world);
    let (here, home) = (world.directory("deployed"), world.directory("ansible"));
    let (playbook, go) = (home.join("play.yml"), home.join("go"));
    fs::write(&playbook, PLAYBOOK).unwrap();
    let log = home.join("ansible.log");
    let start = || {
        let file = fs::File::create(&log).unwrap();
        let variable = |name: &str, path: &std::path::Path| format!("{name}={}", path.display());
        let mut play = command("ansible-playbook");
        play.args(["--inventory", "localhost,", "--extra-vars"])
            .arg(variable("inbox", &inbox.directory))
            .args(["--extra-vars", &variable("here", &here)])
            .args(["--extra-vars", &variable("go", &go)])
            .arg(&playbook)
            .env("HOME", &home)
            .env("ANSIBLE_LOCALHOST_WARNING", "false")
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file);
        play
    };
    let ended = |mut play: Process| {
        let status = play.wait(SOON * 2);
        let said = fs::read_to_string(&log).unwrap();
        assert!(
            status.is_some_and(|status| status.success()),
            "{}",
            tail(&said)
        );
    };
    inbox.next();
    fs::write(&go, "").unwrap();
    ended(Process::spawn(&mut start()));
    fs::remove_file(&go).unwrap();
    let mut scene = Scene::with(&world, vec![Source::pems(&here)], |config| {
        config.watch("settle_timeout", MINUTES)
    });

    inbox.next();
    let play = Process::spawn(&mut start());
    scene.awaits(AWAITED);
    let problem = eventually(SOON, "the minutes are over", || {
        let log = scene.daemon.log();
        let line = log.lines().find(|line| line.starts_with("error: 16-1"));
        line.map(str::to_owned).ok_or(log)
    });
    println!("{problem}");
    assert_eq!(scene.still(), Ok(()));
    fs::write(&go, "").unwrap();
    ended(play);
    scene.serves_what_was_left("the key has come");
    scene.ends();
}
