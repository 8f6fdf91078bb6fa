//! Every key of the configuration, described once. pgcertd.toml(5) and the schema for editors are made of this.
//!
//! Part of the tests alone, which prove it: `tests/keys.rs` compares it with the keys that are read, loads each
//! default and example, and has each bad value refused in the words that stand here. Defaults and choices come
//! from the code that applies them.

mod notices;

use std::time::Duration;

use jiff::fmt::friendly::SpanPrinter;

use super::values::{KINDS, MODES, RELOADS, VERIFIES};
use super::{
    DEFAULT_DEBOUNCE, DEFAULT_DELAY, DEFAULT_RESYNC, DEFAULT_RUNTIME_DIRECTORY,
    DEFAULT_SETTLE_TIMEOUT, DEFAULT_STATE_DIRECTORY, DEFAULT_TARGET, DEFAULT_VERIFY_TIMEOUT,
    DEFAULT_WATCHED, Mode, Reload, ServerKind, Verify, expected,
};

pub(crate) use notices::of_notify;

pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) holds: Holds,
    pub(crate) unless: Unless,
    /// What it does, a paragraph each.
    pub(crate) what: &'static [&'static str],
    /// A right value, as it is written.
    pub(crate) example: &'static str,
}

/// What is so where the key is not written.
pub(crate) enum Unless {
    Needed,
    /// This value, as it would be written; `NAME` stands for the instance's name.
    Is(String),
    /// Something that cannot be written.
    Else(&'static str),
}

/// What a key may hold.
pub(crate) enum Holds {
    Path,
    Paths,
    Target,
    Name,
    Lineage,
    Duration,
    Longer,
    /// One of these, each explained.
    Choice(Vec<(&'static str, &'static str)>),
    /// Any of these, each explained.
    Choices(Vec<(&'static str, &'static str)>),
    Hosts,
    Command,
    Account,
    Address,
    Inside,
    /// A file inside the lineage, or an absolute path.
    Source,
    Listen,
    Textfile,
    Table(Vec<Key>),
}

/// The keys of an instance that `[defaults]` cannot hold.
pub(crate) const OWN: &[&str] = &["name", "lineage", "data_directory", "config_file"];

impl Holds {
    /// In one or two words.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Holds::Path => "path",
            Holds::Paths => "array of paths",
            Holds::Target => "path of a file",
            Holds::Name | Holds::Lineage => "string",
            Holds::Duration => "duration",
            Holds::Longer => "duration longer than zero",
            Holds::Choice(choices) if choices.len() == 1 => "string",
            Holds::Choice(_) => "one of several strings",
            Holds::Choices(_) => "array of strings",
            Holds::Hosts => "array of host names",
            Holds::Command => "array of strings",
            Holds::Account => "string or number",
            Holds::Address => "host and port",
            Holds::Inside => "file name",
            Holds::Source => "file name or path",
            Holds::Listen => "address or path",
            Holds::Textfile => "path of a file",
            Holds::Table(_) => "table",
        }
    }

    /// What an error says that was expected, where one rule holds for the whole value.
    pub(crate) fn expected(&self) -> Option<String> {
        let expected = match self {
            Holds::Path | Holds::Paths => expected::PATH,
            Holds::Target => expected::TARGET,
            Holds::Name => expected::NAME,
            Holds::Lineage => expected::LINEAGE,
            Holds::Duration => expected::DURATION,
            Holds::Longer => expected::LONGER,
            Holds::Choice(choices) | Holds::Choices(choices) => {
                let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
                return Some(format!("one of: {}", names.join(", ")));
            }
            Holds::Hosts => expected::HOSTS,
            Holds::Command => expected::COMMAND,
            Holds::Account => expected::ACCOUNT,
            Holds::Address => expected::ADDRESS,
            Holds::Inside => expected::INSIDE,
            Holds::Source => expected::SOURCE,
            Holds::Listen => expected::LISTEN,
            Holds::Textfile => expected::TEXTFILE,
            Holds::Table(_) => return None,
        };
        Some(expected.to_owned())
    }
}

