//! Patroni: what its configuration says of the certificate of its REST API.
//!
//! Patroni reads one YAML file, or every `*.yml` and `*.yaml` of a directory in the order of their
//! names, each laid over those before, and then `PATRONI_*` of its environment, which wins
//! (`Config._load_config_path` and `_build_environment_configuration`, the same in 2.1 to 4.1).
//! What the cluster shares in etcd says nothing of the REST API.
//!
//! # What Patroni does with a pair that does not load
//! On SIGHUP it shuts its REST API down, binds anew, and only then loads the pair
//! (`RestApiServer.__initialize`, 2.1 to 4.1). Where that fails it goes on without a REST API: its port
//! takes connections and answers none. A second SIGHUP then waits for ever for the thread of that
//! dead API to end, and the node, if it leads, is failed over (tried with 3.0.2). So whoever has a
//! Patroni reload must know before that the pair loads and that the API answers.

mod fileless;
mod process;
mod rehearsal;
mod script;
mod yaml;

use std::path::{Path, PathBuf};

use crate::bundle::TrustFiles;
use crate::config::{Address, ServerHome};
use crate::host::look::{self, CannotLook};
use crate::host::namespaces;
use crate::problem::Problem;
use crate::server::setting_names::{NamedSetting, Names, Setter};
use crate::server::settings::TlsSettings;

pub(super) use fileless::{BY_FILE, told_by_environment, without_file};
pub(crate) use process::Patroni;
pub(crate) use rehearsal::Rehearsal;
use yaml::Node;
pub(crate) use yaml::YamlError;

/// The largest configuration file that is read, in bytes.
pub(crate) const LARGEST: u64 = 256 << 10;

/// Whether the REST API asks clients for a certificate (`restapi.verify_client`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VerifyClient {
    Never,
    /// It asks, and takes none for an answer in the handshake.
    Optional,
    /// A handshake without one fails, and leaves a traceback in Patroni's log (to 4.1.3).
    Required,
}

/// What Patroni's configuration says of its REST API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RestApi {
    /// `restapi.listen`.
    pub(crate) listen: Option<String>,
    /// `restapi.certfile`; without it the API speaks plain HTTP.
    pub(crate) certfile: Option<PathBuf>,
    /// `restapi.keyfile`; without it the key is in `certfile`.
    pub(crate) keyfile: Option<PathBuf>,
    /// What sets `certfile`, or would: the last that has its say.
    pub(crate) cert: NamedSetting,
    /// What sets `keyfile`; where nothing does, what stands beside that of `certfile`.
    pub(crate) key: NamedSetting,
    /// `restapi.cafile`: the authorities of clients, loaded as one with the pair.
    pub(crate) cafile: Option<PathBuf>,
    /// `restapi.ciphers`, in OpenSSL's words.
    pub(crate) ciphers: Option<String>,
    /// `restapi.verify_client`.
    pub(crate) verify_client: VerifyClient,
    /// What Patroni and patronictl show to a REST API themselves: `ctl.certfile` and `ctl.keyfile`, or,
    /// as Patroni before 3.2 does, those of `restapi`. The second is where the key is.
    pub(crate) client: Option<(PathBuf, PathBuf)>,
    /// Whether `ctl.certfile` says so, and not Patroni before 3.2.
    pub(crate) client_is_said: bool,
}

/// Why there is no such configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PatroniError {
    /// A file or the directory cannot be read.
    #[error("Patroni's configuration {} cannot be read: {source}; let the user that pgcertd runs as read it", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// A file is not what Patroni reads.
    #[error("Patroni's configuration {} is not one: {source}; `patroni --validate-config` says more", path.display())]
    Invalid {
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: YamlError,
    },
}

