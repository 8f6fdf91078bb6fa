//! SQL over the local socket, by the library itself: who is let in, what is told, what is changed.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use pgcertd::testing::{
    host::look,
    host::privilege::Ids,
    server::{
        postmaster::{PidFile, Postmaster},
        sql::{Role, Setting, Sql, SqlCause, SqlError},
    },
};

use crate::world::{
    SOON, World, cluster::Cluster, command, eventually, give, postgres::usual, skipped::Skipped,
};

/// Runs what is asked of a server, as a command of pgcertd would.
pub fn asked<R>(asking: impl Future<Output = R>) -> R {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(asking)
}

fn ids(cluster: &Cluster) -> Ids {
    let owner = cluster.owner();
    Ids {
        uid: owner.uid,
        gid: owner.gid,
    }
}

fn pid_file(cluster: &Cluster) -> PidFile {
    let text = fs::read_to_string(cluster.data_directory().join("postmaster.pid")).unwrap();
    PidFile::parse(&text).unwrap()
}

fn identified(cluster: &Cluster, file: PidFile) -> Postmaster {
    Postmaster::identify(
        file,
        look::file_id(cluster.data_directory()).unwrap().unwrap(),
        cluster.owner().uid,
    )
    .unwrap()
}

pub async fn login(cluster: &Cluster, role: &Role) -> Result<Sql, SqlError> {
    let postmaster = identified(cluster, pid_file(cluster));
    Sql::login(&postmaster, cluster.data_directory(), ids(cluster), role).await
}

fn named(role: &str) -> Role {
    Role::Named(role.to_owned())
}

/// Replaces pg_hba.conf, and waits until it counts.
fn hba(cluster: &mut Cluster, text: &str) {
    let file = cluster.config_directory().join("pg_hba.conf");
    fs::write(&file, text).unwrap();
    give(&file, cluster.owner(), 0o600);
    cluster.reload_by_hand();
}

/// Waits until the server answers a login in this way: a reload takes a moment.
#[track_caller]
fn eventually_refused(cluster: &Cluster, role: &Role, cause: SqlCause) -> String {
    eventually(
        SOON,
        &format!("a login is refused: {cause:?}"),
        || match asked(login(cluster, role)) {
            Err(error) if error.cause() == Some(cause) => Ok(error.to_string()),
            Err(error) => Err(error.to_string()),
            Ok(sql) => Err(format!("{} was let in", sql.role)),
        },
    )
}

#[test]
fn root_logs_in_as_the_servers_user_by_peer_authentication_and_stays_root() {
    let world = or_skip!(World::new());
    let mut cluster = Cluster::build(&world).start();
    hba(&mut cluster, "local all postgres peer\n");
    // The tests are root, whom this line does not let in.
    eventually(SOON, "peer authentication counts", || {
        cluster
            .try_by(&format!("host={}", cluster.sockets().display()), "select 1")
            .is_err_and(|error| error.contains("Peer authentication failed"))
    });
    let sql = asked(async {
        let sql = login(&cluster, &Role::OfUser).await.unwrap();
        let settings = sql.server_settings().await.unwrap();
        assert_eq!(
            settings.hba_file,
            cluster.config_directory().join("pg_hba.conf")
        );
        assert_eq!(settings.data_directory, cluster.data_directory());
        assert!(settings.allow_alter_system && !settings.ssl, "{settings:?}");
        let told = (
            sql.role.clone(),
            sql.is_superuser,
            sql.sees_sessions,
            sql.version,
        );
        sql.close().await;
        told
    });
    assert_eq!((sql.0.as_str(), sql.1, sql.2), ("postgres", true, true));
    assert_eq!(sql.3 / 10_000, usual().cast_signed());
    assert!(rustix::process::geteuid().is_root());
    eventually(SOON, "the session has ended", || {
        let count = "select count(*) from pg_stat_activity where application_name = 'pgcertd'";
        let through = format!(
            "postgresql:///postgres?host={}",
            cluster.sockets().display()
        );
        let asked = command("runuser")
            .args(["-u", "postgres", "--", "psql", "-XAtc", count, "-d"])
            .arg(format!("{through}&port={}", cluster.port()))
            .output()
            .unwrap();
        asked.stdout == b"0\n"
    });
}

