//! How a step is described.

/// A line of what a person is shown of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StepLine {
    NewFile(String),
    ChangedFile(String),
    Note(String),
    /// A line of a file, or of a diff.
    Text(String),
}

impl StepLine {
    pub(super) fn texts(text: &str) -> impl Iterator<Item = StepLine> {
        text.lines().map(|line| StepLine::Text(line.to_owned()))
    }
}