/// The files of a configuration that is at `path`, in the order in which they are laid over each other.
///
/// # Errors
/// A directory that cannot be listed.
pub(crate) fn files(path: &Path) -> Result<Vec<PathBuf>, PatroniError> {
    let unreadable = |source| PatroniError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let unknown = |cannot: CannotLook| unreadable(std::io::Error::other(cannot));
    let is_directory = look::metadata(path).map_err(unknown)?;
    if !is_directory.is_some_and(|meta| meta.is_dir()) {
        return Ok(vec![path.to_owned()]);
    }
    let mut found: Vec<PathBuf> = std::fs::read_dir(path)
        .and_then(|entries| {
            let files = entries.map(|entry| Ok(entry?.path()));
            files.collect::<Result<Vec<PathBuf>, std::io::Error>>()
        })
        .map_err(unreadable)?;
    found.retain(|file| {
        let name = file.file_name().unwrap_or_default().as_encoded_bytes();
        name.ends_with(b".yml") || name.ends_with(b".yaml")
    });
    found.sort();
    let mut files = Vec::new();
    for file in found {
        let meta = look::metadata(&file).map_err(unknown)?;
        if meta.is_some_and(|meta| meta.is_file()) {
            files.push(file);
        }
    }
    Ok(files)
}

/// Reads the configuration at `path`, with the environment of the Patroni that has it, if that is known.
///
/// # Errors
/// A file cannot be read, or is not what Patroni reads.
pub(crate) fn read(path: &Path, environment: &[(String, String)]) -> Result<RestApi, PatroniError> {
    let mut layers = Vec::new();
    for file in files(path)? {
        let bytes =
            crate::host::file::read(&file, LARGEST).map_err(|source| PatroniError::Unreadable {
                path: file.clone(),
                source,
            })?;
        let text = zeroize::Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned());
        match yaml::read(&text) {
            Ok(over) => layers.push((file, over)),
            Err(source) => return Err(PatroniError::Invalid { path: file, source }),
        }
    }
    Ok(rest_api(path, &layers, environment))
}

/// The value of a key in the environment, where it has one.
fn by_environment(environment: &[(String, String)], section: &str, key: &str) -> Option<String> {
    let variable = format!("PATRONI_{section}_{key}").to_uppercase();
    let mut set = environment.iter();
    let (_, value) = set.find(|(name, value)| *name == variable && !value.is_empty())?;
    Some(value.clone())
}

/// What sets certificate and key of the REST API: the environment, or else the last of the files
/// that has the key.
fn setters(
    path: &Path,
    layers: &[(PathBuf, Node)],
    environment: &[(String, String)],
) -> (NamedSetting, NamedSetting) {
    let place = |key: &str| {
        if by_environment(environment, "restapi", key).is_some() {
            return Some(Setter::Environment);
        }
        let has = |(_, file): &&(PathBuf, Node)| {
            let section = file.at("restapi");
            section.is_some_and(|node| node.at(key).is_some())
        };
        let last = layers.iter().rev().find(has);
        last.map(|(file, _)| Setter::File(file.clone()))
    };
    let setting = |place: Setter, variable, name| match place {
        Setter::Environment => NamedSetting {
            name: variable,
            place,
        },
        _ => NamedSetting { name, place },
    };
    let cert = place("certfile").unwrap_or_else(|| Setter::File(path.to_owned()));
    let key = place("keyfile").unwrap_or_else(|| cert.clone());
    (
        setting(cert, "PATRONI_RESTAPI_CERTFILE", "restapi.certfile"),
        setting(key, "PATRONI_RESTAPI_KEYFILE", "restapi.keyfile"),
    )
}

