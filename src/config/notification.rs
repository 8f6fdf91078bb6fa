//! `[notify]`: who is notified of what, and how.

use super::document::TomlFile;
use super::keys::WrittenNotify;
use super::model::Notify;
use super::table::Keys;

impl Notify {
    pub(super) fn from_table(document: &TomlFile, table: &WrittenNotify) -> Notify {
        let keys = Keys::new(table, document);
        Notify {
            command: keys.command().map(|words| words.value.0.clone()),
            timeout: keys.timeout().0,
            on: keys.on().into_iter().collect(),
            after: keys.after().0,
            repeat: keys.repeat().0,
            state_directory: document.resolve(keys.state_directory()),
        }
    }
}
