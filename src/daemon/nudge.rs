//! Why an instance is to be compared.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nudge {
    /// The server may have started or stopped, or it is time.
    Compare,
    /// Something wrote to an installed file, and may still be writing.
    Touched,
    /// Somebody edits the server's configuration, and may not be done; the reload comes after that.
    Edited,
}
