//! The world that a test builds: a directory, and in it clusters, authorities, lineages, daemons.
//!
//! Every builder takes back what it made when it is dropped, also while a test panics: processes
//! are stopped through the handle that started them, files go with the world's directory. Declare
//! the [`World`] first, so that it is dropped last.

#![allow(
    dead_code,
    reason = "the builders are offered whole; a test module may come or go"
)]

#[macro_use]
pub mod skipped;

pub mod acme;
pub mod attached;
pub mod ca;
pub mod client;
pub mod cluster;
pub mod config;
pub mod container;
pub mod daemon;
pub mod faults;
pub mod in_place;
pub mod inventory;
pub mod journal;
pub mod lineage;
pub mod network;
pub mod patroni;
pub mod pgbouncer;
pub mod port;
pub mod postgres;
pub mod process;
pub mod prometheus;
pub mod record;
pub mod slow_motion;
pub mod surroundings;
mod template;

use std::{
    fmt::Display,
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use ca::Issued;
use skipped::Skipped;
use tempfile::TempDir;

/// Long enough for anything that must happen, on a busy machine with two cores.
pub const SOON: Duration = Duration::from_secs(30);

/// A directory under `/tmp` that every user may traverse, and the paths in it.
pub struct World {
    directory: TempDir,
    postgres: Owner,
}

/// A user and a group, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
}

impl World {
    /// An empty world, or why the tests cannot run here.
    pub fn new() -> Result<Self, Skipped> {
        Self::new_in(Path::new("/tmp"))
    }

    /// As [`World::new`], for a test that needs `what`, which Debian's build of PostgreSQL has and
    /// the others do not.
    pub fn with_debians(what: &str) -> Result<Self, Skipped> {
        if postgres::usual() != *postgres::DEBIAN {
            return Err(Skipped::because(format!("only Debian's build has {what}")));
        }
        Self::new()
    }

    /// As [`World::new`], for a test of another version of PostgreSQL, which has to be fetched.
    pub fn with_postgres(major: u32) -> Result<Self, Skipped> {
        let world = Self::new()?;
        postgres::try_fetched(major).map_err(|error| {
            Skipped::because(format!("PostgreSQL {major} cannot be fetched: {error}"))
        })?;
        Ok(world)
    }

    /// As [`World::new`], whose servers run as another user than postgres: what looks for those of postgres finds
    /// none of them.
    pub fn of_user(user: &str) -> Result<Self, Skipped> {
        Self::of_user_in(Path::new("/tmp"), user)
    }

    /// As [`World::new`], in another directory than `/tmp`.
    pub fn new_in(parent: &Path) -> Result<Self, Skipped> {
        Self::of_user_in(parent, "postgres")
    }

    /// Both.
    pub fn of_user_in(parent: &Path, user: &str) -> Result<Self, Skipped> {
        surroundings::as_root_with_own_mounts()?;
        surroundings::reset_signals();
        // Where a test uses the library, this program is no child of its own.
        pgcertd::testing::host::caller::run_as_child(Path::new(env!("CARGO_BIN_EXE_pgcertd")));
        let user = nix::unistd::User::from_name(user)
            .unwrap()
            .unwrap_or_else(|| panic!("there is no user {user}: `make deps` installs PostgreSQL"));
        let directory = tempfile::Builder::new()
            .prefix("pgcertd-")
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir_in(parent)
            .unwrap();
        Ok(Self {
            directory,
            postgres: Owner {
                uid: user.uid.as_raw(),
                gid: user.gid.as_raw(),
            },
        })
    }

    /// The directory that everything of this world lies in.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The user that the clusters run as.
    pub fn postgres(&self) -> Owner {
        self.postgres
    }

    /// Makes a directory in the world, and those on the way, with mode 0755 and owned by root.
    pub fn directory(&self, name: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// Makes a directory in the world that the user postgres owns.
    pub fn postgres_directory(&self, name: &str, mode: u32) -> PathBuf {
        let path = self.directory(name);
        give(&path, self.postgres, mode);
        path
    }

    /// Where pgcertd installs for the instance of this name, as [`config::Config`] has it.
    pub fn target(&self, instance: &str) -> PathBuf {
        self.path().join("state").join(instance).join("server.pem")
    }

    /// Places chain and key in one file, as an earlier deployment would have left them.
    pub fn place(&self, issued: &Issued, target: &Path) {
        let parent = target.parent().unwrap();
        if !parent.exists() {
            fs::create_dir_all(parent).unwrap();
            give(parent, self.postgres, 0o700);
        }
        fs::write(target, issued.combined_pem()).unwrap();
        give(target, self.postgres, 0o600);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // A server that was killed a moment ago may still write, so this can take a second try.
        let path = self.directory.path().to_owned();
        for _ in 0..50 {
            match fs::remove_dir_all(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    thread::sleep(Duration::from_millis(20));
                }
                _ => return,
            }
        }
        eprintln!("{} could not be removed", path.display());
    }
}

