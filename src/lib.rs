//! pgcertd keeps PostgreSQL serving the newest TLS certificate.
//!
//! It watches the directories in which ACME clients leave certificates. When one is renewed, it
//! puts it into the files of each PostgreSQL server that uses it, has the server load them
//! without a restart, and proves over the wire that new clients get it. What Postgres refuses is
//! taken back.
//!
//! # A tour of the code
//!
//! Data goes one way:
//!
//! ```text
//! directories - watch - settle - lineage - bundle - reconcile - deploy ( install, reload, verify ) - report
//! ```
//!
//! Whatever happens, a file event, a timer, a server that starts or a person's `sync`, is no
//! more than a reason to compare three things: what the lineage holds, what is installed, what is
//! served. What is done follows from that comparison alone, so that an event that is lost costs
//! time and nothing else.
//!
//! Read it in the order in which a renewal passes through it:
//!
//! | step | in | what happens |
//! | --- | --- | --- |
//! | arguments | `main.rs`, `cli/mod.rs` | `main` hands them over and returns the exit status; nothing else ends the process |
//! | commands | `cli/setup/mod.rs`, `cli/run.rs`, `cli/sync.rs`, `cli/rollback.rs`, `cli/status/mod.rs`, `cli/check.rs`, `cli/probe/mod.rs`, `cli/notify.rs`, `cli/removal.rs`, `cli/upgraded.rs` | a file each; `cli/outcomes.rs` tells what came of instances, `cli/sources.rs` reads the lineages for them, `cli/page.rs` is what they print, in which others' text commands no terminal, `cli/paint.rs` fits it into 80 columns, `cli/manual.rs` explains them |
//! | configuration | `config/mod.rs` | TOML becomes values that are right, or an error that shows the line |
//! | the loop | `daemon/mod.rs`, `daemon/watching.rs` | carries hints to a task for each lineage (`daemon/lineage.rs`) and each instance (`daemon/instance.rs`); answers signals and systemd; `daemon/metrics/mod.rs` answers scrapes |
//! | watch | `source/watch.rs` | inotify on every directory that the lineages' links lead through |
//! | settle | `source/settle.rs` | decides, with time passed in, when to read and whether what was read is a finished renewal |
//! | lineage | `source/lineage.rs`, `source/lineage/sway.rs`, `source/tracked.rs` | reads the files, on a thread that may read them and do nothing else, and nothing that one of those who decide which files they are could not read himself; `source/current.rs` says what they hold once the instance's lock is held, and gives the key for that deployment alone |
//! | bundle | `bundle.rs`, `bundle/order.rs`, `bundle/names.rs`, `bundle/companions.rs` | parses and checks what was read, names as libpq does: a bundle that exists is one that Postgres can load, with the CA and CRL files by which it judges its clients, where an instance has such |
//! | reconcile | `reconcile/mod.rs` | looks, decides, acts, looks again; the decision (`reconcile/decide.rs`, `reconcile/plan.rs`, by the standards of `reconcile/standards.rs`) and the state that is shown (`reconcile/state.rs`) are pure functions of what was seen; `reconcile/rollback.rs` goes back because an operator says so |
//! | deploy | `deploy.rs`, `deploy/before.rs`, `deploy/verify.rs`, `deploy/watch.rs`, `deploy/shut_out.rs`, `deploy/roll_back.rs` | install, reload, verify, and where Postgres refuses, or lets no client in any more, roll back: states whose methods are the transitions; when what is seen counts for proof is a pure function |
//! | install | `instance/files/mod.rs` | the files of one server: written beside, renamed, all of them or none (`instance/files/swap.rs`), put back, under a lock (`instance/files/lock.rs`); what is remembered of it lies beside them; what has not been proven served is marked so before it is in place (`instance/files/trial.rs`, `reconcile/trial.rs`) |
//! | reload | `instance/process.rs`, `instance/postmaster.rs`, `instance/pgbouncer/mod.rs`, `instance/patroni/process.rs`, `instance/reload.rs` | proves which process is the server, and signals that one or none |
//! | verify | `instance/probe.rs`, `instance/settings.rs`, `instance/program.rs`, `instance/configuration.rs`, `instance/hosts.rs`, `instance/lockout.rs`, `instance/ciphers.rs` | asks for TLS as a client does, and where it is turned away, as one that offers all that any client may (`instance/probe/widest.rs`); asks Postgres itself which files it is to use, again where that may have changed |
//! | report | `report/kind.rs`, `report/told.rs`, `report/nearing.rs`, `report/event.rs`, `report/log.rs`, `report/view.rs`, `report/headline.rs`, `report/metrics/mod.rs` | decides what is new, and says it once: events to the journal; one view for `status`, one line for systemd; what is measured, for Prometheus |
//!
//! [`notification`] (`notification/mod.rs`) is a process beside the daemon: it follows what that reports
//! (`notification/follow.rs`, `notification/scene.rs`), decides what a person is to be told
//! (`notification/ledger.rs`, a pure function, kept by `notification/memory.rs`), words it
//! (`notification/message.rs`) and runs a command (`notification/command.rs`).
//!
//! [`trust`] (`trust/mod.rs`) judges a chain as clients do, before it is installed and as it is served: `trust/path.rs`
//! finds the way to a root and what is wrong on it, `trust/needed.rs` what of a chain clients need whatever they
//! trust, `trust/roots.rs` holds what is trusted.
//!
//! [`doctor`] (`doctor/mod.rs`) is what `check` draws: a finding says what was seen, why it matters and what mends it
//! (`doctor/finding.rs`); `doctor/kind.rs` is the table of all of them. `doctor/instance/mod.rs` follows a renewal from
//! the lineage to the clients of one instance, `doctor/host/mod.rs` looks at the host; `doctor/unit.rs` reads as whom and
//! with which rights the daemon is installed, `doctor/sandbox.rs` what that lets it see and write, and
//! `doctor/sandbox/needs.rs` what of it an instance lacks. [`acme`] (`acme/mod.rs`)
//! knows the ACME clients of a host: `acme/schedule.rs` what renews, `acme/area.rs` where hooks are kept, `acme/judge.rs`
//! which of them are old, `acme/service.rs` what a command does to which server, `acme/removal.rs` what takes them away.
//!
//! What the manual says stands beside what it describes: of a command in its file, of the keys in `config/keys.rs`.
//! `reference/mod.rs`, part of the tests alone, makes man pages, completions and the config's schema of it.
//!
//! An instance is a Postgres, or what stands before one and shows the same certificate ([`config::Kind`]). What differs is in
//! three places: which process it is (`instance/process.rs`), what it calls its settings (`instance/settings.rs`), and what
//! its configuration says: Postgres is asked (`instance/program.rs`), of a PgBouncer the file is read
//! (`instance/pgbouncer/ini.rs`, `instance/pgbouncer/settings.rs`), and so of a Patroni
//! (`instance/patroni/yaml.rs`); one without a file is named and left alone (`instance/patroni/fileless.rs`). What one in a
//! container calls a file or a network is compared with this host's (`instance/namespaces.rs`, `instance/mounts.rs`). What
//! costs a Patroni its REST API is tried before it is asked (`instance/patroni/rehearsal.rs`), and one without TLS is told
//! from one that is dead (`instance/plain.rs`). Several PgBouncer may answer at one address; where, the kernel tells
//! (`instance/pgbouncer/listeners.rs`).
//!
//! What an operator asks of a running server, who is connected for one, goes over its Unix socket
//! (`instance/sql/mod.rs`); when it got its certificate, `instance/deployment.rs` tells from the file.
//! No deployment needs a login. `instance/hba/mod.rs` reads `pg_hba.conf` as the server does, and says whom it lets in
//! without encryption. Whether a server would start again, its own program says on a throw-away data directory
//! (`instance/dry_start.rs`).
//!
//! [`setup`] (`setup/mod.rs`) is what an operator runs once for a server: `setup/survey.rs` looks at what runs here and
//! what lies in the watched directories (`source/survey.rs`, by the leaves alone), `setup/proposal.rs` chooses,
//! `setup/plan.rs` says what would change, `setup/carry_out.rs` does it and `setup/undo.rs` takes it back, by what
//! `setup/record.rs` remembers; `setup/service.rs` opens the unit's sandbox for it. Whose servers are proposed at all, `doctor/served_users.rs` says. `setup/require_tls.rs` makes the lines of `pg_hba.conf` ask for TLS, and takes that back; `setup/host_line.rs` adds the line of `pg_hosts.conf`.
//!
//! [`privilege`] (`privilege.rs`) stands beside the way: it starts the threads and gives each its
//! rights. The reader may read what only root can, and writes nothing; the writer acts as the owner of
//! the files, inside their directories; the main thread looks at processes, signals and connects.
//! [`patience`] (`patience.rs`) asks file systems that may not answer.
//! [`host`] (`host/mod.rs`) is what any Linux program asks of its host: `host/file.rs` reads files that somebody else
//! names, whatever lies there; `host/directory.rs` follows a path that nobody else may have bent; `host/look.rs` sorts what a
//! failed look means, not there or not known, and `host/process.rs` holds a process while it is looked at;
//! `host/command.rs` starts every other program, where it may be run (`host/trusted.rs`), and `host/caller.rs` connects as another user, in a child each.
//! [`text`] (`text.rs`) shows text that others chose, so that no terminal, journal or document obeys it.
//!
//! All of it is private but `main`. [`testing`] (`testing.rs`) is what the tests beside the crate use.
//!
//! Who may use what: `bundle` opens no file; `bundle` and `config` know neither tokio nor notify
//! nor nix; [`source`] knows no instance, [`instance`] no source; `deploy` no watcher and no command.

#![warn(unreachable_pub)]

mod acme;
mod bundle;
mod cli;
mod config;
mod daemon;
mod deploy;
mod doctor;
mod host;
mod instance;
mod notification;
mod patience;
mod privilege;
mod reconcile;
#[cfg(test)]
mod reference;
mod report;
mod setup;
mod source;
mod text;
mod trust;

/// Every allocation is zeroed when it is freed, so that no copy of a private key that a
/// library made on its way (a PEM decoder's base64 buffer, for one) stays on the heap.
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<std::alloc::System> =
    zeroizing_alloc::ZeroAlloc(std::alloc::System);
#[doc(hidden)]
pub mod testing;

pub use cli::main;
