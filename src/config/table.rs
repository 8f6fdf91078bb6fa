//! Tables as they are written: every key may be absent, and every value knows where it stands.
//!
//! Plain structs alone, since spans get lost in tagged, untagged and flattened types.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use toml::Spanned;

use super::document::{At, TomlFile};

/// Declares a table and its keys, each once:
///
/// ```text
/// /// `[watch]`.
/// WrittenWatch, expected "one table, [watch]" {
///     /// What pgcertd.toml(5) and the schema say of the key. An empty line starts a new paragraph.
///     poll: PositiveDuration, otherwise("off"), example(r#""1m""#);
/// }
/// ```
///
/// A key that is not written
/// - has a value, with `default(VALUE)`: `table.key()` is the written value or this one;
/// - counts `as_if("TEXT")` were written, which is for the code to apply;
/// - means what the words in `otherwise("WORDS")` say;
/// - is `needed`, which is for the code to demand.
///
/// In the last three `table.key()` is an `Option`, and its value has the place where it is written.
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

        impl $crate::config::table::Shape for $table {
            const EXPECTED: &'static str = $expected;
        }

        #[cfg(test)]
        impl $crate::config::keys::Described for $table {
            fn keys() -> Vec<$crate::config::keys::Key> {
                vec![$($crate::config::keys::Key {
                    name: stringify!($key),
                    holds: <$type as $crate::config::keys::Value>::holds(),
                    unless: $crate::config::table::table!(@unless $unless $(($default))?),
                    what: $crate::config::keys::paragraphs(&[$($says),+]),
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
    (@unless default($value:expr)) => { $crate::config::keys::Unless::is(&$value) };
    (@unless as_if($text:expr)) => { $crate::config::keys::Unless::Is($text.to_string()) };
    (@unless otherwise($words:expr)) => { $crate::config::keys::Unless::Else($words) };
    (@unless needed) => { $crate::config::keys::Unless::Needed };
}

pub(super) use table;

/// The keys of a table; those of an instance above those of `[defaults]`, each key as a whole.
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

    pub(super) fn find<V>(&self, key: fn(&T) -> &Option<Spanned<V>>) -> Option<At<'a, V>> {
        let own = key(self.table).as_ref();
        let own = own.map(|written| At::new(self.document, written));
        own.or_else(|| {
            let (table, document) = self.defaults?;
            Some(At::new(document, key(table).as_ref()?))
        })
    }
}

/// A struct that is read from a table alone; serde would take an array for one as well, field by field.
#[derive(Default)]
pub(super) struct Table<T>(pub(super) T);

/// What a table looks like to the person who writes it.
pub(super) trait Shape {
    const EXPECTED: &'static str;
}

impl<'a, T> At<'a, Table<T>> {
    pub(super) fn keys(&self) -> Keys<'a, T> {
        Keys::new(&self.value.0, self.location.document)
    }
}

impl<'de, T: Shape + Deserialize<'de>> Deserialize<'de> for Table<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TableAlone<T>(PhantomData<T>);
        impl<'de, T: Shape + Deserialize<'de>> Visitor<'de> for TableAlone<T> {
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

/// The tables in double brackets, each with its place.
#[derive(Default)]
pub(super) struct Instances<T>(pub(super) Vec<Spanned<Table<T>>>);

impl<'de, T: Shape + Deserialize<'de>> Deserialize<'de> for Instances<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ArrayOfTables<T>(PhantomData<T>);
        impl<'de, T: Shape + Deserialize<'de>> Visitor<'de> for ArrayOfTables<T> {
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
