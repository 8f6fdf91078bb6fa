//! The only way in which pgcertd starts other programs.
//!
//! The program may be a server's, chosen by that server's user, while pgcertd runs as root from an administrator's terminal.
//! So each child starts as pgcertd itself with [`FLAG`], drops what the program must not have, and then executes it: it leaves
//! the terminal by starting a session, closes every descriptor except the standard three and, for a program that someone else
//! has chosen, permanently becomes that user, gives up gaining privileges (`PR_SET_NO_NEW_PRIVS`) and limits its resources.
//! Its output is limited in size, and it is killed after a time-out.
//!
//! Executing twice costs a millisecond or two. The alternative, code between `fork` and `exec`, needs `unsafe`.

use std::ffi::{OsStr, OsString};
use std::future::Future;
use std::io;
use std::os::fd::RawFd;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::fs::{Gid, Uid};
use rustix::process::{Pid, Resource, Rlimit, Signal};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::trusted::{Untrusted, trusted};
use crate::host::privilege::{Ids, groups_of, is_root};

/// The first argument that tells pgcertd to execute another program.
const FLAG: &str = "--become";

/// The exit status if the program could not be executed; standard error says why.
const NOT_BECOME: u8 = 125;

/// How much of standard output and of standard error is kept, in bytes. `postgres -C` answers in one line.
const LOUDEST: usize = 64 << 10;

/// How long to wait for the end of the output once the child has exited: processes that it left running may hold it open.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What systemd tells a service about itself, which is not for its children.
const OURS: [&str; 7] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "JOURNAL_STREAM",
    "LISTEN_FDS",
    "LISTEN_PID",
    "MAINPID",
];

/// A program was not run, or did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// Whoever chose it could become another user that way.
    #[error("{} is not run: {source}", program.display())]
    Untrusted {
        program: PathBuf,
        /// Why not, and what to do.
        #[source]
        source: Untrusted,
    },
    #[error("cannot be run: {0}")]
    Start(String),
    #[error("it wrote more than {} KiB and was killed", LOUDEST >> 10)]
    Loud,
    #[error("no answer within {} s", after.as_secs())]
    Late { after: Duration },
    #[error(transparent)]
    System(#[from] io::Error),
}

/// A program to run, with its arguments.
pub(crate) struct Launch {
    command: Command,
    /// Whether it is killed after [`LOUDEST`] bytes of output; otherwise only the end is kept.
    is_strangers: bool,
}

impl Launch {
    /// A program named by a server's files or processes, to run as `user` if this process is root, otherwise as this
    /// process's own user. It gets a minimal environment and runs in `/`.
    ///
    /// # Errors
    /// That user is root, or someone other than root and that user can write to the program.
    pub(crate) fn of_server(program: &Path, user: Ids) -> Result<Launch, CommandError> {
        let acting = if is_root() { user } else { Ids::own() };
        trusted(program, acting).map_err(|source| CommandError::Untrusted {
            program: program.to_owned(),
            source,
        })?;
        let identity = is_root().then_some(acting);
        let mut command = becoming(Becoming::Servers(identity), program.as_os_str());
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("LC_ALL", "C");
        Ok(Launch {
            command,
            is_strangers: true,
        })
    }

    /// A program named by the operator's configuration or by pgcertd itself, with the rights and the environment of this
    /// process: it may be `sudo`, `patronictl` or `systemctl`.
    pub(crate) fn of_operator(program: impl AsRef<OsStr>) -> Launch {
        let mut command = becoming(Becoming::Operators, program.as_ref());
        for name in OURS {
            command.env_remove(name);
        }
        Launch {
            command,
            is_strangers: false,
        }
    }

    pub(crate) fn arg(&mut self, argument: impl AsRef<OsStr>) -> &mut Self {
        self.command.arg(argument);
        self
    }

    pub(crate) fn args<S: AsRef<OsStr>>(
        &mut self,
        arguments: impl IntoIterator<Item = S>,
    ) -> &mut Self {
        self.command.args(arguments);
        self
    }

