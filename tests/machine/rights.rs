//! Least privilege, under the shipped unit: what each thread of the daemon may do, what a child may do,
//! and that it is enough.

use crate::{
    stand::{HOST, LIVE, PORT, Stand, TARGET},
    threads::{DAC_READ_SEARCH, NONE, looks, status, threads, told, traced},
};

#[test]
fn under_the_unit_each_thread_has_its_rights_and_a_child_has_none() {
    let mut stand = or_skip!(Stand::boot());
    stand.renewal_is_served();
    only_who_looks_at_lineages_has_the_one_capability(&stand);
    nobody_of_its_user_may_look_into_it(&stand);
    other_users_processes_are_hidden_from_it(&stand);
    the_reader_that_runs_opens_nothing_outside_its_lineage(&mut stand);
    a_child_has_no_right_but_its_users(&mut stand);
    pg_ctl_reloads(&mut stand);
}

fn only_who_looks_at_lineages_has_the_one_capability(stand: &Stand) {
    let all = threads(&stand.machine, stand.daemon());
    let postgres = stand.machine.ok(["id", "-u", "postgres"]);
    let group = stand.machine.ok(["id", "-g", "postgres"]);
    for (name, status) in &all {
        let effective = if looks(name) { DAC_READ_SEARCH } else { NONE };
        assert_eq!(status["CapEff"], effective, "{name}: {all:#?}");
        assert_eq!(status["CapAmb"], NONE, "{name}: {all:#?}");
        assert_eq!(status["CapInh"], NONE, "{name}: {all:#?}");
        assert_eq!(status["CapBnd"], DAC_READ_SEARCH, "{name}: {all:#?}");
        if name.starts_with("w:") {
            assert_eq!(status["CapPrm"], NONE, "{name}: {all:#?}");
        }
        for (key, id) in [("Uid", &postgres), ("Gid", &group)] {
            let four = [id.as_str(); 4].join(" ");
            assert_eq!(status[key], four, "{key} of {name}: {all:#?}");
        }
        assert_eq!(status["NoNewPrivs"], "1", "{name}: {all:#?}");
        assert_eq!(status["Seccomp"], "2", "{name}: {all:#?}");
    }
    for expected in ["pgcertd", "systemd", "w:", "r:", "watcher", "notify-rs"] {
        let there = all.iter().any(|(name, _)| name.starts_with(expected));
        assert!(there, "no thread {expected} in {all:#?}");
    }
}

fn nobody_of_its_user_may_look_into_it(stand: &Stand) {
    let (machine, pid) = (&stand.machine, stand.daemon());
    // The kernel gives what cannot be dumped to root, whoever the process runs as.
    let owner = machine.ok(["stat", "-c", "%U", &format!("/proc/{pid}/mem")]);
    assert_eq!(owner, "root", "a process of the same user may read it");
    let limits = machine.read(&format!("/proc/{pid}/limits"));
    let core = limits.lines().find(|line| line.starts_with("Max core"));
    let words: Vec<&str> = core.unwrap().split_whitespace().collect();
    assert_eq!(words[4..6], ["0", "0"], "{limits}");
    let swap = machine.property("pgcertd", "MemorySwapMax");
    assert_eq!(swap, "0", "a private key may be swapped out");
}

/// With that in force the renewal of just now was served.
fn other_users_processes_are_hidden_from_it(stand: &Stand) {
    let mounts = stand
        .machine
        .read(&format!("/proc/{}/mountinfo", stand.daemon()));
    let mut proc = mounts.lines().filter(|line| line.contains(" - proc "));
    let hidden = proc.any(|line| {
        line.contains(" /proc ")
            && (line.contains("hidepid=invisible") || line.contains("hidepid=2"))
    });
    assert!(hidden, "ProtectProc is not in force:\n{mounts}");
}

/// The links go to a directory that was not there when the reader's rules were made: that thread is
/// denied, whatever its capability, and another one takes over.
fn the_reader_that_runs_opens_nothing_outside_its_lineage(stand: &mut Stand) {
    let trace = stand.world.path().join("strace.log");
    let mut strace = traced(
        &stand.machine,
        stand.daemon(),
        "open,openat,openat2",
        &trace,
    );
    let issued = stand.ca.issue(&[HOST]);
    stand.place("/srv/moved/live/elsewhere", &issued);
    stand.machine.sh(&format!(
        "for kind in cert privkey chain fullchain; do
            ln -s /srv/moved/archive/elsewhere/$kind-*.pem {LIVE}/$kind.next
            mv -T {LIVE}/$kind.next {LIVE}/$kind.pem
        done"
    ));
    stand.serves(&issued);
    let trace = told(&mut strace, &trace);
    let opens: Vec<(&str, &str)> = trace
        .lines()
        .filter_map(|line| line.split_once("<r:"))
        // Every step of a path is held without being opened; what is opened is what was held.
        .filter(|(_, call)| call.contains("\"/proc/self/fd/"))
        .collect();
    // It has the capability, so that nothing but Landlock denies it.
    let denied = opens.iter().find(|(_, call)| call.contains("EACCES"));
    let (old, _) = denied.unwrap_or_else(|| panic!("the old reader could open it:\n{trace}"));
    let (new, last) = opens.last().unwrap();
    assert!(new != old && !last.contains("EACCES"), "{opens:#?}");
    stand.issued = issued;
    stand.renewal_is_served();
}

/// What a `reload_command` finds out: its own status, and what it may open.
const SPY: &str = r#"#!/bin/sh
exec >/var/lib/pgcertd/spy 2>&1
cat /proc/self/status
for file in /etc/shadow "$1" /var/lib/pgcertd/15-main/server.pem; do
    if cat "$file" >/dev/null; then echo "read $file: yes"; fi
done
for file in /etc/spy /usr/bin/spy /srv/spy "$PGDATA/spy" /run/spy; do
    if echo >"$file"; then echo "written $file: yes"; fi
done
exec /usr/lib/postgresql/15/bin/pg_ctl reload -D "$PGDATA"
"#;

/// No thread but the main one, which is in no Landlock domain and has no capability in force, starts
/// children: [`crate::probe`] shows that the others could not.
fn a_child_has_no_right_but_its_users(stand: &mut Stand) {
    stand.machine.write("/usr/local/bin/spy", SPY);
    stand.machine.ok(["chmod", "755", "/usr/local/bin/spy"]);
    let key = format!("{LIVE}/privkey.pem");
    stand.config(&stand.instance(&format!(
        "reload = \"command\"\nreload_command = [\"/usr/local/bin/spy\", \"{key}\"]"
    )));
    stand.machine.ok(["systemctl", "reload", "pgcertd"]);
    stand.renewal_is_served();
    let report = stand.machine.read("/var/lib/pgcertd/spy");
    let child = status(&report);
    for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
        assert_eq!(child[set], NONE, "{set}: {report}");
    }
    assert_eq!(child["NoNewPrivs"], "1", "{report}");
    let could: Vec<&str> = report
        .lines()
        .filter(|line| line.ends_with(": yes"))
        .collect();
    assert_eq!(could, [format!("read {TARGET}: yes")], "{report}");
    for denied in ["/etc/shadow", &key] {
        let told = format!("cat: {denied}: Permission denied");
        assert!(report.contains(&told), "{report}");
    }
}

fn pg_ctl_reloads(stand: &mut Stand) {
    stand.config(&stand.instance("reload = \"pg_ctl\""));
    stand.machine.ok(["systemctl", "reload", "pgcertd"]);
    let issued = stand.renewal_is_served();
    assert_eq!(stand.machine.served(PORT), Ok(issued.fingerprint));
}
