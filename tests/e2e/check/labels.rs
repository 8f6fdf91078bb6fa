//! SELinux labels, where files stand in for the kernel's: this one has no SELinux, keeps labels as
//! they are set, and denies nothing for them.

use std::{fs, path::Path};

use rustix::fs::XattrFlags;
use serde_json::Value;

use super::finding::{Checked, line, sentence};
use crate::{
    stage::{Stage, says},
    world::{World, daemon::Launch},
};

/// What the kernel says of SELinux at `/sys/fs/selinux/enforce`.
const ENFORCING: &str = "1";
const PERMISSIVE: &str = "0";

fn label(path: &Path, of: &str) {
    let label = format!("system_u:object_r:{of}:s0\0");
    let set = rustix::fs::lsetxattr(
        path,
        "security.selinux",
        label.as_bytes(),
        XattrFlags::empty(),
    );
    set.unwrap();
}

/// What `check` finds where SELinux seems to be in this mode.
#[track_caller]
fn found(stage: &Stage<'_>, mode: &str) -> Value {
    let world = stage.world;
    let stand_in = world.directory("stand-in-for-sys-fs");
    fs::create_dir_all(stand_in.join("selinux")).unwrap();
    fs::write(stand_in.join("selinux/enforce"), mode).unwrap();
    let launch = Launch::new(world).mounted(&stand_in, Path::new("/sys/fs"));
    Checked::by(world, &launch, &stage.config).instance("label")
}

#[test]
fn a_label_that_a_confined_server_may_not_read_is_found_with_stand_ins_for_selinux() {
    let world = or_skip!(World::new());
    let stage = Stage::build(&world).server_names().start();
    let data = stage.cluster.data_directory();
    let (file, directory) = (&stage.cert, stage.kept(""));
    label(&data.join("PG_VERSION"), "postgresql_db_t");
    // Without SELinux nobody asks.
    let ids = stage.checked().ids();
    assert!(!ids.contains(&"label".to_owned()), "{ids:?}");

    label(&directory, "postgresql_db_t");
    label(file, "user_home_t");
    let moved = found(&stage, ENFORCING);
    println!("{moved:#}");
    assert_eq!(moved["weight"], "problem");
    says(
        moved["seen"].as_str().unwrap(),
        &[file.to_str().unwrap(), "user_home_t"],
    );
    let shown = directory.to_str().unwrap().trim_end_matches('/');
    says(
        &line(&moved),
        &["-t postgresql_db_t", &format!("restorecon -Rv {shown}")],
    );
    let logged = found(&stage, PERMISSIVE);
    assert_eq!(logged["weight"], "notice");
    says(logged["seen"].as_str().unwrap(), &["permissive"]);

    // As restorecon does it.
    label(file, "postgresql_db_t");
    assert_eq!(found(&stage, ENFORCING)["weight"], "good");

    label(&directory, "var_lib_t");
    let next = found(&stage, ENFORCING);
    assert_eq!(next["weight"], "problem");
    says(next["seen"].as_str().unwrap(), &["next file", "var_lib_t"]);
    label(&directory, "cert_t");
    assert_eq!(found(&stage, ENFORCING)["weight"], "good");
}

#[test]
fn a_directory_that_is_perhaps_others_as_well_is_not_relabelled_with_stand_ins_for_selinux() {
    let world = or_skip!(World::new());
    let shared = world.postgres_directory("shared", 0o755);
    let stage = Stage::build_at(
        &world,
        &shared.join("server.pem"),
        &shared.join("server.pem"),
    )
    .server_names()
    .start();
    label(&stage.cert, "user_home_t");
    let moved = found(&stage, ENFORCING);
    assert_eq!(moved["weight"], "problem");
    says(
        &sentence(&moved),
        &["cert_file", "the server's alone", "restorecon"],
    );
}
