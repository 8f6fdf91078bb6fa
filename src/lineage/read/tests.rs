//! Lineages as the clients lay them out, in a temporary directory.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails where its world cannot be made"
)]

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixListener;

use rustix::fs::Mode;
use tempfile::TempDir;

use super::trail::timestamp;
use super::*;
use crate::bundle::TrustFiles;

struct World(TempDir);

impl World {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    /// certbot's: links in `live/a` to files in `archive/a`.
    fn certbot() -> Self {
        let world = Self::new();
        for name in ["cert", "chain", "fullchain", "privkey"] {
            world.file(&format!("archive/a/{name}1.pem"), name);
            world.link(
                &format!("../../archive/a/{name}1.pem"),
                &format!("live/a/{name}.pem"),
            );
        }
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().canonicalize().unwrap().join(name)
    }

    fn place(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.place(name), content).unwrap();
    }

    fn link(&self, target: &str, name: &str) {
        symlink(target, self.place(name)).unwrap();
    }

    fn spec(&self, candidates: &[&str]) -> Spec {
        let candidates = candidates.iter().map(|name| self.path(name)).collect();
        Spec {
            name: "a".to_owned(),
            candidates,
            files: None,
            trust_files: TrustFiles::default(),
        }
    }

    fn read(&self, name: &str) -> Reading {
        read(&self.spec(&[name]), None, &Users::default())
    }

    /// A file pair in directory `a`, named by the config.
    fn read_named(&self, chain: &str, key: &str) -> Reading {
        let files = FileNames {
            chain: chain.to_owned(),
            key: key.to_owned(),
        };
        read(
            &Spec {
                files: Some(files),
                trust_files: TrustFiles::default(),
                ..self.spec(&["a"])
            },
            None,
            &Users::default(),
        )
    }

    /// The file at this path, as it was found.
    fn found(&self, name: &str) -> FoundFile {
        let users = Users::default();
        let end = Walk::new(&users).follow(&self.path(name));
        regular(end).expect("there is a file")
    }

    fn inside(&self, paths: &BTreeSet<PathBuf>) -> Vec<String> {
        let names = paths
            .iter()
            .filter_map(|path| path.strip_prefix(self.path("")).ok());
        names.map(|name| name.display().to_string()).collect()
    }
}

fn contents(reading: Reading) -> (Vec<String>, String) {
    let text = |bytes: &Zeroizing<Vec<u8>>| String::from_utf8(bytes.to_vec()).unwrap();
    let parts = reading.parts.expect("the lineage can be read");
    (parts.chain.iter().map(text).collect(), text(&parts.key))
}

#[test]
fn certbots_links_are_followed_and_everything_on_the_way_is_on_the_trail() {
    let world = World::certbot();
    let reading = world.read("live/a");
    assert_eq!(reading.layout, Some(Layout::Certbot));
    assert_eq!(reading.directory, Some(world.path("live/a")));
    assert!(reading.stable);
    let paths = [
        "archive/a/fullchain1.pem",
        "archive/a/privkey1.pem",
        "live/a",
        "live/a/fullchain.pem",
        "live/a/privkey.pem",
    ];
    assert_eq!(world.inside(&reading.trail.paths), paths);
    assert_eq!(
        world.inside(&reading.trail.directories),
        ["archive/a", "live", "live/a"]
    );
    let kinds: Vec<_> = reading.stamps.iter().map(|stamp| stamp.kind).collect();
    assert_eq!(
        kinds,
        [
            StampKind::File,
            StampKind::File,
            StampKind::Link,
            StampKind::Link
        ]
    );
    assert_eq!(
        reading.newest_change,
        reading.stamps.iter().filter_map(Stamp::changed).max()
    );
    assert_eq!(
        contents(reading),
        (vec!["fullchain".to_owned()], "privkey".to_owned())
    );
}

#[test]
fn a_moment_without_the_full_chain_does_not_make_the_leaf_the_source() {
    let world = World::certbot();
    fs::remove_file(world.path("live/a/fullchain.pem")).unwrap();
    let reading = read(
        &world.spec(&["live/a"]),
        Some(Layout::Certbot),
        &Users::default(),
    );
    assert_eq!(reading.layout, Some(Layout::Certbot));
    let error = reading.parts.expect_err("the full chain is missing");
    assert_eq!(error.class(), ReadErrorClass::Incomplete);
    assert!(
        matches!(error, ReadError::Missing { path } if path == world.path("live/a/fullchain.pem"))
    );
    assert!(
        reading
            .trail
            .paths
            .contains(&world.path("live/a/fullchain.pem"))
    );
    // Its absence is as young as the directory's change.
    let directory = fs::metadata(world.path("live/a")).unwrap();
    assert_eq!(
        reading.newest_change,
        timestamp(directory.ctime(), directory.ctime_nsec())
    );
    // Who has not seen it before takes what is complete.
    assert_eq!(world.read("live/a").layout, Some(Layout::Split));
}

