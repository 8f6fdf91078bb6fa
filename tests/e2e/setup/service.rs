//! Where the service is installed, a set-up lets its daemon at the paths of the instance, and takes that back.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::bench::{Bench, NAME};
use crate::world::{
    SOON, World, command,
    config::{Config, Instance},
    daemon::{Launch, Outcome},
    give, on_one_line,
    process::run,
};

/// The config of the unit's daemon.
const CONFIG: &str = "/etc/pgcertd/pgcertd.toml";

/// A host of the test's own: its `/etc` is this one's, with the world's config and units, and systemd does not run.
const HOST: &str = "mount -t tmpfs tmpfs \"$1\" && mkdir \"$1/upper\" \"$1/work\"
    mount -t overlay overlay -o \"lowerdir=/etc,upperdir=$1/upper,workdir=$1/work\" /etc
    mkdir -p /etc/pgcertd /etc/systemd/system
    mount --bind \"$2\" /etc/pgcertd && mount --bind \"$3\" /etc/systemd/system
    test ! -d /run/systemd || mount -t tmpfs tmpfs /run/systemd
    shift 3 && exec \"$@\"";

struct Host<'b, 'w> {
    bench: &'b Bench<'w>,
    units: PathBuf,
}

impl<'b, 'w> Host<'b, 'w> {
    /// With the shipped unit.
    fn new(bench: &'b Bench<'w>) -> Self {
        let units = bench.world.directory("units");
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/pgcertd.service");
        fs::copy(shipped, units.join("pgcertd.service")).unwrap();
        Self { bench, units }
    }

    fn launch(&self) -> Launch {
        let world = self.bench.world;
        let config = self.bench.config.path().parent().unwrap().to_owned();
        let paths = [&world.directory("over"), &config, &self.units];
        let prefix = [
            &[
                "unshare",
                "--mount",
                "--propagation=private",
                "sh",
                "-ec",
                HOST,
                "sh",
            ][..],
            &paths.map(|path| path.to_str().unwrap()),
        ];
        Launch::new(world).through(&prefix.concat())
    }

    #[track_caller]
    fn runs(&self, launch: &Launch, arguments: &[&str]) -> Outcome {
        let done = launch.run_with(Path::new(CONFIG), arguments);
        println!(
            "--- {arguments:?}: {}\n{}{}",
            done.code(),
            done.stdout(),
            done.stderr()
        );
        done
    }

    #[track_caller]
    fn setup(&self, arguments: &[&str]) -> Outcome {
        self.setup_by(&self.launch(), arguments)
    }

    #[track_caller]
    fn setup_by(&self, launch: &Launch, arguments: &[&str]) -> Outcome {
        let data = self.bench.cluster.data_directory().to_str().unwrap();
        self.runs(
            launch,
            &[&["setup", "--data-directory", data], arguments].concat(),
        )
    }

    #[track_caller]
    fn undo(&self) -> Outcome {
        self.runs(&self.launch(), &["setup", "--yes", "--undo", NAME])
    }

    fn drop_in(&self) -> PathBuf {
        self.units
            .join(format!("pgcertd.service.d/setup-{NAME}.conf"))
    }

    /// The weight and the sentence of what `check` says of the sandbox.
    #[track_caller]
    fn sandbox(&self) -> (String, String) {
        let checked = self
            .launch()
            .run_with(Path::new(CONFIG), &["check", "--json"])
            .json();
        let all = checked["host"].as_array().unwrap();
        let named = |server: &&serde_json::Value| {
            server["id"] == "sandbox"
                && (server["weight"] == "good" || server["seen"].as_str().unwrap().contains(NAME))
        };
        let found = all.iter().find(named).unwrap_or(&all[0]);
        (found["weight"].to_string(), found["seen"].to_string())
    }
}

/// The server names a pair in a directory of its user's own, as many an article has it.
fn own_pair(bench: &mut Bench<'_>) {
    let directory = bench.world.postgres_directory("pg tls", 0o755);
    let [cert, key] = ["server.crt", "server.key"].map(|file| directory.join(file));
    let old = bench.ca.issue(&[super::bench::HOST]);
    fs::write(&cert, old.fullchain_pem()).unwrap();
    fs::write(&key, &old.key_pem).unwrap();
    give(&cert, bench.world.postgres(), 0o644);
    give(&key, bench.world.postgres(), 0o600);
    bench.cluster.set("ssl_cert_file", cert.to_str().unwrap());
    bench.cluster.set("ssl_key_file", key.to_str().unwrap());
    bench.cluster.reload_by_hand();
    crate::world::eventually(SOON, "its own pair is served", || {
        bench.cluster.served() == old.fingerprint
    });
}

