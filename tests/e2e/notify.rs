//! Notification: what is told of a real daemon and a real server, and what becomes of a command
//! that fails, hangs or is none.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::{Pid, Signal, test_kill_process};
use serde_json::Value;

use crate::{
    stage::{HOST, NAME, Stage, says},
    world::{
        SOON, World,
        config::{Config, Instance, path},
        daemon::{Daemon, Launch, pgcertd},
        eventually, throughout,
    },
};

/// A stand-in for a mail program: it keeps what it is told, a file for each call. Arguments: a
/// directory, and whatever else it is given.
const KEEPER: &str = r#"
directory=$1
number=$(ls "$directory" | wc -l)
if test -e "$directory.does"; then . "$directory.does"; fi
cat >"$directory/.told"
printf '%s\n%s\n' "$PGCERTD_SUBJECT" "$PGCERTD_TEXT" >"$directory.text"
printf '%s\n' "$@" >"$directory.arguments"
mv "$directory/.told" "$directory/$number.json"
"#;

/// Whom the keeper tells.
struct Told {
    directory: PathBuf,
    script: PathBuf,
}

impl Told {
    fn new(world: &World) -> Told {
        let script = world.path().join("keeper.sh");
        fs::write(&script, KEEPER).unwrap();
        Told {
            directory: world.directory("told"),
            script,
        }
    }

    /// A configuration by which it is told.
    fn config(&self, world: &World, more: &[&str]) -> Config {
        self.hears_of(Config::new(world), more)
    }

    /// The same with one instance, `db`, whose lineage does not exist.
    fn of_a_missing_lineage(&self, world: &World) -> Config {
        let instance = Instance::new("db", "none", &world.path().join("data"));
        self.config(world, &[]).instance(instance)
    }

    fn hears_of(&self, config: Config, more: &[&str]) -> Config {
        let words = [Path::new("/bin/sh"), &self.script, &self.directory];
        let mut command: Vec<toml::Value> = words.into_iter().map(path).collect();
        command.extend(more.iter().map(|word| toml::Value::from(*word)));
        let state = self.directory.with_file_name("notify");
        config
            .notify("command", command)
            .notify("after", "1s")
            .notify("state_directory", path(&state))
    }

    /// What it does from now on before it keeps anything, as sh; `$number` is how often it was told.
    fn does(&self, script: &str) {
        fs::write(self.directory.with_extension("does"), script).unwrap();
    }

    fn beside(&self, extension: &str) -> String {
        fs::read_to_string(self.directory.with_extension(extension)).unwrap_or_default()
    }

    fn all(&self) -> Vec<Value> {
        let count = fs::read_dir(&self.directory).unwrap().count();
        let files = (0..count).map(|number| self.directory.join(format!("{number}.json")));
        let texts = files.filter_map(|file| fs::read_to_string(file).ok());
        texts
            .map(|text| serde_json::from_str(&text).unwrap())
            .collect()
    }

    /// The changes that it was told of so far, but those of other tests' servers.
    fn changes(&self) -> Vec<Value> {
        let all = self.all();
        let changes = all
            .iter()
            .flat_map(|change| change["changes"].as_array().unwrap());
        let own = changes.filter(|change| change["about"] != "uncovered");
        own.cloned().collect()
    }

    /// Waits for the `count`th change; there is none beside those that were waited for.
    #[track_caller]
    fn change(&self, count: usize) -> Value {
        let changes = eventually(SOON, &format!("{count} changes are told"), || {
            let changes = self.changes();
            if changes.len() >= count {
                Ok(changes)
            } else {
                Err(format!("{changes:#?}"))
            }
        });
        assert_eq!(changes.len(), count, "{changes:#?}");
        changes[count - 1].clone()
    }

    #[track_caller]
    fn stays_at(&self, count: usize) {
        throughout(Duration::from_secs(4), "nothing more is told", || {
            self.changes().len() == count
        });
    }
}

fn notifier(world: &World, config: &Config) -> Daemon {
    let mut notifier = Launch::new(world).notifier(config);
    notifier.ready();
    notifier
}

/// A server that serves its lineage, with a daemon that `told` is to hear of.
fn at_work<'w>(world: &'w World, told: &Told) -> (Stage<'w>, Daemon) {
    let events = ["failure", "recovery", "deployed"].map(toml::Value::from);
    let stage = Stage::build(world)
        .config(|config| {
            let config = told.hears_of(config, &[]).watch("resync", "1s");
            config.notify("on", events.to_vec())
        })
        .server_names()
        .start();
    let daemon = stage.daemon();
    (stage, daemon)
}