/// What the files `layers` of the configuration at `path` come to, each laid over those before.
fn rest_api(path: &Path, layers: &[(PathBuf, Node)], environment: &[(String, String)]) -> RestApi {
    let (cert, key) = setters(path, layers, environment);
    let nothing = Node::Mapping(Vec::new());
    let whole = layers
        .iter()
        .fold(nothing, |whole, (_, over)| whole.patched(over));
    let set = |section: &str, key: &str| {
        by_environment(environment, section, key)
            .or_else(|| whole.at(section)?.at(key)?.text().map(str::to_owned))
    };
    let path = |section: &str, key: &str| set(section, key).map(PathBuf::from);
    let pair = |section: &str| {
        let cert = path(section, "certfile")?;
        let key = path(section, "keyfile").unwrap_or_else(|| cert.clone());
        Some((cert, key))
    };
    let verify_client = match set("restapi", "verify_client")
        .as_deref()
        .map(str::to_lowercase)
    {
        Some(word) if word == "required" => VerifyClient::Required,
        Some(word) if word == "optional" => VerifyClient::Optional,
        _ => VerifyClient::Never,
    };
    RestApi {
        listen: set("restapi", "listen"),
        certfile: path("restapi", "certfile"),
        keyfile: path("restapi", "keyfile"),
        cert,
        key,
        cafile: path("restapi", "cafile"),
        ciphers: set("restapi", "ciphers"),
        verify_client,
        client_is_said: pair("ctl").is_some(),
        client: pair("ctl").or_else(|| pair("restapi")),
    }
}

impl RestApi {
    /// The same with its paths resting on the directory in which Patroni runs.
    pub(crate) fn from(mut self, directory: &Path) -> RestApi {
        let placed = |path: PathBuf| directory.join(path);
        self.certfile = self.certfile.map(placed);
        self.keyfile = self.keyfile.map(placed);
        self.cafile = self.cafile.map(placed);
        let both = |(cert, key): (PathBuf, PathBuf)| (placed(cert), placed(key));
        self.client = self.client.map(both);
        self
    }

    /// The same for a Patroni whose root directory is to be seen at `root`, with what is known here by its name
    /// here. Blocks.
    ///
    /// # Errors
    /// What it calls a file cannot be looked at.
    pub(super) fn through(mut self, root: &Path, known: &[&Path]) -> Result<RestApi, CannotLook> {
        let placed = |path: PathBuf| namespaces::as_here(root, path, known);
        let found = |path: PathBuf| namespaces::found(root, path);
        self.certfile = self.certfile.map(placed).transpose()?;
        self.keyfile = self.keyfile.map(placed).transpose()?;
        self.cafile = self.cafile.map(found).transpose()?;
        self.client = match self.client {
            Some((cert, key)) => Some((placed(cert)?, placed(key)?)),
            None => None,
        };
        Ok(self)
    }

    /// The settings that decide which certificate it serves.
    pub(crate) fn tls(self, place: &ServerHome) -> TlsSettings {
        let cert_file = self.certfile.unwrap_or_default();
        TlsSettings {
            names: Names {
                cert: self.cert,
                key: self.key,
                ..Names::for_home(place)
            },
            on: !cert_file.as_os_str().is_empty(),
            key_file: self.keyfile.unwrap_or_else(|| cert_file.clone()),
            cert_file,
            trust_files: TrustFiles {
                ca: self.cafile,
                crl: None,
            },
            hosts: None,
            asked_names: Vec::new(),
        }
    }

    /// What makes the certificate of the REST API one of a client of REST APIs too, in words; none where
    /// nothing does. `before_3_2` is whether this Patroni shows it unasked.
    pub(crate) fn client_use(&self, before_3_2: bool) -> Option<String> {
        let asked = self.verify_client != VerifyClient::Never;
        let (client, _) = self.client.as_ref().filter(|_| asked)?;
        let is_same = look::is_same_file(client, self.certfile.as_deref()?);
        let who = if self.client_is_said {
            "ctl.certfile names it too, so that Patroni and patronictl show it to REST APIs as a client, which restapi.verify_client has verified"
        } else {
            "Patroni before 3.2 shows it to other REST APIs as a client where ctl.certfile is not set, which restapi.verify_client has verified"
        };
        (is_same && (self.client_is_said || before_3_2)).then(|| who.to_owned())
    }

