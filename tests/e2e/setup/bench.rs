//! What these tests share: a server on a pair like Debian's snakeoil, a lineage, and what of it all can change.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::world::{
    World,
    ca::{Ca, Issued},
    cluster::{Cluster, ClusterBuilder},
    config::Config,
    daemon::{Launch, Outcome},
    give,
    lineage::Lineage,
};

/// What clients verify.
pub const HOST: &str = "pg.example.com";

/// The instance, as it is proposed for the cluster `main`.
pub const NAME: &str = "main-data";

/// A server on a pair that other services could use too, a lineage, and a config without an instance.
pub struct Bench<'w> {
    pub world: &'w World,
    pub cluster: Cluster,
    pub ca: Ca,
    pub issued: Issued,
    pub config: Config,
}

impl<'w> Bench<'w> {
    pub fn new(world: &'w World) -> Self {
        Self::with(world, |cluster| cluster)
    }

    pub fn with(
        world: &'w World,
        cluster: impl FnOnce(ClusterBuilder<'w>) -> ClusterBuilder<'w>,
    ) -> Self {
        let ca = Ca::new(world, "Test Root");
        // It stands in for the snakeoil pair, which belongs to the machine.
        let shared = ca.issue(&["localhost"]);
        let [cert, key] = shared_pair(world, &shared);
        let build = Cluster::build(world).name("main").tls_files(&cert, &key);
        let cluster = cluster(build).start();
        let issued = ca.issue(&[HOST]);
        let mut lineage = Lineage::new(world, HOST);
        lineage.renew(&issued);
        Self {
            world,
            cluster,
            ca,
            issued,
            config: Config::new(world).write(),
        }
    }

    /// `pgcertd setup` for this cluster: other tests' servers run on this host too.
    #[track_caller]
    pub fn setup(&self, arguments: &[&str]) -> Outcome {
        self.setup_by(&Launch::new(self.world), arguments)
    }

    #[track_caller]
    pub fn setup_by(&self, launch: &Launch, arguments: &[&str]) -> Outcome {
        let data = self.cluster.data_directory().to_str().unwrap();
        let which = ["setup", "--data-directory", data];
        let done = launch.run(&self.config, &[&which, arguments].concat());
        println!(
            "--- setup {arguments:?}: {}\n{}{}",
            done.code(),
            done.stdout(),
            done.stderr()
        );
        done
    }

    #[track_caller]
    pub fn undo(&self, arguments: &[&str]) -> Outcome {
        let which = ["setup", "--undo", NAME];
        let done = Launch::new(self.world).run(&self.config, &[&which, arguments].concat());
        println!(
            "--- undo {arguments:?}: {}\n{}{}",
            done.code(),
            done.stdout(),
            done.stderr()
        );
        done
    }

    pub fn fragment(&self) -> PathBuf {
        self.config
            .path()
            .with_file_name("conf.d")
            .join(format!("{NAME}.toml"))
    }

    /// All that a set-up may change, as it is now.
    pub fn sight(&self) -> Sight {
        let show = |name: &str| self.cluster.sql(&format!("show {name}"));
        let mut files = BTreeMap::new();
        let data = self.cluster.data_directory();
        for file in ["postgresql.auto.conf", "postgresql.conf", "pg_hba.conf"] {
            let file = data.join(file);
            files.insert(file.clone(), fs::read(&file).unwrap());
        }
        for directory in ["etc", "state", "letsencrypt"] {
            all(&self.world.path().join(directory), &mut files);
        }
        // Whoever comes next makes it anew.
        files.retain(|file, _| !file.ends_with("lock"));
        Sight {
            settings: ["ssl", "ssl_cert_file", "ssl_key_file"].map(show),
            files,
            served: self.cluster.peer().ok().map(|peer| peer.fingerprint),
        }
    }

    /// Size and times of every file that [`Bench::sight`] reads, and of the directories.
    pub fn stamps(&self) -> BTreeMap<PathBuf, [i64; 5]> {
        let mut paths: Vec<PathBuf> = self.sight().files.into_keys().collect();
        let parents: Vec<PathBuf> = paths
            .iter()
            .filter_map(|path| path.parent())
            .map(Path::to_owned)
            .collect();
        paths.extend(parents);
        paths
            .into_iter()
            .map(|path| {
                let meta = fs::symlink_metadata(&path).unwrap();
                let times = [
                    meta.mtime(),
                    meta.mtime_nsec(),
                    meta.ctime(),
                    meta.ctime_nsec(),
                ];
                let [a, b, c, d] = times;
                (path, [a, b, c, d, meta.size().cast_signed()])
            })
            .filter(|(path, _)| *path != self.cluster.data_directory())
            .collect()
    }

    /// A client that verifies everything gets in.
    #[track_caller]
    pub fn verified(&self) {
        self.cluster.verify_full(self.ca.root(), HOST).unwrap();
    }
}

/// What can be seen of a server and of pgcertd's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    pub settings: [String; 3],
    pub files: BTreeMap<PathBuf, Vec<u8>>,
    pub served: Option<String>,
}

impl Sight {
    /// The same, but for what is in these directories or files.
    pub fn without(mut self, paths: &[&Path]) -> Self {
        self.files
            .retain(|file, _| !paths.iter().any(|path| file.starts_with(path)));
        self
    }

    /// Says what differs, and does not print whole files.
    #[track_caller]
    pub fn is(&self, before: &Sight, what: &str) {
        assert_eq!(self.settings, before.settings, "{what}");
        assert_eq!(self.served, before.served, "{what}");
        let names = |sight: &Sight| sight.files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(self), names(before), "{what}");
        for (file, text) in &self.files {
            let (now, then) = (text, &before.files[file]);
            let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            assert!(
                now == then,
                "{what}: {}: {} instead of {}",
                file.display(),
                shown(now),
                shown(then)
            );
        }
    }
}

/// The files below a directory, links as what they name.
fn all(directory: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        if kind.is_dir() {
            all(&path, files);
        } else if kind.is_symlink() {
            let target = fs::read_link(&path).unwrap();
            files.insert(path, target.into_os_string().into_encoded_bytes());
        } else {
            files.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
}

/// A pair in a directory that the server's user may read and not write, as Debian's shared one.
fn shared_pair(world: &World, issued: &Issued) -> [PathBuf; 2] {
    let directory = world.directory("ssl");
    let [cert, key] = ["shared.pem", "shared.key"].map(|file| directory.join(file));
    fs::write(&cert, issued.fullchain_pem()).unwrap();
    fs::write(&key, &issued.key_pem).unwrap();
    let owner = crate::world::Owner {
        uid: 0,
        gid: world.postgres().gid,
    };
    give(&key, owner, 0o640);
    [cert, key]
}
