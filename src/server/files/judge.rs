//! Would the server load what was found? The rules of PostgreSQL (`check_ssl_key_file_permissions`)
//! and of OpenSSL's loader, and what other kinds of servers ask of a key.

use super::{FileRole, Found, Targets, content};
use crate::bundle::{ClientTrust, KeyedBundle, Part};
use crate::config::ServerKind;
use crate::host::privilege::Ids;

impl Targets {
    /// Would Postgres load the pair that was found? Its rules are those of
    /// `check_ssl_key_file_permissions` and of OpenSSL's loader. Nothing where there is no file.
    pub(super) fn judge(&self, found: &[Found]) -> Result<Option<KeyedBundle>, String> {
        let pair = || {
            let each = self.each(found);
            each.filter(|(role, ..)| matches!(role, FileRole::Cert | FileRole::Key))
        };
        if pair().all(|(.., found)| matches!(found, Found::Absent)) {
            return Ok(None);
        }
        let mut contents = Vec::new();
        for (_, path, found) in pair() {
            contents.push(content(path, found)?);
        }
        let (Some(chain), Some(key)) = (contents.first(), contents.last()) else {
            return Ok(None);
        };
        if let Some(fault) = self.key_fault(found) {
            return Err(format!("{} {fault}", self.key.display()));
        }
        KeyedBundle::loaded(chain, key)
            .map(Some)
            .map_err(|e| format!("{}: {e}", self.cert.display()))
    }

    /// What was found beside the pair, as far as Postgres would load it; and why not all of it.
    pub(super) fn judge_companions(&self, found: &[Found]) -> (ClientTrust, Option<String>) {
        let text = |wanted: FileRole| {
            let mut each = self.each(found);
            let (_, path, found) = each.find(|(role, ..)| *role == wanted)?;
            Some(content(path, found))
        };
        let (ca, crl) = (text(FileRole::Ca), text(FileRole::Crl));
        let parsed = (|| {
            let (ca, crl) = (ca.clone().transpose()?, crl.clone().transpose()?);
            ClientTrust::parse(ca, crl).map_err(|error| {
                let path = match error.part() {
                    Part::Revocations => &self.crl,
                    _ => &self.ca,
                };
                let path = path.as_deref().unwrap_or(&self.state);
                format!("{}: {error}", path.display())
            })
        })();
        match parsed {
            Ok(companions) => (companions, None),
            // A CA file that loads is what clients are judged by, whatever the CRL file is.
            Err(why) => {
                let ca = ca.and_then(Result::ok);
                let companions = ClientTrust::parse(ca, None).unwrap_or_default();
                (companions, Some(why))
            }
        }
    }

    /// The rule of the server for the owner and the mode of its key file.
    ///
    /// # Errors
    /// What is wrong, as the end of a sentence that begins with the file.
    pub(crate) fn key_rule(&self, ids: Ids, mode: u32) -> Result<(), String> {
        match self.kind {
            ServerKind::Postgres => key_rule(ids, mode, self.server.uid),
            ServerKind::PgBouncer | ServerKind::Patroni => private_key_rule(ids, mode, self.server),
        }
    }

    /// Why the server would refuse the key that was found for its owner or mode, whatever it holds,
    /// or why it may not stay so.
    pub(crate) fn key_fault(&self, found: &[Found]) -> Option<String> {
        let wanted = if self.single_file() {
            FileRole::Cert
        } else {
            FileRole::Key
        };
        let (.., key) = self.each(found).find(|(role, ..)| *role == wanted)?;
        let Found::File { ids, mode, .. } = key else {
            return None;
        };
        self.key_rule(*ids, *mode).err()
    }

    /// The mode of a file that holds the key.
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

/// The rule for the key of a server that has none of its own: its user can read it, and nobody who
/// is neither that user nor of the file's group can do anything with it.
fn private_key_rule(ids: Ids, mode: u32, server: Ids) -> Result<(), String> {
    let readable = if ids.uid == server.uid {
        mode & 0o400 != 0
    } else {
        // Of which other groups the user is, the server's own number does not tell.
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
