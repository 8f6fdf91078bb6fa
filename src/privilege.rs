//! The three kinds of thread and their rights.