/// Sets owner and mode.
pub fn give(path: &Path, owner: Owner, mode: u32) {
    chown(path, Some(owner.uid), Some(owner.gid)).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A command with an environment of its own: no `PG*`, `SSL_*` or `NOTIFY_SOCKET` of the caller.
pub fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .env("HOME", "/nonexistent")
        .env("LC_ALL", "C.UTF-8")
        .env("TZ", "UTC")
        .current_dir("/");
    command
}

/// A command of [`command`]'s kind that another one executes, `strace -f` for one, or nothing does.
pub fn through(prefix: &[String], program: impl AsRef<std::ffi::OsStr>) -> Command {
    match prefix.split_first() {
        None => command(program),
        Some((first, rest)) => {
            let mut outer = command(first);
            outer.args(rest).arg(program);
            outer
        }
    }
}

/// A command of [`command`]'s kind that runs where `/etc/hosts` names these addresses and no more,
/// for programs that take no address beside a name.
pub fn resolving(
    world: &World,
    hosts: &[(&str, &str)],
    program: impl AsRef<std::ffi::OsStr>,
) -> Command {
    let lines: Vec<_> = hosts
        .iter()
        .map(|(address, name)| format!("{address} {name}\n"))
        .collect();
    let mut file = tempfile::Builder::new()
        .prefix("hosts-")
        .tempfile_in(world.path())
        .unwrap();
    std::io::Write::write_all(&mut file, lines.concat().as_bytes()).unwrap();
    let (_, hosts) = file.keep().unwrap();
    let mut command = in_own_mounts(r#"mount --bind "$1" /etc/hosts && shift && exec "$@""#);
    command.arg(hosts).arg(program);
    command
}

/// What a condition may be: a `bool`, an `Option`, or a `Result` whose error is shown at the end.
pub trait Condition {
    /// What a fulfilled condition gives.
    type Value;

    /// The value, or what is missing.
    fn fulfilled(self) -> Result<Self::Value, String>;
}

impl Condition for bool {
    type Value = ();

    fn fulfilled(self) -> Result<(), String> {
        if self { Ok(()) } else { Err("not so".into()) }
    }
}

impl<T> Condition for Option<T> {
    type Value = T;

    fn fulfilled(self) -> Result<T, String> {
        self.ok_or_else(|| "nothing yet".into())
    }
}

impl<T, E: Display> Condition for Result<T, E> {
    type Value = T;

    fn fulfilled(self) -> Result<T, String> {
        self.map_err(|error| error.to_string())
    }
}

/// Asks until the condition holds; panics when it does not within `deadline`.
#[track_caller]
pub fn eventually<C: Condition>(
    deadline: Duration,
    what: &str,
    mut condition: impl FnMut() -> C,
) -> C::Value {
    let begun = Instant::now();
    loop {
        match condition().fulfilled() {
            Ok(value) => return value,
            Err(missing) if begun.elapsed() >= deadline => {
                panic!("not within {deadline:?}: {what}: {missing}")
            }
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// Asks until `duration` has passed; panics as soon as the condition does not hold.
#[track_caller]
pub fn throughout<C: Condition>(duration: Duration, what: &str, mut condition: impl FnMut() -> C) {
    let begun = Instant::now();
    while begun.elapsed() < duration {
        if let Err(missing) = condition().fulfilled() {
            panic!("after {:?}, no longer: {what}: {missing}", begun.elapsed());
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Text on one line, since the width of the screen breaks it anywhere.
pub fn on_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A command of [`command`]'s kind that runs this script in a mount namespace of its own; what is added to it are the
/// script's arguments.
pub fn in_own_mounts(script: &str) -> Command {
    let mut command = command("unshare");
    command.args(["--mount", "--propagation=private"]);
    command.args(["sh", "-ec", script, "sh"]);
    command
}

/// The last lines of a text, for a failure's message.
pub fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
