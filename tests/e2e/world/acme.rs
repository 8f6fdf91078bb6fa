//! A real ACME server, pebble, and a real client, certbot.

use std::{
    fs::{self, File},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::json;

use super::{
    SOON, World,
    ca::{Ca, describe},
    command, eventually,
    port::Port,
    process::{Done, Process, run},
    slow_motion::SlowMotion,
    tail, through,
};

/// A pebble with its test DNS server: every name leads to 127.0.0.1.
pub struct Pebble {
    directory: Port,
    management: Port,
    http: Port,
    endpoint: Ca,
    root: PathBuf,
    _processes: [Process; 2],
}

impl Pebble {
    /// Starts both on free ports and waits until they answer.
    #[track_caller]
    pub fn start(world: &World) -> Self {
        Self::start_with(world, &[])
    }

    /// The same, and every challenge counts as met without a look: who asks a moment too early waits
    /// for seconds otherwise.
    #[track_caller]
    pub fn start_trusting(world: &World) -> Self {
        Self::start_with(world, &[("PEBBLE_VA_ALWAYS_VALID", "1")])
    }

    #[track_caller]
    fn start_with(world: &World, env: &[(&str, &str)]) -> Self {
        let endpoint = Ca::new(world, "Pebble Endpoint");
        for _ in 0..3 {
            if let Some(pebble) = Self::try_start(world, &endpoint, env) {
                let [directory, management, http, _, _, _] = pebble.1;
                let mut pebble = Self {
                    directory,
                    management,
                    http,
                    endpoint,
                    root: world.directory("roots").join("pebble.pem"),
                    _processes: pebble.0,
                };
                pebble.fetch_root();
                return pebble;
            }
        }
        panic!("pebble found its ports taken three times");
    }

    /// Where ACME clients are to ask.
    pub fn url(&self) -> String {
        format!("https://{}/dir", self.directory.address())
    }

    /// The root of the certificate that it shows to ACME clients.
    pub fn endpoint_root(&self) -> &Path {
        self.endpoint.root()
    }

    /// The port of 127.0.0.1 at which it asks for the answer to a challenge over HTTP.
    pub fn challenge_port(&self) -> u16 {
        self.http.number()
    }

    /// The root that issues its certificates, which every user may read.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Starts pebble; none when a program took one of the ports in between.
    fn try_start(
        world: &World,
        endpoint: &Ca,
        env: &[(&str, &str)],
    ) -> Option<([Process; 2], [Port; 6])> {
        let home = world.directory("pebble");
        let ports: [Port; 6] = std::array::from_fn(|_| Port::claim());
        let [directory, management, http, tls, dns, dns_management] = &ports;
        let issued = endpoint.issue(&["localhost", "127.0.0.1"]);
        fs::write(home.join("cert.pem"), issued.fullchain_pem()).unwrap();
        fs::write(home.join("key.pem"), &issued.key_pem).unwrap();
        let config = json!({"pebble": {
            "listenAddress": directory.address(),
            "managementListenAddress": management.address(),
            "certificate": home.join("cert.pem"),
            "privateKey": home.join("key.pem"),
            "httpPort": http.number(),
            "tlsPort": tls.number(),
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
        }});
        fs::write(home.join("config.json"), config.to_string()).unwrap();

        let log = home.join("pebble.log");
        let file = File::create(&log).unwrap();
        let output = || Stdio::from(file.try_clone().unwrap());
        let names = Process::spawn(
            command("pebble-challtestsrv")
                .args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""])
                .args(["-http01", "", "-https01", "", "-tlsalpn01", ""])
                .args([
                    "-dns01",
                    &dns.address(),
                    "-management",
                    &dns_management.address(),
                ])
                .stdin(Stdio::null())
                .stdout(output())
                .stderr(output()),
        );
        let server = Process::spawn(
            command("pebble")
                .arg("-config")
                .arg(home.join("config.json"))
                .args(["-dnsserver", &dns.address()])
                .envs(env.iter().copied())
                .env("PEBBLE_VA_NOSLEEP", "1")
                .env("PEBBLE_WFE_NONCEREJECT", "0")
                .stdin(Stdio::null())
                .stdout(output())
                .stderr(output()),
        );
        let mut processes = [names, server];
        let up = eventually(SOON, "pebble answers", || {
            if processes
                .iter_mut()
                .any(|process| process.ended().is_some())
            {
                return Some(false);
            }
            [directory, management, dns, dns_management]
                .iter()
                .all(|port| TcpStream::connect(port.address()).is_ok())
                .then_some(true)
        });
        if up {
            return Some((processes, ports));
        }
        let said = fs::read_to_string(log).unwrap();
        assert!(
            said.contains("address already in use"),
            "pebble ended:\n{}",
            tail(&said)
        );
        None
    }

    /// Pebble makes a new root at each start, and shows it on its management port alone.
    fn fetch_root(&mut self) {
        let url = format!("https://{}/roots/0", self.management.address());
        let pem = run(
            command("curl")
                .args(["--silent", "--show-error", "--fail", "--cacert"])
                .arg(self.endpoint.root())
                .arg(url),
            SOON,
        )
        .result()
        .unwrap();
        fs::write(&self.root, pem).unwrap();
    }
}