#[test]
fn each_refused_login_has_its_cause_and_its_remedy() {
    let world = or_skip!(World::new());
    let mut cluster = Cluster::build(&world)
        .setting("max_connections", "4")
        .setting("superuser_reserved_connections", "1")
        .setting("max_wal_senders", "0")
        .start();
    cluster.sql("create role postgrass login");

    let sentence = eventually_refused(&cluster, &named("nobody else"), SqlCause::NoRole);
    println!("{sentence}");
    assert!(sentence.contains("--user"), "{sentence}");

    let mut sessions = Vec::new();
    for _ in 0..4 {
        sessions.push(cluster.session_by("host=127.0.0.1"));
    }
    let sentence = eventually_refused(&cluster, &Role::OfUser, SqlCause::Full);
    println!("{sentence}");
    assert!(sentence.contains("max_connections"), "{sentence}");
    drop(sessions);

    for (rule, words) in [
        ("local all all peer\n", "Peer authentication failed"),
        ("local all all scram-sha-256\n", "it asks for a password"),
        ("host all all all trust\n", "no pg_hba.conf entry"),
    ] {
        hba(&mut cluster, rule);
        let sentence = eventually(SOON, rule, || {
            let role = named("postgrass");
            let sentence = eventually_refused(&cluster, &role, SqlCause::Authentication);
            sentence.contains(words).then_some(sentence)
        });
        println!("{sentence}");
        assert!(sentence.contains("local all postgrass peer"), "{sentence}");
    }
}

#[test]
fn the_database_may_be_another_where_the_usual_one_is_gone() {
    let world = or_skip!(World::new());
    let cluster = Cluster::build(&world).start();
    let elsewhere = format!("host={} dbname=template1", cluster.sockets().display());
    cluster
        .try_by(&elsewhere, "drop database postgres")
        .unwrap();
    let sql = asked(login(&cluster, &Role::OfUser)).unwrap();
    assert_eq!(sql.role, "postgres");
}

#[test]
fn a_role_without_the_right_is_told_which_one_it_lacks() {
    let world = or_skip!(World::new());
    let cluster = Cluster::build(&world).start();
    cluster.sql("create role watcher login");
    let told = |cluster: &Cluster| {
        asked(async {
            let sql = login(cluster, &named("watcher")).await.unwrap();
            (
                sql.sessions().await.map(|sessions| sessions.len()),
                sql.hba_rules().await.unwrap_err().to_string(),
                sql.alter_system(Setting::Ssl, "on")
                    .await
                    .unwrap_err()
                    .to_string(),
            )
        })
    };
    let (sessions, rules, altered) = told(&cluster);
    let hidden = sessions.unwrap_err().to_string();
    println!("{hidden}\n{rules}\n{altered}");
    assert!(
        hidden.contains("GRANT pg_read_all_stats TO watcher"),
        "{hidden}"
    );
    assert!(rules.contains("role watcher lacks the right"), "{rules}");
    assert!(
        altered.contains("role watcher lacks the right"),
        "{altered}"
    );
    cluster.sql("grant pg_read_all_stats to watcher");
    assert!(told(&cluster).0.is_ok());
}

#[test]
fn a_setting_is_altered_reloaded_and_put_back_to_the_letter() {
    let world = or_skip!(World::new());
    let cluster = Cluster::build(&world).start();
    let auto = cluster.data_directory().join("postgresql.auto.conf");
    let before = fs::read_to_string(&auto).unwrap();
    // A quote and a backslash, which must come through.
    let odd = "/srv/it's\\here.pem";
    asked(async {
        let sql = login(&cluster, &Role::OfUser).await.unwrap();
        assert_eq!(sql.altered(Setting::CertFile).await.unwrap(), None);
        let loaded = sql.server_settings().await.unwrap().loaded;
        sql.alter_system(Setting::CertFile, odd).await.unwrap();
        assert_eq!(
            sql.altered(Setting::CertFile).await.unwrap().as_deref(),
            Some(odd)
        );
        assert_ne!(sql.server_settings().await.unwrap().cert_file, odd);
        sql.reload().await.unwrap();
        let begun = Instant::now();
        loop {
            let now = sql.server_settings().await.unwrap();
            if now.cert_file == odd && now.loaded > loaded {
                break;
            }
            assert!(begun.elapsed() < SOON, "{now:?}");
        }
        sql.reset_system(Setting::CertFile).await.unwrap();
        assert_eq!(sql.altered(Setting::CertFile).await.unwrap(), None);
    });
    assert_eq!(fs::read_to_string(&auto).unwrap(), before);
}

#[test]
fn the_servers_own_reading_of_pg_hba_is_told_with_its_faults() {
    let world = or_skip!(World::with_debians("LDAP"));
    let cluster = Cluster::build(&world).start();
    let text = "# one\nhost shop,\"my db\" +staff 10.0.0.0/8 ldap ldapserver=a ldapprefix=b\nhost all all\n";
    fs::write(cluster.config_directory().join("pg_hba.conf"), text).unwrap();
    let rules = asked(async {
        let sql = login(&cluster, &Role::OfUser).await.unwrap();
        sql.hba_rules().await.unwrap()
    });
    assert_eq!(rules.len(), 2, "{rules:?}");
    assert_eq!((rules[0].line, rules[0].kind.as_deref()), (2, Some("host")));
    assert_eq!(rules[0].databases, ["shop", "my db"]);
    assert_eq!(rules[0].users, ["+staff"]);
    assert_eq!(rules[0].netmask.as_deref(), Some("255.0.0.0"));
    assert_eq!(rules[0].options[..2], ["ldapserver=a", "ldapprefix=b"]);
    let fault = rules[1].fault.as_deref().unwrap();
    assert!(fault.contains("end-of-line before IP address"), "{fault}");
}

