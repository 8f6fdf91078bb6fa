//! The configuration as a JSON schema: draft 7, the newest that taplo takes.
//!
//! It takes every configuration that pgcertd takes and that is written as the manual says; it is for an editor to
//! complete and to underline. What only shows when two keys or two instances are compared is for `check`.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::Made;
use crate::config::keys::described::{Described, Holds, Key, Unless};
use crate::config::keys::{
    OWN, WrittenConfig, WrittenInstance, WrittenMetrics, WrittenNotify, WrittenWatch,
};

/// A number and a unit, once or several times: `200ms`, `1h 30m`. The unit may be written out.
const DURATION: &str = r"^([0-9]+([.][0-9]+)? *(w|d|h|m|s|ms|us|µs|ns)[a-z]*,? *)+$";

/// The schemas of the file and of a fragment in `conf.d`.
pub(super) fn all() -> Vec<Made> {
    let made = |name: &str, schema: &Value| Made {
        path: format!("config/{name}"),
        content: format!("{schema:#}\n"),
    };
    vec![
        made("pgcertd.schema.json", &of_config()),
        made("pgcertd-fragment.schema.json", &of_fragment()),
    ]
}

fn of_config() -> Value {
    let mut properties = properties(&WrittenConfig::keys());
    properties.insert(
        "watch".into(),
        described(
            table(&WrittenWatch::keys()),
            "What is watched, and how often it is checked.",
        ),
    );
    properties.insert(
        "metrics".into(),
        described(
            table(&WrittenMetrics::keys()),
            "Where the metrics are available.",
        ),
    );
    properties.insert(
        "notify".into(),
        described(
            table(&WrittenNotify::keys()),
            "Who is notified of what, by pgcertd notify.",
        ),
    );
    let shared: Vec<Key> = WrittenInstance::keys()
        .into_iter()
        .filter(|key| !OWN.contains(&key.name))
        .collect();
    properties.insert(
        "defaults".into(),
        described(
            table(&shared),
            "Any key of an instance except name, lineage, data_directory and config_file, for instances that do not set it.",
        ),
    );
    properties.insert("instance".into(), instances());
    document("pgcertd.toml", properties)
}

fn of_fragment() -> Value {
    let properties = Map::from_iter([("instance".into(), instances())]);
    document("a fragment in conf.d of pgcertd", properties)
}

fn document(title: &str, properties: Map<String, Value>) -> Value {
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": title,
        "description": "See pgcertd.toml(5).",
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    })
}

fn instances() -> Value {
    let mut instance = table(&WrittenInstance::keys());
    // Which of the two goes with which `kind` is for pgcertd to say: that may stand in [defaults].
    instance["required"] = json!(["name", "lineage"]);
    instance["oneOf"] = json!([
        { "required": ["data_directory"] },
        { "required": ["config_file"] },
    ]);
    json!({
        "description": "One table per server.",
        "type": "array",
        "items": described(instance, "One server."),
    })
}

fn table(keys: &[Key]) -> Value {
    let needed: Vec<_> = keys
        .iter()
        .filter(|key| matches!(key.unless, Unless::Required))
        .map(|key| key.name)
        .collect();
    let mut table = json!({
        "type": "object",
        "properties": properties(keys),
        "additionalProperties": false,
    });
    if !needed.is_empty() {
        table["required"] = json!(needed);
    }
    table
}

fn properties(keys: &[Key]) -> Map<String, Value> {
    keys.iter()
        .map(|key| (key.name.to_owned(), property(key)))
        .collect()
}

fn property(key: &Key) -> Value {
    let mut says = key.what.join("\n\n").replace('`', "");
    if let Some(expected) = key.holds.expected() {
        says += &format!("\n\nExpected: {}.", expected.replace('`', ""));
    }
    let mut property = value(&key.holds);
    match &key.unless {
        Unless::Required => {}
        Unless::Else(words) => says += &format!("\n\nDefault: {words}."),
        Unless::Is(default) if default.contains("NAME") => {
            says += &format!("\n\nDefault: {default}, with the instance's name.");
        }
        Unless::Is(default) => property["default"] = parsed(default),
    }
    property["examples"] = json!([parsed(key.example)]);
    described(property, &says)
}

