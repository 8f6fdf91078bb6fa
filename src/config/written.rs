//! The configuration as it is written: every key optional, every value with its span.
//!
//! Plain structs alone, since spans get lost in tagged, untagged and flattened types. What a key may hold is
//! for `validate` to say; here it has the right TOML type, and no key is unknown.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Unexpected, Visitor};
use toml::Spanned;

use super::expected;

/// A key that may be absent.
pub(super) type Key<T> = Option<Spanned<T>>;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Root {
    pub(super) state_directory: Key<String>,
    pub(super) runtime_directory: Key<String>,
    pub(super) watch: Option<Table<WrittenWatch>>,
    pub(super) metrics: Option<Table<WrittenMetrics>>,
    pub(super) defaults: Option<Table<Keys>>,
    pub(super) notify: Option<Table<WrittenNotify>>,
    #[serde(default)]
    pub(super) instance: Instances,
}

/// A file in `conf.d`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenFragment {
    #[serde(default)]
    pub(super) instance: Instances,
}

/// `[watch]`.
#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenWatch {
    pub(super) directories: Option<Vec<Spanned<String>>>,
    pub(super) debounce: Key<Text>,
    pub(super) settle_timeout: Key<Text>,
    pub(super) resync: Key<Text>,
    pub(super) poll: Key<Text>,
}

/// `[metrics]`.
#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenMetrics {
    pub(super) listen: Key<String>,
    pub(super) textfile: Key<String>,
}

/// `[notify]`.
#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenNotify {
    pub(super) command: Key<Vec<Spanned<String>>>,
    pub(super) timeout: Key<Text>,
    pub(super) on: Key<Vec<Spanned<String>>>,
    pub(super) after: Key<Text>,
    pub(super) repeat: Key<Text>,
    pub(super) state_directory: Key<String>,
}

/// `[defaults]` and `[[instance]]`, which hold the same keys.
#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Keys {
    pub(super) name: Key<String>,
    pub(super) lineage: Key<String>,
    pub(super) data_directory: Key<String>,
    pub(super) config_file: Key<String>,
    pub(super) cert_file: Key<String>,
    pub(super) key_file: Key<String>,
    pub(super) ca_source: Key<String>,
    pub(super) ca_file: Key<String>,
    pub(super) crl_source: Key<String>,
    pub(super) crl_file: Key<String>,
    pub(super) kind: Key<String>,
    pub(super) server_names: Key<Vec<Spanned<String>>>,
    pub(super) mode: Key<String>,
    pub(super) reload: Key<String>,
    pub(super) reload_command: Key<Vec<Spanned<String>>>,
    pub(super) owner: Key<WrittenAccount>,
    pub(super) group: Key<WrittenAccount>,
    pub(super) address: Key<String>,
    pub(super) verify: Key<String>,
    pub(super) verify_timeout: Key<Text>,
    pub(super) delay: Key<Text>,
    pub(super) files: Key<Table<WrittenFiles>>,
    pub(super) expiry: Key<Table<WrittenExpiry>>,
}

/// `files`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenFiles {
    pub(super) chain: Spanned<String>,
    pub(super) key: Spanned<String>,
}

/// `expiry`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenExpiry {
    pub(super) warn: Key<Text>,
    pub(super) critical: Key<Text>,
}

/// A duration, not yet parsed. A type of its own, so that a number in its place is answered with what a
/// duration looks like.
pub(super) struct Text(pub(super) String);

/// A user or group by name or number.
pub(super) enum WrittenAccount {
    Name(String),
    Id(i64),
}

/// The `[[instance]]` tables.
#[derive(Default)]
pub(super) struct Instances(pub(super) Vec<Spanned<Table<Keys>>>);

/// A struct that is read from a table alone; serde would take an array for one as well, field by field.
pub(super) struct Table<T>(pub(super) T);

/// What a struct looks like to the person who writes it.
trait Shape {
    const EXPECTED: &'static str;
}

impl Shape for WrittenWatch {
    const EXPECTED: &'static str = "one table, [watch]";
}

impl Shape for WrittenMetrics {
    const EXPECTED: &'static str = "one table, [metrics]";
}

impl Shape for WrittenNotify {
    const EXPECTED: &'static str = "one table, [notify]";
}

impl Shape for Keys {
    const EXPECTED: &'static str = "a table: one [defaults], or [[instance]] for each";
}

impl Shape for WrittenFiles {
    const EXPECTED: &'static str =
        "a table, such as { chain = \"fullchain.pem\", key = \"privkey.pem\" }";
}

impl Shape for WrittenExpiry {
    const EXPECTED: &'static str = "a table, such as { warn = \"21d\", critical = \"7d\" }";
}

impl<'de, T: Shape + Deserialize<'de>> Deserialize<'de> for Table<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read<T>(PhantomData<T>);
        impl<'de, T: Shape + Deserialize<'de>> Visitor<'de> for Read<T> {
            type Value = Table<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(T::EXPECTED)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Table)
            }
        }
        deserializer.deserialize_map(Read(PhantomData))
    }
}

impl<'de> Deserialize<'de> for Instances {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Instances;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("[[instance]], in double brackets, for each instance")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Instances, A::Error> {
                let mut tables = Vec::new();
                while let Some(table) = seq.next_element()? {
                    tables.push(table);
                }
                Ok(Instances(tables))
            }
        }
        deserializer.deserialize_seq(Read)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl Visitor<'_> for Read {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(expected::DURATION)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.to_owned()))
            }
        }
        deserializer.deserialize_str(Read)
    }
}

impl<'de> Deserialize<'de> for WrittenAccount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl Visitor<'_> for Read {
            type Value = WrittenAccount;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name in quotes or a number")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<WrittenAccount, E> {
                Ok(WrittenAccount::Name(name.to_owned()))
            }

            fn visit_i64<E: Error>(self, id: i64) -> Result<WrittenAccount, E> {
                Ok(WrittenAccount::Id(id))
            }

            fn visit_u64<E: Error>(self, id: u64) -> Result<WrittenAccount, E> {
                i64::try_from(id)
                    .map(WrittenAccount::Id)
                    .map_err(|_| E::invalid_value(Unexpected::Unsigned(id), &self))
            }
        }
        deserializer.deserialize_any(Read)
    }
}
