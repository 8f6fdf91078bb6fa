//! The keys of an instance.

use std::time::Duration;

use crate::config::table::{Table, table};
use crate::config::values::{
    AnyDuration, AnyPath, CompanionSource, FilePath, HostAndPort, HostName, InstanceName,
    LineageFile, LineageName, PositiveDuration, ProgramWords,
};
use crate::config::{Account, Mode, ReloadBy, ServerKind, Verify};

/// The keys that `[defaults]` cannot hold.
pub(crate) const OWN: &[&str] = &["name", "lineage", "data_directory", "config_file"];

table! {
    /// `[[instance]]`; all but [`OWN`] may stand in `[defaults]` as well.
    WrittenInstance, expected "a table: one [defaults], or [[instance]] for each" {
        /// Used in logs, commands and paths; must be unique.
        name: InstanceName, required, example(r#""16-main""#);

        /// Where the certificate comes from. A name is looked up in the watched directories, in order. A directory
        /// elsewhere, given by its absolute path, is watched as well.
        lineage: LineageName, required, example(r#""postgres.example.com""#);

        /// What `SHOW data_directory` prints in psql; if that is a symbolic link, what it points to (`readlink
        /// -f`), since a link here could be redirected. Two instances can only have the same one if each has its
        /// own files and `server_names`: one certificate per name, as PostgreSQL 19 serves them with `ssl_sni =
        /// on`. Needed for kind = "postgres", and refused for others.
        data_directory: AnyPath, required, example(r#""/var/lib/postgresql/16/main""#);

        /// The file that a PgBouncer or a Patroni is started with, which identifies its process; must be unique.
        /// Refused for kind = "postgres". A Patroni that is configured entirely through its environment is not
        /// supported.
        config_file: AnyPath,
            otherwise("none; needed if `kind` is not \"postgres\""),
            example(r#""/etc/pgbouncer/pgbouncer.ini""#);

        /// What `ssl_cert_file` in postgresql.conf names: the leaf and its intermediates are written there.
        ///
        /// Refused if it is in a watched directory or a lineage, is written by another instance, or is Debian's
        /// snakeoil certificate, which services share. With `mode` "reload" or "observe" it is not written, and may
        /// be any of these. In the state directory, `previous.pem`, `held.json` and the like belong to pgcertd, and
        /// are always refused.
        cert_file: FilePath,
            as_if(r#""/var/lib/pgcertd/NAME/server.pem""#),
            example(r#""/srv/reports/tls/server.crt""#);

        /// What `ssl_key_file` names. With the same path as `cert_file`, one file holds both and is replaced in one
        /// step; with two files, the renames follow each other at once. Refused in the same cases as `cert_file`.
        key_file: FilePath, otherwise("the same as cert_file"), example(r#""/srv/reports/tls/server.key""#);

        /// The names that clients verify. A certificate that doesn't cover each of them is not installed. These are
        /// names, not wildcards; a wildcard in the certificate may cover them. When pgcertd verifies what the
        /// server serves, it asks for each name: PostgreSQL 19 can serve a different certificate for each
        /// (`ssl_sni`). Without this key, it asks for the certificate's own first name, and once without a name.
        server_names: Vec<HostName>, otherwise("any name"), example(r#"["postgres.example.com"]"#);

        /// The files of the lineage, if they have other names, as with acme.sh, lego and Caddy.
        files: Table<WrittenFiles>,
            otherwise("fullchain.pem and privkey.pem, else tls.crt and tls.key, else cert.pem, chain.pem and privkey.pem"),
            example(r#"{ chain = "fullchain.cer", key = "example.com.key" }"#);

        /// Who owns the installed files, by name or ID. If `config_file` belongs to root, this key is needed: it is
        /// then also the user that the server runs as.
        owner: Account, otherwise("the owner of the data directory, or of `config_file`"), example(r#""postgres""#);

        /// The group of the installed files, by name or ID.
        group: Account, otherwise("the group of the data directory, or of `config_file`"), example("115");

        /// The CAs of the clients' certificates: a file of the lineage, such as `ca.crt` of a Kubernetes secret, or
        /// the absolute path of a file elsewhere, which is watched as well. It is installed, reloaded and rolled
        /// back together with the chain and the key.
        ///
        /// Only for kind = "postgres".
        ///
        /// A file that would make the server reject every client certificate is not installed, nor is the
        /// certificate that comes with it: one without a valid CA, an intermediate without its root, or a key that
        /// OpenSSL considers too weak.
        ca_source: CompanionSource, otherwise("none; pgcertd does not manage `ssl_ca_file`"), example(r#""ca.crt""#);

        /// What `ssl_ca_file` in postgresql.conf names; `pgcertd setup` does not set it. Refused without
        /// `ca_source`, and in the same cases as `cert_file`.
        ca_file: FilePath,
            otherwise("`ca.pem` beside the default of cert_file"),
            example(r#""/srv/reports/tls/ca.crt""#);

        /// What these CAs have revoked. Like `ca_source`, and refused without it. Postgres demands an up-to-date
        /// list from each CA in the CA file, and so does pgcertd; an intermediate that issues client certificates
        /// must be in the CA file too, so that its list can be checked.
        crl_source: CompanionSource,
            otherwise("none; pgcertd does not manage `ssl_crl_file`"),
            example(r#""/srv/ca/crl.pem""#);

        /// What `ssl_crl_file` in postgresql.conf names. Like `ca_file`.
        crl_file: FilePath,
            otherwise("`crl.pem` beside the default of cert_file"),
            example(r#""/srv/reports/tls/crl.pem""#);

        /// What pgcertd may do to the instance.
        mode: Mode, default(Mode::Manage), example(r#""observe""#);

        /// How the server is told to load new files.
        reload: ReloadBy, as_if(r#""signal""#), example(r#""pg_ctl""#);

        /// The program and its arguments, run without a shell. Needed with reload = "command", and refused without
        /// it.
        reload_command: ProgramWords,
            otherwise("none"),
            example(r#"["podman", "kill", "--signal", "HUP", "reports"]"#);

        /// What counts as proof.
        verify: Verify, default(Verify::Handshake), example(r#""none""#);

        /// Where to see what the server serves. The default port is 5432. The path of a socket is refused, since
        /// Postgres doesn't speak TLS there.
        ///
        /// Needed if the server has its own network, as in a container.
        ///
        /// If several PgBouncers listen on one port (`so_reuseport`), this must be an address where only this one
        /// listens, such as an extra entry in its `listen_addr`; an answer from another one is not believed.
        address: HostAndPort,
            otherwise("what postmaster.pid, or the server's own configuration, says"),
            example(r#""127.0.0.1:5432""#);

        /// How long the proof may take. For a Patroni, the default is 30s.
        verify_timeout: PositiveDuration, as_if(r#""10s""#), example(r#""30s""#);

        /// Hold a new certificate this long before it is deployed, so that one host of a group tries it before the
        /// others. Ignored if the installed certificate is about to expire.
        delay: AnyDuration, default(AnyDuration(Duration::ZERO)), example(r#""2h""#);

        /// How long before it ends a certificate is reported, for a tool that renews later or earlier in a
        /// certificate's life than most. Vault's agent renews when a tenth of the lifetime is left: without this
        /// key, it would be reported in every cycle. CA and CRL files keep their own times.
        expiry: Table<WrittenExpiry>,
            otherwise("a quarter of the lifetime or 21 days, and a tenth or 7 days, whichever is less"),
            example(r#"{ warn = "8h", critical = "2h" }"#);

        /// What kind of server it is, and so which of its settings are meant. Servers of several kinds may share a
        /// lineage; each is its own instance.
        kind: ServerKind, default(ServerKind::Postgres), example(r#""pgbouncer""#);
    }
}

table! {
    /// `files`.
    WrittenFiles, expected "a table, such as { chain = \"fullchain.pem\", key = \"privkey.pem\" }" {
        /// The leaf and then its intermediates, in PEM.
        chain: LineageFile, required, example(r#""fullchain.cer""#);

        /// The private key, in PEM and not encrypted.
        key: LineageFile, required, example(r#""example.com.key""#);
    }
}

table! {
    /// `expiry`.
    WrittenExpiry, expected "a table, such as { warn = \"21d\", critical = \"7d\" }" {
        /// Warn from this long before the end.
        warn: PositiveDuration, otherwise("as usual, and not less than `critical`"), example(r#""8h""#);

        /// Critical from this long before the end: `status` exits with 1, and a `delay` no longer applies. At most
        /// `warn`.
        critical: PositiveDuration, otherwise("as usual, and not more than `warn`"), example(r#""2h""#);
    }
}
