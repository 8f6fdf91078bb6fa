//! The line of `pg_hosts.conf` that gives an instance's names its certificate, on a server that decides by the name that
//! a client asks for (PostgreSQL 19, `ssl_sni`): shown, added, taken out.
//!
//! A [`LineToAdd`] is decided on bytes that were read once, and is written over those bytes alone: they are saved first,
//! then replaced by one rename with the owner, mode, access list and SELinux label that they had. No other line is
//! touched, so that other names keep their certificate. The caller sees to it that the files are in place before: a line
//! whose files are missing keeps the server from loading any.
//!
//! An [`AddedLine`] tells an undo what was written. It may lie where the server's user can write, and the file itself may
//! be root's: an undo believes none of it. Which file it is, the server says; the line is made anew from the config, so
//! that a forged record can do no more than take out a line of that very instance.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::require_tls::place::HbaFile;
use super::require_tls::{TighteningError, backup_name, hex_digest, look, reader};
use super::{SetupError, SetupProgress, SetupServer};
use crate::config;
use crate::host::privilege::Ids;
use crate::problem::Problem;
use crate::server::hba::difference;
use crate::server::hosts::{Hosts, line_text};
use crate::server::settings::TlsSettings;
use crate::server::sql::Sql;

/// As many line feeds as may have to stand before the line: one to end the last line, one to end what continues it.
const MOST_BREAKS: usize = 2;

/// A line that is to be added; nothing is changed yet.
#[derive(Debug)]
pub(crate) struct LineToAdd {
    /// `hosts_file`.
    pub(crate) file: PathBuf,
    /// The line, without its end.
    pub(crate) line: String,
    owner: Ids,
    names: Vec<String>,
    breaks: usize,
    before: Vec<u8>,
}

/// A line that was added: what an undo needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AddedLine {
    names: Vec<String>,
    /// The line feeds that were put before it.
    breaks: usize,
    /// The digest of the file of before.
    before: String,
}

impl LineToAdd {
    /// The line that the instance's names lack; none where the server does not decide by names, or gives them the
    /// instance's files.
    ///
    /// # Errors
    /// Another line gives one of the names other files, the server refuses the file or another one that it names, or
    /// the file cannot be replaced.
    pub(crate) async fn proposed(
        server: &SetupServer,
        settings: &TlsSettings,
        instance: &config::InstanceConfig,
    ) -> Result<Option<LineToAdd>, SetupError> {
        let (cert, key) = (&instance.cert_file, &instance.key_file);
        let Some(hosts) = settings.hosts() else {
            return Ok(None);
        };
        if hosts.faults_of_file().next().is_some() {
            // What clients get is not what it says; the install says why they get nothing new.
            return Ok(None);
        }
        let names = match hosts.names_to_add(&settings.asked_names, cert, key) {
            Ok(Ok(names)) => names,
            Ok(Err(not_used)) => return Err(SetupError::ByName(not_used)),
            Err(_) => return Ok(None),
        };
        if names.is_empty() {
            return Ok(None);
        }
        let faults = settings.faults_elsewhere(instance);
        if !faults.is_empty() {
            return Err(SetupError::Faulty {
                faults: faults.iter().map(ToString::to_string).collect(),
            });
        }
        let line = line_text(&names, cert, key);
        let by_hand = |why: String| {
            SetupError::ByName(Problem::new(
                why,
                format!("add the line `{line}` to it and reload"),
            ))
        };
        let reader = reader(server.owner).await?;
        let before = match look(&reader, &hosts.file).await {
            Ok((_, found)) => found.bytes,
            Err(TighteningError::Link { file, target }) => {
                let (file, target) = (file.display(), target.display());
                return Err(by_hand(format!(
                    "{file} is a link to {target}, which something else keeps"
                )));
            }
            Err(TighteningError::Odd { file, what }) => {
                return Err(by_hand(format!("{} is {what}", file.display())));
            }
            Err(error) => return Err(error.into()),
        };
        let to_add = LineToAdd {
            file: hosts.file.clone(),
            owner: server.owner,
            names,
            breaks: breaks_before(&before),
            before,
            line: line.clone(),
        };
        let (file, text) = (to_add.file.clone(), to_add.after());
        let (data, owner) = (server.data_directory.clone(), server.owner);
        let read = move || Hosts::read_as(&file, &text, &data, owner);
        let after = reader.call(read).await?;
        let gives = after.not_used(&settings.asked_names, cert, key) == Ok(None);
        if gives && after.is_one_line_more_than(hosts) {
            Ok(Some(to_add))
        } else {
            let file = to_add.file.display();
            Err(by_hand(format!(
                "a line at the end of {file} would not be read as one of its own"
            )))
        }
    }

    /// The change, as `diff -u` shows it.
    pub(crate) fn diff(&self) -> String {
        difference(&self.file, &self.before, &self.after())
    }

    /// What [`LineToAdd::apply`] does: to be stored before it, so that a crash in it can be undone.
    pub(crate) fn record(&self) -> AddedLine {
        AddedLine {
            names: self.names.clone(),
            breaks: self.breaks,
            before: hex_digest(&self.before),
        }
    }

    /// Saves the file in the directory `keep`, and writes the new one; the server has still to be reloaded.
    ///
    /// # Errors
    /// The file has changed since it was read, or cannot be written: it is as it was then.
    pub(crate) async fn apply(&self, keep: &Path) -> Result<(), SetupError> {
        let reader = reader(self.owner).await?;
        let (place, found) = look(&reader, &self.file).await?;
        if found.bytes != self.before {
            let file = self.file.clone();
            return Err(TighteningError::Changed { file }.into());
        }
        let backup = HbaFile::within(keep, &backup_name(&self.file, &hex_digest(&self.before)))?;
        Arc::new(backup).create(self.before.clone()).await?;
        Ok(place.replace(&reader, found, self.after()).await?)
    }

