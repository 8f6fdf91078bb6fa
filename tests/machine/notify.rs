//! pgcertd-notify.service as a user sets it up: with the mail systems of Debian, in its sandbox, and as
//! tightly held as the daemon where the command allows that.

use serde_json::Value;

use crate::{
    machine::{LATER, Machine},
    postgres::CONFIG,
    stand::{HOST, LIVE, Stand},
    world::{SOON, eventually},
};

const UNIT: &str = "pgcertd-notify";

/// To whom the mail goes; Exim delivers none to root.
const MAILBOX: &str = "/var/mail/postgres";

/// The config of the stand, with this `[notify]`.
#[track_caller]
fn notify(stand: &Stand, lines: &str) {
    let table = format!("\n[notify]\nafter = \"1s\"\n{lines}\n");
    stand.config(&format!("{}{table}", stand.instance("")));
}

/// The line for mail that the manual shows, for another mailbox than root's.
fn by_mail() -> String {
    let readme = include_str!("../../docs/manual.md");
    let shown = readme
        .lines()
        .find(|line| line.contains("notify-mail\", \"root\""));
    shown
        .expect("the line for mail")
        .replace("\"root\"", "\"postgres\"")
}

/// Waits until a mail with these words is in the mailbox, and gives all that is in it.
#[track_caller]
fn mailed(machine: &Machine, words: &[&str]) -> String {
    eventually(LATER, &format!("{words:?} is mailed"), || {
        let mailbox = machine.run(["cat", MAILBOX]).stdout;
        if words.iter().all(|word| mailbox.contains(word)) {
            return Ok(mailbox);
        }
        let log = "tail -n 20 /var/log/exim4/*; mailq; journalctl -t dma -n 20 -o cat";
        let log = machine.run(["sh", "-c", log]).stdout;
        Err(format!("{mailbox}\n{log}"))
    })
}

#[test]
fn mail_arrives_through_the_mail_systems_of_debian() {
    let mut stand = or_skip!(Stand::boot());
    without_a_command_the_unit_ends_well(&stand);
    stand.machine.install_packed("postfix");
    notify(&stand, &by_mail());
    a_trial_is_mailed(&stand);
    stand.machine.ok(["systemctl", "enable", "--now", UNIT]);
    a_failure_and_its_end_are_mailed(&mut stand);
    the_sandbox_holds(&stand);
    for system in ["postfix", "exim4-daemon-light", "dma"] {
        stand.machine.install_packed(system);
        a_daemon_that_stops_is_mailed(&stand, system);
    }
    a_reboot_mails_nothing(&mut stand);
    the_package_goes_without_a_mail(&stand);
}

fn without_a_command_the_unit_ends_well(stand: &Stand) {
    let machine = &stand.machine;
    machine.ok(["systemctl", "start", UNIT]);
    machine.wait_entry(UNIT, "nobody is notified: [notify]");
    eventually(SOON, "the unit has ended", || {
        machine.property(UNIT, "ActiveState") == "inactive"
    });
    assert_eq!(machine.property(UNIT, "Result"), "success");
    assert_eq!(machine.property(UNIT, "NRestarts"), "0");
}

fn a_trial_is_mailed(stand: &Stand) {
    let machine = &stand.machine;
    let said = machine.ok_as(UNIT, ["pgcertd", "notify", "--test"]);
    assert!(said.contains("notify-mail succeeded"), "{said}");
    let mailbox = mailed(machine, &["Subject: pgcertd db1: a test of [notify]"]);
    // Postfix completes the address.
    for begins in [
        "To: postgres",
        "Auto-Submitted: auto-generated",
        "Content-Type: text/plain; charset=utf-8",
        "a test of [notify]",
    ] {
        let mut lines = mailbox.lines();
        assert!(
            lines.any(|line| line.starts_with(begins)),
            "no {begins:?} in:\n{mailbox}"
        );
    }
    assert!(
        mailbox.contains("From: ") && mailbox.contains(UNIT),
        "{mailbox}"
    );
}

