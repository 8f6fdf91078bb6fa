//! The packages hold what they should, and their scripts do what they say, without a machine to
//! install them in.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;
use toml::Value;

#[macro_use]
#[path = "e2e/world/skipped.rs"]
mod skipped;
#[path = "e2e/world/surroundings.rs"]
mod surroundings;

use skipped::Skipped;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn manifest() -> toml::Table {
    fs::read_to_string(root().join("Cargo.toml"))
        .unwrap()
        .parse()
        .unwrap()
}

/// The files that the assets of a package name, with their mode: `usr/bin/pgcertd` → 0o755.
fn assets(package: &str) -> BTreeMap<String, u32> {
    let manifest = manifest();
    let assets = manifest["package"]["metadata"][package]["assets"].as_array();
    assets.unwrap().iter().flat_map(expanded).collect()
}

/// One asset, as cargo-deb writes it (an array) or cargo-generate-rpm (a table); a `*` stands for
/// each file of a directory.
fn expanded(asset: &Value) -> Vec<(String, u32)> {
    let part = |index: usize, key: &str| {
        let part = asset.get(index).or_else(|| asset.get(key));
        part.unwrap().as_str().unwrap().to_owned()
    };
    let (source, place) = (part(0, "source"), part(1, "dest"));
    let place = place.trim_start_matches('/');
    let mode = u32::from_str_radix(&part(2, "mode"), 8).unwrap();
    let Some((before, after)) = source.split_once('*') else {
        // What is built is not there yet.
        let built = source.starts_with("target/");
        assert!(built || root().join(&source).is_file(), "{source}");
        return vec![(place.to_owned(), mode)];
    };
    assert!(place.ends_with('/'), "{place}");
    let (directory, before) = before.rsplit_once('/').unwrap_or(("", before));
    let names = fs::read_dir(root().join(directory)).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter(|name| name.starts_with(before) && name.ends_with(after))
        .map(|name| (format!("{place}{name}"), mode))
        .collect()
}

/// The files below a directory, with their mode.
fn files(directory: &Path) -> BTreeMap<String, u32> {
    let mut found = BTreeMap::new();
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let mode = path.metadata().unwrap().permissions().mode() & 0o7777;
            let name = path.strip_prefix(directory).unwrap().to_str().unwrap();
            found.insert(name.to_owned(), mode);
        }
    }
    found
}

fn succeeded(command: &mut Command) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let stdout = String::from_utf8(stdout).unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert!(status.success(), "{command:?}: {status}\n{stdout}{stderr}");
    stdout
}

fn make(target: &str, destination: &Path) {
    succeeded(
        Command::new("make")
            .current_dir(root())
            .env_remove("MAKEFLAGS")
            .arg(target)
            .args([
                "PREFIX=/usr",
                concat!("BINARY=", env!("CARGO_BIN_EXE_pgcertd")),
            ])
            .arg(format!("DESTDIR={}", destination.display())),
    );
}

#[test]
fn the_packages_hold_what_make_install_places() {
    let destination = tempfile::tempdir().unwrap();
    make("install", destination.path());
    let mut installed = files(destination.path());
    assert!(installed.len() > 10, "{installed:?}");

    // What Debian and Fedora have in a place of their own.
    let mut debian = assets("deb");
    for only in ["copyright", "changelog.gz"] {
        let only = format!("usr/share/doc/pgcertd/{only}");
        assert_eq!(debian.remove(&only), Some(0o644), "{only}");
    }
    let overrides = "usr/share/lintian/overrides/pgcertd";
    assert_eq!(debian.remove(overrides), Some(0o644));
    debian.insert("usr/share/doc/pgcertd/CHANGELOG.md".into(), 0o644);
    let zsh = debian.remove("usr/share/zsh/vendor-completions/_pgcertd");
    debian.extend(zsh.map(|mode| ("usr/share/zsh/site-functions/_pgcertd".into(), mode)));
    let mut fedora = assets("generate-rpm");
    // PostgreSQL has no pg_upgradecluster there.
    let hook = "etc/postgresql-common/pg_upgradecluster.d/pgcertd";
    fedora.insert(hook.into(), 0o755);
    for licence in ["LICENSE-APACHE", "LICENSE-MIT"] {
        let licence = format!("usr/share/licenses/pgcertd/{licence}");
        assert_eq!(fedora.remove(&licence), Some(0o644), "{licence}");
    }
    assert_eq!(debian, installed, "the deb, and make install");
    assert_eq!(fedora, installed, "the rpm, and make install");

    make("uninstall", destination.path());
    installed.retain(|file, _| file.starts_with("etc/") && file != hook);
    assert_eq!(files(destination.path()), installed, "after make uninstall");
}

