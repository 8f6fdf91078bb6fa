//! A secret that is mounted into a pod: its files lead through `..data`, which alone is moved.
//!
//! The kubelet needs a whole cluster: a stand-in does what its `AtomicWriter` does.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use super::{Inbox, Scene, Source};
use crate::world::{World, ca::Issued};

/// Stands in for the kubelet, which keeps a secret's volume up to date.
struct StandInForKubelet {
    volume: PathBuf,
    version: u32,
}

impl StandInForKubelet {
    fn new(volume: PathBuf) -> Self {
        Self { volume, version: 0 }
    }

    /// A directory for this version.
    fn directory(&self, version: u32) -> PathBuf {
        self.volume
            .join(format!("..2026_11_24_10_00_00.{:08}", version))
    }

    /// The new directory with the new files; the names in the volume still lead to the old ones.
    fn writes(&mut self, issued: &Issued) {
        self.version += 1;
        let new = self.directory(self.version);
        fs::create_dir(&new).unwrap();
        fs::set_permissions(&new, Permissions::from_mode(0o755)).unwrap();
        for (name, content) in [
            ("tls.crt", &issued.fullchain_pem()),
            ("tls.key", &issued.key_pem),
        ] {
            fs::write(new.join(name), content).unwrap();
            fs::set_permissions(new.join(name), Permissions::from_mode(0o644)).unwrap();
        }
        for name in ["tls.crt", "tls.key"] {
            let visible = self.volume.join(name);
            if visible.symlink_metadata().is_err() {
                symlink(Path::new("..data").join(name), visible).unwrap();
            }
        }
    }

    /// The step that counts, and the end of the old directory.
    fn moves_data(&self) {
        let beside = self.volume.join("..data_tmp");
        let new = self.directory(self.version);
        symlink(new.file_name().unwrap(), &beside).unwrap();
        fs::rename(beside, self.volume.join("..data")).unwrap();
        if self.version > 1 {
            fs::remove_dir_all(self.directory(self.version - 1)).unwrap();
        }
    }
}

#[test]
fn a_secret_whose_data_link_is_moved_is_deployed_each_time() {
    let world = or_skip!(World::new());
    let inbox = Inbox::new(&world);
    let volume = world.directory("secret");
    let mut kubelet = StandInForKubelet::new(volume.clone());
    kubelet.writes(&inbox.next());
    kubelet.moves_data();
    let mut scene = Scene::with_source(&world, Source::usual(&volume, "tls.crt", "tls.key"));
    for _ in 0..3 {
        kubelet.writes(&inbox.next());
        scene.leaves_it("the link leads to the old files");
        kubelet.moves_data();
        scene.serves_what_was_left("the secret was updated");
    }
    scene.ends();
}
