//! What `packaging/container` composes, in its order and with its configuration: namespaces stand
//! for the engine, Debian's server for the image of Postgres. `make image` has the files themselves, by an engine.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::world::{
    SOON, World,
    ca::Ca,
    cluster::Cluster,
    command,
    container::{ContainerBuilder, DATA, Host, Sidecar, contained},
    eventually,
    lineage::Lineage,
    process::{Process, run},
};

/// The lineage and the instance of the configuration that is shipped.
const LINEAGE: &str = "postgres.example.com";
const INSTANCE: &str = "postgres";

/// Where that configuration looks for the server: by the name that it has in the network of the services.
const ADDRESS: &str = "postgres:5432";

/// Where the image has the program.
const PROGRAM: &str = "/opt/pgcertd";

/// A program with the capability that the image gives it by its file.
fn capable(world: &World) -> PathBuf {
    let copy = world.directory("bin").join("pgcertd");
    let own = env!("CARGO_BIN_EXE_pgcertd");
    for line in [
        command("cp").arg("--").arg(own).arg(&copy),
        command("setcap").arg("cap_dac_read_search=p").arg(&copy),
    ] {
        assert_eq!(run(line, SOON).result().as_deref(), Ok(""));
    }
    copy
}

/// The configuration of the image; here, without that network, the server is on loopback.
fn configuration(world: &World, cluster: &Cluster) -> PathBuf {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/container/pgcertd.toml");
    let shipped = fs::read_to_string(shipped).unwrap();
    let here = shipped.replace(ADDRESS, &format!("127.0.0.1:{}", cluster.port()));
    assert_ne!(here, shipped);
    let file = world.path().join("composed.toml");
    fs::write(&file, here).unwrap();
    file
}

/// The volumes of the compose file, and what the image holds.
fn sidecar(world: &World, name: &str, cluster: &Cluster) -> Sidecar {
    let configuration = configuration(world, cluster);
    let run = world.postgres_directory("run-pgcertd", 0o755);
    let volume = |source: PathBuf, place: &str| (source, place.to_owned());
    Sidecar::new(
        world,
        name,
        vec![
            volume(world.directory("bin").join("pgcertd"), PROGRAM),
            volume(configuration, "/etc/pgcertd/pgcertd.toml"),
            volume(world.path().join("letsencrypt"), "/etc/letsencrypt"),
            volume(world.path().join("installed"), "/var/lib/pgcertd"),
            volume(run, "/run/pgcertd"),
            volume(cluster.data_directory().to_owned(), DATA),
        ],
    )
}

/// What a command of pgcertd says of the instance.
#[track_caller]
fn said(mut command: Command, arguments: &[&str]) -> (i32, Value) {
    let done = run(command.arg(PROGRAM).args(arguments).arg("--json"), SOON);
    let Ok(json) = serde_json::from_str::<Value>(&done.stdout) else {
        panic!("{done:?}");
    };
    assert_eq!(json["instances"][0]["name"], INSTANCE, "{done:?}");
    (done.code(), json["instances"][0].clone())
}

#[test]
fn what_the_compose_file_composes_installs_before_the_first_start_and_keeps_what_is_served() {
    let world = or_skip!(World::new());
    capable(&world);
    let host = Host::new(&world);
    let ca = Ca::new(&world, "Test Root");
    let mut lineage = Lineage::new(&world, LINEAGE);
    let first = ca.issue(&[LINEAGE]);
    lineage.renew(&first);
    let installed = world.postgres_directory("installed", 0o755);
    let named = "/var/lib/pgcertd/postgres/server.pem";
    let cluster = contained(Cluster::build(&world).name("contained"))
        .setting("ssl_cert_file", named)
        .setting("ssl_key_file", named)
        .create();
    let port = cluster.port();

    // Before Postgres is there: `pgcertd-first` of the compose file.
    let alone = sidecar(&world, "first", &cluster).alone(&host);
    let (code, done) = said(alone, &["sync"]);
    assert_eq!(
        (code, done["outcome"].as_str()),
        (0, Some("installed")),
        "{done}"
    );

    let container = ContainerBuilder::new(&host)
        .network()
        .volume(&installed, "/var/lib/pgcertd")
        .postgres(&cluster);
    assert_eq!(container.inner_number(), 1);
    let up = run(
        container.in_network("ip").args(["link", "set", "lo", "up"]),
        SOON,
    );
    assert_eq!(up.result().as_deref(), Ok(""));
    assert_eq!(container.served(port), first.fingerprint);

    let log = world.path().join("sidecar.log");
    let file = File::create(&log).unwrap();
    let sidecar = sidecar(&world, "beside", &cluster);
    let mut daemon = sidecar.beside(&container);
    daemon
        .args([PROGRAM, "run"])
        .stdin(std::process::Stdio::null())
        .stdout(file.try_clone().unwrap())
        .stderr(file);
    let daemon = Process::spawn(&mut daemon);
    let log = || fs::read_to_string(&log).unwrap();
    // The health check of the image.
    eventually(SOON, "the sidecar is well", || {
        match said(sidecar.beside(&container), &["status"]) {
            (0, seen) if seen["state"] == "in_sync" => Ok(()),
            (code, seen) => Err(format!("{code}: {seen}\n{}", log())),
        }
    });
    let second = ca.issue(&[LINEAGE]);
    lineage.renew(&second);
    eventually(SOON, "the renewal is served", || {
        let served = container.served(port);
        (served == second.fingerprint).then_some(()).ok_or_else(log)
    });
    assert_eq!(container.reloads(), 1);
    let checked = said(sidecar.beside(&container), &["check"]).1;
    let findings = checked["findings"].as_array().unwrap();
    let ill = |finding: &&Value| finding["weight"] == "problem" || finding["weight"] == "unseen";
    assert_eq!(findings.iter().find(ill), None, "{checked}");

    // When its first process ends, all in it end.
    container.stop();
    drop(daemon);
    host.was_left_alone();
}
