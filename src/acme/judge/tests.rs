#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

/// The hook of a reader who followed a guide for two files beside the configuration.
const GUIDE: &str = "cp /etc/letsencrypt/live/pg.example.com/fullchain.pem /etc/postgresql/tls/server.crt && \
     cp /etc/letsencrypt/live/pg.example.com/privkey.pem /etc/postgresql/tls/server.key && \
     chmod 600 /etc/postgresql/tls/server.key && chown postgres:postgres /etc/postgresql/tls/server.crt \
     /etc/postgresql/tls/server.key && systemctl restart postgresql";

struct Host(tempfile::TempDir);

impl Host {
    fn new() -> Host {
        Host(tempfile::tempdir().unwrap())
    }

    fn script(&self, path: &str, text: &str) {
        let at = self.0.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::write(&at, text).unwrap();
        fs::set_permissions(at, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn judge(&self) -> Judge {
        self.judge_of(&[(ServerKind::Postgres, "/var/lib/postgresql/15/main")])
    }

    /// With servers of these kinds.
    fn judge_of(&self, servers: &[(ServerKind, &str)]) -> Judge {
        let set = |paths: &[&str]| paths.iter().map(PathBuf::from).collect();
        let scope = |(kind, home): &(ServerKind, &str)| Scope {
            kind: *kind,
            home: home.into(),
            files: set(&["/etc/ssl/pg/server.crt", "/etc/ssl/pg/server.key"]),
            directories: set(&["/var/lib/postgresql/15/main", "/var/lib/pgcertd/15-main"]),
            lineages: set(&[
                "/etc/letsencrypt/live/pg.example.com",
                "/etc/letsencrypt/archive/pg.example.com",
            ]),
        };
        Judge::new(
            Tree::below(self.0.path()),
            servers.iter().map(scope).collect(),
        )
    }

    fn share(&self, commands: &str) -> Option<Share> {
        self.judge()
            .judge(commands)
            .map(|judgement| judgement.share)
    }
}

fn share(commands: &str) -> Option<Share> {
    Host::new().share(commands)
}

#[test]
fn a_guides_hook_is_old_as_a_whole() {
    let judged = Host::new().judge().judge(GUIDE).unwrap();
    assert_eq!(judged.share, Share::All);
    let told: Vec<String> = judged.deeds.iter().map(Deed::to_string).collect();
    assert_eq!(
        told,
        [
            "restarts PostgreSQL",
            "copies to /etc/postgresql/tls/server.crt",
            "copies to /etc/postgresql/tls/server.key",
            "changes the owner or mode of the copy"
        ]
    );
}

#[test]
fn each_way_to_restart_or_reload_is_known() {
    for old in [
        "systemctl restart postgresql",
        "/bin/systemctl reload postgresql@15-main.service",
        "systemctl --no-block try-restart postgresql",
        "systemctl kill -s HUP postgresql@15-main",
        "service postgresql restart",
        "/etc/init.d/postgresql reload",
        "sudo -u postgres /usr/lib/postgresql/15/bin/pg_ctl reload -D /var/lib/postgresql/15/main",
        "pg_ctlcluster 15 main restart",
        "su - postgres -c 'pg_ctl restart -D /var/lib/postgresql/15/main'",
        "runuser -u postgres -- psql -c 'SELECT pg_reload_conf()'",
        "bash -c \"systemctl restart postgresql\"",
        "pkill -x -HUP postgres",
        "killall -HUP postgres",
        "psql -h /run/postgresql -c 'SELECT pg_reload_conf()'",
        "systemctl is-active -q postgresql && systemctl reload postgresql",
        "systemctl stop postgresql; systemctl start postgresql",
    ] {
        assert_eq!(share(old), Some(Share::All), "{old}");
    }
    // They may reach others as well.
    for old in [
        "pkill -HUP postgres",
        "docker restart postgres",
        "docker exec -u postgres db pg_ctl reload -D /var/lib/postgresql/15/main",
        "docker compose restart postgres",
        "systemctl restart 'postgresql*'",
        "systemctl restart postgresql@$VERSION-main",
        "systemctl restart postgresql-16",
        "pg_ctl reload",
        "patronictl -c /etc/patroni.yml restart main --force",
        "systemctl restart patroni",
    ] {
        assert_eq!(share(old), Some(Share::Some), "{old}");
    }
    // Its output is not known, what it is for is.
    let substituted = "kill -HUP $(head -1 /var/lib/postgresql/15/main/postmaster.pid)";
    assert_eq!(share(substituted), Some(Share::Some));
}

#[test]
fn what_is_not_for_a_server_is_left_alone() {
    for other in [
        "systemctl reload nginx",
        "systemctl status postgresql",
        "systemctl start postgresql",
        "systemctl restart postgrest",
        "systemctl restart postgres_exporter.service",
        "systemctl restart prometheus-postgres-exporter",
        "systemctl reload postgresql_exporter",
        "systemctl restart postgresqltuner@1",
        "service postgrest restart",
        "/etc/init.d/postgres-exporter restart",
        "docker restart postgres-exporter",
        "pkill -HUP postgrest",
        "pkill -HUP -u postgres postgres_exporter",
        "killall postgres_exporter",
        "systemctl -M db restart postgresql",
        "systemctl restart pgbouncer",
        "psql -h db2.example.com -c 'SELECT pg_reload_conf()'",
        "cp $RENEWED_LINEAGE/fullchain.pem /etc/postgrest/tls.pem",
        "scp $RENEWED_LINEAGE/fullchain.pem standby:/etc/postgresql/tls.pem",
        "cat $RENEWED_LINEAGE/privkey.pem >/etc/postgres_exporter/key.pem",
        "cp /etc/letsencrypt/live/pg.example.com/fullchain.pem /etc/nginx/tls/",
        "cp $RENEWED_LINEAGE/privkey.pem /etc/dovecot/key.pem && systemctl restart dovecot",
        "cp /srv/a /srv/b",
        "pgcertd sync --lineage \"$RENEWED_LINEAGE\"",
        "/usr/lib/pgcertd/certbot-deploy-hook",
        "pg_dump -f /srv/dump",
        "",
    ] {
        assert_eq!(share(other), None, "{other}");
    }
}

#[test]
fn a_copy_is_known_by_where_it_goes() {
    for old in [
        "cp $RENEWED_LINEAGE/fullchain.pem /var/lib/postgresql/15/main/server.crt",
        "install -o postgres -m 0600 \"${RENEWED_LINEAGE}/privkey.pem\" /etc/postgresql/server.key",
        "cat /etc/letsencrypt/archive/pg.example.com/privkey1.pem >/etc/ssl/pg/server.key",
        "cp -L /srv/x/server.key /etc/ssl/pg/",
        "cp -t /var/lib/pgcertd/15-main a b",
        "cat a b | tee /etc/ssl/pg/server.crt >/dev/null",
    ] {
        let judged = Host::new().judge().judge(old).unwrap();
        let copies = |deed: &Deed| matches!(deed, Deed::Copies(_));
        assert!(judged.deeds.iter().any(copies), "{old}: {judged:?}");
    }
}

#[test]
fn what_does_other_things_as_well_is_told_apart() {
    for mixed in [
        "systemctl restart postgresql && systemctl reload nginx",
        "systemctl restart postgresql; pgcertd sync",
        "certbot renew && systemctl restart postgresql",
        "systemctl restart postgresql nginx",
        "systemctl restart postgresql postgrest",
        "cat $RENEWED_LINEAGE/*.pem >/etc/haproxy/pg.pem; systemctl restart postgresql",
        "cp $RENEWED_LINEAGE/privkey.pem /srv/tls/ && systemctl restart postgresql",
        "trap 'systemctl reload nginx' EXIT; systemctl restart postgresql",
        "openssl rsa -in $RENEWED_LINEAGE/privkey.pem -out /etc/ssl/pg/server.key",
    ] {
        assert_eq!(share(mixed), Some(Share::Some), "{mixed}");
    }
    for old in [
        "set -e; echo renewed; systemctl restart postgresql",
        "[ -d /run/systemd/system ] && systemctl restart postgresql",
    ] {
        assert_eq!(share(old), Some(Share::All), "{old}");
    }
}

#[test]
fn scripts_are_read_with_their_variables() {
    let host = Host::new();
    host.script(
        "/usr/local/bin/tls",
        "#!/bin/sh\nset -eu\nDATA=/var/lib/postgresql/15/main\n\
         if [ -n \"$RENEWED_LINEAGE\" ]; then\n  cp \"$RENEWED_LINEAGE/privkey.pem\" \"$DATA/server.key\"\n\
         chmod 600 ${DATA}/server.key\nfi\nsystemctl reload postgresql\n",
    );
    host.script(
        "/usr/local/bin/all",
        "#!/bin/bash\n/usr/local/bin/tls\nsystemctl reload nginx\n",
    );
    host.script("/usr/local/bin/other", "#!/usr/bin/env python3\nprint()\n");
    assert_eq!(host.share("/usr/local/bin/tls"), Some(Share::All));
    assert_eq!(host.share("sh /usr/local/bin/tls"), Some(Share::All));
    assert_eq!(host.share("/usr/local/bin/all"), Some(Share::Some));
    assert_eq!(host.share("/usr/local/bin/other"), None);
}

#[test]
fn a_script_that_runs_itself_comes_to_an_end() {
    let host = Host::new();
    host.script("/a", "#!/bin/sh\n/a\nsystemctl restart postgresql\n");
    assert_eq!(host.share("/a"), Some(Share::Some));
}

#[test]
fn a_renewal_keeps_all_but_its_old_hook() {
    let judge = Host::new().judge();
    let without = |commands: &str| judge.without(commands);
    let quoted = shell_words::quote(GUIDE);
    for hook in [
        format!(" --post-hook {quoted}"),
        format!(" --post-hook={quoted}"),
        format!(" --post-hook \"{GUIDE}\""),
        format!(" --pre-hook 'systemctl stop postgresql' --post-hook {quoted}"),
    ] {
        assert_eq!(
            without(&format!("certbot renew{hook} -q >/dev/null 2>&1")).as_deref(),
            Some("certbot renew -q >/dev/null 2>&1"),
            "{hook}"
        );
    }
    assert_eq!(
        without("test -x /usr/bin/certbot && certbot renew -q && systemctl restart postgresql")
            .as_deref(),
        Some("test -x /usr/bin/certbot && certbot renew -q")
    );
    assert_eq!(
        without("certbot renew >/dev/null 2>&1; systemctl restart postgresql >/dev/null")
            .as_deref(),
        Some("certbot renew >/dev/null 2>&1")
    );
    assert_eq!(without(GUIDE).as_deref(), Some(""));
}

#[test]
fn nothing_is_cut_where_a_hook_does_more() {
    let judge = Host::new().judge();
    for mixed in [
        "certbot renew --post-hook 'systemctl restart postgresql nginx && systemctl reload dovecot'",
        "certbot renew; systemctl restart postgresql; systemctl reload nginx",
        "certbot renew --post-hook \"kill -HUP $(pgrep postgres)\"",
    ] {
        assert_eq!(judge.without(mixed), None, "{mixed}");
    }
}

#[test]
fn what_cron_runs_for_other_reasons_is_no_hook() {
    let of_cron = |commands: &str| {
        let hook = Hook {
            place: HookPlace::Crontab {
                file: "/etc/crontab".into(),
                user: None,
                line: format!("@daily root {commands}"),
                at: 12,
            },
            commands: commands.to_owned(),
            lineage: None,
        };
        Host::new().judge().judge_hook(&hook).is_some()
    };
    assert!(!of_cron("systemctl restart postgresql"));
    assert!(!of_cron(
        "find /var/lib/postgresql/15/main/log -mtime +7 -delete"
    ));
    assert!(!of_cron(
        "tar -cf /srv/backup.tar /var/lib/postgresql/15/main"
    ));
    assert!(of_cron("certbot renew && systemctl restart postgresql"));
    assert!(of_cron(GUIDE));
}

#[test]
fn a_server_is_known_by_the_kinds_of_the_instances() {
    let host = Host::new();
    let pooler = (ServerKind::PgBouncer, "/etc/pgbouncer/pgbouncer.ini");
    let patroni = (ServerKind::Patroni, "/etc/patroni/config.yml");
    let postgres = (ServerKind::Postgres, "/var/lib/postgresql/15/main");
    let (restarts, reloads) = ("restarts PgBouncer", "reloads PgBouncer");
    let (all, some) = (Share::All, Share::Some);
    for (servers, commands, deed, share) in [
        (vec![pooler], "systemctl restart pgbouncer", restarts, all),
        (vec![pooler], "service pgbouncer reload", reloads, all),
        (
            vec![pooler],
            "systemctl restart pgbouncer nginx",
            restarts,
            some,
        ),
        (
            vec![pooler],
            "systemctl restart pgbouncer@2",
            restarts,
            some,
        ),
        (vec![pooler], "pkill -HUP pgbouncer", reloads, some),
        (
            vec![pooler],
            "psql -p 6432 pgbouncer -c RELOAD",
            reloads,
            some,
        ),
        (
            vec![pooler],
            "kill -HUP $(cat /run/pgbouncer/pgbouncer.pid)",
            reloads,
            some,
        ),
        (
            vec![(ServerKind::PgBouncer, "/srv/a.ini")],
            "systemctl restart pgbouncer",
            restarts,
            some,
        ),
        (
            vec![patroni],
            "systemctl restart patroni",
            "restarts Patroni",
            some,
        ),
        (
            vec![patroni, postgres],
            "systemctl restart patroni",
            "restarts Patroni",
            all,
        ),
        (
            vec![patroni],
            "patronictl reload main",
            "reloads Patroni",
            some,
        ),
        (
            vec![patroni],
            "patronictl -c /a.yml restart main",
            "restarts PostgreSQL",
            some,
        ),
        (
            vec![postgres],
            "systemctl reload patroni",
            "reloads PostgreSQL",
            some,
        ),
        (
            vec![pooler],
            "cp $RENEWED_LINEAGE/privkey.pem /etc/pgbouncer/key.pem",
            "copies to /etc/pgbouncer/key.pem",
            all,
        ),
    ] {
        let judged = host.judge_of(&servers).judge(commands);
        let told = judged.as_ref().map(|judgement| {
            let deeds: Vec<String> = judgement.deeds.iter().map(Deed::to_string).collect();
            (deeds.join(", "), judgement.share)
        });
        assert_eq!(
            told,
            Some((deed.to_owned(), share)),
            "{servers:?}: {commands}"
        );
    }
    for (servers, commands) in [
        (vec![pooler], "systemctl restart postgresql"),
        (vec![pooler], "patronictl restart main"),
        (vec![patroni], "systemctl restart pgbouncer"),
    ] {
        assert_eq!(
            host.judge_of(&servers).judge(commands),
            None,
            "{servers:?}: {commands}"
        );
    }
}

#[test]
fn another_cluster_of_this_host_is_not_an_instances() {
    let host = Host::new();
    let cluster = |version: &str, name: &str, text: &str| {
        host.script(
            &format!("/etc/postgresql/{version}/{name}/postgresql.conf"),
            text,
        );
    };
    cluster("15", "main", "");
    host.script("/var/lib/postgresql/15/main/PG_VERSION", "15");
    assert_eq!(host.share("systemctl restart postgresql"), Some(Share::All));
    host.script("/var/lib/postgresql/16/other/PG_VERSION", "16");
    cluster("16", "other", "port = 5433\n");
    for (commands, expected) in [
        ("systemctl restart postgresql@15-main", Some(Share::All)),
        ("pg_ctlcluster 15 main reload", Some(Share::All)),
        ("systemctl restart postgresql@16-other", None),
        ("pg_ctlcluster 16 other reload", None),
        ("pg_ctl reload -D /var/lib/postgresql/16/other", None),
        (
            "cp $RENEWED_LINEAGE/privkey.pem /etc/postgresql/16/other/key.pem",
            None,
        ),
        ("systemctl restart postgresql", Some(Share::Some)),
        ("killall -HUP postgres", Some(Share::Some)),
    ] {
        assert_eq!(host.share(commands), expected, "{commands}");
    }
    // Where its data directory is an instance's.
    cluster(
        "16",
        "other",
        " data_directory = '/var/lib/postgresql/15/main' # moved\n",
    );
    assert_eq!(
        host.share("systemctl restart postgresql@16-other"),
        Some(Share::All)
    );
}
