//! A look that failed is never taken for an answer.
