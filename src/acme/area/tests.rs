#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::acme::{Deed, Hook, HookJudgement, Judge, Removal, Scope};
use crate::config::ServerKind;

/// A host with these files, of which those that begin with `#!` can be executed.
fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Tree) {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let at = root.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::write(&at, text).unwrap();
        let mode = if text.starts_with("#!") { 0o755 } else { 0o644 };
        fs::set_permissions(at, fs::Permissions::from_mode(mode)).unwrap();
    }
    let tree = Tree::below(root.path());
    (root, tree)
}

/// The old hooks of an area, and what takes each away.
fn old(tree: &Tree, area: &Area) -> Vec<(Hook, HookJudgement, Removal)> {
    let nowhere = Scope {
        kind: ServerKind::Postgres,
        home: Default::default(),
        files: Default::default(),
        directories: Default::default(),
        lineages: Default::default(),
    };
    let judge = Judge::new(tree.clone(), vec![nowhere]);
    let found = area.look(tree, true);
    assert!(found.unread.is_empty(), "{:?}", found.unread);
    let hooks = found.hooks.into_iter();
    hooks
        .filter_map(|hook| {
            let judgement = judge.judge_hook(&hook)?;
            let removal = hook.removal(&judge, &judgement);
            Some((hook, judgement, removal))
        })
        .collect()
}

#[test]
fn fedoras_variable_of_certbots_unit_is_a_line_that_may_go() {
    let text = "PRE_HOOK=\"\"\nPOST_HOOK=\"--post-hook 'systemctl restart postgresql'\"\nCERTBOT_ARGS=\"\"\n";
    let (_root, tree) = host(&[("/etc/sysconfig/certbot", text)]);
    let [(hook, _, removal)] = &old(&tree, &Area::Settings)[..] else {
        panic!("not one hook");
    };
    assert_eq!(hook.place.file(), Path::new("/etc/sysconfig/certbot"));
    let Removal::Command(line) = removal else {
        panic!("{removal:?}");
    };
    assert!(
        line.starts_with("sed -i ") && line.contains("POST_HOOK"),
        "{line}"
    );
}

#[test]
fn a_unit_or_dehydrateds_own_script_is_for_a_person() {
    let (_root, tree) = host(&[
        (
            "/etc/systemd/system/certbot.service.d/hook.conf",
            "[Service]\nExecStart=\nExecStart=/usr/bin/certbot -q renew --deploy-hook 'systemctl reload postgresql'\n",
        ),
        (
            "/etc/dehydrated/config",
            "BASEDIR=/var/lib/dehydrated\nHOOK=/etc/dehydrated/hook.sh\n",
        ),
        (
            "/etc/dehydrated/hook.sh",
            "#!/bin/bash\ndeploy_cert() {\n  systemctl restart postgresql\n}\n\"$@\"\n",
        ),
    ]);
    let all = old(&tree, &Area::Settings);
    let files: Vec<&Path> = all.iter().map(|(hook, ..)| hook.place.file()).collect();
    assert_eq!(
        files,
        [
            Path::new("/etc/dehydrated/hook.sh"),
            Path::new("/etc/systemd/system/certbot.service.d/hook.conf")
        ]
    );
    assert!(
        all.iter()
            .all(|(_, _, it)| matches!(it, Removal::Sentence(_)))
    );
    assert!(
        all[0]
            .1
            .deeds
            .contains(&Deed::Restarts(ServerKind::Postgres))
    );
    assert!(
        all[1]
            .1
            .deeds
            .contains(&Deed::Reloads(ServerKind::Postgres))
    );
}

#[test]
fn a_program_that_cron_runs_each_day_renews_and_may_do_more() {
    let (_root, tree) = host(&[
        (
            "/etc/cron.daily/renew",
            "#!/bin/sh\n/usr/bin/dehydrated -c\nsystemctl restart postgresql\n",
        ),
        ("/etc/cron.daily/renew.dpkg-old", "#!/bin/sh\nlego renew\n"),
        (
            "/etc/cron.daily/logrotate",
            "#!/bin/sh\nsystemctl reload postgresql\n",
        ),
    ]);
    let found = Area::Crontabs.look(&tree, true);
    let renewing: Vec<&str> = found
        .schedules
        .iter()
        .map(|schedule| schedule.client.program())
        .collect();
    assert_eq!(renewing, ["dehydrated"]);
    let all = old(&tree, &Area::Crontabs);
    assert_eq!(all.len(), 1, "{all:?}");
    assert!(matches!(all[0].2, Removal::Sentence(_)));
}

#[test]
fn what_may_not_be_read_is_told() {
    let (root, tree) = host(&[("/etc/letsencrypt/renewal/a.conf", "")]);
    // Nobody can read a directory as a text.
    fs::create_dir(root.path().join("etc/letsencrypt/cli.ini")).unwrap();
    let found = Area::Certbot("/etc/letsencrypt".into()).look(&tree, true);
    let unread: Vec<&Path> = found
        .unread
        .iter()
        .map(|unread| unread.path.as_path())
        .collect();
    assert_eq!(unread, [Path::new("/etc/letsencrypt/cli.ini")]);
}

#[test]
fn the_homes_of_all_users_are_looked_at_but_nowhere() {
    let passwd = "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534::/nonexistent:/bin/false\nacme:x:999:999::/srv/acme:/bin/sh\n";
    let (_root, tree) = host(&[("/etc/passwd", passwd)]);
    let homes = homes(&tree);
    assert_eq!(homes, [Path::new("/root"), Path::new("/srv/acme")]);
    let areas = areas(&homes, &[PathBuf::from("/srv/le/live/a")]);
    assert!(areas.contains(&Area::AcmeSh("/srv/acme/.acme.sh".into())));
    assert!(areas.contains(&Area::Certbot("/srv/le".into())));
}
