//! What keeps `postgresql.auto.conf` from being written is named, and not the role.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
};

use crate::{
    setup::bench::Bench,
    stage::says,
    world::{World, faults::Immutable, give, on_one_line},
};

#[test]
fn what_keeps_alter_system_from_its_file_is_named_with_the_file() {
    let world = or_skip!(World::new());
    // As it is but in tests: a link to a device shows where the file is to be made durable.
    let bench = Bench::with(&world, |cluster| cluster.setting("fsync", "on"));
    let file = bench.cluster.data_directory().join("postgresql.auto.conf");
    let refuses = |words: &[&str]| {
        let done = bench.setup(&["--yes"]);
        assert_eq!(done.code(), 1);
        // Without the line breaks of the page.
        let told = format!("{} {}", done.stdout(), done.stderr());
        let told = on_one_line(&told);
        says(&told, &["postgresql.auto.conf cannot be written"]);
        says(&told, words);
        assert!(!told.contains("lacks the right"), "{told}");
        assert!(!told.contains("superuser"), "{told}");
    };
    if let Ok(immutable) = Immutable::set(&file) {
        refuses(&["is immutable", "chattr -i"]);
        drop(immutable);
    }
    // As CloudNativePG and Stolon rule it out before 17.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
    refuses(&["read-only", "chmod u+w"]);
    fs::rename(&file, file.with_extension("aside")).unwrap();
    symlink("/dev/null", &file).unwrap();
    refuses(&["symbolic link"]);
    fs::remove_file(&file).unwrap();
    fs::rename(file.with_extension("aside"), &file).unwrap();
    // Something that is not the server's lies where it writes first.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let first = file.with_extension("conf.tmp");
    fs::create_dir(&first).unwrap();
    refuses(&["conf.tmp", "Is a directory"]);
    fs::remove_dir(&first).unwrap();

    give(&file, bench.cluster.owner(), 0o600);
    assert_eq!(bench.setup(&["--yes"]).code(), 0);
    bench.verified();
}