/// What listens on the path is proven, as the process in the pid file is.
#[test]
fn a_socket_of_another_process_is_asked_nothing() {
    let world = or_skip!(World::new());
    let cluster = Cluster::build(&world).start();
    let mut other = Cluster::build(&world).name("other").start();
    let mut file = pid_file(&cluster);
    file.port = Some(other.port());
    let postmaster = identified(&cluster, file);
    let data = cluster.data_directory();
    let refused = asked(Sql::login(&postmaster, data, ids(&cluster), &Role::OfUser)).unwrap_err();
    println!("{refused}");
    assert!(
        matches!(&refused, SqlError::Foreign { other: pid, .. } if *pid == other.pid()),
        "{refused}"
    );
    other.stop();
    let gone = asked(Sql::login(&postmaster, data, ids(&cluster), &Role::OfUser)).unwrap_err();
    println!("{gone}");
    assert!(matches!(gone, SqlError::Unreachable { .. }), "{gone}");
}

#[test]
fn a_server_without_a_socket_is_told_apart_from_one_that_is_still_starting() {
    let world = or_skip!(World::new());
    let cluster = Cluster::build(&world)
        .setting("unix_socket_directories", "")
        .start();
    let refused = asked(login(&cluster, &Role::OfUser)).unwrap_err();
    assert!(matches!(refused, SqlError::NoSocket), "{refused}");
    let mut file = pid_file(&cluster);
    file.sockets = None;
    let postmaster = identified(&cluster, file);
    let data = cluster.data_directory();
    let refused = asked(Sql::login(&postmaster, data, ids(&cluster), &Role::OfUser)).unwrap_err();
    assert!(matches!(refused, SqlError::Unsaid), "{refused}");
}

#[test]
fn an_abstract_socket_is_one_as_well_as_a_relative_or_a_very_deep_one() {
    if usual() < 14 {
        return Skipped::because("abstract sockets came with PostgreSQL 14").count();
    }
    let world = or_skip!(World::new());
    let space = format!("@pgcertd-{}", world.path().display());
    // A socket's path may have 107 bytes; the server itself is told the short one.
    let deep = world.postgres_directory(&"d".repeat(100), 0o755);
    let short = PathBuf::from(world.path()).join("s");
    std::os::unix::fs::symlink(&deep, &short).unwrap();
    for directory in [space.as_str(), ".", short.to_str().unwrap()] {
        let mut cluster = Cluster::build(&world)
            .name(&format!("c{}", directory.len()))
            .setting("unix_socket_directories", directory)
            .start();
        let mut file = pid_file(&cluster);
        if directory == short.to_str().unwrap() {
            file.sockets = Some(deep.to_str().unwrap().to_owned());
        }
        let postmaster = identified(&cluster, file);
        let data = cluster.data_directory();
        let login = asked(Sql::login(&postmaster, data, ids(&cluster), &Role::OfUser));
        assert!(login.is_ok(), "{directory}: {login:?}");
        cluster.stop();
    }
}

/// A server that is stopped in mid-air keeps nobody waiting for ever.
#[test]
fn a_server_that_does_not_answer_is_given_up() {
    let world = or_skip!(World::new());
    let mut cluster = Cluster::build(&world).start();
    let postmaster = identified(&cluster, pid_file(&cluster));
    cluster.freeze();
    let data = cluster.data_directory();
    let refused = asked(async {
        let login = Sql::login(&postmaster, data, ids(&cluster), &Role::OfUser);
        tokio::time::timeout(Duration::from_secs(60), login).await
    });
    let refused = refused.unwrap().unwrap_err();
    println!("{refused}");
    assert!(matches!(refused, SqlError::Silent { .. }), "{refused}");
    cluster.thaw();
}

/// A container's server has its socket beneath its own root, where no path of the host leads.
#[test]
fn a_server_whose_socket_is_in_another_mount_namespace_is_reached_through_its_root() {
    let world = or_skip!(World::new());
    let cluster = Cluster::build(&world).create();
    let sockets = cluster.sockets().to_str().unwrap().to_owned();
    let owner = cluster.owner();
    // A file system of its own over the sockets' directory.
    let over = format!(
        "mount -t tmpfs -o mode=0755,uid={} none {sockets}",
        owner.uid
    );
    let mut server = cluster.start_in_own_mounts(&over);
    assert_eq!(fs::read_dir(&sockets).unwrap().count(), 0);
    let sql = asked(login(&cluster, &Role::OfUser));
    server.signal(rustix::process::Signal::INT);
    server.wait(SOON);
    assert!(sql.is_ok(), "{sql:?}");
}
