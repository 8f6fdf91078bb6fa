//! The description of the keys is true of what is read.

use proptest::prelude::*;

use super::{Written, instance, load};
use crate::config::Config;
use crate::config::keys::described::{Described, Holds, Key, Unless};
use crate::config::keys::{
    OWN, WrittenConfig, WrittenInstance, WrittenMetrics, WrittenNotify, WrittenWatch,
};

/// A configuration in which a key of an instance has a value, with what that value needs.
fn of_a(key: &str, value: &str) -> String {
    let bare = instance("a");
    let line = format!("{key} = {value}");
    let with = match (key, value) {
        ("reload", "\"command\"") => "reload_command = [\"true\"]\n",
        ("reload_command", _) => "reload = \"command\"\n",
        ("ca_file" | "crl_source", _) => "ca_source = \"ca.crt\"\n",
        ("crl_file", _) => "ca_source = \"ca.crt\"\ncrl_source = \"crl.pem\"\n",
        ("config_file", _) => "kind = \"pgbouncer\"\n",
        ("kind", "\"pgbouncer\"" | "\"patroni\"") => "config_file = \"/etc/a.conf\"\n",
        _ => "",
    };
    let is_other = key == "config_file" || with.starts_with("config_file");
    let lines = bare
        .lines()
        .filter(|written| !written.starts_with(&format!("{key} =")))
        .filter(|written| !(is_other && written.starts_with("data_directory =")));
    let lines: Vec<&str> = lines.chain([line.as_str()]).collect();
    format!("{}\n{with}", lines.join("\n"))
}

/// Writes a configuration in which a key has a value.
type With = fn(&str, &str) -> String;

/// Each key, and what writes a configuration with it.
fn all() -> Vec<(Key, With)> {
    let mut all: Vec<(Key, With)> = Vec::new();
    for key in WrittenConfig::keys() {
        all.push((key, |key, value| {
            format!("{key} = {value}\n{}", instance("a"))
        }));
    }
    for key in WrittenWatch::keys() {
        all.push((key, |key, value| {
            format!("{}[watch]\n{key} = {value}\n", instance("a"))
        }));
    }
    for key in WrittenMetrics::keys() {
        all.push((key, |key, value| {
            format!("{}[metrics]\n{key} = {value}\n", instance("a"))
        }));
    }
    for key in WrittenNotify::keys() {
        all.push((key, |key, value| {
            format!("{}[notify]\n{key} = {value}\n", instance("a"))
        }));
    }
    for key in WrittenInstance::keys() {
        all.push((key, of_a));
    }
    all
}

/// The same configuration, whatever file it was in.
fn told(text: &str) -> String {
    let config = load(text);
    let file = std::path::PathBuf::new();
    format!("{:#?}", Config { file, ..config })
}

#[test]
fn every_default_that_is_told_is_the_one_that_applies() {
    for (key, with) in all() {
        if let Unless::Is(default) = &key.unless {
            let written = with(key.name, &default.replace("NAME", "a"));
            assert_eq!(told(&written), told(&instance("a")), "{}", key.name);
        }
    }
}

#[test]
fn every_key_that_is_needed_is_told_to_be() {
    for (key, with) in all() {
        let text = with("#", "1").replace(&format!("{} =", key.name), "#");
        let needed = Written::new(text).load().is_err();
        assert_eq!(
            needed,
            matches!(key.unless, Unless::Required),
            "{}",
            key.name
        );
    }
}

#[test]
fn every_example_is_taken_and_is_no_default() {
    for (key, with) in all() {
        let taken = told(&with(key.name, key.example));
        let default = taken == told(&instance("a"));
        assert!(!default, "{}", key.name);
    }
}

#[test]
fn every_choice_is_taken() {
    for (key, with) in all() {
        let (choices, open, close) = match &key.holds {
            Holds::Choice(choices) => (choices, "\"", "\""),
            Holds::Choices(choices) => (choices, "[\"", "\"]"),
            _ => continue,
        };
        for (choice, _) in choices {
            load(&with(key.name, &format!("{open}{choice}{close}")));
        }
    }
}

#[test]
fn the_defaults_take_every_key_but_an_instances_own() {
    for key in WrittenInstance::keys() {
        let with = match key.name {
            "reload_command" => "reload = \"command\"\n",
            "ca_file" | "crl_source" => "ca_source = \"ca.crt\"\n",
            "crl_file" => "ca_source = \"ca.crt\"\ncrl_source = \"crl.pem\"\n",
            _ => "",
        };
        let text = format!("[defaults]\n{with}{} = {}\n", key.name, key.example);
        let taken = Written::new(text).load().is_ok();
        assert_eq!(taken, !OWN.contains(&key.name), "{}", key.name);
    }
}

#[test]
fn what_is_expected_is_what_an_error_says() {
    for (key, with) in all() {
        let bad = match &key.holds {
            Holds::Path | Holds::Target => "\"\"",
            Holds::Paths => "[\"\"]",
            Holds::Name => "\"a/b\"",
            Holds::Lineage => "\"a/b\"",
            Holds::Source => "\"../ca.pem\"",
            Holds::Duration | Holds::Longer | Holds::Choice(_) => "\"x\"",
            Holds::Choices(_) => "[\"x\"]",
            Holds::Hosts => "[\"a b\"]",
            Holds::Command => "[]",
            Holds::Account => "\"a:b\"",
            Holds::Address => "\"/run\"",
            Holds::Listen => "\"x\"",
            Holds::Textfile => "\"/x\"",
            Holds::Inside | Holds::Table(_) => continue,
        };
        let note = Written::new(with(key.name, bad)).error().note().to_owned();
        let told = key.holds.expected().unwrap_or_default();
        // That it is a path is said before that it is a file; that it is longer than zero, once it is a duration.
        let told = match &key.holds {
            Holds::Target => "a path",
            _ => told.trim_end_matches(", longer than zero"),
        };
        assert_eq!(note, format!("expected {told}"), "{}", key.name);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// `load` holds the schema against each.
    #[test]
    fn what_is_taken_the_schema_takes_as_well(
        delay in "([0-9]{1,2}([.][0-9])? ?(w|d|h|m|s|ms|us|ns|weeks|days?|hrs|min|secs|millis)(,? )?){1,3}",
        address in "[a-z0-9._:-]{1,12}(:[0-9]{1,5})?|\\[[0-9a-f:.]{2,9}\\](:[0-9]{1,6})?|[0-9a-f:.]{2,12}",
        host in "[a-zA-Z0-9._:*-]{1,12}",
        file in "[a-z./]{1,8}",
    ) {
        let values = [
            ("delay", format!("\"{delay}\"")),
            ("verify_timeout", format!("\"{delay}\"")),
            ("address", format!("\"{address}\"")),
            ("server_names", format!("[\"{host}\"]")),
            ("lineage", format!("\"{file}\"")),
            ("cert_file", format!("\"{file}\"")),
            ("ca_source", format!("\"{file}\"")),
            ("files", format!("{{ chain = \"{file}\", key = \"k\" }}")),
        ];
        for (key, value) in values {
            let _ = Written::new(of_a(key, &value)).load().map_err(|error| error.to_string());
        }
    }
}