fn a_failure_and_its_end_are_mailed(stand: &mut Stand) {
    let wrong = stand.ca.issue(&["other.example.com"]);
    let names = format!("server_names = [\"{HOST}\"]");
    let table = format!("\n[notify]\nafter = \"1s\"\n{}\n", by_mail());
    stand.config(&format!("{}{table}", stand.instance(&names)));
    // The unit of the daemon alone, which hands it on.
    stand.machine.ok(["systemctl", "reload", "pgcertd"]);
    stand.machine.wait_entry(
        UNIT,
        "notifications go through /usr/lib/pgcertd/notify-mail",
    );
    stand.place(LIVE, &wrong);
    let mailbox = mailed(
        &stand.machine,
        &[
            "Subject: pgcertd db1: 15-main source invalid",
            "names other.example.com",
        ],
    );
    println!("{mailbox}");
    let sent = stand
        .machine
        .wait_entry(UNIT, "notify-mail: pgcertd db1: 15-main");
    assert_eq!(sent["PGCERTD_EVENT"], "notification_sent", "{sent}");
    let id = stand.machine.ok(["id", "-u", UNIT]);
    assert_eq!(sent["_UID"], Value::from(id), "{sent}");
    stand.renewal_is_served();
    mailed(
        &stand.machine,
        &["Subject: pgcertd db1: 15-main in sync again"],
    );
}

/// What the command sees and may write, by its mounts and as its user.
fn the_sandbox_holds(stand: &Stand) {
    let machine = &stand.machine;
    let pid = machine.number(UNIT, "MainPID").to_string();
    let inside = |script: &str| {
        let enter = ["nsenter", "--mount", "--target", &pid, "setpriv"];
        let user = [
            "--reuid",
            UNIT,
            "--regid",
            UNIT,
            "--clear-groups",
            "sh",
            "-c",
            script,
        ];
        machine.run(enter.into_iter().chain(user)).code()
    };
    for closed in [
        "ls /etc/letsencrypt/live",
        "ls /var/lib/pgcertd",
        "touch /etc/new",
        "touch /run/new",
        "touch /usr/new",
        "touch /var/lib/new",
        "cp /bin/true /tmp/it && /tmp/it",
    ] {
        assert_ne!(inside(closed), 0, "{closed}");
    }
    for open in [
        "touch /var/lib/pgcertd-notify/new",
        "cat /run/pgcertd/status.json",
        "touch /tmp/new",
    ] {
        assert_eq!(inside(open), 0, "{open}");
    }
    // Root, as a mail program with setuid may be.
    for (place, code) in [
        ("/etc", 1),
        ("/usr", 1),
        ("/var/lib", 1),
        ("/var/spool", 0),
        ("/var/mail", 0),
    ] {
        let script = format!("touch {place}/new && rm {place}/new");
        let done = machine.run(["nsenter", "--mount", "--target", &pid, "sh", "-c", &script]);
        assert_eq!(done.code(), code, "{place}: {done:?}");
    }
}

/// Stopped by its administrator, killed, and at work again.
fn a_daemon_that_stops_is_mailed(stand: &Stand, system: &str) {
    let machine = &stand.machine;
    // Otherwise it would be told of too often for an hour.
    machine.sh(&format!(
        "systemctl stop {UNIT}
        rm -f {MAILBOX} /var/lib/pgcertd-notify/told.json
        systemctl start {UNIT}"
    ));
    machine.ok(["systemctl", "stop", "pgcertd"]);
    let mailbox = mailed(machine, &["Subject: pgcertd db1: pgcertd is not running"]);
    assert!(
        mailbox.contains("systemctl start pgcertd"),
        "{system}: {mailbox}"
    );
    machine.ok(["systemctl", "start", "pgcertd"]);
    mailed(machine, &["Subject: pgcertd db1: pgcertd is running again"]);
    println!("{system} delivers");
}

fn a_reboot_mails_nothing(stand: &mut Stand) {
    // Longer than the server takes to start.
    let config = stand.machine.read(CONFIG);
    let config = config.replace("after = \"1s\"", "after = \"10s\"");
    stand.machine.write(CONFIG, config);
    stand.machine.reboot();
    stand.machine.wait_active(UNIT);
    stand.machine.wait_well();
    stand.machine.ok(["systemctl", "stop", UNIT]);
    let told = stand.machine.journal(UNIT);
    let boot = told.last().unwrap()["_BOOT_ID"].clone();
    let of_this = told.iter().filter(|change| change["_BOOT_ID"] == boot);
    let events: Vec<&Value> = of_this.map(|entry| &entry["PGCERTD_EVENT"]).collect();
    assert!(
        !events.contains(&&Value::from("notification_sent")),
        "{events:?}"
    );
    stand.machine.ok(["systemctl", "start", UNIT]);
}