#[test]
fn the_schema_that_the_installed_config_names_is_installed() {
    let destination = tempfile::tempdir().unwrap();
    make("install", destination.path());
    let config = destination.path().join("etc/pgcertd/pgcertd.toml");
    let config = fs::read_to_string(config).unwrap();
    let first = config.lines().next().unwrap();
    let schema = first.strip_prefix("#:schema file:///").unwrap();
    assert!(destination.path().join(schema).is_file(), "{schema}");
}

#[test]
fn make_install_keeps_a_config_that_is_there() {
    let destination = tempfile::tempdir().unwrap();
    let config = destination.path().join("etc/pgcertd/pgcertd.toml");
    fs::create_dir_all(config.parent().unwrap()).unwrap();
    fs::write(&config, "# mine\n").unwrap();
    make("install", destination.path());
    assert_eq!(fs::read_to_string(config).unwrap(), "# mine\n");
}

/// What make would run, said and not done.
#[test]
fn make_looks_for_what_cargo_has_built_where_cargo_builds() {
    let build = tempfile::tempdir().unwrap();
    let build = build.path().to_str().unwrap();
    let settings = ["CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR"];
    let targets = ["demo", "deb", "lint-deb", "rpm", "zigbuild", "install"];
    for (setting, target) in settings
        .iter()
        .flat_map(|setting| targets.map(|target| (setting, target)))
    {
        let mut make = Command::new("make");
        make.current_dir(root())
            .args(["--dry-run", "GLIBC=2.28", target]);
        for variable in ["MAKEFLAGS", "CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR"] {
            make.env_remove(variable);
        }
        let said = succeeded(make.env(setting, build));
        assert!(said.contains(build), "{setting}, {target}:\n{said}");
        let elsewhere = said
            .split([' ', '"', '\'', '>'])
            .find(|word| word.starts_with("target/") || word.contains("/target/"));
        assert_eq!(elsewhere, None, "{setting}, {target}:\n{said}");
    }
}

#[test]
fn debians_changelog_is_of_this_version() {
    let changelog = fs::read_to_string(root().join("packaging/deb/changelog")).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let first = format!("pgcertd ({version}-1) ");
    assert!(changelog.starts_with(&first), "{changelog}");
}

#[test]
fn every_script_is_one_for_a_plain_shell() {
    let scripts = ["packaging/deb", "packaging/rpm", "packaging"];
    let mut checked = BTreeSet::new();
    for directory in scripts {
        for entry in fs::read_dir(root().join(directory)).unwrap() {
            let path = entry.unwrap().path();
            let is_script = path.extension().is_some_and(|extension| extension == "sh")
                || path.is_file() && fs::read(&path).unwrap().starts_with(b"#!/bin/sh\n");
            if is_script {
                succeeded(Command::new("sh").arg("-n").arg(&path));
                checked.insert(path);
            }
        }
    }
    assert_eq!(checked.len(), 9, "{checked:?}");
}

