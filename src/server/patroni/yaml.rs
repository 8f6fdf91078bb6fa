//! As much of YAML as Patroni's configuration needs: a document becomes a tree of texts.
//!
//! Aliases share what they name, so that a file of some lines cannot grow into gigabytes, and
//! nothing nests deeper than a configuration does. Merge keys (`<<`) count as PyYAML has them.

use std::collections::HashMap;
use std::rc::Rc;

use saphyr_parser::{Event, Parser, ScalarStyle};

/// Deeper than any configuration; what is deeper is refused.
const DEEPEST: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    /// Nothing, `~` or `null`.
    Null,
    /// A text, a number, a truth value: as written.
    Scalar(String),
    /// Keys and values, in the order written.
    Mapping(Vec<(String, Rc<Node>)>),
    /// What this program does not look into.
    Sequence(Vec<Rc<Node>>),
}

/// Why a text is not a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum YamlError {
    /// It is not YAML. The parser quotes nothing of the text.
    #[error("line {line}: {reason}")]
    Syntax {
        /// Counted from 1.
        line: usize,
        reason: String,
    },
    /// It nests deeper than configurations do.
    #[error("it nests deeper than {DEEPEST} levels")]
    Deep,
    /// The document is no mapping.
    #[error("it holds no keys")]
    NoMapping,
}

enum OpenNode {
    Mapping {
        anchor: usize,
        entries: Vec<(String, Rc<Node>)>,
        key: Option<String>,
    },
    Sequence {
        anchor: usize,
        items: Vec<Rc<Node>>,
    },
}

/// Reads the first document of a text, as `yaml.safe_load` does; an empty one has no keys.
///
/// # Errors
/// It is not YAML, or no mapping.
pub(super) fn read(text: &str) -> Result<Node, YamlError> {
    let mut open: Vec<OpenNode> = Vec::new();
    let mut anchors: HashMap<usize, Rc<Node>> = HashMap::new();
    let mut document = None;
    for event in Parser::new_from_str(text) {
        let (event, _) = event.map_err(|error| YamlError::Syntax {
            line: error.marker().line(),
            reason: error.info().to_owned(),
        })?;
        let (anchor, node) = match event {
            Event::DocumentEnd => break,
            Event::MappingStart(anchor, _) => {
                open.push(OpenNode::Mapping {
                    anchor,
                    entries: Vec::new(),
                    key: None,
                });
                if open.len() > DEEPEST {
                    return Err(YamlError::Deep);
                }
                continue;
            }
            Event::SequenceStart(anchor, _) => {
                open.push(OpenNode::Sequence {
                    anchor,
                    items: Vec::new(),
                });
                if open.len() > DEEPEST {
                    return Err(YamlError::Deep);
                }
                continue;
            }
            Event::MappingEnd | Event::SequenceEnd => match open.pop() {
                Some(OpenNode::Mapping {
                    anchor, entries, ..
                }) => (anchor, Rc::new(Node::Mapping(merged(entries)))),
                Some(OpenNode::Sequence { anchor, items }) => {
                    (anchor, Rc::new(Node::Sequence(items)))
                }
                None => continue,
            },
            Event::Scalar(text, style, anchor, _) => (anchor, Rc::new(scalar(&text, style))),
            // PyYAML, too, knows an anchor only once what bears it has ended.
            Event::Alias(name) => (
                0,
                anchors
                    .get(&name)
                    .cloned()
                    .unwrap_or_else(|| Rc::new(Node::Null)),
            ),
            _ => continue,
        };
        if anchor > 0 {
            anchors.insert(anchor, Rc::clone(&node));
        }
        match open.last_mut() {
            Some(it) => it.take(node),
            None => document = Some(node),
        }
    }
    match document.as_deref() {
        Some(node @ Node::Mapping(_)) => Ok(node.clone()),
        None | Some(Node::Null) => Ok(Node::Mapping(Vec::new())),
        Some(_) => Err(YamlError::NoMapping),
    }
}

impl OpenNode {
    fn take(&mut self, node: Rc<Node>) {
        match self {
            OpenNode::Sequence { items, .. } => items.push(node),
            OpenNode::Mapping { entries, key, .. } => match key.take() {
                None => *key = Some(node.text().unwrap_or_default().to_owned()),
                Some(key) => entries.push((key, node)),
            },
        }
    }
}

fn scalar(text: &str, style: ScalarStyle) -> Node {
    let plain = matches!(style, ScalarStyle::Plain);
    if plain && matches!(text, "" | "~" | "null" | "Null" | "NULL") {
        Node::Null
    } else {
        Node::Scalar(text.to_owned())
    }
}

/// With what a merge key names, one mapping or several, behind what the mapping says itself.
fn merged(entries: Vec<(String, Rc<Node>)>) -> Vec<(String, Rc<Node>)> {
    let (merges, mut own): (Vec<_>, Vec<_>) = entries.into_iter().partition(|(key, _)| key == "<<");
    for (_, named) in merges {
        let mappings = match named.as_ref() {
            Node::Sequence(items) => items.clone(),
            _ => vec![named],
        };
        for mapping in mappings {
            for (key, value) in mapping.entries() {
                if own.iter().all(|(known, _)| known != key) {
                    own.push((key.clone(), Rc::clone(value)));
                }
            }
        }
    }
    own
}