    fn after(&self) -> Vec<u8> {
        [&self.before, added(self.breaks, &self.line).as_bytes()].concat()
    }
}

impl AddedLine {
    /// What an undo takes out, for a sentence.
    pub(crate) fn line(&self, instance: &config::InstanceConfig) -> String {
        line_text(&self.names, &instance.cert_file, &instance.key_file)
    }

    /// Takes the line out, if the file still has it, and removes what was saved in `keep`; the server has still to be
    /// reloaded. It can be done again.
    ///
    /// # Errors
    /// The server cannot be asked, or the file cannot be read or written.
    pub(crate) async fn take_out(
        &self,
        server: &SetupServer,
        sql: &Sql,
        instance: &config::InstanceConfig,
        keep: &Path,
    ) -> Result<SetupProgress, SetupError> {
        let Some(file) = sql.hosts_file().await? else {
            return Ok(SetupProgress::Done(
                "the server has no pg_hosts.conf any more".into(),
            ));
        };
        let file = server.data_directory.join(file);
        let line = self.line(instance);
        let shown = file.display();
        let reader = reader(server.owner).await?;
        let (place, found) = match look(&reader, &file).await {
            Ok(looked) => looked,
            Err(error) if error.is_absence() => {
                return Ok(SetupProgress::Done(format!("{shown} is gone already")));
            }
            Err(error) => return Err(error.into()),
        };
        let told = if hex_digest(&found.bytes) == self.before {
            SetupProgress::Done(format!("{shown} is as before"))
        } else if let Some(rest) = without(&found.bytes, self.breaks, &line) {
            place.replace(&reader, found, rest).await?;
            SetupProgress::Done(format!("took `{line}` out of {shown}"))
        } else {
            let (data, owner) = (server.data_directory.clone(), server.owner);
            let (path, cert) = (file.clone(), instance.cert_file.clone());
            let uses = move || Hosts::read(&path, &data, owner).uses(&cert);
            if reader.call(uses).await? == Ok(false) {
                SetupProgress::Done(format!("`{line}` is gone from {shown} already"))
            } else {
                let cert = instance.cert_file.display();
                return Ok(SetupProgress::Left(format!(
                    "{shown} was edited since, and stays: take out what names {cert}, and reload: select pg_reload_conf()"
                )));
            }
        };
        if self.before.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            match HbaFile::within(keep, &backup_name(&file, &self.before)) {
                Ok(place) => Arc::new(place).remove().await?,
                // Removed by hand, with its directory.
                Err(error) if error.is_absence() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(told)
    }
}

/// A backslash continues a line with the next one.
fn breaks_before(text: &[u8]) -> usize {
    let ended = text.strip_suffix(b"\n");
    let last = ended.unwrap_or(text);
    let last = last.strip_suffix(b"\r").unwrap_or(last);
    let is_continued = last.ends_with(b"\\");
    let is_open = ended.is_none() && !text.is_empty();
    usize::from(is_open) + usize::from(is_continued)
}

fn added(breaks: usize, line: &str) -> String {
    format!("{}{line}\n", "\n".repeat(breaks.min(MOST_BREAKS)))
}

/// The text without the line, where it stands there once: at the end as it was added, or wherever it is now.
fn without(text: &[u8], breaks: usize, line: &str) -> Option<Vec<u8>> {
    let mut before = 0;
    let mut places = Vec::new();
    for physical in text.split_inclusive(|byte| *byte == b'\n') {
        let end = before + physical.len();
        if physical.strip_suffix(b"\n").unwrap_or(physical) == line.as_bytes() {
            places.push(before..end);
        }
        before = end;
    }
    let [place] = places.as_slice() else {
        return None;
    };
    if let Some(rest) = text.strip_suffix(added(breaks, line).as_bytes()) {
        return Some(rest.to_owned());
    }
    Some([&text[..place.start], &text[place.end..]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "a.example /t.pem /t.pem";

    #[test]
    fn what_was_added_at_the_end_comes_off_again_byte_for_byte() {
        for text in [
            "* o o\n",
            "* o o",
            "* o o\r\n",
            "# \\",
            "* o \\\n",
            "\\\r\n",
            "",
        ] {
            let breaks = breaks_before(text.as_bytes());
            let whole = text.to_owned() + &added(breaks, LINE);
            assert!(
                whole.contains(&format!("\n{LINE}\n")) || text.is_empty(),
                "{whole}"
            );
            let rest = without(whole.as_bytes(), breaks, LINE);
            assert_eq!(rest.as_deref(), Some(text.as_bytes()), "{text:?}");
            let lines = whole + "# more\nb.example o o\n";
            let rest = without(lines.as_bytes(), breaks, LINE).unwrap_or_default();
            assert!(rest.ends_with(b"# more\nb.example o o\n"), "{text:?}");
        }
    }

    #[test]
    fn a_line_that_was_changed_or_is_there_twice_stays() {
        for text in [
            "a.example /t.pem /other.pem\n".to_owned(),
            format!("# {LINE}\n"),
            format!(" {LINE}\n"),
            format!("{LINE}\n{LINE}\n"),
        ] {
            assert_eq!(without(text.as_bytes(), 0, LINE), None, "{text:?}");
        }
    }
}
