//! The configuration: TOML in, valid values out.
//!
//! [`Config::load`] reads the file and the fragments in `conf.d` next to it, in alphabetical order. What it returns has
//! been checked as far as possible without touching an instance; otherwise it returns a [`ConfigError`] that shows file,
//! line, column, the offending text and what was expected.
//!
//! Nothing here opens a certificate, a key or a data directory, or checks whether they exist: that is what `check` is
//! for. The file system is only consulted to find out whether two paths are the same (see `paths`).
//!
//! Stages: `document` (the text, parsed as TOML into the tables of `keys`) → `validate` (the keys of a table together)
//! → `conflicts` (what only shows once all instances are known). Each value's type parses itself (`values`), so a value
//! that was parsed is valid; `document` adds the location to its error. A new key is declared in `keys`.

mod address;
mod companions;
mod conflicts;
mod document;
pub(crate) mod duration;
mod error;
mod expected;
mod from_text;
pub(crate) mod keys;
mod listen;
mod model;
pub(crate) mod notification;
mod paths;
mod table;
#[cfg(test)]
mod tests;
mod validate;
mod values;

use std::path::Path;

pub use address::Address;
pub(crate) use conflicts::SHARED;
pub(crate) use error::ConfigError;
pub(crate) use listen::Listen;
pub use model::ServerKind;
pub(crate) use model::{
    Account, Companion, Config, DEFAULT_FILE, DEFAULT_NOTIFY_DIRECTORY, DEFAULT_RESYNC,
    DEFAULT_RUNTIME_DIRECTORY, DEFAULT_STATE_DIRECTORY, DEFAULT_TARGET, Files, InstanceConfig,
    Lineage, MetricsConfig, Mode, Notify, Occasion, Reload, ReloadBy, ServerHome, Verify,
    WatchConfig,
};

impl Config {
    /// Loads the file and the fragments `conf.d/*.toml` next to it.
    ///
    /// `conf.d` may be missing; hidden files in it, and those that don't end in `.toml`, are ignored.
    ///
    /// # Errors
    /// The first problem found, and where it is. Single values are checked before they are compared with each other.
    pub(crate) fn load(file: &Path) -> Result<Self, ConfigError> {
        validate::load(file, None)
    }

    /// Loads the config as if `conf.d` also had a fragment with this text at the path `fragment`, to find out whether
    /// it can be written there.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub(crate) fn load_with(file: &Path, fragment: &Path, text: &str) -> Result<Self, ConfigError> {
        validate::load(file, Some((fragment, text)))
    }
}