#[test]
fn a_refused_renewal_its_mending_and_the_new_certificate_are_told_once_each() {
    let world = or_skip!(World::new());
    let told = Told::new(&world);
    let (mut stage, daemon) = at_work(&world, &told);
    let follower = notifier(&world, &stage.config);
    // What was so before is no news.
    told.stays_at(0);

    stage.lineage.renew(&stage.ca.issue(&["other.example.com"]));
    let failure = told.change(1);
    assert_eq!(failure["event"], "failure", "{failure:#}");
    assert_eq!(failure["about"], "instance");
    assert_eq!(failure["name"], NAME);
    assert_eq!(failure["lineage"], HOST);
    assert_eq!(failure["state"], "source_invalid");
    assert_eq!(failure["old_state"], "in_sync");
    assert_eq!(failure["expiry"], "fine");
    assert_eq!(failure["served"]["fingerprint"], stage.first.fingerprint);
    says(failure["problem"].as_str().unwrap(), &[HOST]);
    says(
        failure["mend"].as_str().unwrap(),
        &["issue the certificate for"],
    );
    let whole = told
        .all()
        .into_iter()
        .find(|change| change["changes"][0] == failure)
        .unwrap();
    assert_eq!(whole["version"], 1);
    assert_eq!(whole["event"], "failure");
    let host = whole["host"].as_str().unwrap();
    let subject = whole["subject"].as_str().unwrap();
    // A server of another test may be told of with it.
    assert!(
        subject.starts_with(&format!("pgcertd {host}: ")),
        "{subject}"
    );
    says(subject, &[&format!("{NAME} source invalid")]);
    let text = told.beside("text");
    says(
        &text,
        &[subject, "  was    in sync", "  why  ", "pgcertd status"],
    );
    println!("{text}");

    // A restart repeats nothing, and nothing is lost that happens meanwhile.
    assert_eq!(follower.stop().code(), Some(0));
    let follower = notifier(&world, &stage.config);
    told.stays_at(1);
    assert_eq!(follower.stop().code(), Some(0));
    let good = stage.renewal_is_served();
    let follower = notifier(&world, &stage.config);
    let [one, other] = [1, 0].map(|before| {
        eventually(SOON, "both are told", || {
            told.changes().get(2 - before).cloned()
        })
    });
    assert_eq!(one["event"], "recovery", "{one:#}");
    assert_eq!(one["old_state"], "source_invalid");
    assert_eq!(one["since"], failure["since"]);
    assert_eq!(other["event"], "deployed", "{other:#}");
    assert_eq!(other["about"], "instance");
    assert_eq!(other["served"]["fingerprint"], good.fingerprint);
    told.stays_at(3);
    assert_eq!(follower.stop().code(), Some(0));
    stage.ends(daemon, &good);
}

#[test]
fn a_daemon_that_is_killed_or_hangs_is_told() {
    let world = or_skip!(World::new());
    let told = Told::new(&world);
    let (stage, mut daemon) = at_work(&world, &told);
    let _follower = notifier(&world, &stage.config);
    told.stays_at(0);

    daemon.signal(Signal::STOP);
    let stale = told.change(1);
    assert_eq!(stale["about"], "daemon", "{stale:#}");
    assert_eq!(
        (&stale["event"], &stale["state"]),
        (&"failure".into(), &"stale".into())
    );
    assert_eq!(stale["command"], "systemctl restart pgcertd", "{stale:#}");
    daemon.signal(Signal::CONT);
    assert_eq!(told.change(2)["event"], "recovery");

    daemon.kill9();
    let stopped = told.change(3);
    assert_eq!(
        (&stopped["event"], &stopped["state"]),
        (&"failure".into(), &"stopped".into())
    );
    assert_eq!(stopped["name"], Value::Null);
    says(stopped["problem"].as_str().unwrap(), &["is gone"]);
    let daemon = Daemon::start(&world, &stage.config);
    let again = told.change(4);
    assert_eq!(
        (&again["event"], &again["state"]),
        (&"recovery".into(), &"running".into())
    );
    // As the unit's runtime directory, the file goes with a daemon that is stopped.
    drop(daemon);
    fs::remove_file(stage.config.runtime_directory().join("status.json")).unwrap();
    let gone = told.change(5);
    says(gone["problem"].as_str().unwrap(), &["does not exist"]);
}

/// Twenty instances whose lineages do not exist.
fn twenty(world: &World, told: &Told, more: &[&str]) -> Config {
    let data = world.postgres_directory("data", 0o700);
    (0..20).fold(told.config(world, more), |config, number| {
        let directory = data.join(number.to_string());
        config.instance(Instance::new(&format!("db{number}"), "none", &directory))
    })
}

