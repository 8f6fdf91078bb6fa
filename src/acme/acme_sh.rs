//! What acme.sh keeps for each certificate: `DOMAIN/DOMAIN.conf`, shell assignments that it reads at each renewal.

use std::path::{Path, PathBuf};

use base64ct::{Base64, Encoding};

use super::contents::{AreaContents, Hook, HookPlace};
use super::tree::{Tree, Unread};
use super::{client::Client, command};

/// The marks around a value in base64 (acme.sh, `_save_conf`).
const ENCODED: [&str; 2] = ["__ACME_BASE64__START_", "__ACME_BASE64__END_"];

const COMMANDS: [&str; 4] = ["Le_ReloadCmd", "Le_PreHook", "Le_PostHook", "Le_RenewHook"];

/// Settings that name a file it copies to.
const COPIES: [&str; 3] = ["Le_RealKeyPath", "Le_RealFullChainPath", "Le_RealCertPath"];

/// Where it may be installed: below a user's home, or by packages.
pub(super) fn homes(of_users: &[PathBuf]) -> Vec<PathBuf> {
    let own = of_users.iter().map(|home| home.join(".acme.sh"));
    let packaged = ["/etc/acme.sh", "/var/lib/acme.sh", "/etc/acme"];
    own.chain(packaged.into_iter().map(PathBuf::from)).collect()
}

/// Whether a lineage's directory belongs to acme.sh.
pub(super) fn keeps(tree: &Tree, directory: &Path) -> Result<bool, Unread> {
    for file in configurations(tree, directory)? {
        let text = tree.text(&file)?.unwrap_or_default();
        if text.lines().any(|line| line.starts_with("Le_Domain=")) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// `DOMAIN.conf` in `DOMAIN` or `DOMAIN_ecc`.
fn configurations(tree: &Tree, directory: &Path) -> Result<Vec<PathBuf>, Unread> {
    let named = directory.file_name().map(|name| name.to_string_lossy());
    let domain = named.map(|name| name.trim_end_matches("_ecc").to_owned());
    let files = tree.list(directory)?.into_iter();
    let own = |file: &PathBuf| {
        file.extension()
            .is_some_and(|extension| extension == "conf")
            && file
                .file_stem()
                .map(|name| name.to_string_lossy().into_owned())
                == domain
    };
    Ok(files.filter(own).collect())
}

/// The hooks and copies of every certificate of the acme.sh with this home.
pub(super) fn hooks(tree: &Tree, home: &Path, contents: &mut AreaContents) {
    for directory in contents.or_note(tree.list(home)) {
        of_certificate(tree, &directory, contents);
    }
}

/// The hooks and copies of the certificate in this directory.
pub(super) fn of_certificate(tree: &Tree, directory: &Path, contents: &mut AreaContents) {
    for file in contents.or_note(configurations(tree, directory)) {
        let text = contents.or_note(tree.text(&file)).unwrap_or_default();
        let settings = text
            .lines()
            .filter_map(|line| Some((line, commands_of(line, directory)?)));
        contents.hooks.extend(settings.map(|(line, commands)| Hook {
            place: HookPlace::Setting {
                file: file.clone(),
                line: line.to_owned(),
                client: Client::AcmeSh,
            },
            commands,
            lineage: Some(directory.to_owned()),
        }));
    }
}

/// What a line makes acme.sh do after a renewal.
fn commands_of(line: &str, directory: &Path) -> Option<String> {
    let assigned = command::parse(line).variables;
    let (key, value) = assigned.into_iter().next()?;
    let value = decoded(&value);
    if value.is_empty() {
        None
    } else if COMMANDS.contains(&&*key) {
        Some(value)
    } else if COPIES.contains(&&*key) {
        let from = directory.to_string_lossy();
        Some(shell_words::join(["cp", &from, &value]))
    } else {
        None
    }
}

/// The decoded value; one that cannot be decoded stays as it is.
fn decoded(value: &str) -> String {
    let inner = value.strip_prefix(ENCODED[0]);
    let inner = inner.and_then(|rest| rest.strip_suffix(ENCODED[1]));
    let bytes = inner.and_then(|text| Base64::decode_vec(text).ok());
    bytes
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .unwrap_or_else(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commands(line: &str) -> Option<String> {
        commands_of(line, Path::new("/root/.acme.sh/a.b_ecc"))
    }

    #[test]
    fn a_command_is_read_encoded_or_not() {
        // `printf 'systemctl restart postgresql' | openssl base64 -e`, as acme.sh does.
        let encoded = "Le_ReloadCmd='__ACME_BASE64__START_c3lzdGVtY3RsIHJlc3RhcnQgcG9zdGdyZXNxbA==__ACME_BASE64__END_'";
        let plain = "Le_ReloadCmd='systemctl restart postgresql'";
        for line in [encoded, plain] {
            assert_eq!(
                commands(line).as_deref(),
                Some("systemctl restart postgresql"),
                "{line}"
            );
        }
        let torn = "Le_ReloadCmd='__ACME_BASE64__START_%__ACME_BASE64__END_'";
        assert!(commands(torn).is_some_and(|text| text.contains('%')));
    }

    #[test]
    fn a_copy_names_the_lineage_and_the_file() {
        assert_eq!(
            commands("Le_RealKeyPath='/etc/pg key.pem'").as_deref(),
            Some("cp /root/.acme.sh/a.b_ecc '/etc/pg key.pem'")
        );
        assert_eq!(commands("Le_RealKeyPath=''"), None);
        assert_eq!(commands("Le_Webroot='no'"), None);
    }
}
