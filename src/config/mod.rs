//! TOML as written, turned into validated types; errors carry spans.
