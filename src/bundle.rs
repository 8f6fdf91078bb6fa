//! PEM and X.509: parse, check, compare. No file is opened here.
