//! Types of values that are written as a string, and cannot hold a wrong one.

use std::fmt;

pub(super) use serde::de::value::Error as ValueError;
use serde::de::{Deserializer, Error, Unexpected, Visitor};

/// What an error says was expected where a value is not a string at all.
pub(super) const STRING: &str = "a string";

/// What is wrong with a value that has the right TOML type, to be read after the value, and what was expected.
/// `document` adds the value.
pub(super) fn wrong<E: Error>(says: impl fmt::Display, expected: &str) -> E {
    E::invalid_value(Unexpected::Other(&says.to_string()), &expected)
}

/// Reads a string by `read`; in place of another type, `expected` was expected.
pub(super) fn deserialize<'de, T, D: Deserializer<'de>>(
    deserializer: D,
    expected: &str,
    read: impl Fn(&str) -> Result<T, ValueError>,
) -> Result<T, D::Error> {
    /// Reads in the visitor: in an array, an error that is raised later points at the whole array.
    struct Text<'a, F>(&'a str, F);
    impl<T, F: Fn(&str) -> Result<T, ValueError>> Visitor<'_> for Text<'_, F> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
            self.1(text).map_err(E::custom)
        }
    }
    deserializer.deserialize_str(Text(expected, read))
}

/// Declares types of values: what each holds, the function that reads it, and what was expected in place of another
/// TOML type.
macro_rules! text_values {
    ($($(#[doc = $says:literal])+ $name:ident($holds:ty) = $read:ident, $expected:expr;)+) => {$(
        $(#[doc = $says])+
        #[derive(Clone)]
        pub(super) struct $name(pub(super) $holds);

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::config::from_text::deserialize(deserializer, $expected, $read).map(Self)
            }
        }
    )+};
}

/// Declares an enum whose variants are written as strings. Their docs are what the manual says of them.
macro_rules! choices {
    (
        $(#[$attribute:meta])*
        $visibility:vis enum $name:ident {
            $($(#[doc = $says:literal])+ $variant:ident = $written:literal,)+
        }
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        $visibility enum $name {
            $($(#[doc = $says])+ $variant,)+
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                use serde::de::Error;
                use $crate::config::from_text::{STRING, ValueError, deserialize};

                deserialize(deserializer, STRING, |text| match text {
                    $($written => Ok(Self::$variant),)+
                    _ => Err(ValueError::unknown_variant(text, &[$($written),+])),
                })
            }
        }

        #[cfg(test)]
        impl $crate::config::keys::described::Choice for $name {
            const ALL: &'static [(Self, &'static str, &'static [&'static str])] =
                &[$((Self::$variant, $written, &[$($says),+])),+];
        }
    };
}

pub(super) use {choices, text_values};