#[test]
fn a_settled_layout_of_which_nothing_is_left_gives_way() {
    let world = World::new();
    world.file("a/tls.crt", "chain");
    world.file("a/tls.key", "key");
    assert_eq!(
        read(
            &world.spec(&["a"]),
            Some(Layout::Certbot),
            &Users::default()
        )
        .layout,
        Some(Layout::Kubernetes)
    );
}

#[test]
fn a_settled_layout_gives_way_to_a_complete_one_that_others_would_take() {
    let world = World::new();
    for name in ["cert.pem", "chain.pem", "privkey.pem"] {
        world.file(&format!("a/{name}"), "text");
    }
    let settled = world.read("a").layout;
    assert_eq!(settled, Some(Layout::Split));
    world.file("a/fullchain.pem", "text");
    let reading = read(&world.spec(&["a"]), settled, &Users::default());
    assert_eq!(reading.layout, Some(Layout::Certbot));
    assert_eq!(reading.layout, world.read("a").layout);
}

#[test]
fn a_kubernetes_secret_is_followed_through_its_data_link() {
    let world = World::new();
    world.file("a/..1/tls.crt", "chain");
    world.file("a/..1/tls.key", "key");
    world.link("..1", "a/..data");
    world.link("..data/tls.crt", "a/tls.crt");
    world.link("..data/tls.key", "a/tls.key");
    let reading = world.read("a");
    assert_eq!(reading.layout, Some(Layout::Kubernetes));
    let paths = [
        "a",
        "a/..1/tls.crt",
        "a/..1/tls.key",
        "a/..data",
        "a/tls.crt",
        "a/tls.key",
    ];
    assert_eq!(world.inside(&reading.trail.paths), paths);
    assert_eq!(world.inside(&reading.trail.directories), ["", "a", "a/..1"]);
}

#[test]
fn a_split_chain_is_read_leaf_first() {
    let world = World::new();
    for name in ["chain", "cert", "privkey"] {
        world.file(&format!("a/{name}.pem"), name);
    }
    let reading = world.read("a");
    assert_eq!(reading.layout, Some(Layout::Split));
    assert_eq!(
        contents(reading),
        (
            vec!["cert".to_owned(), "chain".to_owned()],
            "privkey".to_owned()
        )
    );
}

#[test]
fn one_file_of_chain_and_key_is_both() {
    let world = World::new();
    world.file("a/all.pem", "both");
    assert_eq!(
        contents(world.read_named("all.pem", "all.pem")),
        (vec!["both".to_owned()], "both".to_owned())
    );
}

#[test]
fn files_that_the_config_names_win_over_the_usual_ones() {
    let world = World::certbot();
    world.file("a/host.crt", "chain");
    world.file("a/host.key", "key");
    world.file("a/fullchain.pem", "other");
    world.file("a/privkey.pem", "other");
    assert_eq!(
        contents(world.read_named("host.crt", "host.key")),
        (vec!["chain".to_owned()], "key".to_owned())
    );
}

#[test]
fn the_first_directory_that_exists_counts_and_an_earlier_one_is_awaited() {
    let world = World::certbot();
    fs::create_dir(world.path("first")).unwrap();
    let reading = read(&world.spec(&["first/a", "live/a"]), None, &Users::default());
    assert_eq!(reading.directory, Some(world.path("live/a")));
    assert!(reading.trail.directories.contains(&world.path("first")));
    assert!(reading.trail.paths.contains(&world.path("first/a")));
}

#[test]
fn a_lineage_that_does_not_exist_is_awaited_at_the_nearest_directory() {
    let world = World::new();
    let reading = world.read("etc/live/a");
    assert_eq!(world.inside(&reading.trail.directories), [""]);
    assert_eq!(world.inside(&reading.trail.paths), ["etc"]);
    let error = reading.parts.expect_err("there is nothing");
    assert!(matches!(&error, ReadError::DirectoryMissing { .. }));
    assert!(error.to_string().contains("etc/live/a"), "{error}");
}

#[test]
fn an_empty_lineage_awaits_the_files_of_every_layout() {
    let world = World::new();
    fs::create_dir(world.path("a")).unwrap();
    let reading = world.read("a");
    assert!(
        matches!(&reading.parts, Err(ReadError::Missing { path }) if *path == world.path("a/fullchain.pem"))
    );
    for name in [
        "fullchain.pem",
        "privkey.pem",
        "tls.crt",
        "tls.key",
        "cert.pem",
        "chain.pem",
    ] {
        assert!(
            reading.trail.paths.contains(&world.path("a").join(name)),
            "{name}"
        );
    }
}

#[test]
fn a_begun_layout_is_told_by_the_file_that_it_lacks() {
    let world = World::new();
    world.file("a/tls.crt", "chain");
    assert!(
        matches!(world.read("a").parts, Err(ReadError::Missing { path }) if path == world.path("a/tls.key"))
    );
}

