//! Whether a Patroni will load what its configuration names, tried beforehand.
//!
//! Patroni loses its REST API to a pair that does not load, so it is loaded before, by Patroni's own
//! Python and OpenSSL, in the way in which it does it itself (`RestApiServer.__initialize`).

use std::path::Path;
use std::time::Duration;

use super::Patroni;
use crate::config;
use crate::host::command::Launch;
use crate::host::privilege::Ids;

/// How long a Python may take to load a pair.
const PATIENCE: Duration = Duration::from_secs(10);

/// What Patroni does with its settings; an encrypted key fails, and asks nobody.
const SCRIPT: &str = "import ssl, sys
cert, key, ca, ciphers = (it or None for it in sys.argv[1:])
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ca)
if ciphers: context.set_ciphers(ciphers)
context.load_cert_chain(certfile=cert, keyfile=key, password='')";

/// What came of loading a pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Rehearsal {
    Loads,
    /// It does not: Python's words.
    Refused(String),
}

impl Patroni {
    /// Loads what the configuration names, as the user `server`. Nothing is said where that cannot be
    /// tried, or TLS is off. The files of `config` are loaded where the environment, which may name
    /// them, may not be seen.
    pub(crate) async fn rehearsed(
        &self,
        server: Ids,
        config: &config::InstanceConfig,
    ) -> Option<Rehearsal> {
        let (python, api) = (self.python.as_ref()?, self.api.as_ref().ok()?);
        let (certfile, keyfile) = match self.environment {
            Some(_) => (api.certfile.as_deref()?, api.keyfile.as_deref()),
            None => (&*config.cert_file, Some(&*config.key_file)),
        };
        let mut launch = Launch::of_server(python, server).ok()?;
        launch.args(["-I", "-S", "-c", SCRIPT]).arg(certfile);
        for path in [keyfile, api.cafile.as_deref()] {
            launch.arg(path.unwrap_or(Path::new("")));
        }
        launch.arg(api.ciphers.as_deref().unwrap_or_default());
        if let Some(file) = &self.openssl_conf {
            launch.env("OPENSSL_CONF", file);
        }
        let ran = launch.ran(PATIENCE).await.ok()?;
        match ran.status.code() {
            Some(0) => Some(Rehearsal::Loads),
            Some(1) => Some(Rehearsal::Refused(ran.last_line())),
            // Python's own trouble, of which Patroni knows nothing.
            _ => None,
        }
    }
}
