//! What `packaging/container` has can be read, and names what is there. No engine is needed, and none
//! builds it here.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_pgcertd");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn directory() -> PathBuf {
    root().join("packaging/container")
}

fn text(name: &str) -> String {
    fs::read_to_string(directory().join(name)).unwrap()
}

/// The compose file, as a real parser of YAML reads it.
fn compose() -> Value {
    let script = "import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin), sys.stdout)";
    let file = fs::File::open(directory().join("compose.yaml")).unwrap();
    let mut python = Command::new("python3");
    let read = python.args(["-c", script]).stdin(file).output().unwrap();
    let said = String::from_utf8_lossy(&read.stderr);
    assert!(read.status.success(), "{said}");
    serde_json::from_slice(&read.stdout).unwrap()
}

/// The instructions of the Containerfile with their arguments, lines joined.
fn instructions() -> Vec<(String, String)> {
    let lines = text("Containerfile");
    let lines: Vec<_> = lines.lines().filter(|it| !it.starts_with('#')).collect();
    let joined = lines.join("\n").replace("\\\n", " ");
    joined
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            let (word, rest) = line.split_once(' ').unwrap();
            (word.to_owned(), rest.trim().to_owned())
        })
        .collect()
}

/// The words of an array in the exec form.
fn exec_form(text: &str) -> Vec<String> {
    serde_json::from_str(&text[text.find('[').unwrap()..]).unwrap()
}

/// Whether the program has a command of this name.
#[track_caller]
fn is_a_command(name: &str) {
    let helped = Command::new(PROGRAM).args([name, "--help"]).output();
    assert!(helped.unwrap().status.success(), "{name}");
}

#[test]
fn the_compose_file_and_the_containerfile_name_what_is_there() {
    const KNOWN: [&str; 11] = [
        "FROM",
        "WORKDIR",
        "COPY",
        "RUN",
        "ARG",
        "USER",
        "HEALTHCHECK",
        "STOPSIGNAL",
        "ENTRYPOINT",
        "CMD",
        "ENV",
    ];
    let admitted = text("Containerfile.dockerignore");
    let admitted: Vec<_> = admitted
        .lines()
        .filter_map(|it| it.strip_prefix('!'))
        .collect();
    for (word, rest) in instructions() {
        assert!(KNOWN.contains(&word.as_str()), "{word} {rest}");
        match word.as_str() {
            "COPY" if !rest.starts_with("--from") => {
                let words: Vec<_> = rest.split(' ').collect();
                for source in &words[..words.len() - 1] {
                    assert!(root().join(source).exists(), "{source}");
                    assert!(admitted.contains(source), "{source} is kept from the build");
                }
            }
            "HEALTHCHECK" => {
                let words = exec_form(&rest);
                assert_eq!(words[0], "pgcertd");
                is_a_command(&words[1]);
            }
            "CMD" => is_a_command(&exec_form(&rest)[0]),
            _ => {}
        }
    }
    let compose = compose();
    let services = compose["services"].as_object().unwrap();
    let mut count = 0;
    for (name, service) in services {
        for volume in service["volumes"].as_array().unwrap() {
            let source = volume.as_str().unwrap().split(':').next().unwrap();
            assert!(compose["volumes"].get(source).is_some(), "{name}: {source}");
        }
        if let Some(build) = service.get("build") {
            let file = build["dockerfile"].as_str().unwrap();
            let context = directory().join(build["context"].as_str().unwrap());
            assert!(context.join(file).is_file(), "{name}: {file}");
            is_a_command(service["command"][0].as_str().unwrap());
            assert_eq!(service["read_only"], true, "{name}");
            assert_eq!(service["cap_drop"], serde_json::json!(["ALL"]), "{name}");
            count += 1;
        }
    }
    assert_eq!(count, 2);
    let beside = &services["pgcertd"];
    for shared in ["pid", "network_mode"] {
        assert_eq!(beside[shared], "service:postgres", "{shared}");
    }
}

#[test]
fn the_configuration_of_the_image_is_one_and_names_what_the_compose_file_has_postgres_use() {
    let config = directory().join("pgcertd.toml");
    let mut check = Command::new(PROGRAM);
    check
        .args(["check", "--config-only", "--config"])
        .arg(&config);
    let checked = check.output().unwrap();
    let said = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success(), "{said}");

    let table: toml::Table = text("pgcertd.toml").parse().unwrap();
    let instance = &table["instance"][0];
    let target = format!(
        "/var/lib/pgcertd/{}/server.pem",
        instance["name"].as_str().unwrap()
    );
    let compose = compose();
    let command = compose["services"]["postgres"]["command"]
        .as_array()
        .unwrap();
    for setting in ["ssl_cert_file", "ssl_key_file"] {
        let wanted = Value::from(format!("-c{setting}={target}"));
        assert!(command.contains(&wanted), "{wanted}");
    }
    let places = |service: &str| {
        let volumes = compose["services"][service]["volumes"].as_array().unwrap();
        let place = |it: &Value| it.as_str().unwrap().split(':').nth(1).unwrap().to_owned();
        volumes.iter().map(place).collect::<Vec<_>>()
    };
    let data = instance["data_directory"].as_str().unwrap().to_owned();
    for service in ["postgres", "pgcertd", "pgcertd-first"] {
        assert!(places(service).contains(&data), "{service}");
        assert!(places(service).contains(&"/var/lib/pgcertd".to_owned()));
    }
}

/// Cargo looks for each target that a manifest names by its path.
#[test]
fn what_the_build_is_given_is_enough_for_cargo() {
    let context = tempfile::tempdir().unwrap();
    for (word, rest) in instructions() {
        if word != "COPY" || rest.starts_with("--from") {
            continue;
        }
        let words: Vec<_> = rest.split(' ').collect();
        for source in words[..words.len() - 1]
            .iter()
            .filter(|it| !it.contains('/'))
        {
            let mut copy = Command::new("cp");
            copy.arg("-r").arg(root().join(source)).arg(context.path());
            assert!(copy.status().unwrap().success(), "{source}");
        }
    }
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["read-manifest", "--offline"])
        .current_dir(&context);
    let read = cargo.output().unwrap();
    assert!(
        read.status.success(),
        "{}",
        String::from_utf8_lossy(&read.stderr)
    );
}