fn the_package_goes_without_a_mail(stand: &Stand) {
    let machine = &stand.machine;
    machine.wait_active(UNIT);
    let end = machine.journal_end();
    machine.apt(&["purge", "pgcertd"]);
    assert!(!machine.is_active(UNIT));
    let after = machine.ok([
        "journalctl",
        "--output=cat",
        &format!("--after-cursor={end}"),
    ]);
    assert!(!after.contains("was told"), "{after}");
    assert!(!machine.exists("/var/lib/pgcertd-notify"));
    assert!(!machine.exists("/etc/systemd/system/multi-user.target.wants/pgcertd-notify.service"));
    // Nobody else gets its number.
    machine.ok(["id", UNIT]);
}

/// Prints what it is posted, and says well done; Debian has none that does and nothing else.
const STAND_IN_FOR_A_WEBHOOK: &str = r"
import http.server
class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        print(self.rfile.read(int(self.headers['content-length'])).decode(), flush=True)
        self.send_response(204)
        self.end_headers()
http.server.HTTPServer(('127.0.0.1', 8080), Hook).serve_forever()
";

#[test]
fn a_webhook_and_msmtp_work_in_the_strict_sandbox() {
    let stand = or_skip!(Stand::boot());
    let machine = &stand.machine;
    let example = "/usr/share/doc/pgcertd/examples/notify-strict.conf";
    machine.sh(&format!(
        "install -D -m 0644 {example} /etc/systemd/system/pgcertd-notify.service.d/strict.conf
        systemctl daemon-reload"
    ));
    machine.write("/srv/hook.py", STAND_IN_FOR_A_WEBHOOK);
    machine.ok([
        "systemd-run",
        "--quiet",
        "--unit=hook",
        "python3",
        "/srv/hook.py",
    ]);
    // Python's own, which prints each mail; a stand-in for the mail system of another host.
    let smtp = [
        "python3",
        "-u",
        "-W",
        "ignore",
        "-m",
        "smtpd",
        "-n",
        "-c",
        "DebuggingServer",
        "127.0.0.1:2525",
    ];
    machine.ok(["systemd-run", "--quiet", "--unit=smtp"]
        .into_iter()
        .chain(smtp));

    // As packaging/README.md has it where the address is a secret.
    machine.sh(
        "install -m 0640 -g pgcertd-notify /dev/null /etc/pgcertd/webhook
        echo 'url = \"http://127.0.0.1:8080/SECRET\"' >/etc/pgcertd/webhook",
    );
    let readme = include_str!("../../docs/manual.md");
    let shown = readme
        .lines()
        .find(|line| line.contains("/usr/bin/curl"))
        .unwrap();
    let address = "\"https://hooks.example.com/pgcertd\"";
    assert!(shown.contains(address), "{shown}");
    notify(
        &stand,
        &shown.replace(address, "\"--config\", \"/etc/pgcertd/webhook\""),
    );
    machine.ok(["systemctl", "enable", "--now", UNIT]);
    machine.ok(["systemctl", "stop", "pgcertd"]);
    let posted = machine.wait_entry("hook", "\"about\":\"daemon\"");
    let posted: Value = serde_json::from_str(crate::machine::message(&posted)).unwrap();
    assert_eq!(posted["event"], "failure", "{posted}");
    assert_eq!(posted["host"], "db1");
    assert_eq!(posted["changes"][0]["state"], "stopped", "{posted}");

    machine.install_packed("msmtp-mta");
    machine.write(
        "/etc/msmtprc",
        "account default\nhost 127.0.0.1\nport 2525\nfrom pgcertd@db1\n",
    );
    let config = machine
        .read(CONFIG)
        .replace(shown_command(&machine.read(CONFIG)), &by_mail());
    machine.write(CONFIG, config);
    machine.ok(["systemctl", "reload", UNIT]);
    machine.wait_entry(
        UNIT,
        "notifications go through /usr/lib/pgcertd/notify-mail",
    );
    machine.ok(["systemctl", "start", "pgcertd"]);
    machine.wait_entry("smtp", "pgcertd is running again");
}

/// The line of a config that has the command.
fn shown_command(config: &str) -> &str {
    config
        .lines()
        .find(|line| line.starts_with("command = "))
        .unwrap()
}