#[test]
fn what_fails_together_is_told_in_one_call_and_no_shell_sees_it() {
    let world = or_skip!(World::new());
    let told = Told::new(&world);
    let trap = world.path().join("trap");
    let argument = format!("; touch {} $(touch {0})", trap.display());
    let config = twenty(&world, &told, &[&argument]).write();
    let daemon = Daemon::start(&world, &config);
    let follower = notifier(&world, &config);
    eventually(SOON, "twenty failures are told", || {
        told.changes().len() == 20
    });
    let calls = told.all();
    let of_ours = calls.iter().filter(|call| {
        let changes = call["changes"].as_array().unwrap();
        changes.iter().any(|call| call["about"] == "instance")
    });
    assert_eq!(of_ours.count(), 1, "{calls:#?}");
    assert_eq!(
        told.beside("arguments").lines().nth(1),
        Some(argument.as_str())
    );
    assert!(!trap.exists());
    let names: Vec<Value> = told
        .changes()
        .iter()
        .map(|instance| instance["name"].clone())
        .collect();
    assert!(names.contains(&"db19".into()), "{names:?}");

    // An instance that has left the config has not recovered.
    let text = config.text().replace("\"db19\"", "\"db20\"");
    config.replace(&text);
    let mut both = [daemon, follower];
    for process in &mut both {
        process.hangup();
    }
    eventually(SOON, "db19 is forgotten", || {
        let kept = fs::read_to_string(world.path().join("notify/told.json")).unwrap();
        if kept.contains("\"db20\"") && !kept.contains("\"db19\"") {
            Ok(())
        } else {
            Err(kept)
        }
    });
    let events = told.changes();
    assert!(
        events.iter().all(|change| change["event"] == "failure"),
        "{events:#?}"
    );
}

#[test]
fn a_command_that_hangs_is_killed_with_its_children_and_the_next_is_delivered() {
    let world = or_skip!(World::new());
    let told = Told::new(&world);
    let config = told
        .of_a_missing_lineage(&world)
        .notify("timeout", "1s")
        .write();
    let number = world.path().join("child");
    told.does(&format!(
        "trap '' TERM; sleep 1000 & echo $! >{0}.new && mv {0}.new {0}; echo stuck >&2; sleep 1000",
        number.display()
    ));
    let _daemon = Daemon::start(&world, &config);
    let follower = notifier(&world, &config);
    let child = eventually(SOON, "the command runs", || {
        fs::read_to_string(&number)
            .ok()
            .and_then(|text| text.trim().parse().ok())
    });
    let child = Pid::from_raw(child).unwrap();
    let said = follower.wait_for_log("ran for more than 1 s and was killed: stuck");
    says(&said, &["error: ", "next try in 5s", "--test"]);
    eventually(SOON, "its child is gone", || {
        test_kill_process(child).is_err()
    });
    told.does("");
    assert_eq!(told.change(1)["name"], "db");
}

#[test]
fn a_command_that_fails_is_tried_again_until_newer_state_overtakes_it() {
    let world = or_skip!(World::new());
    let told = Told::new(&world);
    let config = told.of_a_missing_lineage(&world).write();
    told.does("echo one >&2; echo two >&2; exit 75");
    let _daemon = Daemon::start(&world, &config);
    let mut follower = notifier(&world, &config);
    follower.wait_for_log("ended with exit status: 75: one | two; next try in 5s");
    follower.wait_for_log("next try in 10s");
    // It ends while the next try is far away, and begins again with a command that does.
    assert_eq!(told.changes(), [Value::Null; 0]);
    told.does("");
    follower.hangup();
    assert_eq!(told.change(1)["event"], "failure");
    // A command that cannot be run at all is said as well.
    let text = config.text().replace("/bin/sh", "/nonexistent/mail");
    config.replace(&text);
    follower.hangup();
    follower.wait_for_log("notifications go through /nonexistent/mail");
    fs::remove_file(config.runtime_directory().join("status.json")).unwrap();
    follower.wait_for_log("/nonexistent/mail cannot be run: No such file");
    follower.signal(Signal::TERM);
    assert_eq!(follower.ended(SOON).code(), Some(0));
}

