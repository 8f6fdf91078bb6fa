//! Whether a server could load a certificate and its key, as far as that shows without its OpenSSL.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use zeroize::Zeroizing;

use crate::bundle::{BundleError, KeyedBundle};
use crate::host::privilege::Ids;
use crate::server::files::key_rule;
use crate::server::setting_names::read_bounded;

/// What is wrong with a certificate and a key that no server would load; nothing where that depends on its OpenSSL.
pub(super) fn pair_fault(
    cert_file: &Path,
    key_file: &Path,
    opens_keys: bool,
    server: Ids,
) -> Option<String> {
    match loaded(cert_file, key_file, server) {
        Err(why) => Some(why),
        Ok(Ok(())) => None,
        Ok(Err(error)) => {
            let certain = match &error {
                BundleError::EncryptedKey { .. } => !opens_keys,
                BundleError::Empty { .. }
                | BundleError::NoPem { .. }
                | BundleError::OtherForm { .. }
                | BundleError::BrokenPem { .. }
                | BundleError::NoContent { .. }
                | BundleError::CertificateUnreadable
                | BundleError::KeyMismatch
                | BundleError::LeafNotFirst => true,
                _ => false,
            };
            certain.then(|| {
                format!(
                    "{} with {}: {error}",
                    cert_file.display(),
                    key_file.display()
                )
            })
        }
    }
}

/// Whether both can be read as the server reads them; an error of the outer kind is the file system's.
fn loaded(
    cert_file: &Path,
    key_file: &Path,
    server: Ids,
) -> Result<Result<(), BundleError>, String> {
    let told = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
    let read = |path: &Path| {
        let bytes = read_bounded(path).map_err(|error| told(path, error))?;
        Ok::<_, String>(Zeroizing::new(bytes))
    };
    let chain = read(cert_file)?;
    let meta = std::fs::metadata(key_file).map_err(|error| told(key_file, error))?;
    let ids = Ids {
        uid: meta.uid(),
        gid: meta.gid(),
    };
    key_rule(ids, meta.mode() & 0o7777, server.uid)
        .map_err(|fault| format!("{} {fault}", key_file.display()))?;
    let key = read(key_file)?;
    Ok(KeyedBundle::loaded(&chain, &key).map(|_| ()))
}