fn key(
    name: &'static str,
    holds: Holds,
    unless: Unless,
    example: &'static str,
    what: &'static [&'static str],
) -> Key {
    Key {
        name,
        holds,
        unless,
        what,
        example,
    }
}

fn quoted(text: &str) -> Unless {
    Unless::Is(format!("\"{text}\""))
}

fn lasting(duration: Duration) -> Unless {
    quoted(&SpanPrinter::new().unsigned_duration_to_string(&duration))
}

fn chosen<T: PartialEq>(choices: &[(&str, T)], default: &T) -> Unless {
    let chosen = choices.iter().find(|(_, choice)| choice == default);
    chosen.map_or(Unless::Needed, |(name, _)| quoted(name))
}

/// The choices with their explanations; one without is named in the panic.
fn choice<T>(choices: &[(&'static str, T)], explained: impl Fn(&T) -> &'static str) -> Holds {
    let choices = choices.iter().map(|(name, it)| (*name, explained(it)));
    Holds::Choice(choices.collect())
}

/// The keys above all tables.
pub(crate) fn of_the_file() -> Vec<Key> {
    vec![
        key(
            "state_directory",
            Holds::Path,
            quoted(DEFAULT_STATE_DIRECTORY),
            "\"/srv/pgcertd\"",
            &[
                "Where a directory for each instance holds the default target, the previous bundle, and what was \
               refused or held back. The unit may write in the default alone; another one needs `ReadWritePaths=` \
               in a drop-in.",
            ],
        ),
        key(
            "runtime_directory",
            Holds::Path,
            quoted(DEFAULT_RUNTIME_DIRECTORY),
            "\"/run/pgcertd-test\"",
            &[
                "Where `status.json` is, the daemon's last view, without keys. It need not survive a boot.",
            ],
        ),
    ]
}

/// `[watch]`.
pub(crate) fn of_watch() -> Vec<Key> {
    vec![
        key(
            "directories",
            Holds::Paths,
            Unless::Is(format!("[\"{DEFAULT_WATCHED}\"]")),
            "[\"/etc/letsencrypt/live\", \"/var/lib/dehydrated/certs\"]",
            &[
                "Each subdirectory of these is a lineage. Of one that no instance names only `pgcertd setup` opens a \
                 file, the certificate.",
            ],
        ),
        key(
            "debounce",
            Holds::Duration,
            lasting(DEFAULT_DEBOUNCE),
            "\"1s\"",
            &[
                "The quiet time after which files that were written in place count as written. What is renamed or \
               linked into place is taken at once.",
            ],
        ),
        key(
            "settle_timeout",
            Holds::Longer,
            lasting(DEFAULT_SETTLE_TIMEOUT),
            "\"30m\"",
            &[
                "How long the files of a lineage may not belong together, or stay open for writing. Until then the \
               instance is `waiting`, after it `source_invalid`.",
            ],
        ),
        key(
            "resync",
            Holds::Longer,
            lasting(DEFAULT_RESYNC),
            "\"1h\"",
            &[
                "The time between two full comparisons where nothing happened: the longest delay that a lost event \
               can cause.",
            ],
        ),
        key(
            "poll",
            Holds::Longer,
            Unless::Else("off"),
            "\"1m\"",
            &[
                "Look at the lineages this often as well. For file systems that give no events, such as NFS.",
            ],
        ),
    ]
}

/// `[metrics]`.
pub(crate) fn of_metrics() -> Vec<Key> {
    vec![
        key(
            "listen",
            Holds::Listen,
            Unless::Else("the metrics are not served"),
            "\"127.0.0.1:19187\"",
            &[
                "Where `GET /metrics` is answered, for Prometheus: as OpenMetrics where that is asked for, else as \
                 Prometheus's own text. No other address than one of this host alone is taken, since there is neither \
                 a password nor encryption; nothing in it is secret. A Unix socket may be used by every user. One that \
                 was left behind is replaced, where nobody answers there.",
                "What cannot be had is said in the log and tried again at every `resync`; a reload that asks for it \
                 leaves the old place open until then.",
            ],
        ),
        key(
            "textfile",
            Holds::Textfile,
            Unless::Else("none is written"),
            "\"/var/lib/prometheus/node-exporter/pgcertd.prom\"",
            &[
                "A file with the same metrics for the textfile collector of node_exporter, replaced as a whole whenever \
                 something was compared, and readable by all. Its directory must exist, and pgcertd's user must be able to \
                 write there; for the unit it needs `ReadWritePaths=` in a drop-in.",
            ],
        ),
    ]
}

/// `[[instance]]`; all but [`OWN`] may stand in `[defaults]` as well.
pub(crate) fn of_an_instance() -> Vec<Key> {
    let mut keys = source_and_target();
    keys.extend(companions());
    keys.extend(deployment());
    keys
}

fn source_and_target() -> Vec<Key> {
    vec![
        key(
            "name",
            Holds::Name,
            Unless::Needed,
            "\"16-main\"",
            &["In logs, commands and paths; no two instances have the same."],
        ),
        key(
            "lineage",
            Holds::Lineage,
            Unless::Needed,
            "\"postgres.example.com\"",
            &[
                "Where the certificate comes from. A name is looked for in the watched directories, in their order. A \
               directory elsewhere, by its absolute path, is watched as well.",
            ],
        ),
        key(
            "data_directory",
            Holds::Path,
            Unless::Needed,
            "\"/var/lib/postgresql/16/main\"",
            &[
                "What `SHOW data_directory` gives in psql; where that is a symbolic link, what it leads to (`readlink -f`), since a \
                 link in this place could be bent. Two instances have the same only where each has files and `server_names` of \
                 its own: a certificate a name, as PostgreSQL 19 serves them with `ssl_sni = on`. Needed for \
                 kind = \"postgres\", and refused for others.",
            ],
        ),
        key(
            "config_file",
            Holds::Path,
            Unless::Else("none; needed where `kind` is not \"postgres\""),
            "\"/etc/pgbouncer/pgbouncer.ini\"",
            &[
                "The file that a PgBouncer or a Patroni is started with, by which its process is known; no two instances \
                 have the same. Refused for kind = \"postgres\". A Patroni that has all of its configuration from its \
                 environment is not supported.",
            ],
        ),
        key(
            "cert_file",
            Holds::Target,
            quoted(&format!("{DEFAULT_STATE_DIRECTORY}/NAME/{DEFAULT_TARGET}")),
            "\"/srv/reports/tls/server.crt\"",
            &[
                "What `ssl_cert_file` in postgresql.conf names: leaf and intermediates are written there.",
                "Refused where it lies in a watched directory or a lineage, is written by another instance, or is \
                 Debian's snakeoil certificate, which services share. With `mode` \"reload\" or \"observe\" it is \
                 not written, and may be any of these. In the state directory, `previous.pem`, `held.json` and \
                 the like are pgcertd's own, and always refused.",
            ],
        ),
        key(
            "key_file",
            Holds::Target,
            Unless::Else("the same as cert_file"),
            "\"/srv/reports/tls/server.key\"",
            &[
                "What `ssl_key_file` names. The same path as `cert_file` makes one file that holds both and is replaced \
               in one step; with two, the renames follow each other at once. Refused as `cert_file` is.",
            ],
        ),
        key(
            "server_names",
            Holds::Hosts,
            Unless::Else("any name will do"),
            "[\"postgres.example.com\"]",
            &[
                "The names that clients verify. A certificate that does not cover each of them is not installed. Names \
               are meant, not wildcards; a wildcard in the certificate may cover them. Each is asked for when it is proven \
               what the server serves: PostgreSQL 19 may serve another certificate by each name (`ssl_sni`). Without \
               them the certificate's own first name is asked for, and none.",
            ],
        ),
        key(
            "files",
            Holds::Table(of_files()),
            Unless::Else(
                "fullchain.pem and privkey.pem, else tls.crt and tls.key, else cert.pem, chain.pem and privkey.pem",
            ),
            "{ chain = \"fullchain.cer\", key = \"example.com.key\" }",
            &[
                "The files of the lineage, where they have names of their own, as those of acme.sh, lego and Caddy.",
            ],
        ),
        key(
            "owner",
            Holds::Account,
            Unless::Else("the owner of the data directory, or of `config_file`"),
            "\"postgres\"",
            &[
                "Who owns the installed files, by name or number. Where `config_file` belongs to root, it must be written: \
                 it is then also the user that the server runs as.",
            ],
        ),
        key(
            "group",
            Holds::Account,
            Unless::Else("the group of the data directory, or of `config_file`"),
            "115",
            &["The group of the installed files, by name or number."],
        ),
    ]
}

/// What is installed beside chain and key.
fn companions() -> Vec<Key> {
    vec![
        key(
            "ca_source",
            Holds::Source,
            Unless::Else("none: `ssl_ca_file` is left to others"),
            "\"ca.crt\"",
            &[
                "The CAs of the clients' certificates: a file of the lineage, as `ca.crt` of a Kubernetes secret, or by \
                 its absolute path a file elsewhere, which is watched as well. It is installed, reloaded and rolled back \
                 together with chain and key.",
                "For kind = \"postgres\" alone.",
                "A file by which every client certificate would be refused is not installed, nor is the certificate \
                 with it: one that holds no CA that is valid, an intermediate without its root, a key that OpenSSL \
                 takes for too weak.",
            ],
        ),
        key(
            "ca_file",
            Holds::Target,
            Unless::Else("`ca.pem` beside the default of cert_file"),
            "\"/srv/reports/tls/ca.crt\"",
            &[
                "What `ssl_ca_file` in postgresql.conf names, which `pgcertd setup` does not set. Refused without \
                 `ca_source`, and as `cert_file` is.",
            ],
        ),
        key(
            "crl_source",
            Holds::Source,
            Unless::Else("none: `ssl_crl_file` is left to others"),
            "\"/srv/ca/crl.pem\"",
            &[
                "What these CAs have revoked; as `ca_source`, without which it is refused. Postgres demands a list \
                 that is not out of date from each CA of the CA file, and so does pgcertd; an intermediate that issues \
                 to clients stands in the CA file too, so that its list can be checked.",
            ],
        ),
        key(
            "crl_file",
            Holds::Target,
            Unless::Else("`crl.pem` beside the default of cert_file"),
            "\"/srv/reports/tls/crl.pem\"",
            &["What `ssl_crl_file` in postgresql.conf names. As `ca_file`."],
        ),
    ]
}

fn deployment() -> Vec<Key> {
    vec![
        key(
            "mode",
            choice(MODES, |mode| match mode {
                Mode::Manage => "install, reload and verify",
                Mode::Reload => "others place the files; check them, reload and verify",
                Mode::Observe => "compare and report, and touch nothing",
            }),
            chosen(MODES, &Mode::default()),
            "\"observe\"",
            &["What pgcertd may do to the instance."],
        ),
        key(
            "reload",
            choice(RELOADS, |reload| match reload {
                Reload::Signal => "SIGHUP to the server's process, after its identity was proven",
                Reload::PgCtl => "`pg_ctl reload`, of the server's own version; for Postgres alone",
                Reload::Command(_) => "what `reload_command` says",
            }),
            chosen(RELOADS, &Reload::default()),
            "\"pg_ctl\"",
            &["How the server is told of new files."],
        ),
        key(
            "reload_command",
            Holds::Command,
            Unless::Else("none"),
            "[\"podman\", \"kill\", \"--signal\", \"HUP\", \"reports\"]",
            &[
                "The program and its arguments; no shell reads them. Needed with reload = \"command\", and refused \
               without.",
            ],
        ),
        key(
            "verify",
            choice(VERIFIES, |verify| match verify {
                Verify::Handshake => "a new TLS connection must show the certificate",
                Verify::None => {
                    "nothing is looked at, for servers without TCP: installed and reloaded counts as done"
                }
            }),
            chosen(VERIFIES, &Verify::default()),
            "\"none\"",
            &["What counts as proof."],
        ),
        key(
            "address",
            Holds::Address,
            Unless::Else("what postmaster.pid, or the server's own configuration, says"),
            "\"127.0.0.1:5432\"",
            &[
                "Where to see what the server serves. Without a port it is 5432. A path of a socket is refused, since \
               Postgres speaks no TLS there.",
                "Needed where the server has a network of its own, as in a container.",
                "Where several PgBouncer listen at one port (`so_reuseport`), it is one at which this one alone does, such \
                 as one more of its `listen_addr`; another is not believed.",
            ],
        ),
        key(
            "verify_timeout",
            Holds::Longer,
            lasting(DEFAULT_VERIFY_TIMEOUT),
            "\"30s\"",
            &["How long the proof may take. For a Patroni it is 30s where it is not written."],
        ),
        key(
            "delay",
            Holds::Duration,
            lasting(DEFAULT_DELAY),
            "\"2h\"",
            &[
                "Hold a new certificate this long before it is deployed, so that one host of a row tries it before the \
               others. Waived where the installed one is about to expire.",
            ],
        ),
        key(
            "expiry",
            Holds::Table(of_expiry()),
            Unless::Else(
                "a quarter of the lifetime or 21 days, and a tenth or 7 days, whichever is less",
            ),
            "{ warn = \"8h\", critical = \"2h\" }",
            &[
                "How long before its end the certificate is reported, for a writer that renews later or earlier in a \
                 certificate's life than others do. Vault's agent renews at a tenth of the lifetime: without this, it would \
                 be reported in every cycle. CA and CRL files keep their own times.",
            ],
        ),
        key(
            "kind",
            choice(KINDS, |kind| match kind {
                ServerKind::Postgres => "PostgreSQL",
                ServerKind::PgBouncer => {
                    "PgBouncer: `client_tls_cert_file` and `client_tls_key_file`, what it shows to its clients"
                }
                ServerKind::Patroni => {
                    "Patroni: `restapi.certfile` and `restapi.keyfile`, what its REST API shows"
                }
            }),
            chosen(KINDS, &ServerKind::default()),
            "\"pgbouncer\"",
            &[
                "What kind of server it is, and thus which of its settings are meant. Servers of several kinds may share a \
                 lineage; each is an instance of its own.",
            ],
        ),
    ]
}

/// `files`.
fn of_files() -> Vec<Key> {
    vec![
        key(
            "chain",
            Holds::Inside,
            Unless::Needed,
            "\"fullchain.cer\"",
            &["The leaf and then its intermediates, in PEM."],
        ),
        key(
            "key",
            Holds::Inside,
            Unless::Needed,
            "\"example.com.key\"",
            &["The private key, in PEM and not encrypted."],
        ),
    ]
}

/// `expiry`.
fn of_expiry() -> Vec<Key> {
    vec![
        key(
            "warn",
            Holds::Longer,
            Unless::Else("as usual, and not less than `critical`"),
            "\"8h\"",
            &["A warning from this long before the end."],
        ),
        key(
            "critical",
            Holds::Longer,
            Unless::Else("as usual, and not more than `warn`"),
            "\"2h\"",
            &[
                "Critical from this long before the end: `status` ends with 1, and a `delay` no longer holds. Not more than `warn`.",
            ],
        ),
    ]
}