impl Node {
    /// The entries of a mapping; of anything else, none.
    pub(super) fn entries(&self) -> &[(String, Rc<Node>)] {
        match self {
            Node::Mapping(entries) => entries,
            _ => &[],
        }
    }

    /// What a key of a mapping holds; the last counts where it stands twice.
    pub(super) fn at(&self, key: &str) -> Option<&Node> {
        let found = self.entries().iter().rev().find(|(name, _)| name == key);
        found.map(|(_, node)| node.as_ref())
    }

    /// The text of a scalar that is not empty, which is how Patroni asks whether a key is set.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Node::Scalar(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    /// This mapping with another laid over it, as `patch_config` does: mappings by their keys, a
    /// null takes away, all else replaces.
    pub(super) fn patched(&self, over: &Node) -> Node {
        let mut entries = self.entries().to_vec();
        for (key, value) in over.entries() {
            let before = self.at(key).cloned();
            entries.retain(|(name, _)| name != key);
            let both = matches!(
                (&before, value.as_ref()),
                (Some(Node::Mapping(_)), Node::Mapping(_))
            );
            match (value.as_ref(), before) {
                (Node::Null, _) => {}
                (_, Some(before)) if both => {
                    entries.push((key.clone(), Rc::new(before.patched(value))));
                }
                _ => entries.push((key.clone(), Rc::clone(value))),
            }
        }
        Node::Mapping(entries)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that panics has failed")]
    use super::*;

    fn at<'a>(node: &'a Node, path: &[&str]) -> Option<&'a str> {
        path.iter().try_fold(node, |it, key| it.at(key))?.text()
    }

    #[test]
    fn every_way_to_write_a_text_is_that_text() {
        for written in [
            "restapi: {certfile: /a b.pem}",
            "restapi:\n  certfile: '/a b.pem'",
            "---\nrestapi:\n    \"certfile\": \"/a b.pem\" # why\n---\nrestapi: other",
            "restapi:\n  certfile: >-\n    /a\n    b.pem\n",
        ] {
            let read = read(written).unwrap();
            assert_eq!(
                at(&read, &["restapi", "certfile"]),
                Some("/a b.pem"),
                "{written}"
            );
        }
    }

    #[test]
    fn an_alias_is_what_it_names_and_a_merge_key_fills_what_is_missing() {
        let text = "x: &tls\n  certfile: /a\n  keyfile: /b\nrestapi:\n  <<: *tls\n  keyfile: /c\nctl: *tls\n";
        let read = read(text).unwrap();
        assert_eq!(at(&read, &["restapi", "certfile"]), Some("/a"));
        assert_eq!(at(&read, &["restapi", "keyfile"]), Some("/c"));
        assert_eq!(at(&read, &["ctl", "keyfile"]), Some("/b"));
    }

    #[test]
    fn nulls_and_empty_texts_set_nothing() {
        for value in ["", "~", "null", "''", "\"\""] {
            let read = read(&format!("restapi:\n  certfile: {value}\n")).unwrap();
            assert_eq!(at(&read, &["restapi", "certfile"]), None, "{value}");
        }
    }

    #[test]
    fn a_file_laid_over_another_changes_its_keys_alone() {
        let below = read("restapi: {listen: 'a:1', certfile: /a, keyfile: /b}\nname: x").unwrap();
        let over = read("restapi: {certfile: /c, keyfile: ~}").unwrap();
        let both = below.patched(&over);
        assert_eq!(at(&both, &["restapi", "listen"]), Some("a:1"));
        assert_eq!(at(&both, &["restapi", "certfile"]), Some("/c"));
        assert_eq!(at(&both, &["restapi", "keyfile"]), None);
        assert_eq!(at(&both, &["name"]), Some("x"));
    }

    #[test]
    fn what_is_no_configuration_is_refused_and_nothing_of_it_quoted() {
        let secret = "restapi:\n  authentication: {password: hunter2\nx";
        let error = read(secret).unwrap_err();
        assert!(matches!(error, YamlError::Syntax { .. }), "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
        assert_eq!(read("- a\n- b\n"), Err(YamlError::NoMapping));
        assert_eq!(read(&"- ".repeat(100)), Err(YamlError::Deep));
        assert!(read(&"[".repeat(100_000)).is_err());
        assert_eq!(read("# nothing\n").unwrap().entries(), &[]);
    }

    #[test]
    fn aliases_of_aliases_take_no_more_room_than_their_text() {
        let mut text = String::from("a0: &a0 [x, x]\n");
        for level in 1..60 {
            let below = level - 1;
            text.push_str(&format!("a{level}: &a{level} [*a{below}, *a{below}]\n"));
        }
        assert!(read(&text).is_ok());
    }
}