    pub(crate) fn env(&mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Self {
        self.command.env(name, value);
        self
    }

    /// Starts it with pipes for standard input and standard error; the caller has to end it.
    ///
    /// # Errors
    /// It could not be started.
    pub(crate) fn fed(mut self) -> io::Result<Child> {
        self.command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
    }

    /// Starts it at once; the future waits for its end.
    pub(crate) fn ran(
        mut self,
        patience: Duration,
    ) -> impl Future<Output = Result<Ran, CommandError>> + use<> {
        let child = self
            .command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        async move {
            let child = ChildSession(child.map_err(|e| CommandError::Start(e.to_string()))?);
            let ran = timeout(patience, child.heard(self.is_strangers));
            ran.await
                .map_err(|_| CommandError::Late { after: patience })?
        }
    }
}

/// Whether this exit status says that the program could not be executed; standard error says why.
pub(crate) fn never_became(status: ExitStatus) -> bool {
    status.code() == Some(i32::from(NOT_BECOME))
}

/// How a program ended, and its output.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

impl Ran {
    /// The last line of its standard error.
    pub(crate) fn last_line(&self) -> String {
        let said = String::from_utf8_lossy(&self.stderr);
        said.lines()
            .last()
            .unwrap_or("it said nothing")
            .trim()
            .to_owned()
    }
}

/// A child that leads a session; dropping it kills everything in the session.
struct ChildSession(Child);

impl ChildSession {
    async fn heard(mut self, is_strangers: bool) -> Result<Ran, CommandError> {
        let (stdout, stderr) = (self.0.stdout.take(), self.0.stderr.take());
        let (mut said, mut complained) = (Vec::new(), Vec::new());
        let mut ended = None;
        {
            let listening = async {
                tokio::try_join!(
                    kept(stdout, &mut said, is_strangers),
                    kept(stderr, &mut complained, is_strangers)
                )
            };
            tokio::pin!(listening);
            tokio::select! {
                heard = &mut listening => { heard?; }
                status = self.0.wait() => {
                    ended = Some(status?);
                    if let Ok(heard) = timeout(LAST_WORDS, listening).await {
                        heard?;
                    }
                }
            }
        }
        let status = match ended {
            Some(status) => status,
            None => self.0.wait().await?,
        };
        if never_became(status) {
            let why = String::from_utf8_lossy(&complained).trim().to_owned();
            return Err(CommandError::Start(why));
        }
        Ok(Ran {
            status,
            stdout: said,
            stderr: complained,
        })
    }
}

impl Drop for ChildSession {
    fn drop(&mut self) {
        // A child that was waited for has no process number any more; its session is left alone.
        let number = self.0.id().and_then(|id| i32::try_from(id).ok());
        if let Some(leader) = number.and_then(Pid::from_raw) {
            // ESRCH: it doesn't lead a session yet, and is killed alone when the child is dropped.
            let _ = rustix::process::kill_process_group(leader, Signal::KILL);
        }
    }
}

/// Reads a pipe to its end; more than [`LOUDEST`] bytes are an error, or only the end is kept.
async fn kept(
    voice: Option<impl AsyncRead + Unpin>,
    into: &mut Vec<u8>,
    is_error: bool,
) -> Result<(), CommandError> {
    let Some(mut voice) = voice else {
        return Ok(());
    };
    let mut buffer = [0; 4096];
    loop {
        let length = voice.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        into.extend_from_slice(&buffer[..length]);
        let excess = into.len().saturating_sub(LOUDEST);
        if excess > 0 && is_error {
            return Err(CommandError::Loud);
        }
        into.drain(..excess);
    }
}

/// Whose program a child executes, which decides what it gives up before that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Becoming {
    /// The operator's: the terminal and the descriptors.
    Operators,
    /// A server's: those, its identity if another one is given, gaining privileges, and unlimited resources.
    Servers(Option<Ids>),
}

impl Becoming {
    pub(super) fn word(self) -> String {
        match self {
            Becoming::Operators => "operator".to_owned(),
            Becoming::Servers(None) => "self".to_owned(),
            Becoming::Servers(Some(user)) => format!("{}:{}", user.uid, user.gid),
        }
    }

    pub(super) fn from_word(word: &str) -> Option<Becoming> {
        match word {
            "operator" => Some(Becoming::Operators),
            "self" => Some(Becoming::Servers(None)),
            user => {
                let (uid, gid) = user.split_once(':')?;
                let (uid, gid) = (uid.parse().ok()?, gid.parse().ok()?);
                Some(Becoming::Servers(Some(Ids { uid, gid })))
            }
        }
    }
}

/// A command that starts as pgcertd and executes `program`.
#[cfg(not(test))]
fn becoming(whose: Becoming, program: &OsStr) -> Command {
    // The program that is running, even if a newer one has been installed since.
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("pgcertd")
        .arg(FLAG)
        .arg(whose.word())
        .arg(program);
    command.current_dir("/");
    command
}

/// The program itself: the executable of the unit tests is not pgcertd. The end-to-end tests check what a child gives up.
#[cfg(test)]
fn becoming(_whose: Becoming, program: &OsStr) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/").process_group(0);
    command
}

/// Executes the program named by the arguments if they begin with [`FLAG`]; only returns, with the exit status, if that fails.
/// Must be called before anything else: no other thread may be running, since identities belong to threads.
pub(crate) fn become_another(arguments: &[OsString]) -> Option<u8> {
    let (flag, rest) = arguments.get(1..)?.split_first()?;
    if flag != FLAG {
        return None;
    }
    let why = match rest {
        [whose, program, arguments @ ..] => {
            whose.to_str().and_then(Becoming::from_word).map_or_else(
                || "it is not said whose program".to_owned(),
                |whose| gone_over(whose, program, arguments).to_string(),
            )
        }
        _ => "no program is named".to_owned(),
    };
    // Whoever started this reads it; if nobody does, there is nobody to tell.
    drop(io::Write::write_all(&mut io::stderr(), why.as_bytes()));
    Some(NOT_BECOME)
}

