//! How a subject stands: in a word, and whether somebody has to act.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::bundle::{Fingerprint, Piece};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Standing {
    pub(crate) word: StandingWord,
    /// Whether no action is needed.
    pub(crate) well: bool,
}

impl Standing {
    pub(crate) fn well(word: impl Into<StandingWord>) -> Standing {
        let word = word.into();
        Standing { word, well: true }
    }

    pub(crate) fn unwell(word: impl Into<StandingWord>) -> Standing {
        let word = word.into();
        Standing { word, well: false }
    }
}

/// Kept in the notifier's memory file as one string.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", from = "String")]
pub(crate) enum StandingWord {
    /// A state, or a level of expiry.
    Name(String),
    Deployed(DeployedFiles),
}

/// What clients get, and the CA file that judges them. A new CRL is not reported: it comes every few days or hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DeployedFiles {
    pub(crate) leaf: Fingerprint,
    pub(crate) ca: Option<Fingerprint>,
}

impl DeployedFiles {
    /// The pieces that differ from what was reported before.
    pub(crate) fn changed_since(&self, old: Option<&StandingWord>) -> Vec<Piece> {
        let (leaf, ca) = match old {
            Some(StandingWord::Deployed(old)) => (Some(old.leaf), old.ca),
            Some(StandingWord::Name(_)) | None => (None, None),
        };
        let certificate = (leaf != Some(self.leaf)).then_some(Piece::Certificate);
        let ca = (ca != self.ca).then_some(Piece::Ca);
        certificate.into_iter().chain(ca).collect()
    }

    fn parse(text: &str) -> Option<DeployedFiles> {
        let (leaf, ca) = match text.split_once(' ') {
            Some((leaf, ca)) => (leaf, Some(ca.parse().ok()?)),
            None => (text, None),
        };
        let leaf = leaf.parse().ok()?;
        Some(DeployedFiles { leaf, ca })
    }
}

impl From<String> for StandingWord {
    fn from(text: String) -> StandingWord {
        DeployedFiles::parse(&text).map_or(StandingWord::Name(text), StandingWord::Deployed)
    }
}

impl From<&str> for StandingWord {
    fn from(text: &str) -> StandingWord {
        text.to_owned().into()
    }
}

impl From<StandingWord> for String {
    fn from(word: StandingWord) -> String {
        word.to_string()
    }
}

impl fmt::Display for StandingWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StandingWord::Name(name) => f.write_str(name),
            StandingWord::Deployed(DeployedFiles { leaf, ca: None }) => write!(f, "{leaf}"),
            StandingWord::Deployed(DeployedFiles { leaf, ca: Some(ca) }) => {
                write!(f, "{leaf} {ca}")
            }
        }
    }
}
