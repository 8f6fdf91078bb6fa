//! Real inotify in a temporary directory. What is waited for has a deadline; what must not come is bounded by a mark: a
//! change that is made afterwards and must come after it.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails where its world cannot be made"
)]

use std::os::unix::fs::symlink;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::*;
use crate::bundle::TrustFiles;
use crate::lineage::read::{Layout, Spec, Trail, Users, read};

struct World {
    root: TempDir,
    hints: Receiver<Hint>,
    watcher: Watcher,
}

impl World {
    fn new() -> Self {
        let (sender, hints) = channel();
        let watcher = Watcher::start(move |hint| drop(sender.send(hint))).unwrap();
        Self {
            root: TempDir::new().unwrap(),
            hints,
            watcher,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().canonicalize().unwrap().join(name)
    }

    fn directory(&self, name: &str) -> PathBuf {
        fs::create_dir_all(self.path(name)).unwrap();
        self.path(name)
    }

    fn file(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).unwrap();
    }

    fn link(&self, target: &str, name: &str) {
        symlink(target, self.path(name)).unwrap();
    }

    /// Watches these alone, and says which were armed.
    fn watch(&mut self, names: &[&str]) -> BTreeSet<PathBuf> {
        let wanted: BTreeSet<PathBuf> = names.iter().map(|name| self.path(name)).collect();
        let watched = self.watcher.watch(&wanted);
        assert!(watched.errors.is_empty(), "{:?}", watched.errors);
        watched.armed
    }

    /// All hints up to this one.
    fn until(&self, wanted: impl Fn(&Hint) -> bool) -> Vec<Hint> {
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut heard = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let hint = self
                .hints
                .recv_timeout(left)
                .unwrap_or_else(|_| panic!("not among {heard:?}"));
            let found = wanted(&hint);
            heard.push(hint);
            if found {
                return heard;
            }
        }
    }

    fn until_change(&self, name: &str, wanted: Change) -> Vec<(String, Change)> {
        let heard = self.until(|hint| matches!(hint, Hint::Change { path, change } if *path == self.path(name) && *change == wanted));
        let root = self.path("");
        let changes = heard.into_iter().filter_map(|hint| match hint {
            Hint::Change { path, change } => Some((
                path.strip_prefix(&root).unwrap().display().to_string(),
                change,
            )),
            _ => None,
        });
        changes.collect()
    }
}

fn trail(directory: &Path) -> Trail {
    let spec = Spec {
        name: "a".to_owned(),
        candidates: vec![directory.to_owned()],
        files: None,
        trust_files: TrustFiles::default(),
    };
    read(&spec, None, &Users::default()).trail
}

#[test]
fn certbots_links_are_heard_as_removed_and_created() {
    let mut world = World::new();
    let live = world.directory("live/a");
    world.directory("archive/a");
    for (name, part) in [("fullchain", "chain"), ("privkey", "key")] {
        world.file(&format!("archive/a/{name}1.pem"), part);
        world.link(
            &format!("../../archive/a/{name}1.pem"),
            &format!("live/a/{name}.pem"),
        );
    }
    let wanted = trail(&live).directories;
    assert!(wanted.contains(&world.path("archive/a")) && wanted.contains(&world.path("live")));
    assert_eq!(world.watcher.watch(&wanted).armed, wanted);
    assert!(
        world.watcher.watch(&wanted).armed.is_empty(),
        "a sound watch stays"
    );

    world.file("archive/a/fullchain2.pem", "new");
    fs::remove_file(world.path("live/a/fullchain.pem")).unwrap();
    world.link("../../archive/a/fullchain2.pem", "live/a/fullchain.pem");
    let heard = world.until_change("live/a/fullchain.pem", Change::Created);
    let named = |name: &str| -> Vec<Change> {
        heard
            .iter()
            .filter(|(path, _)| path == name)
            .map(|(_, change)| *change)
            .collect()
    };
    assert_eq!(
        named("archive/a/fullchain2.pem").first(),
        Some(&Change::Created)
    );
    assert_eq!(
        named("archive/a/fullchain2.pem").last(),
        Some(&Change::Closed)
    );
    assert_eq!(
        named("live/a/fullchain.pem"),
        [Change::Removed, Change::Created]
    );
}

#[test]
fn a_rename_into_place_is_heard_once_of_each_name() {
    let mut world = World::new();
    world.directory("a");
    world.watch(&["a"]);
    world.file("a/new", "x");
    fs::rename(world.path("a/new"), world.path("a/tls.crt")).unwrap();
    world.file("a/mark", "");
    let heard = world.until_change("a/mark", Change::Closed);
    let renames: Vec<_> = heard
        .iter()
        .filter(|(_, change)| matches!(change, Change::Removed | Change::Replaced))
        .collect();
    assert_eq!(
        renames,
        [
            &("a/new".to_owned(), Change::Removed),
            &("a/tls.crt".to_owned(), Change::Replaced)
        ]
    );
}

