//! The CA and CRL files of an instance: which kind of server can have them, and which keys need each other.

use std::path::Path;

use super::document::At;
use super::error::ConfigError;
use super::keys::WrittenInstance;
use super::table::Keys;
use super::values::FilePath;
use super::{Companion, ServerKind};

/// The CA and the CRL file; their default targets are in `state`. A CRL cannot be checked without the CAs that issued
/// it.
pub(super) fn companions(
    keys: &Keys<'_, WrittenInstance>,
    kind: ServerKind,
    state: &Path,
) -> Result<(Option<Companion>, Option<Companion>), ConfigError> {
    only_for_postgres(keys, kind)?;
    for (source, target) in [("ca_source", "ca_file"), ("crl_source", "crl_file")] {
        // A target in the defaults may go unused.
        if let (None, Some(unused)) = (keys.location(source), keys.own().location(target)) {
            return Err(unused.refuse(
                &format!("`{target}` is not used"),
                &format!("expected {source} with it, where the file comes from"),
            ));
        }
    }
    if let (None, Some(crl)) = (keys.location("ca_source"), keys.location("crl_source")) {
        return Err(crl.refuse(
            "`crl_source` without `ca_source`",
            "expected ca_source with it, the CA file that the CRL is checked against",
        ));
    }
    let target = |file: Option<At<'_, FilePath>>, default| {
        file.map_or_else(|| state.join(default), |path| path.resolved())
    };
    let ca = keys.ca_source().map(|source| Companion {
        source: source.value.0.clone(),
        file: target(keys.ca_file(), "ca.pem"),
    });
    let crl = keys.crl_source().map(|source| Companion {
        source: source.value.0.clone(),
        file: target(keys.crl_file(), "crl.pem"),
    });
    Ok((ca, crl))
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
    match keys.first_of(&["ca_source", "crl_source", "ca_file", "crl_file"]) {
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