#[test]
fn a_delivery_in_hand_is_finished_at_the_end() {
    let world = or_skip!(World::new());
    let told = Told::new(&world);
    let config = told.of_a_missing_lineage(&world).write();
    let (begun, go) = (world.path().join("begun"), world.path().join("go"));
    told.does(&format!(
        "touch {}; while ! test -e {}; do sleep 0.1; done",
        begun.display(),
        go.display()
    ));
    let _daemon = Daemon::start(&world, &config);
    let mut follower = notifier(&world, &config);
    eventually(SOON, "the command runs", || begun.exists());
    follower.signal(Signal::TERM);
    eventually(SOON, "it is about to end", || {
        follower.notified().iter().any(|line| line == "STOPPING=1")
    });
    fs::write(go, "").unwrap();
    assert_eq!(follower.ended(SOON).code(), Some(0));
    assert_eq!(told.changes().len(), 1);
    told.does("");
    let _follower = notifier(&world, &config);
    told.stays_at(1);
}

#[test]
fn without_a_command_it_ends_at_once_and_well() {
    let world = or_skip!(World::new());
    let config = Config::new(&world).notify("after", "1s").write();
    let mut notifier = Launch::new(&world).notifier(&config);
    assert_eq!(notifier.ended(SOON).code(), Some(0));
    // Otherwise systemd would take it for a failure.
    assert!(notifier.notified().iter().any(|line| line == "READY=1"));
    says(&notifier.log(), &["nobody is notified", "[notify]"]);
    let tried = pgcertd(&world, &config, &["notify", "--test"]);
    assert_eq!(tried.code(), 2, "{tried:?}");
    says(tried.stderr(), &["no command", "command = ["]);
}

#[test]
fn a_trial_says_how_it_went() {
    let world = or_skip!(World::new());
    let told = Told::new(&world);
    let config = told.config(&world, &[]).write();
    let tried = pgcertd(&world, &config, &["notify", "--test"]);
    assert_eq!(tried.code(), 0, "{tried:?}");
    says(tried.stdout(), &["/bin/sh succeeded", "a test"]);
    let change = told.change(1);
    assert_eq!(
        (&change["event"], &change["state"]),
        (&"test".into(), &"not_served".into())
    );
    says(change["problem"].as_str().unwrap(), &["a test"]);

    told.does("echo refused >&2; exit 1");
    let tried = pgcertd(&world, &config, &["notify", "--test"]);
    assert_eq!(tried.code(), 1, "{tried:?}");
    says(
        tried.stdout(),
        &["not delivered", "exit status: 1: refused"],
    );
    let tried = pgcertd(&world, &config, &["notify", "--test", "--json"]);
    assert_eq!(tried.code(), 1, "{tried:?}");
    let json = tried.json();
    assert_eq!(json["delivered"], false, "{json}");
    assert_eq!(json["command"][0], "/bin/sh");
}

/// The example of the manual for this program, as it stands there.
fn shown(program: &str) -> Vec<String> {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/manual.md"));
    let readme = readme.unwrap();
    let mut lines = readme.lines();
    let line = lines.find(|line| line.starts_with("command = [") && line.contains(program));
    let table: toml::Table = line
        .unwrap_or_else(|| panic!("no {program}"))
        .parse()
        .unwrap();
    let words = table["command"].as_array().unwrap();
    words
        .iter()
        .map(|word| word.as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn the_line_for_a_webhook_posts_the_document() {
    let world = or_skip!(World::new());
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let hook = format!("http://{}/hook", listener.local_addr().unwrap());
    let mut command = shown("curl");
    let address = command.last_mut().unwrap();
    assert!(address.starts_with("https://"), "{address}");
    *address = hook;
    let command: Vec<toml::Value> = command.into_iter().map(toml::Value::from).collect();
    let config = Config::new(&world).notify("command", command).write();
    // A stand-in for the other end, which no test may be: it answers each request so.
    let answers = std::thread::spawn(move || {
        let mut requests = Vec::new();
        for answer in ["200 OK", "500 Internal Server Error"] {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(SOON)).unwrap();
            requests.push(request(&mut stream));
            write!(stream, "HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n").unwrap();
        }
        requests
    });
    let tried = pgcertd(&world, &config, &["notify", "--test"]);
    assert_eq!(tried.code(), 0, "{tried:?}");
    let refused = pgcertd(&world, &config, &["notify", "--test"]);
    assert_eq!(refused.code(), 1, "{refused:?}");
    says(refused.stdout(), &["500"]);
    let requests = answers.join().unwrap();
    let (head, body) = requests[0].split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /hook "), "{head}");
    assert!(
        head.to_lowercase()
            .contains("content-type: application/json"),
        "{head}"
    );
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["event"], "test", "{body}");
}

/// One request, head and body.
fn request(stream: &mut std::net::TcpStream) -> String {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    loop {
        let length = stream.read(&mut buffer).unwrap();
        assert!(length > 0, "it ends early: {text}");
        text.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let head = head.to_lowercase();
        let announced = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        if announced.is_some_and(|length| length.trim().parse() == Ok(body.len())) {
            return text;
        }
    }
}
