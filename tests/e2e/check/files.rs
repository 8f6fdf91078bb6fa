//! The lineage and the installed files.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
};

use super::finding::{checked, line, sentence, typed};
use crate::{
    stage::{HOST, NAME, Stage, says},
    world::{
        Owner, World,
        ca::{DAY, Options},
        give,
    },
};

const ROOT: Owner = Owner { uid: 0, gid: 0 };

#[test]
fn a_lineage_that_is_gone_is_found_until_it_is_issued_again() {
    let world = or_skip!(World::new());
    let mut stage = Stage::build(&world).server_names().start();
    stage.lineage.delete();
    let found = stage.finds("source", "problem");
    says(found["seen"].as_str().unwrap(), &["has no directory"]);
    says(&sentence(&found), &["issue the certificate"]);
    let first = stage.first.clone();
    stage.lineage.renew(&first);
    stage.is_well("source");
}

#[test]
fn a_certificate_near_its_end_is_worth_a_note_until_it_is_renewed() {
    let world = or_skip!(World::new());
    let mut stage = Stage::build(&world).server_names().start();
    let options = Options {
        not_before: std::time::SystemTime::now() - 80 * DAY,
        not_after: std::time::SystemTime::now() + 10 * DAY,
        ..Options::default()
    };
    let old = stage.ca.issue_with(&[HOST], &options);
    stage.lineage.renew(&old);
    let found = stage.finds("source", "notice");
    says(
        found["seen"].as_str().unwrap(),
        &[HOST, &old.fingerprint[..6]],
    );
    let first = stage.first.clone();
    stage.lineage.renew(&first);
    stage.is_well("source");
}

#[test]
fn a_key_that_postgres_would_refuse_for_its_mode_or_owner_gets_them_right() {
    let world = or_skip!(World::new());
    let stage = Stage::build(&world).server_names().start();
    fs::set_permissions(&stage.key, PermissionsExt::from_mode(0o644)).unwrap();
    let found = stage.is_mended("key_rule", "problem");
    println!("{}", found["seen"]);
    says(found["seen"].as_str().unwrap(), &["mode 0644", "0600"]);

    chown(&stage.key, Some(65534), None).unwrap();
    // Nothing of what lies elsewhere is changed by a step of root's that follows a link.
    assert!(line(&stage.finds("key_rule", "problem")).contains("chown -h "));
    let found = stage.is_mended("key_rule", "problem");
    says(found["seen"].as_str().unwrap(), &["belongs to user 65534"]);
    stage.ends_serving_the_first();
}

#[test]
fn the_key_of_an_owner_that_is_root_gets_a_mode_for_the_servers_group() {
    let world = or_skip!(World::new());
    let stage = Stage::build(&world)
        .server_names()
        .instance(|entry| entry.set("owner", "root"))
        .start();
    let postgres = world.postgres();
    let with_group = Owner {
        gid: postgres.gid,
        ..ROOT
    };
    give(&stage.kept(""), with_group, 0o750);
    give(&stage.key, with_group, 0o644);
    let found = stage.finds("key_rule", "problem");
    says(found["seen"].as_str().unwrap(), &["mode 0644", "0640"]);
    typed(&line(&found));
    assert_eq!(stage.checked().instance("key_rule")["weight"], "good");
    stage.ends_serving_the_first();
}

#[test]
fn installed_files_that_would_not_load_are_replaced() {
    let world = or_skip!(World::new());
    let stage = Stage::build(&world).server_names().start();
    let whole = fs::read(&stage.cert).unwrap();
    fs::write(&stage.cert, &whole[..whole.len() / 2]).unwrap();
    let restart = stage.finds("restart", "problem");
    assert_eq!(line(&restart), line(&stage.finds("installed", "problem")));
    stage.is_mended("installed", "problem");

    fs::remove_file(&stage.cert).unwrap();
    let found = stage.finds("installed", "notice");
    says(found["seen"].as_str().unwrap(), &["does not exist yet"]);
    // But the server names it.
    stage.is_mended("restart", "problem");
    stage.ends_serving_the_first();
}

#[test]
fn where_others_place_the_files_it_is_they_who_have_to() {
    let world = or_skip!(World::new());
    let stage = Stage::build(&world)
        .server_names()
        .instance(|entry| entry.set("mode", "observe"))
        .start();
    assert_eq!(stage.checked().ill(), Vec::<String>::new());
    fs::write(&stage.cert, "").unwrap();
    says(
        &sentence(&stage.finds("installed", "problem")),
        &["whoever places the files"],
    );
}

#[test]
fn a_directory_that_the_owner_cannot_write_in_is_given_to_it() {
    let world = or_skip!(World::new());
    let mut stage = Stage::build(&world).server_names().start();
    let state = stage.kept("");
    give(&state, ROOT, 0o755);
    let found = stage.is_mended("targets", "problem");
    says(
        found["seen"].as_str().unwrap(),
        &["user postgres cannot write"],
    );
    says(&line(&found), &["install -d -o postgres"]);
    // Nor may it be entered, or be passed on the way.
    give(&state, ROOT, 0o700);
    stage.is_mended("targets", "problem");
    let above = stage.config.state_directory().to_owned();
    give(&above, ROOT, 0o700);
    let passed = stage.is_mended("targets", "problem");
    says(&line(&passed), &["chmod o+x", above.to_str().unwrap()]);
    let second = stage.renew();
    stage.synced(&[], "deployed", 0);
    stage.ends_serving(&second);
}

#[test]
fn a_directory_that_is_perhaps_others_as_well_is_not_given_away() {
    let world = or_skip!(World::new());
    let shared = world.directory("shared");
    let target = shared.join("server.pem");
    let stage = Stage::build_at(&world, &target, &target).start();
    let found = checked(&world, &stage.config, &[]).instance("targets");
    assert_eq!(found["weight"], "problem");
    says(&sentence(&found), &["cert_file", "default", "pgcertd"]);
}

#[test]
fn a_key_in_a_data_directory_is_found_also_through_a_link() {
    let world = or_skip!(World::new());
    let data = world.postgres_directory(&format!("clusters/{NAME}/data"), 0o700);
    // The template is copied into a directory that is not there yet.
    fs::remove_dir(&data).unwrap();
    let link = world.path().join("elsewhere");
    std::os::unix::fs::symlink(&data, &link).unwrap();
    let stage = Stage::build(&world).server_names().start();
    let text = stage.config.text();
    for target in [data.join("server.pem"), link.join("server.pem")] {
        stage.configured_with(&format!("cert_file = \"{}\"", target.display()));
        let found = stage.finds("keys_apart", "notice");
        println!("{found}");
        says(
            found["seen"].as_str().unwrap(),
            &[target.to_str().unwrap(), "lies in the data directory"],
        );
        says(&sentence(&found), &["remove cert_file", "pgcertd"]);
    }
    // As the sentence says.
    stage.config.replace(&text);
    stage.is_well("keys_apart");
}
