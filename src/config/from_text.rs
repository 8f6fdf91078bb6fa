//! Types for values that are written as strings. What they hold is valid.

use std::fmt;

pub(super) use serde::de::value::Error as ValueError;
use serde::de::{Deserializer, Error, Unexpected, Visitor};

/// What an error says was expected if a value is not a string.
pub(super) const STRING: &str = "a string";

/// The error for an invalid value of the right TOML type: what is wrong with it, to be read after the value itself, which
/// `document` adds, and what was expected.
pub(super) fn wrong<E: Error>(says: impl fmt::Display, expected: &str) -> E {
    E::invalid_value(Unexpected::Other(&says.to_string()), &expected)
}

/// Parses a string with `parse`. `expected` is for the error if the value is not a string.
pub(super) fn deserialize<'de, T, D: Deserializer<'de>>(
    deserializer: D,
    expected: &str,
    parse: impl Fn(&str) -> Result<T, ValueError>,
) -> Result<T, D::Error> {
    /// Parses in the visitor: later, an error in an array would point at the whole array.
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
    deserializer.deserialize_str(Text(expected, parse))
}

/// Declares types of values: what each holds, the function that parses it, and what was expected if the value is not a
/// string.
macro_rules! text_values {
    ($($(#[doc = $says:literal])+ $name:ident($holds:ty) = $parse:ident, $expected:expr;)+) => {$(
        $(#[doc = $says])+
        #[derive(Clone)]
        pub(super) struct $name(pub(super) $holds);

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::config::from_text::deserialize(deserializer, $expected, $parse).map(Self)
            }
        }
    )+};
}

/// Declares an enum whose variants are written as strings. Their docs are part of pgcertd.toml(5).
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
