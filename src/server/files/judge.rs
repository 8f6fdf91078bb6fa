//! Would the server load what was found? The rules of PostgreSQL (`check_ssl_key_file_permissions`)
//! and of OpenSSL's loader, and what other kinds of servers ask of a key.

use std::path::Path;
use std::sync::Arc;

use super::{Found, Targets, content, parsed};
use crate::bundle::{Bundle, BundleError, ClientTrust, KeyedBundle, Piece, TrustFiles};
use crate::config::ServerKind;
use crate::host::privilege::Ids;

impl Targets {
    /// Would Postgres load the pair that was found? Its rules are those of
    /// `check_ssl_key_file_permissions` and of OpenSSL's loader. Nothing where there is no file.
    pub(super) fn judge(&self, found: &[Found]) -> Result<Option<KeyedBundle>, String> {
        self.judge_by(found, KeyedBundle::loaded)
    }

    /// The same without the key, by what is known of these bytes.
    pub(super) fn judge_known(&self, found: &[Found]) -> Result<Option<Arc<Bundle>>, String> {
        self.judge_by(found, parsed::loaded)
    }

    /// The same; `loaded` tells what the two files hold.
    fn judge_by<Loaded>(
        &self,
        found: &[Found],
        loaded: impl FnOnce(&[u8], &[u8]) -> Result<Loaded, BundleError>,
    ) -> Result<Option<Loaded>, String> {
        let pair = self.each_of([Piece::Certificate, Piece::Key], found);
        if pair
            .iter()
            .all(|(.., found)| matches!(found, Found::Absent))
        {
            return Ok(None);
        }
        let contents = pair
            .into_iter()
            .map(|(_, path, found)| content(path, found));
        let contents: Vec<&[u8]> = contents.collect::<Result<_, _>>()?;
        let (Some(chain), Some(key)) = (contents.first(), contents.last()) else {
            return Ok(None);
        };
        if let Some(fault) = self.key_fault(found) {
            return Err(format!("{} {fault}", self.key.display()));
        }
        loaded(chain, key)
            .map(Some)
            .map_err(|e| format!("{}: {e}", self.cert.display()))
    }

    /// What was found beside the pair, as far as Postgres would load it; and why not all of it.
    pub(super) fn judge_companions(&self, found: &[Found]) -> (ClientTrust, Option<String>) {
        let mut fault = None;
        let found = self.each_of([Piece::Ca, Piece::Crl], found).into_iter();
        let found = found.filter_map(|(piece, path, found)| {
            let bytes = content(path, found).map_err(|why| fault.get_or_insert(why));
            Some((piece, bytes.ok()?))
        });
        let mut texts: TrustFiles<Option<&[u8]>> = found.collect();
        if fault.is_none() {
            match ClientTrust::parse(&texts) {
                Ok(trust) => return (trust, None),
                Err(error) => {
                    let file = self.trust_files.get(error.piece()).and_then(Option::as_ref);
                    let path = file.unwrap_or(&self.state).display();
                    fault = Some(format!("{path}: {error}"));
                }
            }
        }
        // A CA file that loads is what clients are judged by, whatever the CRL file is.
        texts.crl = None;
        (ClientTrust::parse(&texts).unwrap_or_default(), fault)
    }

    /// What was found of these.
    fn each_of<'a>(
        &'a self,
        pieces: [Piece; 2],
        found: &'a [Found],
    ) -> Vec<(Piece, &'a Path, &'a Found)> {
        let each = self.each(found);
        each.filter(|(piece, ..)| pieces.contains(piece)).collect()
    }

    /// Checks owner and mode of the key file by the rule of the server.
    ///
    /// # Errors
    /// What is wrong, as the end of a sentence that begins with the file.
    pub(crate) fn key_rule(&self, ids: Ids, mode: u32) -> Result<(), String> {
        match self.kind {
            ServerKind::Postgres => key_rule(ids, mode, self.server.uid),
            ServerKind::PgBouncer | ServerKind::Patroni => private_key_rule(ids, mode, self.server),
        }
    }

    /// Why owner and mode of the key file would make the server reject it, whatever it contains, or must not
    /// stay as they are.
    pub(crate) fn key_fault(&self, found: &[Found]) -> Option<String> {
        let wanted = if self.single_file() {
            Piece::Certificate
        } else {
            Piece::Key
        };
        let (.., key) = self.each(found).find(|(piece, ..)| *piece == wanted)?;
        let Found::File { ids, mode, .. } = key else {
            return None;
        };
        self.key_rule(*ids, *mode).err()
    }

    /// The mode of a file that contains the key.
    pub(crate) fn key_mode(&self) -> u32 {
        if self.owner.uid == 0 && self.server.uid != 0 {
            0o640
        } else {
            0o600
        }
    }
}

/// PostgreSQL's rule for a key file (`check_ssl_key_file_permissions`): its user's and private, or
/// root's and at most 0640.
///
/// # Errors
/// What is wrong, as the end of a sentence that begins with the file.
pub(crate) fn key_rule(ids: Ids, mode: u32, server: u32) -> Result<(), String> {
    let allowed = if ids.uid == server {
        0o700
    } else if ids.uid == 0 {
        0o740
    } else {
        return Err(format!(
            "belongs to user {}, and Postgres accepts a key of its own user or of root alone",
            ids.uid
        ));
    };
    if mode & 0o777 & !allowed != 0 {
        return Err(format!(
            "has mode {:04o}, and Postgres accepts at most {:04o} there",
            mode & 0o777,
            allowed & 0o640
        ));
    }
    Ok(())
}

/// The rule for the key of a server that has no rule of its own: its user can read it, and nobody outside the file's group
/// has any access.
fn private_key_rule(ids: Ids, mode: u32, server: Ids) -> Result<(), String> {
    let readable = if ids.uid == server.uid {
        mode & 0o400 != 0
    } else {
        // The user's other groups are unknown here.
        mode & 0o040 != 0
    };
    if !readable {
        return Err(format!(
            "has mode {:04o} and belongs to user {}, so that user {} cannot read it",
            mode & 0o777,
            ids.uid,
            server.uid
        ));
    }
    if mode & 0o007 != 0 {
        return Err(format!(
            "has mode {:04o}, and everybody on this host may use the key",
            mode & 0o777
        ));
    }
    Ok(())
}
