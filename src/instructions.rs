//! How many instructions a piece of work takes, counted by callgrind: nearly the same number at each run and on a busy
//! machine, where a time says nothing.
//!
//! A test runs itself a second time under valgrind. There it does its work, what is to be counted of it in functions that
//! [`counted!`] names, and ends; callgrind has written by then what each function took with all that it called.
//!
//! These tests aren't optimized, and another compiler makes other numbers of them. So no number is compared with one that
//! was written down. A bound is a ratio within the run: to the same work on a tenth of the input, or to what nobody
//! can leave out who does that work (the same library's parser, a signature, an insertion into a map). A harness that keeps
//! absolute numbers (`gungraun`) would want a runner of its own version installed wherever the tests run, and new numbers
//! with each compiler.

use std::process::Command;

use crate::testing::skipped::Skipped;

/// Set where a test runs under callgrind.
const UNDER_CALLGRIND: &str = "PGCERTD_TEST_UNDER_CALLGRIND";

/// Does work in a function of this name, whose instructions are counted.
macro_rules! counted {
    ($name:ident, $work:expr) => {{
        #[inline(never)]
        fn $name<T>(work: impl FnOnce() -> T) -> T {
            std::hint::black_box(work())
        }
        $name(|| $work)
    }};
}
pub(crate) use counted;

/// What callgrind has written about one run.
pub(crate) struct Instructions(String);

impl Instructions {
    /// Runs the test that calls this under callgrind, and there does the work, a closure in the test's own function.
    ///
    /// # Errors
    /// valgrind is not installed.
    pub(crate) fn under_callgrind<W: FnOnce()>(work: W) -> Result<Instructions, Skipped> {
        if std::env::var_os(UNDER_CALLGRIND).is_some() {
            work();
            // callgrind writes at the end, and what a test program says before is of no use there.
            std::process::exit(0);
        }
        let test = std::any::type_name::<W>();
        let test = test.strip_prefix(concat!(env!("CARGO_CRATE_NAME"), "::"));
        let test = test.and_then(|test| test.strip_suffix("::{{closure}}"));
        let test = test.expect("the work is a closure in a test");
        let directory = tempfile::tempdir().expect("a directory for the counts");
        let out = directory.path().join("callgrind.out");
        let done = Command::new("valgrind")
            .args(["--tool=callgrind", "--dump-line=no"])
            .args(["--compress-strings=no", "--compress-pos=no"])
            .arg(format!("--callgrind-out-file={}", out.display()))
            .arg(std::env::current_exe().expect("the path of this program"))
            .args(["--exact", test, "--nocapture", "--test-threads=1"])
            .env(UNDER_CALLGRIND, "1")
            .output();
        let done = match done {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Skipped::because("valgrind is not installed"));
            }
            done => done.expect("valgrind starts"),
        };
        assert!(done.status.success(), "{test} under valgrind: {done:?}");
        let text = std::fs::read_to_string(&out).expect("what callgrind has written");
        Ok(Instructions(text))
    }

    /// How many the function of this name took, with all that it called.
    #[track_caller]
    pub(crate) fn of_counted(&self, name: &str) -> f64 {
        let mut sum = 0;
        let mut inside = false;
        for line in self.0.lines() {
            if let Some(function) = line.strip_prefix("fn=") {
                inside = function.split("::").any(|part| part == name);
            } else if inside && line.starts_with(|c: char| c.is_ascii_digit()) {
                // Behind the position: its own, and after a `calls=` what that call took.
                let count = line.split(' ').nth(1);
                sum += count
                    .and_then(|count| count.parse::<u64>().ok())
                    .unwrap_or_else(|| panic!("{line:?} is no line of callgrind's"));
            }
        }
        assert_ne!(sum, 0, "nothing was counted as {name}");
        println!("{name}: {sum} instructions");
        sum as f64
    }

    /// One takes at most so many times the instructions of the other.
    #[track_caller]
    pub(crate) fn at_most(&self, one: &str, times: f64, other: &str) {
        let ratio = self.of_counted(one) / self.of_counted(other);
        assert!(
            ratio <= times,
            "{one} takes {ratio:.2} times the instructions of {other}, at most {times}"
        );
    }
}
