//! The model configuration does not drift from what is read.

use std::fs;
use std::path::Path;

use super::{Written, load};
use crate::config::{Config, Mode, Reload, ServerKind};

#[expect(clippy::expect_used, reason = "the model is part of the repository")]
fn model() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/pgcertd.toml");
    fs::read_to_string(file).expect("the model")
}

/// The model with each key and table that is commented out in force.
fn enabled() -> String {
    let enable = |line: &str| match line.strip_prefix("# ") {
        Some(rest) if is_key(rest) || rest == "[[instance]]" => rest.to_owned(),
        _ => line.to_owned(),
    };
    model().lines().map(|line| enable(line) + "\n").collect()
}

fn is_key(line: &str) -> bool {
    line.split_once(" = ").is_some_and(|(key, _)| {
        key.bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    })
}

#[test]
fn the_model_loads_as_it_is_shipped_and_says_the_defaults() {
    let config = load(&model());
    assert!(config.instances.is_empty());
    let empty = load("");
    assert_eq!(config.watch, empty.watch);
    assert_eq!(config.state_directory, empty.state_directory);
    assert_eq!(config.notify, empty.notify);
}

#[test]
fn the_model_loads_with_every_key_in_force_and_shows_the_defaults() {
    let config = load(&enabled());
    let empty = load("");
    assert!(config.watch.poll.is_some());
    let watch = crate::config::WatchConfig {
        poll: None,
        ..config.watch
    };
    assert_eq!(watch, empty.watch);
    assert_eq!(config.state_directory, empty.state_directory);
    assert_eq!(config.runtime_directory, empty.runtime_directory);
    assert!(config.notify.command.is_some());
    let notify = crate::config::Notify {
        command: None,
        ..config.notify
    };
    assert_eq!(notify, empty.notify);

    let [main, reports, pooler, rest_api] = config.instances.as_slice() else {
        panic!("four instances: {:?}", config.instances);
    };
    let bare: Config = load(
        "[[instance]]\nname = \"16-main\"\nlineage = \"postgres.example.com\"\n\
         data_directory = \"/var/lib/postgresql/16/main\"",
    );
    // The three keys that the model marks as examples.
    let mut expected = bare.instances[0].clone();
    expected.server_names.clone_from(&main.server_names);
    expected.address.clone_from(&main.address);
    expected.expiry = main.expiry;
    assert_eq!(*main, expected);
    assert_eq!(main.server_names.len(), 1);
    assert!(main.address.is_some());
    assert!(!main.expiry.are_usual());

    assert_eq!(reports.mode, Mode::Manage);
    assert!(matches!(&reports.reload, Reload::Command(words) if words[0] == "podman"));
    assert!(!reports.single_file() && reports.files.is_some());
    assert_eq!(pooler.kind(), ServerKind::PgBouncer);
    assert_eq!(pooler.home(), Path::new("/etc/pgbouncer/pgbouncer.ini"));
    assert_eq!(rest_api.kind(), ServerKind::Patroni);
    assert_eq!(rest_api.home(), Path::new("/etc/patroni/config.yml"));
}

#[test]
fn the_model_shows_every_key_that_is_read() {
    let enabled = enabled();
    for table in [
        "",
        "[watch]\n",
        "[metrics]\n",
        "[notify]\n",
        "[[instance]]\n",
    ] {
        let error = Written::new(format!("{table}x = 1")).error();
        let keys = error
            .note()
            .trim_start_matches("expected one of: ")
            .to_owned();
        for key in keys.split(", ") {
            let shown = enabled.lines().any(|line| {
                line.starts_with(&format!("{key} = ")) || line.trim_matches(['[', ']']) == key
            });
            assert!(shown, "the model does not show {key}");
        }
    }
}
