//! A server that is none, or of a version that nothing here was tried with, is named by `check`.

use std::fs;

use crate::{
    stage::{Stage, says},
    world::{World, on_one_line},
};

/// What `check` prints, on one line, and its exit status.
fn checked(stage: &Stage<'_>) -> (String, i32) {
    let done = stage.pgcertd(&["check"]);
    println!("{}", done.stdout());
    (on_one_line(done.stdout()), done.code())
}

#[test]
fn what_is_not_supported_is_named_with_what_is() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let file = stage.cluster.data_directory().join("PG_VERSION");
    let (well, code) = checked(&stage);
    says(&well, &["PostgreSQL 15"]);
    assert_eq!(code, 0);

    // The file is the only thing by which pgcertd tells versions, and the server reads it at its start alone.
    for other in ["12", "99", "8.4"] {
        fs::write(&file, format!("{other}\n")).unwrap();
        let (told, code) = checked(&stage);
        let is = format!("PostgreSQL {other}");
        says(&told, &[&is, "use PostgreSQL 13 to 19"]);
        assert_eq!(code, 0, "it stops no deployment");
    }
    let second = stage.renew();
    stage.synced(&[], "deployed", 0);

    fs::remove_file(&file).unwrap();
    let (told, code) = checked(&stage);
    says(
        &told,
        &["it is no server's data directory", "SHOW data_directory"],
    );
    assert_eq!(code, 1);
    fs::write(&file, "15\n").unwrap();
    crate::world::give(&file, world.postgres(), 0o600);
    stage.ends_serving(&second);
}
