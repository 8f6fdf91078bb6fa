//! Values that are written as a string: their types cannot hold a wrong one.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserializer, Error, Unexpected, Visitor};

/// A value that is written as a string.
pub(super) trait FromText: Sized {
    /// What an error says was expected where the value is not a string at all.
    const TYPE: &'static str = "a string";

    /// The value that a text stands for.
    ///
    /// # Errors
    /// [`wrong`].
    fn from_text<E: Error>(text: &str) -> Result<Self, E>;
}

/// The error of a value that has the right TOML type: what is wrong with it, to be read after the value, and what
/// was expected. `document` adds the value.
pub(super) fn wrong<E: Error>(says: impl fmt::Display, expected: &str) -> E {
    E::invalid_value(Unexpected::Other(&says.to_string()), &expected)
}

/// Reads a value in a visitor: in an array, an error that is raised later points at the whole array.
pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: FromText,
    D: Deserializer<'de>,
{
    struct Text<T>(PhantomData<T>);
    impl<T: FromText> Visitor<'_> for Text<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(T::TYPE)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
            T::from_text(text)
        }
    }
    deserializer.deserialize_str(Text(PhantomData))
}

/// Makes types that are [`FromText`] readable by serde.
macro_rules! deserialize_from_text {
    ($($value:ty),+ $(,)?) => {$(
        impl<'de> serde::Deserialize<'de> for $value {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::config::from_text::deserialize(deserializer)
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

        impl $crate::config::from_text::FromText for $name {
            fn from_text<E: serde::de::Error>(text: &str) -> Result<Self, E> {
                match text {
                    $($written => Ok(Self::$variant),)+
                    _ => Err(E::unknown_variant(text, &[$($written),+])),
                }
            }
        }

        $crate::config::from_text::deserialize_from_text!($name);

        #[cfg(test)]
        impl $crate::config::keys::Choice for $name {
            const ALL: &'static [(Self, &'static str, &'static [&'static str])] =
                &[$((Self::$variant, $written, &[$($says),+])),+];
        }
    };
}

pub(super) use {choices, deserialize_from_text};