    /// Where to look at it from this host, best first.
    ///
    /// # Errors
    /// Where `restapi.listen` names no place.
    pub(crate) fn addresses(&self) -> Result<Vec<Address>, Problem> {
        let listen = self.listen.as_deref().unwrap_or_default();
        let place = listen.rsplit_once(':').and_then(|(host, port)| {
            let port: u16 = port.trim().parse().ok().filter(|number| *number > 0)?;
            Some((host.trim().trim_matches(['[', ']']), port))
        });
        let Some((host, port)) = place else {
            return Err(Problem::new(
                format!("restapi.listen is {listen:?}, and not HOST:PORT"),
                "set it, or address",
            ));
        };
        Ok(Address::from_listen(host, port))
    }
}

/// The variables of an environment, as `/proc/PID/environ` has it, that Patroni reads: its own.
/// Patroni takes them out of its environment at its start, and they stand in that file all the same.
pub(crate) fn environment(bytes: &[u8]) -> Vec<(String, String)> {
    bytes
        .split(|byte| *byte == 0)
        .filter_map(|variable| {
            let (name, value) = std::str::from_utf8(variable).ok()?.split_once('=')?;
            let wanted = ["PATRONI_RESTAPI_", "PATRONI_CTL_"];
            let read =
                wanted.iter().any(|text| name.starts_with(text)) && !name.ends_with("PASSWORD");
            read.then(|| (name.to_owned(), value.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that panics has failed")]
    use super::*;

    fn from_text(text: &str, environment: &[(&str, &str)]) -> RestApi {
        let environment: Vec<_> = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let file = PathBuf::from("/etc/patroni.yml");
        let layers = [(file.clone(), yaml::read(text).unwrap())];
        rest_api(&file, &layers, &environment)
    }

    fn hosts(listen: &str) -> Result<Vec<String>, Problem> {
        let api = from_text(&format!("restapi: {{listen: '{listen}'}}"), &[]);
        Ok(api.addresses()?.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn the_api_is_what_the_file_says() {
        let api = from_text(
            "restapi:\n  listen: 10.0.0.1:8008\n  certfile: /c\n  keyfile: /k\n  verify_client: Required\nctl:\n  certfile: /m\n",
            &[],
        );
        assert_eq!(api.certfile.as_deref(), Some(Path::new("/c")));
        assert_eq!(api.keyfile.as_deref(), Some(Path::new("/k")));
        assert_eq!(api.verify_client, VerifyClient::Required);
        assert_eq!(api.client, Some(("/m".into(), "/m".into())));
        assert_eq!(api.addresses().unwrap()[0].to_string(), "10.0.0.1:8008");
    }

    #[test]
    fn a_certificate_that_other_rest_apis_verify_is_a_clients() {
        let tls = "listen: 'a:8008', certfile: /c";
        for (rest, ctl, before_3_2, is_client) in [
            (
                "verify_client: required",
                "ctl: {certfile: /c}",
                false,
                true,
            ),
            (
                "verify_client: Optional",
                "ctl: {certfile: /c}",
                false,
                true,
            ),
            ("verify_client: none", "ctl: {certfile: /c}", true, false),
            (
                "verify_client: required",
                "ctl: {certfile: /d}",
                true,
                false,
            ),
            ("verify_client: required", "", true, true),
            ("verify_client: required", "", false, false),
        ] {
            let api = from_text(&format!("restapi: {{{tls}, {rest}}}\n{ctl}\n"), &[]);
            assert_eq!(
                api.client_use(before_3_2).is_some(),
                is_client,
                "{rest} {ctl}"
            );
        }
    }

    #[test]
    fn the_environment_wins_where_it_says_something() {
        let text = "restapi: {listen: 'a:1', certfile: /c, keyfile: /k}";
        let said = [
            ("PATRONI_RESTAPI_CERTFILE", "/e"),
            ("PATRONI_RESTAPI_KEYFILE", ""),
            ("PATRONI_CTL_CERTFILE", "/m"),
        ];
        let api = from_text(text, &said);
        assert_eq!(api.certfile.as_deref(), Some(Path::new("/e")));
        assert_eq!(api.keyfile.as_deref(), Some(Path::new("/k")));
        assert_eq!(api.client, Some(("/m".into(), "/m".into())));
        assert_eq!(api.cert.name, "PATRONI_RESTAPI_CERTFILE");
        assert_eq!(api.cert.place, Setter::Environment);
        assert_eq!(api.key.place, Setter::File("/etc/patroni.yml".into()));
    }

    #[test]
    fn a_key_that_nothing_sets_is_to_be_set_where_the_certificate_is() {
        let api = from_text(
            "restapi: {listen: 'a:1'}",
            &[("PATRONI_RESTAPI_CERTFILE", "/e")],
        );
        assert_eq!(api.key.name, "PATRONI_RESTAPI_KEYFILE");
        let api = from_text("restapi: {listen: 'a:1'}", &[]);
        let file = Setter::File("/etc/patroni.yml".into());
        assert_eq!((api.cert.place, api.key.place), (file.clone(), file));
    }

    #[test]
    fn without_a_certificate_there_is_no_tls_and_nothing_to_show() {
        let api = from_text("restapi: {listen: 'a:1', keyfile: /k}", &[]);
        assert_eq!((api.certfile, api.client), (None, None));
        assert_eq!(api.verify_client, VerifyClient::Never);
    }

    #[test]
    fn it_is_looked_for_where_it_listens() {
        assert_eq!(hosts("0.0.0.0:8008").unwrap(), ["127.0.0.1:8008"]);
        assert_eq!(hosts("*:8008").unwrap(), ["127.0.0.1:8008", "[::1]:8008"]);
        assert_eq!(hosts(":8008").unwrap(), ["127.0.0.1:8008", "[::1]:8008"]);
        assert_eq!(hosts("[::]:8008").unwrap(), ["[::1]:8008"]);
        assert_eq!(
            hosts("db1.example.com:8008").unwrap(),
            ["db1.example.com:8008"]
        );
        assert!(hosts("8008").is_err());
        assert!(hosts("a:b").is_err());
    }

    #[test]
    fn no_password_is_taken_from_the_environment() {
        let bytes = b"HOME=/\0PATRONI_RESTAPI_LISTEN=a:1\0PATRONI_RESTAPI_PASSWORD=x\0PATRONI_CTL_KEYFILE_PASSWORD=y\0PATRONI_SUPERUSER_PASSWORD=z\0";
        let read = environment(bytes);
        assert_eq!(read, [("PATRONI_RESTAPI_LISTEN".into(), "a:1".into())]);
    }

    #[test]
    fn the_files_of_a_directory_are_laid_over_each_other_in_the_order_of_their_names() {
        let directory = tempfile::tempdir().unwrap();
        let write =
            |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        write("20.yaml", "restapi: {certfile: /second}");
        write(
            "10.yml",
            "restapi: {listen: 'a:1', certfile: /first, keyfile: /k}",
        );
        write("30.yml.bak", "restapi: {certfile: /none}");
        std::fs::create_dir(directory.path().join("40.yml")).unwrap();
        let api = read(directory.path(), &[]).unwrap();
        assert_eq!(api.certfile.as_deref(), Some(Path::new("/second")));
        assert_eq!(api.keyfile.as_deref(), Some(Path::new("/k")));
        let file = |name: &str| Setter::File(directory.path().join(name));
        assert_eq!(api.cert.place, file("20.yaml"));
        assert_eq!(api.key.place, file("10.yml"));
        let missing = read(&directory.path().join("none.yml"), &[]).unwrap_err();
        assert!(missing.to_string().contains("none.yml"), "{missing}");
    }
}
