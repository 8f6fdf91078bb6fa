//! What reaches a terminal or the journal holds no control characters of somebody else's.
