//! Lineages that others than root may bend. Run by root alone, who may give files away.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails where its world cannot be made"
)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};

use tempfile::TempDir;

use super::*;
use crate::bundle::TrustFiles;
use crate::lineage::read::{FileNames, ReadError, Reading, Spec, read};
use crate::testing::skipped::Skipped;

const ALICE: u32 = 70_001;
const BOB: u32 = 70_002;
const GROUP: u32 = 70_003;

/// A directory of root's that everybody may enter, with a root-only key in it: `closed/key`.
struct World(TempDir);

impl World {
    fn new() -> Option<World> {
        if !crate::host::privilege::is_root() {
            Skipped::because("only root gives files away").count();
            return None;
        }
        let world = World(TempDir::new().unwrap());
        world.mode("", 0o755);
        world.directory("closed", 0, 0o700);
        world.file("closed/key", 0, 0o600);
        world.directory("a", 0, 0o755);
        Some(world)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.at(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn directory(&self, name: &str, owner: u32, mode: u32) {
        fs::create_dir_all(self.at(name)).unwrap();
        chown(self.at(name), Some(owner), Some(owner)).unwrap();
        self.mode(name, mode);
    }

    fn file(&self, name: &str, owner: u32, mode: u32) {
        fs::write(self.at(name), "text").unwrap();
        chown(self.at(name), Some(owner), Some(owner)).unwrap();
        self.mode(name, mode);
    }

    fn group(&self, name: &str, group: u32) {
        let mode = fs::metadata(self.at(name)).unwrap().permissions();
        chown(self.at(name), None, Some(group)).unwrap();
        fs::set_permissions(self.at(name), mode).unwrap();
    }

    fn link(&self, target: &str, name: &str, owner: u32) {
        symlink(target, self.at(name)).unwrap();
        lchown(self.at(name), Some(owner), Some(owner)).unwrap();
    }

    /// Reads the file `key` of the directory `a`, as chain and key.
    fn reading(&self, users: &Users) -> Reading {
        self.reading_of("a", "key", users)
    }

    fn reading_of(&self, directory: &str, file: &str, users: &Users) -> Reading {
        let (chain, key) = (file.to_owned(), file.to_owned());
        let spec = Spec {
            name: "a".into(),
            candidates: vec![self.at(directory)],
            files: Some(FileNames { chain, key }),
            trust_files: TrustFiles::default(),
        };
        read(&spec, None, users)
    }

    fn passes(&self) {
        let reading = self.reading(&Users::default());
        reading.parts.unwrap();
    }

    /// Why it is not read.
    fn refused(&self) -> String {
        refusal(self.reading(&Users::default()))
    }
}

fn refusal(reading: Reading) -> String {
    assert!(reading.homes.is_empty(), "{:?}", reading.homes);
    match reading.parts {
        Err(ReadError::Swayed(unfit)) => unfit.problem().to_string(),
        other => panic!("{other:?}"),
    }
}

/// As if the system had said so.
fn member(uid: u32, group: u32) -> Users {
    let facts = UserFacts {
        name: "alice".into(),
        groups: [group].into(),
        private: (uid == group).then_some(group),
    };
    Users {
        known: [(uid, facts)].into(),
    }
}

#[test]
fn what_root_alone_may_change_is_read_whosever_the_file_is() {
    let Some(world) = World::new() else { return };
    world.link("../closed/key", "a/key", 0);
    world.passes();
    fs::remove_file(world.at("a/key")).unwrap();
    // Its content is his own, and he cannot put anything else in its place.
    world.file("a/key", ALICE, 0o600);
    world.passes();
    assert_eq!(world.reading(&Users::default()).sway, Sway::default());
}

#[test]
fn what_a_user_owns_altogether_is_read_and_he_is_named_as_its_writer() {
    let Some(world) = World::new() else { return };
    world.directory("a", ALICE, 0o700);
    world.directory("a/archive", ALICE, 0o700);
    world.file("a/archive/key", ALICE, 0o600);
    world.link("archive/key", "a/key", ALICE);
    let reading = world.reading(&Users::default());
    let steerers: Vec<Steerer> = reading.sway.steerers().map(|(who, _)| who).collect();
    assert_eq!(steerers, [Steerer::User(ALICE)]);
    reading.parts.unwrap();
    // A link of his to a file of his elsewhere, in a directory of root's.
    fs::remove_file(world.at("a/key")).unwrap();
    world.file("hers", ALICE, 0o600);
    world.link("../hers", "a/key", ALICE);
    world.passes();
}

#[test]
fn a_users_link_to_what_he_cannot_read_is_refused_and_named() {
    let Some(world) = World::new() else { return };
    world.link("../closed/key", "a/key", ALICE);
    let text = world.refused();
    let link = world.at("a/key");
    assert!(
        text.contains(&format!("user {ALICE} owns the link {}", link.display())),
        "{text}"
    );
    assert!(text.contains("belongs to root"), "{text}");
    // The directory is closed to him: whether the file is there is not told either.
    fs::remove_file(world.at("a/key")).unwrap();
    world.link("../closed/none", "a/key", ALICE);
    assert!(!world.refused().contains("none"), "{}", world.refused());
}

#[test]
fn what_everybody_may_read_passes_through_anybodys_link() {
    let Some(world) = World::new() else { return };
    world.file("open", 0, 0o644);
    world.link("../open", "a/key", ALICE);
    world.passes();
    world.mode("open", 0o640);
    assert!(world.refused().contains("mode 0640"));
    world.mode("open", 0o604);
    assert!(
        world.refused().contains("mode 0604"),
        "he may be in the group"
    );
}

#[test]
fn a_directory_of_a_user_makes_whatever_lies_in_it_his_choice() {
    let Some(world) = World::new() else { return };
    world.directory("a", ALICE, 0o755);
    for (what, make) in [
        (
            "a link of root's",
            (|world: &World| world.link("../closed/key", "a/key", 0)) as fn(&World),
        ),
        ("a file of root's", |world| world.file("a/key", 0, 0o600)),
        ("a file of another's", |world| {
            world.file("a/key", BOB, 0o600)
        }),
        ("a hard link", |world| {
            fs::hard_link(world.at("closed/key"), world.at("a/key")).unwrap()
        }),
    ] {
        make(&world);
        let text = world.refused();
        let directory = world.at("a");
        let wanted = format!("user {ALICE} owns the directory {}", directory.display());
        assert!(text.contains(&wanted), "{what}: {text}");
        fs::remove_file(world.at("a/key")).unwrap();
    }
}

#[test]
fn the_directories_above_count_and_those_that_a_link_leaves() {
    let Some(world) = World::new() else { return };
    // Hers, and root's within: she may rename it, and put another in its place.
    world.directory("home", ALICE, 0o755);
    world.directory("home/a", 0, 0o700);
    world.file("home/a/key", 0, 0o600);
    let of = |directory: &str| world.reading_of(directory, "key", &Users::default());
    let text = refusal(of("home/a"));
    let home = world.at("home");
    assert!(
        text.contains(&format!("owns the directory {}", home.display())),
        "{text}"
    );
    // By way of hers into what is root's: above the file nothing is hers.
    world.link("../closed", "home/away", 0);
    refusal(of("home/away"));
    // What lies above hers is not hers.
    world.mode("closed", 0o755);
    let above = world.reading_of("home", "../closed/key", &Users::default());
    above.parts.unwrap();
    world.mode("closed", 0o700);
    // The lineage's own directory is a link of hers.
    world.link("closed", "led", ALICE);
    refusal(of("led"));
}

#[test]
fn a_directory_that_others_may_write_in_is_theirs_to_choose() {
    let Some(world) = World::new() else { return };
    world.file("a/key", 0, 0o600);
    world.mode("a", 0o777);
    assert!(
        world.refused().contains("every user can write to"),
        "{}",
        world.refused()
    );
    world.mode("a", 0o775);
    world.passes();
    world.group("a", GROUP);
    assert!(
        world
            .refused()
            .contains(&format!("group {GROUP} can write to")),
        "{}",
        world.refused()
    );
    // What the group may read is the group's to choose.
    world.mode("a/key", 0o640);
    world.group("a/key", GROUP);
    world.passes();
}

#[test]
fn in_a_sticky_directory_what_is_roots_stays_roots_but_for_hard_links() {
    let Some(world) = World::new() else { return };
    // As Kubernetes mounts a secret.
    world.mode("a", 0o1777);
    world.directory("a/..1", 0, 0o755);
    world.file("a/..1/key", 0, 0o600);
    world.link("..1", "a/..data", 0);
    world.link("..data/key", "a/key", 0);
    world.passes();
    fs::remove_file(world.at("a/key")).unwrap();
    world.link("..data/key", "a/key", ALICE);
    assert!(world.refused().contains("owns"), "{}", world.refused());
    fs::remove_file(world.at("a/key")).unwrap();
    fs::hard_link(world.at("closed/key"), world.at("a/key")).unwrap();
    assert!(world.refused().contains("hard link"), "{}", world.refused());
    fs::remove_file(world.at("a/key")).unwrap();
    world.file("a/key", ALICE, 0o600);
    world.passes();
}

#[test]
fn a_group_lets_its_members_choose_what_it_may_read() {
    let Some(world) = World::new() else { return };
    world.directory("a", ALICE, 0o750);
    world.file("a/key", 0, 0o640);
    world.group("a/key", GROUP);
    let stranger = world.reading(&Users::default());
    let Err(ReadError::Swayed(unfit)) = &stranger.parts else {
        panic!("{stranger:?}");
    };
    assert!(unfit.users().contains(&ALICE), "{unfit:?}");
    world.reading(&member(ALICE, GROUP)).parts.unwrap();
    refusal(world.reading(&member(BOB, GROUP)));
    // One group of hers alone, as useradd(8) makes it, is nobody else.
    world.mode("a", 0o770);
    world.file("a/key", ALICE, 0o600);
    refusal(world.reading(&Users::default()));
    world.reading(&member(ALICE, ALICE)).parts.unwrap();
}

#[test]
fn an_access_control_list_leaves_the_owner_alone() {
    let Some(world) = World::new() else { return };
    world.file("open", 0, 0o644);
    world.link("../open", "a/key", ALICE);
    // Version 2; the owner may read and write, the user `ALICE` nothing, group, mask and others read.
    let entry = |tag: u16, perm: u16, id: u32| {
        [
            &tag.to_le_bytes()[..],
            &perm.to_le_bytes(),
            &id.to_le_bytes(),
        ]
        .concat()
    };
    let none = u32::MAX;
    let list = [
        2_u32.to_le_bytes().to_vec(),
        entry(0x01, 6, none),
        entry(0x02, 0, ALICE),
        entry(0x04, 4, none),
        entry(0x10, 4, none),
        entry(0x20, 4, none),
    ]
    .concat();
    let flags = rustix::fs::XattrFlags::empty();
    let name = "system.posix_acl_access";
    if rustix::fs::setxattr(world.at("open"), name, &list, flags).is_err() {
        return Skipped::because("this file system has no access control lists").count();
    }
    refusal(world.reading(&Users::default()));
}

#[test]
fn a_companion_is_judged_as_the_key_is() {
    let Some(world) = World::new() else { return };
    world.file("a/key", 0, 0o600);
    world.link("../closed/key", "a/ca", ALICE);
    let spec = |ca: PathBuf| Spec {
        name: "a".into(),
        candidates: vec![world.at("a")],
        files: Some(FileNames {
            chain: "key".into(),
            key: "key".into(),
        }),
        trust_files: TrustFiles {
            ca: Some(ca),
            crl: None,
        },
    };
    let users = Users::default();
    for ca in ["ca".into(), world.at("a/ca")] {
        let reading = read(&spec(ca), None, &users);
        assert!(
            matches!(reading.parts, Err(ReadError::Swayed(_))),
            "{reading:?}"
        );
    }
    // The config names it: whoever owns the lineage has no say in it.
    world.directory("a", ALICE, 0o755);
    world.file("a/key", ALICE, 0o600);
    let reading = read(&spec(world.at("closed/key")), None, &users);
    reading.parts.unwrap();
}

#[test]
fn a_directory_that_is_swapped_after_it_was_judged_is_not_the_one_that_is_read() {
    let Some(world) = World::new() else { return };
    world.directory("a", ALICE, 0o755);
    world.file("a/key", ALICE, 0o600);
    let users = Users::default();
    let mut walk = crate::lineage::read::resolve::Walk::new(&users);
    let end = walk.follow(&world.at("a/key"));
    let found = crate::lineage::read::regular(end).unwrap();
    fs::rename(world.at("a"), world.at("gone")).unwrap();
    world.directory("a", ALICE, 0o755);
    world.link("../closed/key", "a/key", ALICE);
    fs::write(world.at("closed/key"), "root's").unwrap();
    let (content, _) = crate::lineage::read::open(&found).unwrap();
    assert_eq!(content.as_slice(), b"text");
}
