//! What the packages' scripts ask of pgcertd, and what it says of the unit that they install.

use std::{fs, os::unix::fs::symlink, path::Path};

use crate::{
    stage::{NAME, Stage, mode, says},
    world::{
        SOON, World, command, config::Config, daemon::pgcertd, in_own_mounts, on_one_line,
        process::run,
    },
};

#[test]
fn a_removal_tells_which_file_is_served_until_when_and_remembers_the_server() {
    let world = or_skip!(World::new());
    let stage = Stage::new(&world);
    let target = world.target(NAME);
    let list = stage.config.state_directory().join(".servers");
    // The directory is another user's, who must not lead root elsewhere.
    let elsewhere = world.path().join("elsewhere");
    fs::write(&elsewhere, "untouched").unwrap();
    symlink(&elsewhere, &list).unwrap();

    let told = stage.pgcertd(&["removal", "--remember"]);

    assert_eq!(told.code(), 0, "{told:?}");
    let certificate = stage.pgcertd(&["status", "--json"]).instance(NAME);
    let until = certificate["served"]["not_after"].as_str().unwrap();
    let serves = format!(
        "{NAME} keeps serving {} until {}",
        target.display(),
        &until[..10]
    );
    says(&on_one_line(told.stdout()), &["nothing renews", &serves]);
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "untouched");
    assert_eq!(mode(&list), 0o600);
    let data = stage.cluster.data_directory().display().to_string();
    says(&fs::read_to_string(&list).unwrap(), &[&data]);
}

#[test]
fn a_removal_is_not_stopped_by_what_it_finds() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let target = world.target(NAME).display().to_string();
    let tells = |config: &Config, parts: &[&str]| {
        let told = pgcertd(&world, config, &["removal", "--remember"]);
        println!("{}{}", told.stdout(), told.stderr());
        assert_eq!(told.code(), 0, "{told:?}");
        says(&on_one_line(told.stdout()), parts);
    };
    stage.cluster.stop();
    tells(&stage.config, &[NAME, "is down, and will serve", &target]);
    fs::write(world.target(NAME), "nothing").unwrap();
    tells(&stage.config, &[NAME, "cannot load", &target]);
    fs::remove_file(world.target(NAME)).unwrap();
    tells(&stage.config, &[NAME, &target, "does not exist"]);
    let data = stage.cluster.data_directory().to_owned();
    fs::rename(&data, data.with_extension("gone")).unwrap();
    tells(
        &stage.config,
        &[NAME, "cannot be checked", "openssl x509", &target],
    );
    fs::rename(data.with_extension("gone"), &data).unwrap();
    stage.config.replace("nonsense = 1\n");
    tells(
        &stage.config,
        &["is unknown", "unknown key `nonsense`", "openssl x509"],
    );
    fs::remove_file(stage.config.path()).unwrap();
    tells(&stage.config, &["is unknown", "openssl x509"]);
}

/// Runs `check` where this is the unit, and the host has only the users that are given.
fn checked(world: &World, config: &Config, unit: &str, passwd: Option<&str>) -> (i32, String) {
    let units = world.directory("units");
    fs::write(units.join("pgcertd.service"), unit).unwrap();
    let users = world.path().join("passwd");
    let real = fs::read_to_string("/etc/passwd").unwrap();
    fs::write(&users, passwd.unwrap_or(&real)).unwrap();
    let mounted = "mount --bind \"$1\" /etc/systemd/system && mount --bind \"$2\" /etc/passwd && \
                   exec \"$3\" check --config \"$4\"";
    let done = run(
        in_own_mounts(mounted).args([
            &units,
            &users,
            Path::new(env!("CARGO_BIN_EXE_pgcertd")),
            config.path(),
        ]),
        SOON,
    );
    println!("{}{}", done.stdout, done.stderr);
    (done.code(), on_one_line(&done.stdout))
}

const AS_POSTGRES: &str = "[Service]\nUser=postgres\nAmbientCapabilities=CAP_DAC_READ_SEARCH\n";

#[test]
fn check_names_root_operation_where_the_units_user_is_not_there() {
    let world = or_skip!(World::new());
    let config = Config::new(&world).write();
    let (code, said) = checked(&world, &config, AS_POSTGRES, None);
    assert_eq!(code, 0, "{said}");
    assert!(!said.contains("root.conf"), "{said}");

    let alone = Some("root:x:0:0::/root:/bin/sh\n");
    let (code, said) = checked(&world, &config, AS_POSTGRES, alone);
    assert_eq!(code, 1, "{said}");
    says(
        &said,
        &[
            "runs as user postgres, who doesn't exist on this host",
            "examples/root.conf /etc/systemd/system/pgcertd.service.d/root.conf",
        ],
    );
    let (code, said) = checked(&world, &config, "[Service]\nUser=root\n", alone);
    assert_eq!(code, 0, "{said}");
}

#[test]
fn check_names_root_operation_where_a_server_is_another_users() {
    let world = or_skip!(World::new());
    let stage = Stage::new(&world);
    let (code, said) = checked(&world, &stage.config, AS_POSTGRES, None);
    assert_eq!(code, 0, "{said}");
    let (code, said) = checked(&world, &stage.config, "[Service]\nUser=nobody\n", None);
    assert_eq!(code, 1, "{said}");
    says(
        &said,
        &[
            "runs as user nobody",
            "files of postgres",
            "pgcertd.service.d/root.conf",
        ],
    );
}

/// A hook runs with its caller's umask; the server must get at its files all the same.
#[test]
fn the_state_directory_that_sync_makes_is_passable_whatever_the_umask() {
    let world = or_skip!(World::new());
    let stage = Stage::new(&world);
    let state = world.path().join("deep/state");
    let text = stage.config.text().replace(
        stage.config.state_directory().to_str().unwrap(),
        state.to_str().unwrap(),
    );
    stage.config.replace(&text);
    let done = run(
        command("sh")
            .args(["-c", "umask 077; exec \"$1\" sync --config \"$2\"", "sh"])
            .args([
                Path::new(env!("CARGO_BIN_EXE_pgcertd")),
                stage.config.path(),
            ]),
        SOON,
    );
    println!("{}{}", done.stdout, done.stderr);
    assert_eq!(mode(&state), 0o755);
    assert_eq!(mode(state.parent().unwrap()), 0o755);
    assert_eq!(mode(&state.join(NAME)), 0o750);
    assert!(state.join(NAME).join("server.pem").exists());
}