/// A certbot with directories of its own.
#[derive(Clone)]
pub struct Certbot<'p> {
    pebble: &'p Pebble,
    prefix: Vec<String>,
    home: PathBuf,
    config: PathBuf,
}

impl<'p> Certbot<'p> {
    /// A certbot that knows this pebble, without account or certificate.
    pub fn new(world: &World, pebble: &'p Pebble) -> Self {
        Self {
            pebble,
            prefix: Vec::new(),
            home: world.directory("certbot"),
            config: world.directory("certbot/config"),
        }
    }

    /// The same certbot in slow motion.
    pub fn slowed(&self, slow: &SlowMotion) -> Self {
        Self {
            prefix: slow.prefix().to_vec(),
            ..self.clone()
        }
    }

    /// Its `live` directory, to be watched.
    pub fn live(&self) -> PathBuf {
        self.config.join("live")
    }

    /// `live/DOMAIN`.
    pub fn lineage(&self, domain: &str) -> PathBuf {
        self.live().join(domain)
    }

    /// Fingerprint and serial number of the leaf that the lineage holds.
    pub fn leaf(&self, domain: &str) -> (String, String) {
        describe(&fs::read_to_string(self.lineage(domain).join("cert.pem")).unwrap())
    }

    /// Gets a first certificate for this domain.
    #[track_caller]
    pub fn issue(&self, domain: &str) {
        self.issue_with(domain, &[]);
    }

    /// As [`Certbot::issue`], with more arguments, `--deploy-hook` for one.
    #[track_caller]
    pub fn issue_with(&self, domain: &str, args: &[&str]) {
        let account = [
            "certonly",
            "--agree-tos",
            "--register-unsafely-without-email",
        ];
        self.certbot(&[&account, &["--domain", domain] as &[&str], args].concat());
    }

    /// Renews everything now, each with a new key.
    #[track_caller]
    pub fn renew(&self) {
        self.renew_with(&["--no-reuse-key"]);
    }

    /// Renews everything now, and keeps the keys.
    #[track_caller]
    pub fn renew_reusing_key(&self) {
        self.renew_with(&["--reuse-key"]);
    }

    /// Renews everything now, with these arguments.
    #[track_caller]
    pub fn renew_with(&self, args: &[&str]) {
        let now = ["renew", "--force-renewal", "--no-random-sleep-on-renew"];
        self.certbot(&[&now, args].concat());
    }

    /// Runs as its timer does.
    #[track_caller]
    pub fn renew_what_is_due(&self) {
        self.certbot(&["renew", "--no-random-sleep-on-renew"]);
    }

    /// As [`Certbot::renew`], with this directory before all others in the search path of hooks;
    /// gives how it ended and what it said.
    #[track_caller]
    pub fn renew_reporting(&self, search: &Path) -> Done {
        let now = ["renew", "--force-renewal", "--no-random-sleep-on-renew"];
        let mut certbot = self.command(&[&now, &["--no-reuse-key"] as &[&str]].concat());
        let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", search.display());
        run(certbot.env("PATH", path), SOON * 2)
    }

    /// Where it looks for hooks of every renewal.
    pub fn deploy_hooks(&self) -> PathBuf {
        self.config.join("renewal-hooks/deploy")
    }

    /// Deletes a lineage.
    #[track_caller]
    pub fn delete(&self, domain: &str) {
        self.certbot(&["delete", "--cert-name", domain]);
    }

    #[track_caller]
    fn certbot(&self, args: &[&str]) {
        let done = run(&mut self.command(args), SOON * 2);
        let stdout = done.stdout.clone();
        if let Err(error) = done.result() {
            panic!("certbot {args:?}: {error}\n{stdout}");
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut certbot = through(&self.prefix, "certbot");
        certbot
            .args(args)
            .args(["--non-interactive", "--standalone"])
            .args(["--http-01-address", "127.0.0.1", "--http-01-port"])
            .arg(self.pebble.http.number().to_string())
            .arg("--server")
            .arg(self.pebble.url())
            .arg("--config-dir")
            .arg(&self.config)
            .arg("--work-dir")
            .arg(self.home.join("work"))
            .arg("--logs-dir")
            .arg(self.home.join("logs"))
            .env("REQUESTS_CA_BUNDLE", self.pebble.endpoint.root());
        certbot
    }
}