#[test]
fn a_swapped_data_link_is_heard_and_its_new_directory_is_armed() {
    let mut world = World::new();
    let secret = world.directory("secret");
    for generation in ["..1", "..2"] {
        world.directory(&format!("secret/{generation}"));
        world.file(&format!("secret/{generation}/tls.crt"), "chain");
        world.file(&format!("secret/{generation}/tls.key"), "key");
    }
    world.link("..1", "secret/..data");
    world.link("..data/tls.crt", "secret/tls.crt");
    world.link("..data/tls.key", "secret/tls.key");
    world.watcher.watch(&trail(&secret).directories);
    world.link("..2", "secret/..data_tmp");
    fs::rename(world.path("secret/..data_tmp"), world.path("secret/..data")).unwrap();
    world.until_change("secret/..data", Change::Replaced);
    let armed = world.watcher.watch(&trail(&secret).directories).armed;
    assert_eq!(armed, BTreeSet::from([world.path("secret/..2")]));
}

#[test]
fn our_own_reads_wake_nobody() {
    let mut world = World::new();
    let lineage = world.directory("a");
    world.file("a/fullchain.pem", "chain");
    world.file("a/privkey.pem", "key");
    world.watch(&["a"]);
    let spec = Spec {
        name: "a".to_owned(),
        candidates: vec![lineage],
        files: None,
        trust_files: TrustFiles::default(),
    };
    for _ in 0..10 {
        assert!(
            read(&spec, Some(Layout::Certbot), &Users::default())
                .parts
                .is_ok()
        );
    }
    world.file("a/mark", "");
    let heard = world.until_change("a/mark", Change::Closed);
    assert!(heard.iter().all(|(path, _)| path == "a/mark"), "{heard:?}");
}

#[test]
fn a_directory_that_was_deleted_and_made_again_is_armed_anew() {
    let mut world = World::new();
    world.directory("live/a");
    world.watch(&["live", "live/a"]);
    for _ in 0..20 {
        fs::remove_dir_all(world.path("live/a")).unwrap();
        world.directory("live/a");
        // Whether this finds the old event still on its way or not: in the end the watch is alive.
        world.watch(&["live", "live/a"]);
        world.file("live/mark", "");
        world.until_change("live/mark", Change::Closed);
        world.watch(&["live", "live/a"]);
        world.file("live/a/privkey.pem", "key");
        world.until_change("live/a/privkey.pem", Change::Closed);
    }
}

#[test]
fn a_renamed_directory_disarms_all_below_and_is_armed_anew() {
    let mut world = World::new();
    world.directory("live/a");
    world.watch(&["", "live", "live/a"]);
    fs::rename(world.path("live"), world.path("old")).unwrap();
    world.directory("live/a");
    world.until(
        |hint| matches!(hint, Hint::Disarmed { directory } if *directory == world.path("live/a")),
    );
    world.file("mark", "");
    world.until_change("mark", Change::Closed);
    assert_eq!(
        world.watch(&["", "live", "live/a"]),
        BTreeSet::from([world.path("live"), world.path("live/a")])
    );
    world.file("live/a/privkey.pem", "key");
    world.until_change("live/a/privkey.pem", Change::Closed);
    // The old one is not listened to any more.
    world.file("old/a/privkey.pem", "key");
    world.file("mark", "");
    let heard = world.until_change("mark", Change::Closed);
    assert!(heard.iter().all(|(path, _)| path == "mark"), "{heard:?}");
}

#[test]
fn a_replaced_directory_is_found_by_its_inode_without_any_event() {
    let mut world = World::new();
    world.directory("up/live");
    world.directory("other");
    assert_eq!(world.watch(&["up/live"]).len(), 1);
    fs::rename(world.path("up"), world.path("down")).unwrap(); // two levels above: nothing is heard
    world.directory("up/live");
    assert_eq!(world.watch(&["up/live"]).len(), 1);
    world.file("up/live/privkey.pem", "key");
    world.until_change("up/live/privkey.pem", Change::Closed);
}

#[test]
fn what_is_not_wanted_any_more_is_not_heard() {
    let mut world = World::new();
    world.directory("a");
    world.directory("b");
    world.watch(&["a", "b"]);
    assert!(world.watch(&["b"]).is_empty());
    world.file("a/privkey.pem", "key");
    world.file("b/mark", "");
    let heard = world.until_change("b/mark", Change::Closed);
    assert!(heard.iter().all(|(path, _)| path == "b/mark"), "{heard:?}");
}

#[test]
fn a_directory_that_is_gone_is_told_and_tried_again() {
    let mut world = World::new();
    let wanted = BTreeSet::from([world.path("a")]);
    let watched = world.watcher.watch(&wanted);
    assert!(
        matches!(&watched.errors[..], [WatchError::Gone { .. }]),
        "{:?}",
        watched.errors
    );
    world.directory("a");
    assert_eq!(world.watcher.watch(&wanted).armed, wanted);
}

#[test]
fn an_overflow_is_told_before_anything_else() {
    let event = Event::new(EventKind::Other).set_flag(notify::event::Flag::Rescan);
    assert!(matches!(
        &hints(Ok(event), &Mutex::default())[..],
        [Hint::Rescan]
    ));
}

#[test]
fn used_up_limits_name_the_setting_that_raises_them() {
    let watches = WatchError::watching(
        Path::new("/a"),
        notify::Error::new(ErrorKind::MaxFilesWatch),
    );
    assert!(
        watches
            .to_string()
            .contains("sysctl fs.inotify.max_user_watches="),
        "{watches}"
    );
    let instances = WatchError::starting(notify::Error::io(io::Error::from(Errno::MFILE)));
    assert!(
        instances
            .to_string()
            .contains("sysctl fs.inotify.max_user_instances="),
        "{instances}"
    );
}
