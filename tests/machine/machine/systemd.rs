//! What systemd and the journal say of a unit.

use serde_json::Value;

use super::{LATER, Machine};
use crate::world::{SOON, eventually};

impl Machine {
    /// A property of a unit, as `systemctl show` has it.
    #[track_caller]
    pub fn property(&self, unit: &str, property: &str) -> String {
        self.ok(["systemctl", "show", "--value", "--property", property, unit])
    }

    /// A property that is a number; microseconds of the monotonic clock, for one.
    #[track_caller]
    pub fn number(&self, unit: &str, property: &str) -> u64 {
        let value = self.property(unit, property);
        value
            .parse()
            .unwrap_or_else(|error| panic!("{unit}: {property}={value}: {error}"))
    }

    /// A property that is a span of time, `1min 30s`, in microseconds.
    #[track_caller]
    pub fn duration(&self, unit: &str, property: &str) -> u64 {
        let value = self.property(unit, property);
        let span: jiff::Span = value
            .replace("min", "m")
            .parse()
            .unwrap_or_else(|error| panic!("{unit}: {property}={value}: {error}"));
        let seconds = span.total(jiff::Unit::Microsecond).unwrap();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "some minutes"
        )]
        return seconds as u64;
    }

    /// Whether the unit is active now.
    pub fn is_active(&self, unit: &str) -> bool {
        self.run(["systemctl", "is-active", "--quiet", unit]).code() == 0
    }

    /// Waits until the unit is active.
    #[track_caller]
    pub fn wait_active(&self, unit: &str) {
        eventually(LATER, &format!("{unit} is active"), || {
            let state = self.run(["systemctl", "is-active", unit]).stdout;
            if state.trim() == "active" {
                Ok(())
            } else {
                Err(state)
            }
        });
    }

    /// The journal's entries of a unit, from all boots, oldest first.
    #[track_caller]
    pub fn journal(&self, unit: &str) -> Vec<Value> {
        let entries = self.ok(["journalctl", "--output=json", "--no-pager", "--unit", unit]);
        entries
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Where the journal ends, for [`Machine::wait_entry_after`].
    #[track_caller]
    pub fn journal_end(&self) -> String {
        let shown = self.ok(["journalctl", "--no-pager", "--lines=0", "--show-cursor"]);
        let cursor = shown
            .lines()
            .find_map(|line| line.strip_prefix("-- cursor: "));
        cursor.expect("journalctl shows a cursor").to_owned()
    }

    /// Waits for an entry of the unit, after that place of the journal, whose message holds `text`.
    #[track_caller]
    pub fn wait_entry_after(&self, end: &str, unit: &str, text: &str) -> Value {
        let after = format!("--after-cursor={end}");
        eventually(SOON, &format!("{unit} says {text:?}"), || {
            let entries = self.ok(["journalctl", "--output=json", "--unit", unit, &after]);
            entries
                .lines()
                .map(|line| serde_json::from_str::<Value>(line).unwrap())
                .find(|entry| message(entry).contains(text))
        })
    }

    /// Waits for an entry of the unit whose message holds `text`.
    #[track_caller]
    pub fn wait_entry(&self, unit: &str, text: &str) -> Value {
        eventually(SOON, &format!("{unit} says {text:?}"), || {
            let mut entries = self.journal(unit).into_iter();
            entries.find(|entry| message(entry).contains(text))
        })
    }
}

/// The message of a journal entry.
pub fn message(entry: &Value) -> &str {
    entry["MESSAGE"].as_str().unwrap_or_default()
}
