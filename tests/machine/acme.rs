//! A real ACME server in the machine, and certbot as Debian has it.

use crate::{
    machine::Machine,
    world::{SOON, eventually, skipped::Skipped},
};

/// The names lead to the machine itself.
pub const DOMAIN: &str = "pg.example.com";

/// pebble's certificate for itself, which certbot is told to trust.
const ENDPOINT: &str = "/srv/pebble/cert.pem";

/// The root of all certificates that pebble issues, as a client keeps it.
pub const ROOT: &str = "/srv/pebble/root.pem";

const CONFIG: &str = r#"{"pebble": {
    "listenAddress": "127.0.0.1:14000",
    "managementListenAddress": "127.0.0.1:15000",
    "certificate": "/srv/pebble/cert.pem",
    "privateKey": "/srv/pebble/key.pem",
    "httpPort": 5002,
    "tlsPort": 5001,
    "ocspResponderURL": "",
    "externalAccountBindingRequired": false
}}"#;

/// What a user of a real authority has in certbot's own configuration.
const CERTBOT: &str = "
server = https://localhost:14000/dir
agree-tos = true
register-unsafely-without-email = true
non-interactive = true
authenticator = standalone
http-01-address = 127.0.0.1
http-01-port = 5002
";

impl Machine {
    /// A machine with the package, a name, and the first certificate for that.
    #[track_caller]
    pub fn with_a_certificate() -> Result<Self, Skipped> {
        let machine = Self::boot()?;
        machine.install_deb();
        machine.start_pebble();
        machine.certbot_issues();
        machine.name(&[DOMAIN]);
        Ok(machine)
    }

    /// Starts pebble, and its DNS server, for which every name is this machine. It forgets all at
    /// a shutdown.
    #[track_caller]
    pub fn start_pebble(&self) {
        self.write("/srv/pebble/config.json", CONFIG);
        self.sh(&format!(
            "openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=localhost \
                -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \
                -keyout /srv/pebble/key.pem -out {ENDPOINT} 2>/dev/null
            systemd-run --quiet --unit=names pebble-challtestsrv \
                -defaultIPv4 127.0.0.1 -defaultIPv6 '' -dns01 127.0.0.1:8053 \
                -http01 '' -https01 '' -tlsalpn01 '' -management 127.0.0.1:8055
            systemd-run --quiet --unit=pebble \
                --setenv=PEBBLE_VA_NOSLEEP=1 --setenv=PEBBLE_WFE_NONCEREJECT=0 \
                pebble -config /srv/pebble/config.json -dnsserver 127.0.0.1:8053"
        ));
        self.write("/etc/letsencrypt/cli.ini", CERTBOT);
        let fetch = format!(
            "curl --silent --show-error --fail --cacert {ENDPOINT} \
                --output {ROOT} https://localhost:15000/roots/0"
        );
        eventually(SOON, "pebble answers", || {
            self.run(["sh", "-c", &fetch]).result()
        });
    }

    /// Gets the first certificate for [`DOMAIN`].
    #[track_caller]
    pub fn certbot_issues(&self) {
        self.certbot(&["certonly", "--domain", DOMAIN]);
    }

    /// Renews now; gives the fingerprint of the new leaf.
    #[track_caller]
    pub fn certbot_renews(&self) -> String {
        let before = self.live_leaf();
        self.certbot(&["renew", "--force-renewal", "--no-random-sleep-on-renew"]);
        let after = self.live_leaf();
        assert_ne!(after, before);
        after
    }

    /// The fingerprint of the leaf in `live/`.
    #[track_caller]
    pub fn live_leaf(&self) -> String {
        self.leaf(&format!("/etc/letsencrypt/live/{DOMAIN}/cert.pem"))
    }

    /// certbot, which trusts pebble.
    #[track_caller]
    pub fn certbot(&self, arguments: &[&str]) {
        let trust = format!("REQUESTS_CA_BUNDLE={ENDPOINT}");
        self.ok(["env", &trust, "certbot"].iter().chain(arguments).copied());
    }
}