/// What systemd says of the unit with its drop-ins; none where it cannot be asked.
fn verified(units: &Path) -> Option<String> {
    let mut analyze = command("systemd-analyze");
    analyze.args(["verify", "--man=no", "--recursive-errors=no"]);
    analyze.arg(units.join("pgcertd.service"));
    let unit = units.join("pgcertd.service");
    let text = fs::read_to_string(&unit).unwrap();
    let here = text.replace("/usr/bin/pgcertd", env!("CARGO_BIN_EXE_pgcertd"));
    fs::write(&unit, here).unwrap();
    let exists = Path::new("/usr/bin/systemd-analyze").exists();
    let said = exists.then(|| run(&mut analyze, SOON).stderr);
    fs::write(&unit, text).unwrap();
    said
}

#[test]
fn the_units_drop_in_is_one_of_the_steps_shown_done_and_undone() {
    for parent in ["/srv", "/home"] {
        let world = or_skip!(World::new_in(Path::new(parent)));
        let mut bench = Bench::new(&world);
        own_pair(&mut bench);
        let before = bench.sight();
        let host = Host::new(&bench);
        let target = world.path().join("pg tls");
        let opened = format!("ReadWritePaths=\"-{}\"\n", target.display());
        let file = format!("/etc/systemd/system/pgcertd.service.d/setup-{NAME}.conf");

        let dry = host.setup(&["--dry-run"]);
        assert!(dry.stdout().contains(&file), "{parent}");
        assert!(dry.stdout().contains(&opened), "{parent}");
        assert!(!host.drop_in().exists());

        let done = host.setup(&["--yes"]);
        assert_eq!(done.code(), 0);
        assert!(
            done.stdout().contains(&format!("{NAME} is set up.\n")),
            "{parent}"
        );
        let text = fs::read_to_string(host.drop_in()).unwrap();
        assert!(text.contains(&opened), "{text}");
        assert_eq!(
            text.contains("ProtectHome=read-only"),
            parent == "/home",
            "{text}"
        );
        let mode = fs::metadata(host.drop_in()).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o644);
        assert_eq!(verified(&host.units).unwrap_or_default(), "");
        let (weight, seen) = host.sandbox();
        assert!(!seen.contains("pg tls"), "{weight}: {seen}");
        bench.verified();

        let again = host.setup(&["--yes"]);
        assert!(again.stdout().contains("nothing to change"), "{parent}");
        let undone = host.undo();
        assert_eq!(undone.code(), 0);
        assert!(
            undone.stdout().contains(&format!("removed {file}")),
            "{parent}"
        );
        assert!(!host.drop_in().parent().unwrap().exists());
        assert_eq!(bench.sight().settings, before.settings);
    }
}

#[test]
fn what_lies_where_the_unit_lets_the_daemon_needs_no_drop_in() {
    let world = or_skip!(World::new_in(Path::new("/srv")));
    let bench = Bench::new(&world);
    let host = Host::new(&bench);
    let open = format!("[Service]\nReadWritePaths={}\n", world.path().display());
    fs::create_dir(host.drop_in().parent().unwrap()).unwrap();
    fs::write(host.drop_in().with_file_name("mine.conf"), open).unwrap();
    assert_eq!(host.setup(&["--yes"]).code(), 0);
    assert!(!host.drop_in().exists());
    assert_eq!(host.undo().code(), 0);
    assert!(host.drop_in().with_file_name("mine.conf").exists());
}

/// One that an administrator has written into the config, and that serves already.
#[test]
fn an_instance_that_the_config_has_gets_the_drop_in_alone() {
    let world = or_skip!(World::new_in(Path::new("/srv")));
    let mut bench = Bench::new(&world);
    own_pair(&mut bench);
    let [cert, key] =
        ["server.crt", "server.key"].map(|file| world.path().join("pg tls").join(file));
    let entry = Instance::for_cluster(&bench.cluster, super::bench::HOST)
        .set("cert_file", cert.to_str().unwrap())
        .set("key_file", key.to_str().unwrap());
    bench.config = Config::new(&world).instance(entry).write();
    let host = Host::new(&bench);
    let synced = host.runs(&host.launch(), &["sync"]);
    assert_eq!(synced.code(), 0);
    let before = bench.sight();
    let state = world.path().join("state");

    let done = host.setup(&["--yes"]);
    assert_eq!(done.code(), 0);
    assert!(
        !done.stdout().contains("postgresql.auto.conf"),
        "{}",
        done.stdout()
    );
    let drop_in = host.units.join("pgcertd.service.d/setup-main.conf");
    let text = fs::read_to_string(&drop_in).unwrap();
    assert!(text.contains("pg tls"), "{text}");
    bench
        .sight()
        .without(&[&state])
        .is(&before.clone().without(&[&state]), "set up");
    let undone = host.runs(&host.launch(), &["setup", "--yes", "--undo", "main"]);
    assert_eq!(undone.code(), 0);
    assert!(!drop_in.exists());
    bench
        .sight()
        .without(&[&state])
        .is(&before.without(&[&state]), "undone");
}

