//! Whether a Patroni will load what its configuration names, tried beforehand.
//!
//! Patroni loses its REST API to a pair that does not load, so it is loaded before, by Patroni's own
//! Python and OpenSSL, in the way in which it does it itself (`RestApiServer.__initialize`).

use std::path::Path;
use std::time::Duration;

use super::Patroni;
use crate::instance::settings::command_as;
use crate::privilege::Ids;

/// How long a Python may take to load a pair.
const PATIENCE: Duration = Duration::from_secs(10);

/// What Patroni does with its settings; an encrypted key fails, and asks nobody.
const SCRIPT: &str = "import ssl, sys
cert, key, ca, ciphers = (it or None for it in sys.argv[1:])
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ca)
if ciphers: context.set_ciphers(ciphers)
context.load_cert_chain(certfile=cert, keyfile=key, password='')";

impl Patroni {
    /// Loads what the configuration names, as the user `server`: `Some` with Python's words where it does
    /// not load. Nothing is said where that cannot be tried, or TLS is off.
    pub async fn refuses(&self, server: Ids) -> Option<String> {
        let (python, api) = (self.python.as_ref()?, self.api.as_ref().ok()?);
        let mut command = command_as(python, server, Path::new("/"));
        command
            .args(["-I", "-S", "-c", SCRIPT])
            .arg(api.certfile.as_ref()?);
        for path in [&api.keyfile, &api.cafile] {
            command.arg(path.as_deref().unwrap_or(Path::new("")));
        }
        command.arg(api.ciphers.as_deref().unwrap_or_default());
        command.env_remove("PGDATA");
        if let Some(file) = &self.openssl_conf {
            command.env("OPENSSL_CONF", file);
        }
        command
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped());
        let ran = tokio::time::timeout(PATIENCE, command.output()).await;
        let output = ran.ok()?.ok()?;
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().last().unwrap_or("it said nothing").trim();
        // Another exit status is Python's own trouble, of which Patroni knows nothing.
        (output.status.code() == Some(1)).then(|| last.to_owned())
    }
}
