//! What a bench does before it measures, and how it is ended in between.

use std::{
    fs,
    path::Path,
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::{Context, Result, ensure};
use tokio::signal::unix::{SignalKind, signal};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// An fsync in memory costs nothing, so a measurement there would say nothing.
pub fn on_disk(directory: &Path) -> Result<()> {
    const TMPFS: u64 = 0x0102_1994;
    const RAMFS: u64 = 0x8584_58f6;
    let kind = rustix::fs::statfs(directory)
        .with_context(|| format!("{}", directory.display()))?
        .f_type as u64;
    ensure!(
        ![TMPFS, RAMFS].contains(&kind),
        "{} lies in memory: name a directory on a disk with --directory",
        directory.display()
    );
    Ok(())
}

/// Writes out what the file system still holds in memory, so that no fsync pays for it.
pub fn write_back(path: &Path) -> Result<()> {
    let directory = fs::File::open(path)?;
    rustix::fs::syncfs(directory)?;
    Ok(())
}

/// Lets SIGINT and SIGTERM end the measurement in order, so that nothing is left behind. The
/// handlers do not outlive an `execve`, so the servers have their own.
pub fn take_signals() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        )
    };
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        INTERRUPTED.store(true, Ordering::Relaxed);
    });
    Ok(())
}

/// Fails once a signal has come.
pub fn is_not_interrupted() -> Result<()> {
    ensure!(!INTERRUPTED.load(Ordering::Relaxed), "interrupted");
    Ok(())
}

/// Writes what a run leaves.
pub fn write_files(directory: &Path, files: &[(String, String)]) -> Result<()> {
    fs::create_dir_all(directory)?;
    for (name, content) in files {
        let file = directory.join(name);
        fs::write(&file, content).with_context(|| format!("{}", file.display()))?;
    }
    Ok(())
}

/// Says what went wrong, if anything did, and the exit status that follows.
pub fn exit_status(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
