//! One `initdb` of each version for all tests: its result is kept in `target/tmp` and copied.

use std::{
    fs::{self, File},
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

use super::{SOON, World, command, postgres::Programs, process::run};

/// What is the same in every cluster. The rest is in `conf.d`, read in name order.
const SETTINGS: &str = "
fsync = off
full_page_writes = off
autovacuum = off
shared_buffers = 16MB
dynamic_shared_memory_type = mmap
logging_collector = off
log_destination = stderr
log_line_prefix = '%m [%p] '
timezone = UTC
log_timezone = UTC
";

/// Copies a fresh data directory, owned by the user postgres, to `data`.
pub fn copy(world: &World, programs: &Programs, data: &Path) {
    let template = cached(world, programs);
    run(
        command("cp")
            .args(["-a", "--reflink=auto", "--"])
            .arg(template)
            .arg(data),
        SOON,
    )
    .result()
    .unwrap();
    let owner = world.postgres();
    if fs::metadata(data).unwrap().uid() != owner.uid {
        let mut chown = command("chown");
        chown
            .arg("--recursive")
            .arg(format!("{}:{}", owner.uid, owner.gid));
        run(chown.arg(data), SOON).result().unwrap();
    }
}

/// The data directory that all clusters are copies of. It lies in a directory of root's, and
/// nothing runs on it.
fn cached(world: &World, programs: &Programs) -> PathBuf {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
    fs::create_dir_all(cache).unwrap();
    let version = run(command(programs.path("postgres")).arg("--version"), SOON)
        .result()
        .expect("PostgreSQL is missing: `make deps` installs it");
    let version = version.split_whitespace().nth(2).unwrap().to_owned();
    let template = cache.join(format!("cluster-1-{version}"));
    // Tests may be processes of their own: the first makes it, the others wait.
    let lock = File::create(cache.join("cluster.lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    if !template.exists() {
        make(world, programs, &template);
    }
    template
}

fn make(world: &World, programs: &Programs, template: &Path) {
    // The user postgres may be unable to reach `target`, so that initdb runs in the world.
    let home = world.postgres_directory("template", 0o755);
    let data = home.join("data");
    let owner = world.postgres();
    run(
        command(programs.path("initdb"))
            .uid(owner.uid)
            .gid(owner.gid)
            .args(["--username=postgres", "--auth=trust", "--no-sync"])
            .args([
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--wal-segsize=1",
                "-D",
            ])
            .arg(&data),
        SOON * 2,
    )
    .result()
    .unwrap();
    let conf = data.join("postgresql.conf");
    let mut text = fs::read_to_string(&conf).unwrap();
    text.push_str(SETTINGS);
    fs::write(&conf, text).unwrap();

    let partial = template.with_extension("partial");
    let _ = fs::remove_dir_all(&partial);
    run(
        command("cp").args(["-a", "--"]).arg(&data).arg(&partial),
        SOON,
    )
    .result()
    .unwrap();
    fs::rename(&partial, template).unwrap();
    fs::remove_dir_all(home).unwrap();
}
