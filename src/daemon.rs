//! The loop: hints, timers, signals, systemd.
