//! One deployment: install, reload, verify, and where Postgres refuses, roll back.
