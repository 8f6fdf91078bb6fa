//! Tables as they are written: any key may be missing, and every value knows its location.
//!
//! They are plain structs, since tagged, untagged and flattened types lose the spans.

use std::fmt;
use std::iter;
use std::marker::PhantomData;
use std::ops::Range;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use toml::Spanned;

use super::document::{At, Location, TomlFile};

/// Declares a table and its keys, each once:
///
/// ```text
/// /// `[watch]`.
/// WrittenWatch, expected "one table, [watch]" {
///     /// What pgcertd.toml(5) and the schema say about the key. An empty line starts a new paragraph.
///     poll: PositiveDuration, otherwise("off"), example(r#""1m""#);
/// }
/// ```
///
/// [`Keys`] of the table then has a method for each key, here `poll()`. If the key is not written:
///
/// | declared | meaning | the method returns |
/// | --- | --- | --- |
/// | `default(VALUE)` | it has this value | the value or the default |
/// | `as_if("TEXT")` | the same as if this were written; the code applies it | `Option<At<..>>` |
/// | `otherwise("WORDS")` | what the words say | `Option<At<..>>` |
/// | `required` | it is an error; the code checks it | `Option<At<..>>` |
macro_rules! table {
    (
        $(#[doc = $about:literal])+
        $table:ident, expected $expected:literal {
            $(
                $(#[doc = $says:literal])+
                $key:ident: $type:ty, $unless:ident $(($default:expr))?, example($example:literal);
            )+
        }
        $(tables { $($inner:ident: $inner_type:ty,)+ })?
    ) => {
        $(#[doc = $about])+
        #[derive(Default, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct $table {
            $($(#[doc = $says])+ $key: Option<toml::Spanned<$type>>,)+
            $($(#[serde(default)] pub(in crate::config) $inner: $inner_type,)+)?
        }

        impl<'a> $crate::config::table::Keys<'a, $table> {
            $($crate::config::table::table!(@read $unless $table $key: $type $(, $default)?);)+
        }

        impl $crate::config::table::WrittenTable for $table {
            const EXPECTED: &'static str = $expected;

            fn span(&self, key: &str) -> Option<std::ops::Range<usize>> {
                match key {
                    $(stringify!($key) => self.$key.as_ref().map(toml::Spanned::span),)+
                    _ => None,
                }
            }
        }

        #[cfg(test)]
        impl $crate::config::keys::described::Described for $table {
            fn keys() -> Vec<$crate::config::keys::described::Key> {
                vec![$($crate::config::keys::described::Key {
                    name: stringify!($key),
                    holds: <$type as $crate::config::keys::described::Value>::holds(),
                    unless: $crate::config::table::table!(@unless $unless $(($default))?),
                    what: $crate::config::keys::described::paragraphs(&[$($says),+]),
                    example: $example,
                }),+]
            }
        }
    };
    (@read default $table:ident $key:ident: $type:ty, $default:expr) => {
        pub(in crate::config) fn $key(&self) -> $type {
            self.find(|table: &$table| &table.$key)
                .map_or_else(|| $default, |written| written.value.clone())
        }
    };
    (@read $unless:ident $table:ident $key:ident: $type:ty $(, $default:expr)?) => {
        pub(in crate::config) fn $key(&self) -> Option<$crate::config::document::At<'a, $type>> {
            self.find(|table: &$table| &table.$key)
        }
    };
    (@unless default($value:expr)) => { $crate::config::keys::described::Unless::is(&$value) };
    (@unless as_if($text:expr)) => { $crate::config::keys::described::Unless::Is($text.to_string()) };
    (@unless otherwise($words:expr)) => { $crate::config::keys::described::Unless::Else($words) };
    (@unless required) => { $crate::config::keys::described::Unless::Required };
}

pub(super) use table;

/// The keys of a table. Those of an instance go before those of `[defaults]`, each as a whole.
pub(super) struct Keys<'a, T> {
    table: &'a T,
    document: &'a TomlFile,
    defaults: Option<(&'a T, &'a TomlFile)>,
}

impl<'a, T> Keys<'a, T> {
    pub(super) fn new(table: &'a T, document: &'a TomlFile) -> Self {
        Self {
            table,
            document,
            defaults: None,
        }
    }

    /// The same table, completed from `defaults`.
    pub(super) fn above(self, defaults: &Keys<'a, T>) -> Self {
        Self {
            defaults: Some((defaults.table, defaults.document)),
            ..self
        }
    }

    /// The same table, without its defaults.
    pub(super) fn own(&self) -> Self {
        Self::new(self.table, self.document)
    }

    /// The tables to look for a key in, in order.
    fn layers(&self) -> impl Iterator<Item = (&'a T, &'a TomlFile)> {
        iter::once((self.table, self.document)).chain(self.defaults)
    }

    /// Used by the methods that [`table!`] declares.
    pub(super) fn find<V>(&self, key: fn(&T) -> &Option<Spanned<V>>) -> Option<At<'a, V>> {
        self.layers()
            .find_map(|(table, document)| Some(At::new(document, key(table).as_ref()?)))
    }
}

impl<'a, T: WrittenTable> Keys<'a, T> {
    /// Where the value of a key is.
    pub(super) fn location(&self, key: &str) -> Option<Location<'a>> {
        self.layers()
            .find_map(|(table, document)| Some(document.at(table.span(key)?)))
    }

    /// The first of these keys that is written.
    pub(super) fn first_of(&self, keys: &[&'static str]) -> Option<(&'static str, Location<'a>)> {
        let mut keys = keys.iter();
        keys.find_map(|key| Some((*key, self.location(key)?)))
    }
}

/// A struct that is only read from a table; serde would accept an array as well, field by field.
#[derive(Default)]
pub(super) struct Table<T>(pub(super) T);

/// A table that is declared by [`table!`].
pub(super) trait WrittenTable {
    /// What an error says was expected if it is not a table.
    const EXPECTED: &'static str;

    /// Where the value of a key is.
    fn span(&self, key: &str) -> Option<Range<usize>>;
}

impl<'a, T> At<'a, Table<T>> {
    pub(super) fn keys(&self) -> Keys<'a, T> {
        Keys::new(&self.value.0, self.location.document)
    }
}

impl<'de, T: WrittenTable + Deserialize<'de>> Deserialize<'de> for Table<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TableAlone<T>(PhantomData<T>);
        impl<'de, T: WrittenTable + Deserialize<'de>> Visitor<'de> for TableAlone<T> {
            type Value = Table<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(T::EXPECTED)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Table)
            }
        }
        deserializer.deserialize_map(TableAlone(PhantomData))
    }
}

/// The tables in double brackets, each with its location.
#[derive(Default)]
pub(super) struct Instances<T>(pub(super) Vec<Spanned<Table<T>>>);

impl<'de, T: WrittenTable + Deserialize<'de>> Deserialize<'de> for Instances<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ArrayOfTables<T>(PhantomData<T>);
        impl<'de, T: WrittenTable + Deserialize<'de>> Visitor<'de> for ArrayOfTables<T> {
            type Value = Instances<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("[[instance]], in double brackets, for each instance")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(Instances)
            }
        }
        deserializer.deserialize_seq(ArrayOfTables(PhantomData))
    }
}
