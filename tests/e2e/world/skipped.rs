//! A test that cannot run here says why, is counted, and fails where none may be skipped.

#![allow(
    dead_code,
    unused_macros,
    reason = "every test program has this, and not all skip"
)]

use std::{env, fmt, fs::OpenOptions, io::Write as _, panic::Location, thread};

/// The file to which a skipped test appends its name and why; `make test` counts its lines.
pub const RECORD: &str = "PGCERTD_TEST_SKIPPED";

/// Set, and not to the empty string, it has a test fail that cannot run; `.ci/run` sets it.
pub const NO_SKIPS: &str = "PGCERTD_TEST_NO_SKIPS";

/// Why a test cannot run here.
#[derive(Debug)]
pub struct Skipped(String);

impl Skipped {
    /// With this reason, the same for every test that cannot run because of it.
    pub fn because(why: impl Into<String>) -> Self {
        Self(why.into())
    }

    /// Says it, counts it, and panics where no test may be skipped.
    #[track_caller]
    pub fn count(&self) {
        let thread = thread::current();
        // With one test at a time, all run in the program's own thread.
        let test = thread.name().filter(|name| *name != "main");
        let test = test.map_or_else(|| Location::caller().to_string(), str::to_owned);
        eprintln!("skipped: {self}");
        if let Some(record) = env::var_os(RECORD) {
            let line = format!("{test}\t{}\n", self.0.replace('\n', " "));
            let file = OpenOptions::new().create(true).append(true).open(&record);
            let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
            written.unwrap_or_else(|error| panic!("{}: {error}", record.display()));
        }
        let may = env::var_os(NO_SKIPS).is_none_or(|value| value.is_empty());
        assert!(may, "{test} cannot run here, and none may be skipped");
    }
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a test needs, or else the test's end: it is counted as skipped.
macro_rules! or_skip {
    ($needed:expr) => {
        match $needed {
            Ok(needed) => needed,
            Err(skipped) => return skipped.count(),
        }
    };
}
