//! pgcertd keeps PostgreSQL serving the newest TLS certificate: it installs each renewed one, reloads the server, and proves
//! over the wire that new clients get it. If Postgres rejects it, pgcertd rolls back to the previous certificate.
//!
//! # What flows
//!
//! ```text
//! directories - watch - settle - lineage - bundle - plan - deploy ( install, reload, verify ) - report
//! ```
//!
//! A file event, a timer, a server that starts, a person's `sync`: each is only a hint to compare three things, what the
//! lineage holds, what is installed, and what is served. Every decision follows from that comparison, so a lost event costs
//! time and nothing else.
//!
//! # The rooms, in the order in which a renewal passes through them
//!
//! | room | holds | start at |
//! | --- | --- | --- |
//! | [`cli`] | a file per command: arguments in, exit status out; all that people read on a terminal | `cli/mod.rs` |
//! | [`config`] | TOML in; valid values out, or an error that shows the line; a key is declared in `config/keys/` | `config/mod.rs` |
//! | [`daemon`] | the loop: hints go to a task per lineage and per instance; signals, systemd, scrapes | `daemon/mod.rs` |
//! | [`lineage`] | watches directories, decides when a renewal is finished (`settle/`, pure), reads it once, on a thread that can do nothing else | `lineage/mod.rs` |
//! | [`bundle`] | PEM and X.509: a bundle that exists is one that Postgres can load | `bundle/mod.rs` |
//! | [`trust`] | what verifying clients accept, whatever they trust | `trust/mod.rs` |
//! | [`deploy`] | compares, plans (`deploy/plan.rs`, pure), acts (`deploy/attempt/`: install, verify, roll back; `deploy/attempt/watch.rs` says when what a server shows is proof) and names the state (`deploy/state.rs`, pure) | `deploy/mod.rs` |
//! | [`server`] | one Postgres, PgBouncer or Patroni: its process, files, settings, and what it serves; what is different about a kind is a row in `server/profile.rs` and how it is found in `server/kinds.rs` | `server/mod.rs` |
//! | [`report`] | says what is new, once: journal, `status`, metrics | `report/mod.rs` |
//! | [`notify`] | a process of its own that tells a person | `notify/mod.rs` |
//! | [`check`] | what `pgcertd check` looks at: `check/table.rs` lists it all | `check/mod.rs` |
//! | [`acme`] | the ACME clients of a host, their schedules and old hooks | `acme/mod.rs` |
//! | [`setup`] | sets up a server once: a plan is a list of steps (`setup/step/`), each shown, applied and undone | `setup/mod.rs` |
//! | [`host`] | what any Linux program asks of its host: files, processes, commands, threads with rights | `host/mod.rs` |
//!
//! Below them all: [`problem`] (`problem.rs`), the one way a fault is reported (what, why, fix, command), and [`text`] (`text.rs`),
//! which shows text that others chose so that no terminal obeys it. [`testing`] (`testing.rs`) is what the tests beside the
//! crate use; all else is private. Part of the tests alone are `reference/`, which makes man pages, completions and schemas, and
//! `instructions.rs`, which counts what a piece of work takes.
//!
//! # Who may use what
//!
//! [`bundle`] opens no file. [`bundle`], [`config`] and [`trust`] know neither tokio nor notify nor nix. [`lineage`] knows no
//! server, [`server`] no lineage; [`deploy`] no watcher and no command. The process ends in `main` alone.

#![warn(unreachable_pub)]
// The tour is for those who read the private parts.
#![allow(rustdoc::private_intra_doc_links)]

mod acme;
mod bundle;
mod check;
mod cli;
mod config;
mod daemon;
mod deploy;
mod host;
#[cfg(test)]
mod instructions;
mod lineage;
mod notify;
mod problem;
#[cfg(test)]
mod reference;
mod report;
mod server;
mod setup;
#[doc(hidden)]
pub mod testing;
mod text;
mod trust;

pub use cli::main;

/// Every allocation is zeroed when it is freed, so that no copy of a private key that a
/// library made on its way (a PEM decoder's base64 buffer, for one) stays on the heap.
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<std::alloc::System> =
    zeroizing_alloc::ZeroAlloc(std::alloc::System);
