//! The line of `pg_hosts.conf` that gives an instance's names its certificate, on a server that decides by the name that
//! a client asks for (PostgreSQL 19, `ssl_sni`).
//!
//! It is decided on bytes that were read once, and written over those bytes alone: they are saved first, then replaced by
//! one rename with the owner, mode, access list and SELinux label that they had. No other line is touched, so that other
//! names keep their certificate. The files must be in place before: a line whose files are missing keeps the server from
//! loading any.
//!
//! `pg_hosts.conf` may be root's, so an undo believes nothing of what is stored. Which file it is, the server says; the
//! line is made anew from the config, so that a forged step can do no more than remove a line of that very instance.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::line::StepLine;
use crate::config::InstanceConfig;
use crate::problem::Problem;
use crate::server::hba::difference;
use crate::server::hosts::{Hosts, line_text};
use crate::server::settings::TlsSettings;
use crate::setup::error::SetupError;
use crate::setup::require_tls::place::HbaFile;
use crate::setup::require_tls::{TighteningError, backup_name, hex_digest, look, reader};
use crate::setup::scene::{Scene, SetupProgress, Site};

/// As many line feeds as may have to stand before the line: one to end the last line, one to end what continues it.
const MOST_BREAKS: usize = 2;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HostLineStep {
    names: Vec<String>,
    /// The line feeds that are put before it.
    breaks: usize,
    /// The digest of the file before the change.
    before: String,
    /// `hosts_file`.
    #[serde(skip)]
    pub(crate) file: PathBuf,
    #[serde(skip)]
    diff: String,
}

impl HostLineStep {
    /// The line that the instance's names lack; none where the server does not decide by names, or gives them the
    /// instance's files.
    ///
    /// # Errors
    /// Another line gives one of the names other files, the server refuses the file or another one that it names, or
    /// the file cannot be replaced.
    pub(crate) async fn proposed(
        settings: &TlsSettings,
        site: &Site,
    ) -> Result<Option<HostLineStep>, SetupError> {
        let Site {
            instance, server, ..
        } = site;
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
            Ok(Err(not_used)) => return Err(SetupError::by_name(not_used)),
            Err(_) => return Ok(None),
        };
        if names.is_empty() {
            return Ok(None);
        }
        let faults = settings.faults_elsewhere(instance);
        if !faults.is_empty() {
            return Err(SetupError::faulty(&Problem::whats(&faults)));
        }
        let line = line_text(&names, cert, key);
        let by_hand = |why: String| {
            SetupError::by_name(Problem::new(
                why,
                format!("add the line `{line}` to it and reload"),
            ))
        };
        let reader = reader(server.owner).await?;
        let before = match look(&reader, &hosts.file).await {
            Ok((_, found)) => found.bytes,
            Err(error @ (TighteningError::Link { .. } | TighteningError::Odd { .. })) => {
                return Err(by_hand(error.to_string()));
            }
            Err(error) => return Err(error.into()),
        };
        let breaks = breaks_before(&before);
        let after = [before.as_slice(), added(breaks, &line).as_bytes()].concat();
        let step = HostLineStep {
            names,
            breaks,
            before: hex_digest(&before),
            diff: difference(&hosts.file, &before, &after),
            file: hosts.file.clone(),
        };
        let (file, data, owner) = (
            hosts.file.clone(),
            server.data_directory.clone(),
            server.owner,
        );
        let read = move || Hosts::read_as(&file, &after, &data, owner);
        let after = reader.call(read).await?;
        let gives = after.not_used(&settings.asked_names, cert, key) == Ok(None);
        if gives && after.is_one_line_more_than(hosts) {
            Ok(Some(step))
        } else {
            let file = step.file.display();
            Err(by_hand(format!(
                "a line at the end of {file} would not be read as one of its own"
            )))
        }
    }

    /// The line, without its end.
    pub(crate) fn line(&self, instance: &InstanceConfig) -> String {
        line_text(&self.names, &instance.cert_file, &instance.key_file)
    }

    pub(super) fn describe(&self) -> Vec<StepLine> {
        let what = "a line for these names, then a reload; other names keep their certificate";
        let mut lines = vec![
            StepLine::ChangedFile(self.file.display().to_string()),
            StepLine::Note(what.into()),
        ];
        lines.extend(StepLine::texts(&self.diff));
        lines
    }

    pub(super) fn describe_undo(&self, site: &Site) -> String {
        format!("take `{}` out of pg_hosts.conf", self.line(&site.instance))
    }

    /// The server has still to be reloaded.
    pub(super) async fn apply(&self, scene: &mut Scene<'_>) -> Result<(), SetupError> {
        let (file, line) = (&self.file, self.line(&scene.site.instance));
        let reader = reader(scene.site.server.owner).await?;
        let (place, found) = look(&reader, file).await?;
        if hex_digest(&found.bytes) != self.before {
            return Err(TighteningError::Changed { file: file.clone() }.into());
        }
        let backup = HbaFile::within(&scene.site.state(), &backup_name(file, &self.before))?;
        Arc::new(backup).create(found.bytes.clone()).await?;
        let after = [&found.bytes, added(self.breaks, &line).as_bytes()].concat();
        place.replace(&reader, found, after).await?;
        scene.done(format!("added `{line}` to {}", file.display()));
        Ok(())
    }

    /// Removes the line, reloads the server, and removes the saved file.
    pub(super) async fn undo(&self, scene: &mut Scene<'_>) -> Result<(), SetupError> {
        let told = self.remove(scene).await?;
        (scene.tell)(told);
        Ok(scene.reload().await?)
    }

    async fn remove(&self, scene: &Scene<'_>) -> Result<SetupProgress, SetupError> {
        let Site {
            instance, server, ..
        } = scene.site;
        let Some(file) = scene.sql.hosts_file().await? else {
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
            match HbaFile::within(&scene.site.state(), &backup_name(&file, &self.before)) {
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
    let lines = text.split_inclusive(|byte| *byte == b'\n');
    let is_ours =
        |physical: &&[u8]| physical.strip_suffix(b"\n").unwrap_or(physical) == line.as_bytes();
    if lines.clone().filter(is_ours).count() != 1 {
        return None;
    }
    if let Some(rest) = text.strip_suffix(added(breaks, line).as_bytes()) {
        return Some(rest.to_owned());
    }
    let others: Vec<&[u8]> = lines.filter(|physical| !is_ours(physical)).collect();
    Some(others.concat())
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