/// A hook that fails aborts the upgrade (pg_upgradecluster(1)).
#[test]
fn the_hook_of_pg_upgradecluster_always_succeeds_and_speaks_at_the_end_alone() {
    let programs = tempfile::tempdir().unwrap();
    let program = |name: &str, text: &str| {
        let path = programs.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    let path = format!("{}:/usr/bin:/bin", programs.path().display());
    let hook = |phase: &str| {
        let mut hook = Command::new("sh");
        hook.arg(root().join("packaging/pg_upgradecluster-hook"));
        hook.args(["15", "main", "17", phase]).env("PATH", &path);
        succeeded(&mut hook)
    };
    assert_eq!(hook("finish"), "", "without pgcertd");
    program("pgcertd", "echo $*; exit 1");
    program("pg_conftool", "exit 1");
    assert_eq!(hook("finish"), "", "with no such cluster");
    program(
        "pg_conftool",
        "test \"$*\" = '--short 17 main show data_directory' && echo '/srv/a b'",
    );
    assert_eq!(hook("init"), "");
    assert_eq!(hook("finish"), "upgraded /srv/a b\n");
}

#[test]
fn systemd_takes_each_example_of_a_drop_in() {
    for example in fs::read_dir(root().join("systemd/examples")).unwrap() {
        let example = example.unwrap().path();
        let name = example.file_name().unwrap().to_str().unwrap();
        let unit = if name.starts_with("notify-") {
            "pgcertd-notify.service"
        } else {
            "pgcertd.service"
        };
        let said = or_skip!(verified(unit, &example));
        assert_eq!(said, "", "{}", example.display());
    }
}

/// What systemd has against a unit with a drop-in.
fn verified(unit: &str, drop_in: &Path) -> Result<String, Skipped> {
    let directory = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(root().join("systemd").join(unit)).unwrap();
    let text = text.replace("/usr/bin/pgcertd", env!("CARGO_BIN_EXE_pgcertd"));
    fs::write(directory.path().join(unit), text).unwrap();
    let drop_ins = directory.path().join(format!("{unit}.d"));
    fs::create_dir(&drop_ins).unwrap();
    fs::copy(drop_in, drop_ins.join("example.conf")).unwrap();
    let mut analyze = Command::new("systemd-analyze");
    analyze.args(["verify", "--man=no", "--recursive-errors=no"]);
    let verified = analyze.arg(directory.path().join(unit)).output();
    let verified =
        verified.map_err(|error| Skipped::because(format!("systemd-analyze: {error}")))?;
    let said = String::from_utf8_lossy(&verified.stderr).trim().to_owned();
    assert!(verified.status.success() || !said.is_empty());
    Ok(said)
}

#[test]
fn the_text_shows_each_example_of_a_drop_in_as_it_is() {
    let text = fs::read_to_string(root().join("packaging/README.md")).unwrap();
    for example in fs::read_dir(root().join("systemd/examples")).unwrap() {
        let example = fs::read_to_string(example.unwrap().path()).unwrap();
        let (_, section) = example.split_once("[Service]\n").unwrap();
        let shown = format!("```ini\n[Service]\n{section}```\n");
        assert!(text.contains(&shown), "packaging/README.md lacks:\n{shown}");
    }
}

/// A host as `postrm purge` sees it: `/etc`, `/run` and `/var/lib` are directories of this one.
struct Host(TempDir);

impl Host {
    fn new() -> Result<Host, Skipped> {
        surroundings::as_root_with_own_mounts()?;
        surroundings::reset_signals();
        let host = Host(tempfile::tempdir().unwrap());
        for file in ["passwd", "group"] {
            host.write(&format!("etc/{file}"), "root:x:0:0:::\n");
        }
        host.write("run/pgcertd/status.json", "{}");
        host.write("var/lib/pgcertd/.servers", "");
        Ok(host)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// What pgcertd has made for an instance.
    fn deployed(&self, instance: &str) {
        for file in ["server.pem", "previous.pem", "held.json"] {
            self.write(&format!("var/lib/pgcertd/{instance}/{file}"), "");
        }
    }

    /// Purges; gives what was said.
    fn purged(&self) -> String {
        let mounted = "cd \"$1\" && for it in etc run var/lib; do mount --bind $it /$it; done; \
                       exec sh \"$2/packaging/deb/postrm\" purge";
        succeeded(
            Command::new("unshare")
                .args([
                    "--mount",
                    "--pid",
                    "--fork",
                    "--mount-proc",
                    "--propagation=private",
                ])
                .args(["sh", "-ec", mounted, "sh"])
                .args([self.0.path(), root()]),
        )
    }

    /// The files that are left in the state directory.
    fn left(&self) -> Vec<String> {
        match self.path("var/lib/pgcertd") {
            gone if !gone.exists() => Vec::new(),
            state => files(&state).into_keys().collect(),
        }
    }
}

#[test]
fn a_purge_keeps_what_a_configuration_names_and_nothing_else() {
    let host = or_skip!(Host::new());
    let here = host.0.path().to_str().unwrap().to_owned();
    let file = |instance: &str| format!("/var/lib/pgcertd/{instance}/server.pem");
    for instance in [
        "debian",
        "included",
        "linked",
        "relative",
        "auto",
        "pooler",
        "patroni",
        "commented",
        "unnamed",
    ] {
        host.deployed(instance);
    }
    let set = |path: &str, instance: &str| {
        host.write(path, &format!("ssl_cert_file = '{}'\n", file(instance)));
    };
    set("etc/postgresql/15/main/conf.d/tls.conf", "debian");
    // Data directories that the removal has written down, with their spaces.
    let servers = ["a b", "c"].map(|name| format!("{here}/data/{name}\n"));
    host.write("var/lib/pgcertd/.servers", &servers.concat());
    host.write(
        "data/a b/postgresql.conf",
        &format!("include_dir = '{here}/included'\n"),
    );
    set("included/tls.conf", "included");
    host.write("data/c/postgresql.conf", "ssl_key_file='/etc/ssl/pg.pem'\n");
    fs::create_dir(host.path("etc/ssl")).unwrap();
    symlink(file("linked"), host.path("etc/ssl/pg.pem")).unwrap();
    let up = "../".repeat(host.path("data/c").components().count() - 1);
    let relative = format!("ssl_cert_file = '{up}var/lib//pgcertd/relative/server.pem'");
    host.write("data/c/tls.conf", &relative);
    host.write("var/lib/pgcertd/clients/ca.pem", "");
    host.write("var/lib/pgcertd/clients/previous-ca.pem", "");
    let relative = format!("ssl_ca_file = '{up}var/lib//pgcertd/clients/ca.pem'");
    host.write("data/c/clients.conf", &relative);
    // The usual places, without a note of them.
    set("var/lib/postgresql/15/main/postgresql.auto.conf", "auto");
    let pooler = format!("client_tls_key_file = {}\n", file("pooler"));
    host.write("etc/pgbouncer/pgbouncer.ini", &pooler);
    let patroni = format!("restapi:\n  certfile: {}\n", file("patroni"));
    host.write("etc/patroni.yml", &patroni);
    host.write(
        "etc/x.conf",
        &format!("  # ssl_cert_file = '{}'\n", file("commented")),
    );

    let drop_ins = "etc/systemd/system/pgcertd.service.d";
    for name in ["setup-debian.conf", "override.conf"] {
        host.write(&format!("{drop_ins}/{name}"), "");
    }

    let said = host.purged();

    assert_eq!(
        files(&host.path(drop_ins)).into_keys().collect::<Vec<_>>(),
        ["override.conf"]
    );
    let kept = [
        "auto", "debian", "included", "linked", "patroni", "pooler", "relative",
    ];
    let mut left = kept.map(|text| format!("{text}/server.pem")).to_vec();
    left.insert(1, "clients/ca.pem".to_owned());
    assert_eq!(host.left(), left, "{said}");
    for instance in kept {
        assert!(said.contains(&file(instance)), "{said}");
    }
    for words in ["/etc/pgbouncer/pgbouncer.ini", "rm -r /var/lib/pgcertd"] {
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn a_purge_leaves_nothing_where_nothing_is_named() {
    let host = or_skip!(Host::new());
    host.deployed("main");
    let wanted = host.path("etc/systemd/system/multi-user.target.wants/pgcertd.service");
    fs::create_dir_all(wanted.parent().unwrap()).unwrap();
    symlink("/usr/lib/systemd/system/pgcertd.service", &wanted).unwrap();
    host.write("etc/systemd/system/pgcertd.service.d/setup-main.conf", "");
    // A directory of another user's, whose link leads out of it.
    host.write("outside/server.pem", "");
    symlink(host.path("outside"), host.path("var/lib/pgcertd/out")).unwrap();

    assert_eq!(host.purged(), "");

    assert!(!host.path("var/lib/pgcertd").exists());
    assert!(!host.path("run/pgcertd").exists());
    assert!(wanted.symlink_metadata().is_err());
    assert!(!host.path("etc/systemd/system/pgcertd.service.d").exists());
    assert!(host.path("outside/server.pem").exists());
    // Once more, with nothing there.
    assert_eq!(host.purged(), "");
}

#[test]
fn a_purge_leaves_a_state_directory_that_is_a_link_to_the_administrator() {
    let host = or_skip!(Host::new());
    fs::remove_dir_all(host.path("var/lib/pgcertd")).unwrap();
    host.write("elsewhere/main/server.pem", "");
    symlink(host.path("elsewhere"), host.path("var/lib/pgcertd")).unwrap();
    let said = host.purged();
    assert!(said.contains("/var/lib/pgcertd is a link"), "{said}");
    assert!(host.path("elsewhere/main/server.pem").exists());
}

/// `make image` builds it by an engine; here, what it is made of is held against the source.
#[test]
fn the_container_is_made_of_what_is_there() {
    let directory = root().join("packaging/container");
    let recipe = fs::read_to_string(directory.join("Containerfile")).unwrap();
    let ignored = fs::read_to_string(directory.join("Containerfile.dockerignore")).unwrap();
    let mut copied = 0;
    for line in recipe.lines().filter(|line| line.starts_with("COPY ")) {
        let words: Vec<&str> = line.split_whitespace().skip(1).collect();
        let (_, sources) = words.split_last().unwrap();
        if sources.iter().any(|word| word.starts_with("--from=")) {
            continue;
        }
        for source in sources {
            assert!(root().join(source).exists(), "{line}");
            assert!(
                ignored.lines().any(|kept| kept == format!("!{source}")),
                "{source} is ignored"
            );
            copied += 1;
        }
    }
    assert_eq!(copied, 4, "{recipe}");

    let program = env!("CARGO_BIN_EXE_pgcertd");
    let checked = Command::new(program)
        .args(["check", "--config-only", "--config"])
        .arg(directory.join("pgcertd.toml"))
        .output()
        .unwrap();
    assert!(checked.status.success(), "{checked:?}");
    // What compose has Postgres name is what the config has pgcertd write.
    let config = fs::read_to_string(directory.join("pgcertd.toml")).unwrap();
    let config: toml::Table = config.parse().unwrap();
    let instance = &config["instance"][0];
    let name = instance["name"].as_str().unwrap();
    let compose = fs::read_to_string(directory.join("compose.yaml")).unwrap();
    for setting in ["ssl_cert_file", "ssl_key_file"] {
        let named = format!("-c{setting}=/var/lib/pgcertd/{name}/server.pem");
        assert!(compose.contains(&named), "{named}");
    }
    let data_directory = instance["data_directory"].as_str().unwrap();
    assert!(compose.contains(&format!("data:{data_directory}\n")));
    // Each command is one of the program's, in the form of an array.
    for line in recipe.lines().chain(compose.lines()).map(str::trim) {
        let command = line.strip_prefix("CMD ").or(line.strip_prefix("command: "));
        let Some(words) = command.filter(|command| !command.contains("certbot")) else {
            continue;
        };
        let words: Vec<String> = serde_json::from_str(words.trim()).unwrap();
        let help = Command::new(program).args(&words).arg("--help").output();
        assert!(help.unwrap().status.success(), "{line}");
    }
}

#[test]
fn the_compose_file_is_yaml_and_gives_pgcertd_what_it_needs_and_no_more() {
    let script = "import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin), sys.stdout)";
    let file = fs::File::open(root().join("packaging/container/compose.yaml")).unwrap();
    let read = succeeded(Command::new("python3").args(["-c", script]).stdin(file));
    let compose: serde_json::Value = serde_json::from_str(&read).unwrap();
    let services = compose["services"].as_object().unwrap();
    for (name, service) in services {
        for volume in service["volumes"].as_array().unwrap() {
            let source = volume.as_str().unwrap().split(':').next().unwrap();
            assert!(compose["volumes"].get(source).is_some(), "{name}: {source}");
        }
    }
    for name in ["pgcertd-first", "pgcertd"] {
        let service = &services[name];
        let build = &service["build"];
        let context = root().join("packaging/container");
        let context = context.join(build["context"].as_str().unwrap());
        let recipe = build["dockerfile"].as_str().unwrap();
        assert!(context.join(recipe).is_file(), "{name}: {recipe}");
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(service["cap_drop"], serde_json::json!(["ALL"]), "{name}");
        let added = serde_json::json!(["DAC_READ_SEARCH"]);
        assert_eq!(service["cap_add"], added, "{name}");
    }
    // Whose end is not Postgres's end; so it is reached by the name of its service.
    assert_eq!(services["pgcertd"]["pid"], "host");
    assert!(services["pgcertd"].get("network_mode").is_none());
    let config = fs::read_to_string(root().join("packaging/container/pgcertd.toml")).unwrap();
    let config: toml::Table = config.parse().unwrap();
    let address = config["instance"][0]["address"].as_str().unwrap();
    let (service, port) = address.split_once(':').unwrap();
    assert!(services.contains_key(service), "{address}");
    assert_eq!(port, "5432");
}
