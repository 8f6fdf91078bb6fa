//! The CA and CRL files of an instance, as written: which kind has them, and which goes without which.

use std::path::{Path, PathBuf};

use super::error::ConfigError;
use super::layers::Layers;
use super::values::{source, target};
use super::written::{Key, Keys};
use super::{Companion, DEFAULT_CA_TARGET, DEFAULT_CRL_TARGET, ServerKind};

/// CA and CRL file, whose targets are in `state` by default. Nothing can be checked of a CRL without
/// the CAs that made it.
pub(super) fn companions(
    layers: Layers<'_>,
    kind: ServerKind,
    state: &Path,
) -> Result<(Option<Companion>, Option<Companion>), ConfigError> {
    of_postgres_alone(layers, kind)?;
    let ca = companion(
        layers,
        [|keys| &keys.ca_source, |keys| &keys.ca_file],
        ["ca_file", "ca_source"],
        state.join(DEFAULT_CA_TARGET),
    )?;
    let crl = companion(
        layers,
        [|keys| &keys.crl_source, |keys| &keys.crl_file],
        ["crl_file", "crl_source"],
        state.join(DEFAULT_CRL_TARGET),
    )?;
    match layers.find(|keys| &keys.crl_source) {
        Some(written) if ca.is_none() => Err(written.refuse(
            "`crl_source` without `ca_source`",
            "expected ca_source with it, the CA file that the CRL is checked against",
        )),
        _ => Ok((ca, crl)),
    }
}

/// The CA file of another kind is its administrator's, whichever of the keys asks for one: a PgBouncer
/// names no CA when it asks its clients for certificates, so that no look proves which file it has
/// loaded, and neither it nor Patroni takes a CRL.
fn of_postgres_alone(layers: Layers<'_>, kind: ServerKind) -> Result<(), ConfigError> {
    let setting = match kind {
        ServerKind::Postgres => return Ok(()),
        ServerKind::PgBouncer => "client_tls_ca_file",
        ServerKind::Patroni => "restapi.cafile",
    };
    let keys = [
        ("ca_source", layers.find(|keys| &keys.ca_source)),
        ("crl_source", layers.find(|keys| &keys.crl_source)),
        ("ca_file", layers.find(|keys| &keys.ca_file)),
        ("crl_file", layers.find(|keys| &keys.crl_file)),
    ];
    match keys.into_iter().find_map(|(key, at)| Some((key, at?))) {
        None => Ok(()),
        Some((key, written)) => Err(written.refuse(
            &format!("`{key}` is for kind = \"postgres\" alone"),
            &format!(
                "expected none for {name}: keep the file that {setting} names by other means, and reload {name} after \
                 that",
                name = kind.name()
            ),
        )),
    }
}

/// One of the two. A target that its own table gives no source is refused; one from the defaults
/// may go unused.
fn companion(
    layers: Layers<'_>,
    [from, to]: [fn(&Keys) -> &Key<String>; 2],
    [target_key, source_key]: [&str; 2],
    default: PathBuf,
) -> Result<Option<Companion>, ConfigError> {
    let file = layers.read(to, None, |at| target(at).map(Some))?;
    match (layers.find(from), layers.own.find(to)) {
        (Some(written), _) => Ok(Some(Companion {
            source: source(&written)?,
            file: file.unwrap_or(default),
        })),
        (None, Some(unused)) => Err(unused.refuse(
            &format!("`{target_key}` is not used"),
            &format!("expected {source_key} with it, where the file comes from"),
        )),
        (None, None) => Ok(None),
    }
}
