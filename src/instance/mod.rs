//! One Postgres: its postmaster, its files, reload, probe.
