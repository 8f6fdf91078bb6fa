//! The package that `make deb` makes, a higher version of it, and a repository that offers them.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::OnceLock,
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

use crate::{
    machine::{LATER, Machine},
    world::{command, process::run},
};

/// A release build and the package, on a busy machine.
const A_BUILD: Duration = Duration::from_secs(20 * 60);

/// Where the machine's own repository lies in it.
const REPOSITORY: &str = "/srv/repository";

/// The package of this tree. The first test makes it, the others wait.
pub fn deb() -> &'static Path {
    static DEB: OnceLock<PathBuf> = OnceLock::new();
    DEB.get_or_init(made)
}

fn made() -> PathBuf {
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR"));
    // Tests may be processes of their own.
    let lock = File::create(kept.join("deb.lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let root = env!("CARGO_MANIFEST_DIR");
    // cargo needs what the caller's environment tells it of itself.
    let mut make = std::process::Command::new("make");
    make.args(["--silent", "-C", root, "deb"]);
    for variable in ["MAKEFLAGS", "MAKELEVEL", "CARGO_MANIFEST_DIR"] {
        make.env_remove(variable);
    }
    let told = run(&mut make, A_BUILD);
    let said = told.stdout.clone();
    let said = said
        + &told
            .result()
            .unwrap_or_else(|error| panic!("make deb: {error}"));
    let deb = said.lines().rev().find(|line| line.ends_with(".deb"));
    PathBuf::from(deb.unwrap_or_else(|| panic!("make deb names no package:\n{said}")))
}

/// docs/performance.md says what it consists of.
#[test]
fn the_program_in_the_package_is_smaller_than_10_mib() {
    let mut contents = command("dpkg-deb");
    let contents = run(contents.arg("--contents").arg(deb()), LATER).result();
    let contents = contents.unwrap();
    let program = contents
        .lines()
        .find(|line| line.ends_with(" ./usr/bin/pgcertd"));
    let size = program.and_then(|line| line.split_whitespace().nth(2));
    let size: u64 = size
        .unwrap_or_else(|| panic!("{contents}"))
        .parse()
        .unwrap();
    assert!(size < 10 * 1024 * 1024, "{size} bytes");
}

impl Machine {
    /// Installs the package as a file, as a user does who has just fetched it.
    #[track_caller]
    pub fn install_deb(&self) -> String {
        self.copy_in(deb(), "/srv/pgcertd.deb", 0o644);
        self.apt(&["install", "/srv/pgcertd.deb"])
    }

    /// Runs apt-get without questions; gives all that it said.
    #[track_caller]
    pub fn apt(&self, arguments: &[&str]) -> String {
        let quiet = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--yes"];
        let done = self.run_within(LATER, quiet.iter().chain(arguments).copied());
        let said = format!("{}{}", done.stdout, done.stderr);
        assert_eq!(done.code(), 0, "apt-get {arguments:?}:\n{said}");
        said
    }

    /// Installs a package that the machine's root holds ready (`make-root`), with what belongs to it, in the
    /// place of any that it excludes.
    #[track_caller]
    pub fn install_packed(&self, name: &str) {
        let install = format!(
            "DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
             --option Dpkg::Options::=--force-confnew /srv/packages/{name}/*.deb"
        );
        let done = self.run_within(LATER, ["sh", "-c", &install]);
        assert_eq!(done.code(), 0, "{name}: {}{}", done.stdout, done.stderr);
    }

    /// Offers the package in a higher version, whose model of the config differs, by a repository
    /// that replaces Debian's own; gives the version.
    #[track_caller]
    pub fn offer_upgrade(&self) -> String {
        let work = tempfile::tempdir().unwrap();
        let version = repack(work.path());
        let index = run(
            command("dpkg-scanpackages")
                .args(["--multiversion", "."])
                .current_dir(work.path()),
            LATER,
        );
        self.write(&format!("{REPOSITORY}/Packages"), index.result().unwrap());
        let name = "pgcertd-next.deb";
        self.copy_in(
            &work.path().join(name),
            &format!("{REPOSITORY}/{name}"),
            0o644,
        );
        self.sh("rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*");
        self.write(
            "/etc/apt/sources.list",
            format!("deb [trusted=yes] file:{REPOSITORY} ./\n"),
        );
        self.apt(&["update"]);
        version
    }
}

/// Makes `pgcertd-next.deb` of the package, with a higher version; gives that.
fn repack(work: &Path) -> String {
    let unpacked = TempDir::new_in(work).unwrap();
    let tree = unpacked.path();
    let step = |command: &mut std::process::Command| run(command, LATER).result().unwrap();
    step(
        command("dpkg-deb")
            .arg("--raw-extract")
            .arg(deb())
            .arg(tree),
    );
    let control = tree.join("DEBIAN/control");
    let text = fs::read_to_string(&control).unwrap();
    let old = text
        .lines()
        .find_map(|line| line.strip_prefix("Version: "))
        .unwrap();
    let new = format!("{old}+next");
    fs::write(
        &control,
        text.replace(&format!("Version: {old}"), &format!("Version: {new}")),
    )
    .unwrap();
    let model = tree.join("etc/pgcertd/pgcertd.toml");
    let text = fs::read_to_string(&model).unwrap();
    fs::write(&model, format!("# A newer model.\n{text}")).unwrap();
    step(
        command("dpkg-deb")
            .args(["--root-owner-group", "-Zgzip", "-z1", "--build"])
            .arg(tree)
            .arg(work.join("pgcertd-next.deb")),
    );
    new
}