/// Gives up what it must and executes the program; only returns if that fails.
fn gone_over(whose: Becoming, program: &OsStr, arguments: &[OsString]) -> io::Error {
    if let Err(error) = close_all_but_three().and_then(|()| give_up(whose)) {
        return error;
    }
    std::process::Command::new(program).args(arguments).exec()
}

/// Permanently gives up everything but descriptors. The calls that change the identity only affect the calling thread, which
/// must be the only one.
pub(super) fn give_up(whose: Becoming) -> io::Result<()> {
    let named = |what: &'static str| move |e| io::Error::other(format!("{what}: {e}"));
    rustix::process::setsid().map_err(named("setsid"))?;
    let Becoming::Servers(user) = whose else {
        return Ok(());
    };
    let bounded = bounds().iter().try_for_each(|(resource, most)| {
        let now = rustix::process::getrlimit(*resource);
        let most = now.maximum.map_or(*most, |hard| hard.min(*most));
        let limit = Rlimit {
            current: Some(now.current.map_or(most, |soft| soft.min(most))),
            maximum: Some(most),
        };
        rustix::process::setrlimit(*resource, limit)
    });
    match (bounded, user) {
        // The unit's system call filter forbids setting limits. Its children have the limits of the unit.
        (Ok(()) | Err(rustix::io::Errno::PERM), None) => {}
        (bounded, _) => bounded.map_err(named("setrlimit"))?,
    }
    if let Some(user) = user {
        if user.uid == 0 {
            return Err(io::Error::other(Untrusted::AsRoot));
        }
        let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
        rustix::thread::set_thread_groups(&groups_of(user)).map_err(named("setgroups"))?;
        rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(named("setresgid"))?;
        rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(named("setresuid"))?;
    }
    rustix::thread::set_no_new_privs(true).map_err(named("no_new_privs"))
}

/// The limits for someone else's program: no core dump, 30 s of CPU time, files of 16 MiB, 1,024 descriptors. Memory is not
/// limited: how much `postgres` maps is up to the administrator.
fn bounds() -> [(Resource, u64); 4] {
    [
        (Resource::Core, 0),
        (Resource::Cpu, 30),
        (Resource::Fsize, 16 << 20),
        (Resource::Nofile, 1024),
    ]
}

/// Closes every descriptor except standard input, output and error: whatever started pgcertd may have left some open.
pub(super) fn close_all_but_three() -> io::Result<()> {
    let open: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|number| *number > 2)
        .collect();
    for number in open {
        // EBADF: the descriptor that was used to list them.
        match nix::unistd::close(number) {
            Ok(()) | Err(nix::errno::Errno::EBADF) => {}
            Err(error) => return Err(io::Error::from(error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that panics has failed")]
    use super::*;

    const OWNER: Ids = Ids {
        uid: 4242,
        gid: 4242,
    };

    #[test]
    fn whose_a_program_is_is_read_as_it_was_written() {
        for whose in [
            Becoming::Operators,
            Becoming::Servers(None),
            Becoming::Servers(Some(OWNER)),
        ] {
            assert_eq!(Becoming::from_word(&whose.word()), Some(whose));
        }
        assert_eq!(Becoming::from_word("0"), None);
        assert_eq!(Becoming::from_word("-1:0"), None);
    }

    #[tokio::test]
    async fn an_endless_voice_is_ended() {
        let mut shell = Launch::of_server(
            Path::new("/bin/sh"),
            Ids {
                uid: 65534,
                gid: 65534,
            },
        )
        .unwrap();
        shell.args(["-c", "while :; do echo yes; done"]);
        let ran = shell.ran(Duration::from_secs(30)).await;
        assert!(matches!(ran, Err(CommandError::Loud)), "{ran:?}");
    }

    #[tokio::test]
    async fn of_an_operators_loud_command_the_end_is_kept() {
        let mut shell = Launch::of_operator("/bin/sh");
        shell.args([
            "-c",
            "head -c 300000 /dev/zero | tr '\\0' x; echo; echo end",
        ]);
        let ran = shell.ran(Duration::from_secs(30)).await.unwrap();
        assert!(ran.stdout.ends_with(b"x\nend\n"));
        assert_eq!(ran.stdout.len(), LOUDEST);
    }

    #[tokio::test]
    async fn what_a_child_leaves_running_holds_nobody_up() {
        let mut shell = Launch::of_operator("/bin/sh");
        shell.args(["-c", "sleep 1000 & echo $!"]);
        let ran = shell.ran(Duration::from_secs(30)).await.unwrap();
        let left: i32 = String::from_utf8_lossy(&ran.stdout).trim().parse().unwrap();
        rustix::process::kill_process(Pid::from_raw(left).unwrap(), Signal::KILL).unwrap();
    }
}
