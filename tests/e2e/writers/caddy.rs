//! Caddy's own certificates, where Caddy keeps them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::process::Signal;
use serde_json::json;

use super::{Scene, Source};
use crate::{
    stage::HOST,
    world::{
        SOON, World,
        acme::Pebble,
        eventually,
        port::Port,
        process::{Process, run},
        slow_motion::{SlowMotion, Steps},
        tail, through,
    },
};

/// A first run fetches some nine megabytes.
const FIRST_TIME: Duration = Duration::from_secs(5 * 60);

/// Debian's program, without the service that its package would start on port 80.
#[track_caller]
fn program() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/writers/fetch-caddy");
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("writers");
    // With the caller's environment: what reaches a mirror from here is set there.
    let mut fetch = std::process::Command::new(script);
    match run(fetch.arg(cache), FIRST_TIME).result() {
        Ok(path) => path.into(),
        Err(error) => panic!("Caddy cannot be fetched: {error}"),
    }
}

/// A Caddy that is started for each certificate: it renews at its start what is due.
struct Caddy<'p> {
    pebble: &'p Pebble,
    program: PathBuf,
    home: PathBuf,
    port: Port,
}

impl Caddy<'_> {
    /// `certificates/ISSUER/DOMAIN`.
    fn lineage(&self) -> PathBuf {
        let issuers = fs::read_dir(self.home.join("certificates")).unwrap();
        let [issuer] = issuers.collect::<Vec<_>>().try_into().unwrap();
        issuer.unwrap().path().join(HOST)
    }

    /// A configuration under which every certificate is due for renewal.
    fn config(&self) -> PathBuf {
        let address = format!("127.0.0.1:{}", self.port.number());
        let issuer = json!({
            "module": "acme",
            "ca": self.pebble.url(),
            "trusted_roots_pem_files": [self.pebble.endpoint_root()],
            "challenges": {
                "http": {"alternate_port": self.pebble.challenge_port()},
                "tls-alpn": {"disabled": true},
            },
        });
        let server = json!({
            "listen": [address],
            "automatic_https": {"disable_redirects": true},
            "routes": [{"match": [{"host": [HOST]}], "handle": [{"handler": "static_response"}]}],
        });
        let config = json!({
            "admin": {"disabled": true},
            "storage": {"module": "file_system", "root": self.home},
            "apps": {
                "http": {
                    "http_port": self.pebble.challenge_port(),
                    "https_port": self.port.number(),
                    "servers": {"postgres": server},
                },
                "tls": {"automation": {"policies": [
                    {"subjects": [HOST], "renewal_window_ratio": 1.0, "issuers": [issuer]},
                ]}},
            },
        });
        let file = self.home.join("config.json");
        fs::write(&file, config.to_string()).unwrap();
        file
    }

    /// Starts it, and stops it when it has got a certificate and stored it.
    #[track_caller]
    fn gets_a_certificate(&self, prefix: &[String]) {
        let log = self.home.join("caddy.log");
        let mut caddy = Process::spawn(
            through(prefix, &self.program)
                .args(["run", "--config"])
                .arg(self.config())
                .env("HOME", &self.home)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(fs::File::create(&log).unwrap()),
        );
        eventually(SOON * 2, "Caddy has got a certificate", || {
            let said = fs::read_to_string(&log).unwrap();
            let got = said.contains("certificate obtained successfully")
                || said.contains("certificate renewed successfully");
            if got { Ok(()) } else { Err(tail(&said)) }
        });
        caddy.signal(Signal::TERM);
        assert!(caddy.wait(SOON).is_some(), "Caddy did not stop");
    }
}

#[test]
fn what_caddy_renews_in_its_own_storage_is_served() {
    let world = or_skip!(World::new());
    let pebble = Pebble::start(&world);
    let caddy = Caddy {
        pebble: &pebble,
        program: program(),
        home: world.directory("caddy"),
        port: Port::claim(),
    };
    caddy.gets_a_certificate(&[]);
    let (chain, key) = (format!("{HOST}.crt"), format!("{HOST}.key"));
    let source = Source::named(&caddy.lineage(), &chain, &key);
    let slow = SlowMotion::at(&world, Steps::Contents, &source.paths());
    let mut scene = Scene::with_source(&world, source);

    caddy.gets_a_certificate(slow.prefix());
    scene.serves_what_was_left("Caddy has renewed, with the same key");
    let pauses = slow.pauses();
    assert!(pauses >= 4, "{pauses}");
    // A new key: its storage was emptied by hand, and it asks for another certificate.
    fs::remove_dir_all(caddy.lineage()).unwrap();
    caddy.gets_a_certificate(slow.prefix());
    scene.serves_what_was_left("Caddy has begun anew");
    assert!(slow.pauses() >= pauses + 4, "{}", slow.pauses());
    caddy.gets_a_certificate(&[]);
    scene.serves_what_was_left("at full speed");
    scene.ends();
}
