//! Durations as people write them: `"200ms"`, `"10m"`, `"1h 30m"`, `"2d"`.
//!
//! A day has 24 hours and a week has seven days. Months and years are refused, since their length varies.

use std::time::Duration;

use jiff::{Span, SpanRelativeTo};
use thiserror::Error;

/// Why a text is not a duration, to be read after the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum DurationError {
    /// It has no unit, an unknown one, or one without a fixed length.
    #[error("is not a duration")]
    Malformed,
    /// It lies in the past.
    #[error("is negative")]
    Negative,
}

/// The duration that a text means.
pub(super) fn parse(text: &str) -> Result<Duration, DurationError> {
    // jiff accepts "1:30:00", but its units must be guessed.
    if text.contains(':') {
        return Err(DurationError::Malformed);
    }
    let span: Span = text.parse().map_err(|_| DurationError::Malformed)?;
    if span.is_negative() {
        return Err(DurationError::Negative);
    }
    span.to_duration(SpanRelativeTo::days_are_24_hours())
        .ok()
        .and_then(|signed| Duration::try_from(signed).ok())
        .ok_or(DurationError::Malformed)
}

/// A duration longer than zero, as a command-line argument.
///
/// # Errors
/// What is wrong with the text, and what was expected.
pub(crate) fn positive(text: &str) -> Result<Duration, String> {
    let expected = super::expected::LONGER;
    match parse(text) {
        Ok(Duration::ZERO) => Err(format!("is zero, expected {expected}")),
        Ok(duration) => Ok(duration),
        Err(error) => Err(format!("{error}, expected {expected}")),
    }
}
