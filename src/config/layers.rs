//! Keys as they stand in the files: those of an instance above those of `[defaults]`, each with its place.

use std::path::{Path, PathBuf};

use super::InstanceConfig;
use super::document::{At, TomlFile};
use super::error::ConfigError;
use super::written::{Key, Keys};

/// An instance, and where the values stand that can conflict with another's.
pub(super) struct Checked<'a> {
    pub(super) instance: InstanceConfig,
    pub(super) name: At<'a, String>,
    /// That of `data_directory` or `config_file`.
    pub(super) home: At<'a, String>,
    pub(super) cert_file: Option<At<'a, String>>,
    pub(super) key_file: Option<At<'a, String>>,
    pub(super) ca: CompanionAt<'a>,
    pub(super) crl: CompanionAt<'a>,
}

/// Where source and target of a CA or CRL file stand.
pub(super) struct CompanionAt<'a> {
    pub(super) source: Option<At<'a, String>>,
    pub(super) file: Option<At<'a, String>>,
}

pub(super) fn directory(
    document: &TomlFile,
    key: &Key<String>,
    default: &Path,
) -> Result<PathBuf, ConfigError> {
    at(document, key).map_or(Ok(default.to_owned()), |value| value.path())
}

pub(super) fn at<'a, T>(document: &'a TomlFile, key: &'a Key<T>) -> Option<At<'a, T>> {
    key.as_ref().map(|written| At::new(document, written))
}

/// The keys of one table, and the file it stands in.
#[derive(Clone, Copy)]
pub(super) struct Layer<'a> {
    pub(super) keys: &'a Keys,
    pub(super) document: &'a TomlFile,
}

/// The keys of an instance above those of the defaults.
#[derive(Clone, Copy)]
pub(super) struct Layers<'a> {
    pub(super) own: Layer<'a>,
    pub(super) shared: Option<Layer<'a>>,
}

impl<'a> Layer<'a> {
    pub(super) fn find<T>(self, key: fn(&Keys) -> &Key<T>) -> Option<At<'a, T>> {
        at(self.document, key(self.keys))
    }
}

impl<'a> Layers<'a> {
    pub(super) fn find<T>(self, key: fn(&Keys) -> &Key<T>) -> Option<At<'a, T>> {
        self.own
            .find(key)
            .or_else(|| self.shared.and_then(|shared| shared.find(key)))
    }

    /// The value of a key through a check, or its default where it is not written.
    pub(super) fn read<T, V>(
        self,
        key: fn(&Keys) -> &Key<T>,
        default: V,
        check: impl Fn(&At<'_, T>) -> Result<V, ConfigError>,
    ) -> Result<V, ConfigError> {
        self.find(key).map_or(Ok(default), |value| check(&value))
    }
}
