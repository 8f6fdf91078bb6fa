//! dehydrated: files with a time stamp, and links that are renamed over those of before.

use std::{
    fs,
    net::TcpStream,
    path::PathBuf,
    process::{Command, Stdio},
};

use super::{Scene, Source};
use crate::{
    stage::HOST,
    world::{
        SOON, World,
        acme::Pebble,
        command, eventually,
        process::{Process, run},
        slow_motion::{SlowMotion, Steps},
    },
};

/// A dehydrated with an account, and the web server that its challenges need.
struct Dehydrated {
    config: PathBuf,
    lineage: PathBuf,
    _web: Process,
}

impl Dehydrated {
    fn new(world: &World, pebble: &Pebble) -> Self {
        let home = world.directory("dehydrated");
        let answers = world.directory("dehydrated/www/.well-known/acme-challenge");
        let port = pebble.challenge_port().to_string();
        let web = Process::spawn(
            command("python3")
                .args(["-m", "http.server", "--bind", "127.0.0.1", "--directory"])
                .arg(home.join("www"))
                .arg(&port)
                .stdout(Stdio::null())
                .stderr(Stdio::null()),
        );
        eventually(SOON, "the web server answers", || {
            TcpStream::connect(format!("127.0.0.1:{port}")).is_ok()
        });
        let config = home.join("config");
        let lines = [
            format!("CA={}", pebble.url()),
            format!("BASEDIR={}", home.display()),
            format!("WELLKNOWN={}", answers.display()),
            "KEY_ALGO=prime256v1".to_owned(),
            "ACCOUNT_KEY_ALGO=prime256v1".to_owned(),
            format!(
                "CURL_OPTS=\"--cacert {}\"",
                pebble.endpoint_root().display()
            ),
        ];
        fs::write(&config, lines.join("\n")).unwrap();
        fs::write(home.join("domains.txt"), HOST).unwrap();
        let dehydrated = Self {
            config,
            lineage: home.join("certs").join(HOST),
            _web: web,
        };
        dehydrated.run(command("dehydrated").args(["--register", "--accept-terms"]));
        dehydrated
    }

    #[track_caller]
    fn run(&self, dehydrated: &mut Command) {
        run(dehydrated.arg("--config").arg(&self.config), SOON * 2)
            .result()
            .unwrap();
    }
}

#[test]
fn links_that_dehydrated_renames_are_followed() {
    let world = or_skip!(World::new());
    let pebble = Pebble::start(&world);
    let dehydrated = Dehydrated::new(&world, &pebble);
    dehydrated.run(command("dehydrated").arg("--cron"));
    let source = Source::pems(&dehydrated.lineage);
    let slow = SlowMotion::at(&world, Steps::Names, &source.paths());
    let mut scene = Scene::with_source(&world, source);

    dehydrated.run(slow.command("dehydrated").args(["--cron", "--force"]));
    scene.serves_what_was_left("dehydrated has renewed");
    assert!(slow.pauses() >= 2, "{}", slow.pauses());
    scene.ends();
}
