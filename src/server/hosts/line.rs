//! A line of `pg_hosts.conf`: what it says, or why the server rejects it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::host::look::{CannotLook, same_file};
use crate::server::hba::words::{HbaLine, HbaWord, lines};
use crate::server::hba::{Dialect, HbaFiles, beside};

/// The first version that has such a file (`server_version_num`).
pub(crate) const FIRST: i32 = 190_000;

/// How deep files of names may name further ones.
const DEEPEST: usize = 10;

/// For whom a line is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum For {
    /// Those who ask for one of these names, in any case.
    Names(Vec<String>),
    /// Everybody for whom there is no other line: `*`.
    Others,
    /// Those who ask for no name: `/no_sni/`.
    Nameless,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostLine {
    /// The file that it is in.
    pub(crate) file: PathBuf,
    /// Its number there, from 1.
    pub(crate) number: usize,
    pub(super) whose: For,
    pub(crate) cert_file: PathBuf,
    pub(crate) key_file: PathBuf,
    /// The authorities of these clients.
    pub(crate) ca_file: Option<PathBuf>,
    /// Whether a command opens an encrypted key, also at a reload.
    pub(super) opens_keys: bool,
}

impl HostLine {
    /// `FILE line N`.
    pub(super) fn place(&self) -> String {
        format!("{} line {}", self.file.display(), self.number)
    }
}

impl HostLine {
    /// The first of its two files that is not the one given.
    pub(super) fn names_other(
        &self,
        cert_file: &Path,
        key_file: &Path,
    ) -> Result<Option<&Path>, CannotLook> {
        for (named, wanted) in [(&self.cert_file, cert_file), (&self.key_file, key_file)] {
            if !same_file(named, wanted)? {
                return Ok(Some(named));
            }
        }
        Ok(None)
    }
}

/// What a line says, or why the server refuses it. `named` takes the files of names that it leads to.
pub(super) fn host_line(
    file: &Path,
    line: HbaLine,
    data_directory: &Path,
    files: &impl HbaFiles,
    named: &mut BTreeSet<PathBuf>,
) -> Result<HostLine, String> {
    let number = line.number;
    let mut fields = Vec::new();
    for field in line.fields {
        let mut words = Vec::new();
        for word in field {
            words.extend(expanded(word, file, files, named, 0)?);
        }
        fields.push(words);
    }
    let mut fields = fields.into_iter();
    let names = fields.next().unwrap_or_default();
    let mut only = |what: &str| match fields.next().as_deref() {
        None => Ok(None),
        Some([word]) => Ok(Some(word.clone())),
        Some(_) => Err(format!("multiple values specified for {what}")),
    };
    const TOO_SHORT: &str = "missing entry at end of line";
    let cert = only("SSL certificate")?.ok_or(TOO_SHORT)?;
    let key = only("SSL key")?.ok_or(TOO_SHORT)?;
    let ca = only("SSL CA")?;
    let command = only("SSL passphrase command")?;
    let reload = only("SSL passphrase command reload flag")?;
    if fields.next().is_some() {
        return Err("extra fields at end of line".into());
    }
    let reload = match reload {
        None => false,
        Some(word) => boolean(&word.bytes).ok_or("the reload flag is no boolean value")?,
    };
    // Relative paths are relative to the data directory, where the postmaster stands.
    let path = |word: &HbaWord| data_directory.join(OsStr::from_bytes(&word.bytes));
    let is_set = |word: &&HbaWord| !word.bytes.is_empty();
    Ok(HostLine {
        file: file.to_owned(),
        number,
        whose: whose(&names)?,
        cert_file: path(&cert),
        key_file: path(&key),
        ca_file: ca.as_ref().filter(is_set).map(path),
        opens_keys: reload && command.as_ref().filter(is_set).is_some(),
    })
}

/// Both keywords stand alone, quoted or not.
fn whose(names: &[HbaWord]) -> Result<For, String> {
    let is = |word: &HbaWord, keyword: &[u8]| word.bytes == keyword;
    match names {
        [word] if is(word, b"*") => Ok(For::Others),
        [word] if is(word, b"/no_sni/") => Ok(For::Nameless),
        names
            if names
                .iter()
                .any(|hba_word| is(hba_word, b"*") || is(hba_word, b"/no_sni/")) =>
        {
            Err("default and non-SNI entries cannot be mixed with other entries".into())
        }
        names => Ok(For::Names(names.iter().map(HbaWord::text).collect())),
    }
}

/// A word that begins with `@` and no quote stands for all words of a file.
fn expanded(
    word: HbaWord,
    file: &Path,
    files: &impl HbaFiles,
    named: &mut BTreeSet<PathBuf>,
    depth: usize,
) -> Result<Vec<HbaWord>, String> {
    let path = match word.bytes.as_slice() {
        [b'@', path @ ..] if !word.quoted && !path.is_empty() => Path::new(OsStr::from_bytes(path)),
        _ => return Ok(vec![word]),
    };
    if depth == DEEPEST {
        return Err("maximum nesting depth exceeded".into());
    }
    let path = beside(file, path);
    named.insert(path.clone());
    let text = files.read(&path);
    let text = text.map_err(|error| format!("{}: {error}", path.display()))?;
    let mut words = Vec::new();
    for line in lines(&text, Dialect::from_version(FIRST)) {
        for word in line.fields.into_iter().flatten() {
            words.extend(expanded(word, &path, files, named, depth + 1)?);
        }
    }
    Ok(words)
}

/// PostgreSQL's `parse_bool`: any beginning of these words that only one has.
fn boolean(word: &[u8]) -> Option<bool> {
    let word = word.to_ascii_lowercase();
    let begins =
        |whole: &str, least: usize| word.len() >= least && whole.as_bytes().starts_with(&word);
    if begins("true", 1) || begins("yes", 1) || begins("on", 2) || begins("1", 1) {
        Some(true)
    } else if begins("false", 1) || begins("no", 1) || begins("off", 2) || begins("0", 1) {
        Some(false)
    } else {
        None
    }
}

/// Why a line may not stand beside those before it.
pub(super) fn twin(before: &[HostLine], line: &HostLine) -> Option<String> {
    let has = |whose: &For| before.iter().any(|host_line| host_line.whose == *whose);
    match &line.whose {
        For::Others if has(&For::Others) => Some("multiple default hosts specified".into()),
        For::Nameless if has(&For::Nameless) => Some("multiple non-SNI hosts specified".into()),
        For::Others | For::Nameless => None,
        For::Names(names) => {
            let earlier = before.iter().filter_map(|line| match &line.whose {
                For::Names(names) => Some(names),
                _ => None,
            });
            let mut seen: BTreeSet<String> = earlier
                .flatten()
                .map(|text| text.to_ascii_lowercase())
                .collect();
            let twice = names
                .iter()
                .find(|word| !seen.insert(word.to_ascii_lowercase()));
            twice.map(|name| format!("multiple entries for host \"{name}\" specified"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_is_any_beginning_that_only_one_word_has() {
        for (word, meant) in [
            ("on", Some(true)),
            ("T", Some(true)),
            ("yE", Some(true)),
            ("1", Some(true)),
            ("of", Some(false)),
            ("FALSE", Some(false)),
            ("no", Some(false)),
            ("0", Some(false)),
            ("o", None),
            ("", None),
            ("trues", None),
            ("2", None),
        ] {
            assert_eq!(boolean(word.as_bytes()), meant, "{word:?}");
        }
    }
}
