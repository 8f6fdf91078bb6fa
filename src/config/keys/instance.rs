//! The keys of an instance.

use std::time::Duration;

use crate::config::table::{Table, table};
use crate::config::values::{
    AnyDuration, AnyPath, CompanionSource, FilePath, HostAndPort, HostName, InstanceName,
    LineageFile, LineageName, PositiveDuration, ProgramWords,
};
use crate::config::{Account, Mode, ReloadBy, ServerKind, Verify};

/// The keys that `[defaults]` cannot hold.
pub(crate) const OWN: [&str; 4] = ["name", "lineage", "data_directory", "config_file"];

table! {
    /// `[[instance]]`; all but [`OWN`] may stand in `[defaults]` as well.
    WrittenInstance, expected "a table: one [defaults], or [[instance]] for each" {
        /// In logs, commands and paths; no two instances have the same.
        name: InstanceName, needed, example(r#""16-main""#);

        /// Where the certificate comes from. A name is looked for in the watched directories, in their order. A
        /// directory elsewhere, by its absolute path, is watched as well.
        lineage: LineageName, needed, example(r#""postgres.example.com""#);

        /// What `SHOW data_directory` gives in psql; where that is a symbolic link, what it leads to (`readlink
        /// -f`), since a link in this place could be bent. Two instances have the same only where each has files
        /// and `server_names` of its own: a certificate a name, as PostgreSQL 19 serves them with `ssl_sni = on`.
        /// Needed for kind = "postgres", and refused for others.
        data_directory: AnyPath, needed, example(r#""/var/lib/postgresql/16/main""#);

        /// The file that a PgBouncer or a Patroni is started with, by which its process is known; no two instances
        /// have the same. Refused for kind = "postgres". A Patroni that has all of its configuration from its
        /// environment is not supported.
        config_file: AnyPath,
            otherwise("none; needed where `kind` is not \"postgres\""),
            example(r#""/etc/pgbouncer/pgbouncer.ini""#);

        /// What `ssl_cert_file` in postgresql.conf names: leaf and intermediates are written there.
        ///
        /// Refused where it lies in a watched directory or a lineage, is written by another instance, or is
        /// Debian's snakeoil certificate, which services share. With `mode` "reload" or "observe" it is not
        /// written, and may be any of these. In the state directory, `previous.pem`, `held.json` and the like are
        /// pgcertd's own, and always refused.
        cert_file: FilePath,
            as_if(r#""/var/lib/pgcertd/NAME/server.pem""#),
            example(r#""/srv/reports/tls/server.crt""#);

        /// What `ssl_key_file` names. The same path as `cert_file` makes one file that holds both and is replaced
        /// in one step; with two, the renames follow each other at once. Refused as `cert_file` is.
        key_file: FilePath, otherwise("the same as cert_file"), example(r#""/srv/reports/tls/server.key""#);

        /// The names that clients verify. A certificate that does not cover each of them is not installed. Names
        /// are meant, not wildcards; a wildcard in the certificate may cover them. Each is asked for when it is
        /// proven what the server serves: PostgreSQL 19 may serve another certificate by each name (`ssl_sni`).
        /// Without them the certificate's own first name is asked for, and none.
        server_names: Vec<HostName>, otherwise("any name will do"), example(r#"["postgres.example.com"]"#);

        /// The files of the lineage, where they have names of their own, as those of acme.sh, lego and Caddy.
        files: Table<WrittenFiles>,
            otherwise("fullchain.pem and privkey.pem, else tls.crt and tls.key, else cert.pem, chain.pem and privkey.pem"),
            example(r#"{ chain = "fullchain.cer", key = "example.com.key" }"#);

        /// Who owns the installed files, by name or number. Where `config_file` belongs to root, it must be
        /// written: it is then also the user that the server runs as.
        owner: Account, otherwise("the owner of the data directory, or of `config_file`"), example(r#""postgres""#);

        /// The group of the installed files, by name or number.
        group: Account, otherwise("the group of the data directory, or of `config_file`"), example("115");

        /// The CAs of the clients' certificates: a file of the lineage, as `ca.crt` of a Kubernetes secret, or by
        /// its absolute path a file elsewhere, which is watched as well. It is installed, reloaded and rolled back
        /// together with chain and key.
        ///
        /// For kind = "postgres" alone.
        ///
        /// A file by which every client certificate would be refused is not installed, nor is the certificate with
        /// it: one that holds no CA that is valid, an intermediate without its root, a key that OpenSSL takes for
        /// too weak.
        ca_source: CompanionSource, otherwise("none: `ssl_ca_file` is left to others"), example(r#""ca.crt""#);

        /// What `ssl_ca_file` in postgresql.conf names, which `pgcertd setup` does not set. Refused without
        /// `ca_source`, and as `cert_file` is.
        ca_file: FilePath,
            otherwise("`ca.pem` beside the default of cert_file"),
            example(r#""/srv/reports/tls/ca.crt""#);

        /// What these CAs have revoked; as `ca_source`, without which it is refused. Postgres demands a list that
        /// is not out of date from each CA of the CA file, and so does pgcertd; an intermediate that issues to
        /// clients stands in the CA file too, so that its list can be checked.
        crl_source: CompanionSource,
            otherwise("none: `ssl_crl_file` is left to others"),
            example(r#""/srv/ca/crl.pem""#);

        /// What `ssl_crl_file` in postgresql.conf names. As `ca_file`.
        crl_file: FilePath,
            otherwise("`crl.pem` beside the default of cert_file"),
            example(r#""/srv/reports/tls/crl.pem""#);

        /// What pgcertd may do to the instance.
        mode: Mode, default(Mode::Manage), example(r#""observe""#);

        /// How the server is told of new files.
        reload: ReloadBy, as_if(r#""signal""#), example(r#""pg_ctl""#);

        /// The program and its arguments; no shell reads them. Needed with reload = "command", and refused without.
        reload_command: ProgramWords,
            otherwise("none"),
            example(r#"["podman", "kill", "--signal", "HUP", "reports"]"#);

        /// What counts as proof.
        verify: Verify, default(Verify::Handshake), example(r#""none""#);

        /// Where to see what the server serves. Without a port it is 5432. A path of a socket is refused, since
        /// Postgres speaks no TLS there.
        ///
        /// Needed where the server has a network of its own, as in a container.
        ///
        /// Where several PgBouncer listen at one port (`so_reuseport`), it is one at which this one alone does,
        /// such as one more of its `listen_addr`; another is not believed.
        address: HostAndPort,
            otherwise("what postmaster.pid, or the server's own configuration, says"),
            example(r#""127.0.0.1:5432""#);

        /// How long the proof may take. For a Patroni it is 30s where it is not written.
        verify_timeout: PositiveDuration, as_if(r#""10s""#), example(r#""30s""#);

        /// Hold a new certificate this long before it is deployed, so that one host of a row tries it before the
        /// others. Waived where the installed one is about to expire.
        delay: AnyDuration, default(AnyDuration(Duration::ZERO)), example(r#""2h""#);

        /// How long before its end the certificate is reported, for a writer that renews later or earlier in a
        /// certificate's life than others do. Vault's agent renews at a tenth of the lifetime: without this, it
        /// would be reported in every cycle. CA and CRL files keep their own times.
        expiry: Table<WrittenExpiry>,
            otherwise("a quarter of the lifetime or 21 days, and a tenth or 7 days, whichever is less"),
            example(r#"{ warn = "8h", critical = "2h" }"#);

        /// What kind of server it is, and thus which of its settings are meant. Servers of several kinds may share
        /// a lineage; each is an instance of its own.
        kind: ServerKind, default(ServerKind::default()), example(r#""pgbouncer""#);
    }
}

table! {
    /// `files`.
    WrittenFiles, expected "a table, such as { chain = \"fullchain.pem\", key = \"privkey.pem\" }" {
        /// The leaf and then its intermediates, in PEM.
        chain: LineageFile, needed, example(r#""fullchain.cer""#);

        /// The private key, in PEM and not encrypted.
        key: LineageFile, needed, example(r#""example.com.key""#);
    }
}

table! {
    /// `expiry`.
    WrittenExpiry, expected "a table, such as { warn = \"21d\", critical = \"7d\" }" {
        /// A warning from this long before the end.
        warn: PositiveDuration, otherwise("as usual, and not less than `critical`"), example(r#""8h""#);

        /// Critical from this long before the end: `status` ends with 1, and a `delay` no longer holds. Not more
        /// than `warn`.
        critical: PositiveDuration, otherwise("as usual, and not more than `warn`"), example(r#""2h""#);
    }
}
