//! Real programs in slow motion: a pause after each step that they take at some files.
//!
//! What they leave between two steps lasts longer than `debounce`, so that whoever takes what he
//! finds takes it half.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use super::{World, through};

/// After each step; several times in a renewal, and twice the usual `debounce`.
const PAUSE: &str = "400ms";

/// Which steps there is a pause after.
#[derive(Clone, Copy, Debug)]
pub enum Steps {
    /// A name comes, goes, or stands for another file.
    Names,
    /// That, and what is done to the content: opened, written, closed.
    Contents,
}

impl Steps {
    fn calls(self) -> &'static str {
        match self {
            Self::Names => "rename,renameat,renameat2,symlink,symlinkat,unlink,unlinkat",
            Self::Contents => {
                "rename,renameat,renameat2,symlink,symlinkat,unlink,unlinkat,\
                 openat,write,copy_file_range,ftruncate,close"
            }
        }
    }
}

/// What slows programs down: an strace that holds them up.
pub struct SlowMotion {
    prefix: Vec<String>,
    log: PathBuf,
}

impl SlowMotion {
    /// For these files, by the absolute names under which the program knows them.
    pub fn at<P: AsRef<Path>>(world: &World, steps: Steps, files: &[P]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let log = world.path().join(format!("slow-motion-{number}.log"));
        let calls = steps.calls();
        // `-D`: the number of the process is the program's own, and strace ends with it.
        let mut prefix = ["strace", "-D", "-f", "-qq", "--seccomp-bpf", "-A", "-o"]
            .map(str::to_owned)
            .to_vec();
        prefix.push(log.to_str().unwrap().to_owned());
        prefix.extend(["-e".to_owned(), format!("trace={calls}")]);
        prefix.extend([
            "-e".to_owned(),
            format!("inject={calls}:delay_exit={PAUSE}"),
        ]);
        for file in files {
            prefix.extend(["-P".to_owned(), file.as_ref().to_str().unwrap().to_owned()]);
        }
        Self { prefix, log }
    }

    /// What a program is to be started through.
    pub fn prefix(&self) -> &[String] {
        &self.prefix
    }

    /// A command of [`command`](super::command)'s kind in slow motion.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        through(&self.prefix, program)
    }

    /// How many pauses there have been.
    pub fn pauses(&self) -> usize {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        log.matches("(DELAYED)").count()
    }
}
