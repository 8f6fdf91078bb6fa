//! In which order things are read, locked, renamed and put back.
