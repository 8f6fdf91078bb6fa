//! A lineage as certbot keeps it, and a renewal that can stop half-way.

use std::{
    collections::VecDeque,
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use super::{World, ca::Issued};

/// The files of a lineage, in the order in which certbot moves their links.
pub const KINDS: [Kind; 4] = [Kind::Cert, Kind::Privkey, Kind::Chain, Kind::Fullchain];

/// One of certbot's four files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The leaf alone.
    Cert,
    /// The private key.
    Privkey,
    /// The intermediates.
    Chain,
    /// The leaf and the intermediates.
    Fullchain,
}

impl Kind {
    /// The word that certbot's file names begin with.
    pub fn word(self) -> &'static str {
        match self {
            Self::Cert => "cert",
            Self::Privkey => "privkey",
            Self::Chain => "chain",
            Self::Fullchain => "fullchain",
        }
    }

    fn content(self, issued: &Issued) -> String {
        match self {
            Self::Cert => issued.leaf_pem.clone(),
            Self::Privkey => issued.key_pem.clone(),
            Self::Chain => issued.chain_pem(),
            Self::Fullchain => issued.fullchain_pem(),
        }
    }
}

/// One thing that certbot does to the file system in a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// `archive/NAME/KINDn.pem` is written.
    Archive(Kind),
    /// `live/NAME/previous_KIND.pem` comes.
    Previous(Kind),
    /// `live/NAME/KIND.pem` goes.
    Unlink(Kind),
    /// `live/NAME/KIND.pem` comes again, and names the new file.
    Link(Kind),
    /// `live/NAME/previous_KIND.pem` goes.
    Forget(Kind),
}

/// All steps of a renewal, in certbot's order (`save_successor`, then `update_all_links_to`).
pub fn steps() -> Vec<Step> {
    let archive = [Kind::Privkey, Kind::Cert, Kind::Chain, Kind::Fullchain].map(Step::Archive);
    archive
        .into_iter()
        .chain(KINDS.map(Step::Previous))
        .chain(
            KINDS
                .into_iter()
                .flat_map(|kind| [Step::Unlink(kind), Step::Link(kind)]),
        )
        .chain(KINDS.map(Step::Forget))
        .collect()
}

/// A lineage under `letsencrypt/live` of the world, which links into `letsencrypt/archive`.
pub struct Lineage {
    name: String,
    live: PathBuf,
    archive: PathBuf,
    generation: u32,
}

