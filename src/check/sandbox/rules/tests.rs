#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::fs;

use super::*;

/// The packaged unit with these drop-ins.
fn sandbox(drop_ins: &[&str]) -> Sandbox {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    fs::copy("systemd/pgcertd.service", at.join("pgcertd.service")).unwrap();
    fs::create_dir(at.join("pgcertd.service.d")).unwrap();
    for (number, text) in drop_ins.iter().enumerate() {
        let text = format!("[Service]\n{text}\n");
        fs::write(at.join(format!("pgcertd.service.d/{number}.conf")), text).unwrap();
    }
    Sandbox::from_unit(&Unit::in_directories(&[at], None).unwrap())
}

fn denied(sandbox: &Sandbox, path: &str, need: Need) -> Option<(String, Vec<String>)> {
    let denial = sandbox.denies(Path::new(path), need)?;
    let lines = denial.settings.clone().unwrap_or_default();
    Some((denial.by, lines))
}

/// Whether the remedies, put into the unit, allow it.
fn mended(drop_ins: &[&str], path: &str, need: Need) -> bool {
    let (_, lines) = denied(&sandbox(drop_ins), path, need).unwrap();
    let text = lines.join("\n");
    let more = [drop_ins, &[&text]].concat();
    denied(&sandbox(&more), path, need).is_none()
}

#[test]
fn the_packaged_unit_allows_what_a_default_config_needs() {
    let packaged = sandbox(&[]);
    for (path, need) in [
        ("/etc/letsencrypt/live/a.b", Need::Read),
        ("/var/lib/postgresql/15/main", Need::Read),
        ("/var/lib/pgcertd/15-main", Need::Write),
        ("/run/pgcertd", Need::Write),
        ("/usr/lib/postgresql/15/bin/pg_ctl", Need::Run),
    ] {
        assert_eq!(denied(&packaged, path, need), None, "{path}");
    }
}

#[test]
fn it_denies_the_rest_and_says_by_what() {
    let packaged = sandbox(&[]);
    for (path, need, by) in [
        ("/srv/tls", Need::Write, "ProtectSystem=strict"),
        ("/etc/ssl/private", Need::Write, "ProtectSystem=strict"),
        ("/run/postgresql", Need::Write, "ReadOnlyPaths=/run"),
        ("/home/db/data", Need::Read, "ProtectHome=yes"),
        ("/root/.acme.sh/a.b", Need::Read, "ProtectHome=yes"),
        ("/tmp/tls", Need::Read, "PrivateTmp=yes"),
        (
            "/var/lib/pgcertd/reload",
            Need::Run,
            "NoExecPaths=/var/lib/pgcertd",
        ),
    ] {
        let seen = denied(&packaged, path, need);
        assert_eq!(seen.map(|pair| pair.0).as_deref(), Some(by), "{path}");
    }
}

#[test]
fn each_remedy_allows_it() {
    for (drop_ins, path, need) in [
        (&[][..], "/srv/tls", Need::Write),
        (&[], "/home/db/tls", Need::Write),
        (&[], "/root/.acme.sh/a.b", Need::Read),
        (&[], "/var/lib/pgcertd/reload", Need::Run),
        (&["ProtectHome=tmpfs"], "/home/db", Need::Read),
        (&["TemporaryFileSystem=/srv:ro"], "/srv/tls", Need::Read),
        (&["TemporaryFileSystem=/srv"], "/srv/tls", Need::Write),
        (&[], "/srv/a b/100% 'tls'", Need::Write),
        (&[], "/home/\"db\"/tls", Need::Write),
    ] {
        assert!(mended(drop_ins, path, need), "{path} with {drop_ins:?}");
    }
}

#[test]
fn a_path_that_no_line_can_say_has_no_remedy() {
    for path in [
        "/srv/a\nUser=root",
        "/srv/a\\",
        "/srv/\"it's\"",
        "/srv/\u{202e}",
    ] {
        let (_, lines) = denied(&sandbox(&[]), path, Need::Write).unwrap();
        assert_eq!(lines, Vec::<String>::new(), "{path:?}");
    }
    let covered = sandbox(&["TemporaryFileSystem=/srv"]);
    let (_, lines) = denied(&covered, "/srv/a:b", Need::Read).unwrap();
    assert_eq!(lines, Vec::<String>::new());
}

#[test]
fn what_was_hidden_by_name_is_not_opened_again() {
    let hidden = sandbox(&[
        "InaccessiblePaths=-/srv/secret",
        "ReadWritePaths=/srv/secret/tls",
    ]);
    let (by, lines) = denied(&hidden, "/srv/secret/tls", Need::Read).unwrap();
    assert_eq!(
        (by.as_str(), lines),
        ("InaccessiblePaths=-/srv/secret", vec![])
    );
    assert_eq!(
        denied(&sandbox(&[]), "/tmp/a", Need::Write).unwrap().1,
        Vec::<String>::new()
    );
    let moved = sandbox(&["RootDirectory=/srv/root"]);
    assert!(denied(&moved, "/etc", Need::Read).is_some());
}

#[test]
fn the_innermost_rule_counts_and_an_empty_setting_takes_back() {
    let nested = sandbox(&["ReadWritePaths=/srv", "ReadOnlyPaths=/srv/a"]);
    assert_eq!(denied(&nested, "/srv/b", Need::Write), None);
    assert!(denied(&nested, "/srv/a/c", Need::Write).is_some());
    let emptied = sandbox(&["ReadWritePaths=/srv", "ReadWritePaths="]);
    assert!(denied(&emptied, "/srv/b", Need::Write).is_some());
    let open = sandbox(&["ProtectHome=no", "ProtectSystem=full", "PrivateTmp=no"]);
    assert_eq!(denied(&open, "/home/db", Need::Write), None);
    assert_eq!(denied(&open, "/tmp/x", Need::Read), None);
    assert!(denied(&open, "/etc/ssl", Need::Write).is_some());
}

#[test]
fn a_denial_says_whether_the_path_can_be_seen_at_least() {
    let told = |drop_ins: &[&str], path: &str, need| {
        let denial = sandbox(drop_ins).denies(Path::new(path), need);
        denial.unwrap().to_string()
    };
    assert_eq!(
        told(&["ProtectHome=read-only"], "/home/db", Need::Write),
        "/home/db cannot be written (ProtectHome=read-only)"
    );
    assert_eq!(
        told(&[], "/home/db", Need::Write),
        "/home/db is hidden (ProtectHome=yes)"
    );
}