/// Each in its turn, on one server.
#[test]
fn a_drop_in_that_was_changed_stays_and_a_record_that_was_forged_takes_none_away() {
    let world = or_skip!(World::new_in(Path::new("/srv")));
    let bench = Bench::new(&world);
    let host = Host::new(&bench);
    assert_eq!(host.setup(&["--yes"]).code(), 0);
    let ours = fs::read_to_string(host.drop_in()).unwrap();

    let file = world.path().join("state").join(NAME).join("setup.json");
    let record = fs::read_to_string(&file).unwrap();
    let mut forged: serde_json::Value = serde_json::from_str(&record).unwrap();
    let hardened = "[Service]\nNoExecPaths=/\n";
    fs::write(host.drop_in(), hardened).unwrap();
    let mut steps = forged["steps"].as_array_mut().unwrap().iter_mut();
    let drop_in = steps.find(|step| step["step"] == "drop_in").unwrap();
    drop_in["text"] = hardened.into();
    fs::write(&file, forged.to_string()).unwrap();
    let refused = host.undo();
    assert_eq!(refused.code(), 1);
    assert!(
        refused.stderr().contains("no set-up writes"),
        "{}",
        refused.stderr()
    );
    assert_eq!(fs::read_to_string(host.drop_in()).unwrap(), hardened);

    fs::write(&file, record).unwrap();
    let mine = ours + "CPUQuota=50%\n";
    fs::write(host.drop_in(), &mine).unwrap();
    let undone = host.undo();
    assert_eq!(undone.code(), 1);
    let said = on_one_line(undone.stdout());
    assert!(said.contains("was changed since"), "{said}");
    assert_eq!(fs::read_to_string(host.drop_in()).unwrap(), mine);

    // What is in the drop-in's place is not written over: what is missing is said.
    fs::write(host.drop_in(), "[Service]\nCPUQuota=50%\n").unwrap();
    let done = host.setup(&["--yes"]);
    assert_eq!(done.code(), 0);
    let said = done.stdout();
    assert!(
        said.contains("is set up, but") && said.contains("paths-"),
        "{said}"
    );
    assert_eq!(
        fs::read_to_string(host.drop_in()).unwrap(),
        "[Service]\nCPUQuota=50%\n"
    );
}

#[cfg(feature = "failpoints")]
#[test]
fn a_fault_or_a_crash_after_the_drop_in_takes_it_back() {
    let world = or_skip!(World::new_in(Path::new("/srv")));
    let bench = Bench::new(&world);
    let before = bench.sight();
    let host = Host::new(&bench);
    for point in ["setup_admitted", "setup_verified"] {
        let failed = host.launch().env("FAILPOINTS", format!("{point}=return"));
        assert_eq!(host.setup_by(&failed, &["--yes"]).code(), 1, "{point}");
        assert!(!host.drop_in().exists(), "{point}");
        bench.sight().is(&before, point);
        let crashed = host.launch().env("FAILPOINTS", format!("{point}=panic"));
        assert!(host.setup_by(&crashed, &["--yes"]).code() < 0, "{point}");
        assert!(host.drop_in().exists(), "{point}");
        assert_eq!(host.undo().code(), 0, "{point}");
        assert!(!host.drop_in().exists(), "{point}");
        bench.sight().is(&before, point);
    }
}

/// A user who may write pgcertd's config and no unit is told what root has to do.
#[test]
fn who_may_not_write_the_drop_in_is_told_of_it() {
    let world = or_skip!(World::new_in(Path::new("/srv")));
    let bench = Bench::new(&world);
    let host = Host::new(&bench);
    for directory in ["etc", "letsencrypt"] {
        let path = world.path().join(directory);
        let mut chown = command("chown");
        let owner = world.postgres();
        chown
            .args(["-R", &format!("{}:{}", owner.uid, owner.gid)])
            .arg(&path);
        run(&mut chown, SOON).result().unwrap();
    }
    let as_postgres = [
        "setpriv",
        "--reuid=postgres",
        "--regid=postgres",
        "--clear-groups",
    ];
    let launch = host.launch().through(&as_postgres);
    let done = host.setup_by(&launch, &["--yes"]);
    assert_eq!(done.code(), 0);
    let said = on_one_line(done.stdout());
    assert!(
        said.contains("cannot be written (ProtectSystem=strict)"),
        "{said}"
    );
    assert!(said.contains("systemctl daemon-reload"), "{said}");
    assert!(!host.drop_in().exists());
}

/// Where another program keeps the server's configuration, the drop-in is among what is to be written.
#[test]
fn what_is_to_be_written_by_hand_has_the_drop_in() {
    let world = or_skip!(World::new_in(Path::new("/srv")));
    let bench = Bench::new(&world);
    let host = Host::new(&bench);
    let printed = host.setup(&["--print"]);
    assert_eq!(printed.code(), 0);
    let said = printed.stdout();
    assert!(said.contains(&format!("setup-{NAME}.conf")), "{said}");
    assert!(said.contains("ReadWritePaths=-/srv/"), "{said}");
    assert!(!host.drop_in().exists());
}