impl Lineage {
    /// A lineage of this name without a certificate: only `live` and `archive` are there.
    pub fn new(world: &World, name: &str) -> Self {
        for directory in ["letsencrypt", "letsencrypt/live", "letsencrypt/archive"] {
            let path = world.directory(directory);
            let mode = if directory == "letsencrypt" {
                0o755
            } else {
                0o700
            };
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        Self {
            name: name.to_owned(),
            live: world.path().join("letsencrypt/live").join(name),
            archive: world.path().join("letsencrypt/archive").join(name),
            generation: 0,
        }
    }

    /// Its name, which is its directory's.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `live/NAME`.
    pub fn path(&self) -> &Path {
        &self.live
    }

    /// `live/NAME/KIND.pem`.
    pub fn link(&self, kind: Kind) -> PathBuf {
        self.live.join(format!("{}.pem", kind.word()))
    }

    /// `archive/NAME/KINDn.pem`.
    pub fn archived(&self, kind: Kind, generation: u32) -> PathBuf {
        self.archive
            .join(format!("{}{generation}.pem", kind.word()))
    }

    /// The number of the newest generation; 0 while there is none.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Brings the next generation; the first one as `certbot certonly` does, links before files.
    pub fn renew(&mut self, issued: &Issued) {
        if self.generation == 0 {
            self.first(issued);
        } else {
            self.renewal(issued).finish();
        }
    }

    /// Begins a renewal and does all up to this step and with it; the rest is the caller's.
    pub fn renew_until(&mut self, issued: &Issued, last: Step) -> Renewal {
        let mut renewal = self.renewal(issued);
        renewal.until(last);
        renewal
    }

    /// A renewal of which nothing is done yet.
    pub fn renewal(&mut self, issued: &Issued) -> Renewal {
        assert_ne!(self.generation, 0, "the lineage has no certificate yet");
        self.generation += 1;
        let paths = KINDS
            .into_iter()
            .map(|kind| (kind, self.link(kind), self.archived(kind, self.generation)))
            .collect();
        Renewal {
            issued: issued.clone(),
            paths,
            rest: steps().into(),
        }
    }

    /// Points the links back at an older generation, as `certbot update_symlinks` may.
    pub fn set_back(&self, generation: u32) {
        for kind in KINDS {
            fs::remove_file(self.link(kind)).unwrap();
            symlink(self.target(kind, generation), self.link(kind)).unwrap();
        }
    }

    /// Removes links, README and directory, then the archive, as `certbot delete` does.
    pub fn delete(&mut self) {
        for kind in KINDS {
            fs::remove_file(self.link(kind)).unwrap();
        }
        fs::remove_file(self.live.join("README")).unwrap();
        fs::remove_dir(&self.live).unwrap();
        fs::remove_dir_all(&self.archive).unwrap();
        self.generation = 0;
    }

    fn first(&mut self, issued: &Issued) {
        self.generation = 1;
        for directory in [&self.archive, &self.live] {
            fs::create_dir(directory).unwrap();
        }
        for kind in KINDS {
            symlink(self.target(kind, 1), self.link(kind)).unwrap();
        }
        for kind in KINDS {
            write(kind, &self.archived(kind, 1), issued);
        }
        fs::write(
            self.live.join("README"),
            "This directory contains your keys.\n",
        )
        .unwrap();
    }

    fn target(&self, kind: Kind, generation: u32) -> PathBuf {
        Path::new("../../archive")
            .join(&self.name)
            .join(format!("{}{generation}.pem", kind.word()))
    }
}

/// A renewal under way. Dropped, it stays where it is, as after a crash of certbot.
pub struct Renewal {
    issued: Issued,
    paths: Vec<(Kind, PathBuf, PathBuf)>,
    rest: VecDeque<Step>,
}

impl Renewal {
    /// Does the next step, and says which; none when all are done.
    pub fn step(&mut self) -> Option<Step> {
        let step = self.rest.pop_front()?;
        self.perform(step);
        Some(step)
    }

    /// Does all up to this step and with it.
    pub fn until(&mut self, last: Step) {
        while self.rest.contains(&last) {
            self.step();
        }
    }

    /// Does the rest.
    pub fn finish(mut self) {
        while self.step().is_some() {}
    }

    fn perform(&self, step: Step) {
        let of = |kind| self.paths.iter().find(|(of, ..)| *of == kind).unwrap();
        let previous =
            |link: &Path, kind: Kind| link.with_file_name(format!("previous_{}.pem", kind.word()));
        match step {
            Step::Archive(kind) => write(kind, &of(kind).2, &self.issued),
            Step::Previous(kind) => {
                let link = &of(kind).1;
                let now = fs::canonicalize(link).unwrap();
                symlink(now, previous(link, kind)).unwrap();
            }
            Step::Unlink(kind) => fs::remove_file(&of(kind).1).unwrap(),
            Step::Link(kind) => {
                let (_, link, file) = of(kind);
                let lineage = link.parent().unwrap().file_name().unwrap();
                let target = Path::new("../../archive").join(lineage);
                symlink(target.join(file.file_name().unwrap()), link).unwrap();
            }
            Step::Forget(kind) => fs::remove_file(previous(&of(kind).1, kind)).unwrap(),
        }
    }
}

fn write(kind: Kind, file: &Path, issued: &Issued) {
    let mode = if kind == Kind::Privkey { 0o600 } else { 0o644 };
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(file)
        .unwrap()
        .write_all(kind.content(issued).as_bytes())
        .unwrap();
}
