//! Text for a terminal of 80 columns: styles, bars, spans of time; [`super::page`] puts them on lines.

use anstyle::{AnsiColor, Style};
use jiff::{SignedDuration, Timestamp};

/// The width that everything fits into.
pub(super) const WIDTH: usize = 80;

pub(super) const BAD: Style = AnsiColor::Red.on_default().bold();
pub(super) const ODD: Style = AnsiColor::Yellow.on_default();
pub(super) const GOOD: Style = AnsiColor::Green.on_default();
pub(super) const FAINT: Style = Style::new().dimmed();

/// A span of time in its largest unit, in at most five characters: `9 y`, `12 d`, `3 h`, `14 s`.
pub(super) fn span(span: SignedDuration) -> String {
    let seconds = span.as_secs().abs();
    let (count, unit) = match seconds {
        86_400_000.. => (seconds / 31_556_952, "y"),
        172_800.. => (seconds / 86_400, "d"),
        7_200.. => (seconds / 3_600, "h"),
        120.. => (seconds / 60, "m"),
        _ => (seconds, "s"),
    };
    let sign = if span.is_negative() && count > 0 {
        "-"
    } else {
        ""
    };
    format!("{sign}{count} {unit}")
}

/// What is left of a lifetime, as ten blocks; the last one goes only at the very end.
pub(super) fn bar(begin: Timestamp, end: Timestamp, now: Timestamp) -> String {
    let whole = end.duration_since(begin).as_secs_f64();
    let left = end.duration_since(now).as_secs_f64();
    let share = if whole > 0.0 {
        (left / whole).clamp(0.0, 1.0)
    } else {
        0.0
    };
    let blocks = (1..=10)
        .filter(|n| f64::from(*n) - 1.0 < share * 10.0)
        .count();
    "█".repeat(blocks) + &"░".repeat(10 - blocks)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that panics has failed")]
    use super::*;

    #[test]
    fn a_bar_is_full_at_first_and_empty_only_at_the_end() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let (begin, end) = (at("2026-01-01T00:00:00Z"), at("2026-04-01T00:00:00Z"));
        assert_eq!(bar(begin, end, begin), "██████████");
        assert_eq!(bar(begin, end, at("2026-03-31T23:59:59Z")), "█░░░░░░░░░");
        assert_eq!(bar(begin, end, end), "░░░░░░░░░░");
        assert_eq!(bar(begin, end, at("2026-03-22T20:00:00Z")), "██░░░░░░░░");
    }

    #[test]
    fn spans_are_told_in_their_largest_unit() {
        assert_eq!(span(SignedDuration::from_secs(14)), "14 s");
        assert_eq!(span(SignedDuration::from_mins(119)), "119 m");
        assert_eq!(span(SignedDuration::from_hours(47)), "47 h");
        assert_eq!(span(SignedDuration::from_hours(24 * 61 + 5)), "61 d");
        assert_eq!(span(SignedDuration::from_hours(-50)), "-2 d");
        assert_eq!(span(SignedDuration::from_hours(24 * 999)), "999 d");
        assert_eq!(span(SignedDuration::from_hours(24 * 3649)), "9 y");
    }
}
