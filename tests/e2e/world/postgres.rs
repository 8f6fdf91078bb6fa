//! The programs of a PostgreSQL server, of any major version.

use std::{
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use super::{World, command, process::run};

/// The version that this host's Debian has (12: 15, 13: 17), and whose psql the tests use.
pub static DEBIAN: LazyLock<u32> = LazyLock::new(|| {
    let installed = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let names = installed.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names
        .filter_map(|name| name.parse().ok())
        .max()
        .unwrap_or(15)
});

/// The first version in which the name that a client asks for decides which certificate it gets; a release
/// candidate.
pub const BY_NAME: u32 = 19;

/// What [`World::with_debians`] is asked for by tests in which Postgres refuses what pgcertd takes.
pub const STRICT: &str = "an OpenSSL that serves on once it is made stricter than pgcertd";

/// What it is asked for by tests of Debian's Patroni.
pub const PATRONI: &str = "a version that Debian's Patroni knows";

/// Whether the usual version is built with OpenSSL 3, as Debian's are, and not 1.1.1.
pub fn has_openssl_3() -> bool {
    [*DEBIAN, BY_NAME].contains(&usual())
}

/// The version of a cluster that asks for none: Debian's, or the one that `make versions` runs
/// the tests with, named in the environment.
pub fn usual() -> u32 {
    match std::env::var("PGCERTD_TEST_POSTGRES") {
        Ok(major) => major
            .parse()
            .expect("PGCERTD_TEST_POSTGRES is a major version, such as 17"),
        Err(_) => *DEBIAN,
    }
}

/// A first run fetches some twenty megabytes.
const FIRST_TIME: std::time::Duration = std::time::Duration::from_secs(5 * 60);

/// Where a version's programs lie, for every user to run.
#[derive(Clone, Debug)]
pub struct Programs(PathBuf);

impl Programs {
    /// Debian's own.
    pub fn debian() -> Self {
        Self(format!("/usr/lib/postgresql/{}/bin", *DEBIAN).into())
    }

    /// Those of a major version, 13 to 19; others than Debian's are fetched once, and copied into
    /// the world, since the user postgres may be unable to reach `target`.
    #[track_caller]
    pub fn of_version(world: &World, major: u32) -> Self {
        if major == *DEBIAN {
            return Self::debian();
        }
        let home = world.directory("postgres").join(major.to_string());
        if !home.exists() {
            let fetched = fetched(major);
            let mut copy = command("cp");
            copy.args(["-a", "--reflink=auto", "--"])
                .args([&fetched, &home]);
            run(&mut copy, super::SOON).result().unwrap();
            name_loader(&home);
        }
        Self(home.join("bin"))
    }

    /// The path of one of them.
    pub fn path(&self, program: &str) -> PathBuf {
        self.0.join(program)
    }
}

/// The home of a version that is not Debian's, below the build: `cargo clean` takes it away.
#[track_caller]
pub fn fetched(major: u32) -> PathBuf {
    match try_fetched(major) {
        Ok(home) => home,
        Err(error) => panic!("PostgreSQL {major} cannot be fetched: {error}"),
    }
}

/// The same, or why it cannot be had here.
pub fn try_fetched(major: u32) -> Result<PathBuf, String> {
    try_fetched_by("postgres", &[&major.to_string()])
}

/// What `tests/WHAT/fetch` makes with these arguments.
#[track_caller]
pub fn fetched_by(what: &str, arguments: &[&str]) -> PathBuf {
    match try_fetched_by(what, arguments) {
        Ok(path) => path,
        Err(error) => panic!("{what} {arguments:?} cannot be fetched: {error}"),
    }
}

fn try_fetched_by(what: &str, arguments: &[&str]) -> Result<PathBuf, String> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join(what);
    // With the caller's environment: what reaches a registry from here is set there.
    let mut fetch = std::process::Command::new(tests.join(what).join("fetch"));
    fetch.args(arguments).arg(cache);
    run(&mut fetch, FIRST_TIME).result().map(PathBuf::from)
}

/// Programs that bring a loader of their own, since they need a newer C library than this host's, name one
/// that is not there (`tests/postgres/fetch-debian`): here they get the one of this copy.
fn name_loader(home: &Path) {
    const NAMED: &[u8] = b"/pgcertd-tests-loader";
    let loader = home.join("lib/ld.so");
    if !loader.exists() {
        return;
    }
    for program in fs::read_dir(home.join("bin")).unwrap() {
        let program = program.unwrap().path();
        let mut bytes = fs::read(&program).unwrap();
        let found = bytes
            .windows(NAMED.len())
            .position(|window| window == NAMED);
        let Some(at) = found else { continue };
        let length = bytes[at..].iter().position(|byte| *byte == 0).unwrap();
        let path = loader.as_os_str().as_bytes();
        assert!(path.len() <= length, "{} is too long", loader.display());
        bytes[at..at + length].fill(0);
        bytes[at..at + path.len()].copy_from_slice(path);
        fs::write(&program, bytes).unwrap();
    }
}