fn described(mut schema: Value, says: &str) -> Value {
    schema["description"] = json!(says);
    schema
}

/// A value as it is written, in JSON.
fn parsed(written: &str) -> Value {
    let table: Result<Map<String, Value>, _> = toml::from_str(&format!("it = {written}"));
    table
        .ok()
        .and_then(|mut table| table.remove("it"))
        .unwrap_or_else(|| panic!("{written} is no TOML"))
}

/// What a value may be.
fn value(holds: &Holds) -> Value {
    let text = |pattern: &str| json!({ "type": "string", "pattern": pattern });
    let path = json!({ "type": "string", "minLength": 1 });
    match holds {
        Holds::Path => path,
        Holds::Paths => json!({ "type": "array", "items": path }),
        Holds::Target => text("[^/]$"),
        Holds::Name => text("^[A-Za-z0-9_][A-Za-z0-9._-]*$"),
        Holds::Lineage => json!({
            "type": "string",
            "pattern": "^(/.*|[^/]+)$",
            "not": { "enum": [".", ".."] },
        }),
        Holds::Duration => text(DURATION),
        Holds::Longer => json!({
            "type": "string",
            "pattern": DURATION,
            "not": { "pattern": "^[^1-9]*$" },
        }),
        Holds::Choice(choices) => {
            let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
            json!({ "type": "string", "enum": names })
        }
        Holds::Choices(choices) => {
            let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
            json!({ "type": "array", "items": { "type": "string", "enum": names } })
        }
        Holds::Hosts => json!({ "type": "array", "items": text("^[A-Za-z0-9._:-]+$") }),
        Holds::Command => json!({
            "type": "array",
            "items": { "type": "string" },
            "minItems": 1,
        }),
        Holds::Account => json!({
            "anyOf": [
                text("^[^ :/]+$"),
                { "type": "integer", "minimum": 0, "maximum": u32::MAX - 1 },
            ],
        }),
        Holds::Address => {
            text(r"^([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]+)?$|^[0-9A-Fa-f]*:[0-9A-Fa-f:.]+$")
        }
        Holds::Inside => json!({
            "type": "string",
            "pattern": "^[^/].*$",
            "not": { "pattern": r"(^|/)[.][.](/|$)|/$|^[.]/" },
        }),
        Holds::Source => json!({
            "type": "string",
            "pattern": "[^/]$",
            "not": { "pattern": r"^[.][.]?(/|$)|^[^/].*/[.][.](/|$)" },
        }),
        Holds::Listen => {
            text(r"^(127[.][0-9.]+:[0-9]+|\[[0-9:]*1\]:[0-9]+|unix:.*[^/]|[^:]*/.*[^/])$")
        }
        Holds::Textfile => text("[^/][.]prom$"),
        Holds::Table(keys) => table(keys),
    }
}

/// One of the two schemas, ready to be held against configurations.
pub(crate) struct Schema {
    known: boon::Schemas,
    root: boon::SchemaIndex,
}

/// That of the file itself.
pub(crate) static OF_CONFIG: LazyLock<Schema> = LazyLock::new(|| Schema::new(of_config()));

pub(crate) static OF_FRAGMENT: LazyLock<Schema> = LazyLock::new(|| Schema::new(of_fragment()));

impl Schema {
    fn new(schema: Value) -> Schema {
        let mut known = boon::Schemas::new();
        let mut compiler = boon::Compiler::new();
        if let Err(error) = compiler.add_resource("schema.json", schema) {
            panic!("the schema is no JSON schema: {error:#}");
        }
        match compiler.compile("schema.json", &mut known) {
            Ok(root) => Schema { known, root },
            Err(error) => panic!("the schema is wrong: {error:#}"),
        }
    }

    /// What it has against a text; nothing where it takes it.
    pub(crate) fn objection(&self, text: &str) -> Option<String> {
        let written: Value = match toml::from_str(text) {
            Ok(written) => written,
            Err(error) => return Some(error.to_string()),
        };
        let refused = self.known.validate(&written, self.root).err();
        refused.map(|error| error.to_string())
    }
}