#[test]
fn a_dangling_link_is_missing_what_it_points_to() {
    let world = World::certbot();
    fs::remove_file(world.path("archive/a/privkey1.pem")).unwrap();
    let reading = world.read("live/a");
    assert_eq!(reading.layout, Some(Layout::Certbot));
    assert!(
        matches!(reading.parts, Err(ReadError::Missing { path }) if path == world.path("archive/a/privkey1.pem"))
    );
    assert!(reading.trail.directories.contains(&world.path("archive/a")));
}

#[test]
fn links_above_the_lineage_are_on_the_trail() {
    let world = World::certbot();
    world.link("../live", "etc/le");
    let reading = world.read("etc/le/a");
    assert_eq!(reading.directory, Some(world.path("live/a")));
    assert!(reading.trail.paths.contains(&world.path("etc/le")));
    assert!(reading.trail.directories.contains(&world.path("etc")));
    assert!(reading.parts.is_ok());
}

#[test]
fn links_in_a_circle_are_an_error() {
    let world = World::new();
    world.link("y", "a/x");
    world.link("x", "a/y");
    let reading = world.read_named("x", "y");
    assert!(
        matches!(reading.parts, Err(ReadError::LinkLoop { path }) if path == world.path("a/x"))
    );
}

#[test]
fn what_is_not_a_regular_file_is_never_opened() {
    let world = World::new();
    world.file("a/key", "key");
    fs::create_dir(world.path("a/directory")).unwrap();
    let _socket = UnixListener::bind(world.path("a/socket")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, world.path("a/fifo"), Mode::RUSR).unwrap();
    world.link("/dev/zero", "a/device");
    let cases = [
        ("directory", NotRegular::Directory),
        ("socket", NotRegular::Socket),
        ("fifo", NotRegular::Fifo),
        ("device", NotRegular::Device),
    ];
    for (name, expected) in cases {
        let error = world.read_named(name, "key").parts.expect_err(name);
        assert_eq!(error.class(), ReadErrorClass::Unfit);
        assert!(
            matches!(error, ReadError::NotRegular { kind, .. } if kind == expected),
            "{name}"
        );
    }
}

#[test]
fn a_file_of_one_mebibyte_is_read_and_a_larger_one_refused() {
    let world = World::new();
    let size = usize::try_from(MAX_SIZE).unwrap();
    world.file("a/key", "key");
    world.file("a/chain", vec![b'x'; size]);
    let reading = world.read_named("chain", "key");
    assert!(reading.stable);
    assert_eq!(
        reading.parts.expect("it may be so large").chain[0].len(),
        size
    );
    world.file("a/chain", vec![b'x'; size + 1]);
    let reading = world.read_named("chain", "key");
    assert!(matches!(reading.parts, Err(ReadError::TooLarge { size, .. }) if size == MAX_SIZE + 1));
}

#[test]
fn a_file_that_grows_while_it_is_read_stays_bounded_and_is_not_stable() {
    let world = World::new();
    world.file("a/chain", vec![b'x'; 5000]);
    let mut file = File::open(world.path("a/chain")).unwrap();
    assert_eq!(content(&mut file, 100).unwrap().len(), 101);
    let mut found = world.found("a/chain");
    found.stamp.size = 100;
    assert!(!open(&found).unwrap().1);
}

#[test]
fn a_file_that_took_the_place_of_the_one_that_was_looked_at_is_not_stable() {
    let world = World::new();
    world.file("a/chain", "old");
    let found = world.found("a/chain");
    world.file("a/new", "new");
    fs::rename(world.path("a/new"), world.path("a/chain")).unwrap();
    let (content, same) = open(&found).unwrap();
    assert_eq!((content.as_slice(), same), (&b"old"[..], false));
}

#[test]
fn an_empty_file_is_read_as_what_it_is() {
    let world = World::new();
    world.file("a/chain", "");
    world.file("a/key", "key");
    assert_eq!(
        contents(world.read_named("chain", "key")),
        (vec![String::new()], "key".to_owned())
    );
}

#[test]
fn a_denied_file_names_the_ways_to_be_let_in() {
    let error = ReadError::from_path(
        Path::new("/a/privkey.pem"),
        io::Error::from(io::ErrorKind::PermissionDenied),
    );
    let text = error.to_string();
    assert!(
        text.contains("/a/privkey.pem")
            && text.contains("CAP_DAC_READ_SEARCH")
            && text.contains("root_squash"),
        "{text}"
    );
    assert_eq!(error.class(), ReadErrorClass::Unfit);
}

#[test]
fn no_debug_output_shows_what_the_files_hold() {
    let world = World::certbot();
    let text = format!(
        "{:?}",
        world.read("live/a").parts.expect("the lineage can be read")
    );
    assert_eq!(text, "Parts { chain: [9], key: 7, trust_files: [] }");
}
