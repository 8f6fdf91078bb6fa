//! The CA and CRL files of an instance: which kind of server can have them, and which keys need each other.

use std::path::Path;

use super::document::At;
use super::error::ConfigError;
use super::keys::WrittenInstance;
use super::table::Keys;
use super::values::{CompanionSource, FilePath};
use super::{Companion, ServerKind};

/// The CA and the CRL file; their default targets are in `state`. A CRL cannot be checked without the CAs that issued
/// it.
pub(super) fn companions(
    keys: &Keys<'_, WrittenInstance>,
    kind: ServerKind,
    state: &Path,
) -> Result<(Option<Companion>, Option<Companion>), ConfigError> {
    only_for_postgres(keys, kind)?;
    let own = keys.own();
    let (ca_source, crl_source) = (keys.ca_source(), keys.crl_source());
    refuse_unused(&ca_source, own.ca_file(), ["ca_file", "ca_source"])?;
    refuse_unused(&crl_source, own.crl_file(), ["crl_file", "crl_source"])?;
    if let (None, Some(crl)) = (&ca_source, &crl_source) {
        return Err(crl.location.refuse(
            "`crl_source` without `ca_source`",
            "expected ca_source with it, the CA file that the CRL is checked against",
        ));
    }
    let companion =
        |source: At<'_, CompanionSource>, file: Option<At<'_, FilePath>>, default| Companion {
            source: source.value.0.clone(),
            file: file.map_or_else(|| state.join(default), |path| path.resolved()),
        };
    Ok((
        ca_source.map(|source| companion(source, keys.ca_file(), "ca.pem")),
        crl_source.map(|source| companion(source, keys.crl_file(), "crl.pem")),
    ))
}

/// Only Postgres can have CA and CRL files. PgBouncer names no CA when it asks its clients for certificates, so nothing
/// proves which file it has loaded, and neither it nor Patroni supports a CRL.
fn only_for_postgres(
    keys: &Keys<'_, WrittenInstance>,
    kind: ServerKind,
) -> Result<(), ConfigError> {
    let setting = match kind {
        ServerKind::Postgres => return Ok(()),
        ServerKind::PgBouncer => "client_tls_ca_file",
        ServerKind::Patroni => "restapi.cafile",
    };
    match keys.first_of(["ca_source", "crl_source", "ca_file", "crl_file"]) {
        None => Ok(()),
        Some((key, location)) => Err(location.refuse(
            &format!("`{key}` is only for kind = \"postgres\""),
            &format!(
                "expected none for {name}: manage the file that {setting} names by other means, and reload {name} \
                 after each change",
                name = kind.name()
            ),
        )),
    }
}

/// Refuses a target without a source in the same table; one from the defaults may go unused.
fn refuse_unused(
    source: &Option<At<'_, CompanionSource>>,
    own_target: Option<At<'_, FilePath>>,
    [target_key, source_key]: [&str; 2],
) -> Result<(), ConfigError> {
    match (source, own_target) {
        (None, Some(unused)) => Err(unused.location.refuse(
            &format!("`{target_key}` is not used"),
            &format!("expected {source_key} with it, where the file comes from"),
        )),
        _ => Ok(()),
    }
}
