//! What a deployment asks of the kernel, counted by strace on the running daemon: system calls, threads, children,
//! connections, fsyncs. A count is the same on a busy machine, where a time says nothing, and the same in a build that is
//! optimised.
//!
//! Each bound lies a little above what is needed today; work that is done twice breaks it. One that is broken by work
//! that is needed is raised, with a reason.

use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
    time::{Duration, Instant},
};

use crate::{
    stage::HOST,
    world::{
        SOON, World,
        attached::Attached,
        ca::{Ca, Issued},
        cluster::Cluster,
        config::{Config, Instance},
        daemon::Daemon,
        eventually,
        lineage::Lineage,
    },
};

/// What is not counted: how often a thread waits for another or wakes it, how much of a socket is there at once, and how the
/// allocator shares memory among threads is decided by the scheduler, and not by the program.
const UNCOUNTED: &str = "trace=!futex,epoll_wait,epoll_pwait,epoll_pwait2,restart_syscall,sched_yield,recvfrom,\
                         mmap,munmap,mremap,mprotect,madvise,brk";

/// What is read of these is as much as has come until then: one event by one, or all at once.
const QUEUES: [&str; 2] = ["<anon_inode:inotify>", "<anon_inode:[eventfd]>"];

/// The most system calls of the daemon itself for the one instance of a lineage: 1,365, and some for other kernels and
/// C libraries.
const CALLS: usize = 1_430;

/// The most for each of twenty: from 983 to 1,009, as more or fewer of them ask the lineage at once.
const CALLS_OF_TWENTY: usize = 1_080;

/// How much more than the only one each of twenty may cost.
const GROWTH: f64 = 1.2;

/// `postgres -C` for `config_file`, `hba_file` and `ident_file`.
const CHILDREN: usize = 3;

const THREADS: usize = 14;

/// Two to verify, and two for the comparison after it, which sees everything anew; as many again where its own
/// renames wake the daemon.
const CONNECTIONS: usize = 6;

/// Chain and key, each to its end.
const READS: usize = 4;

/// How often the view is written for one instance.
const VIEWS: usize = 2;

/// Longer than `debounce`, after which what an event has hinted at is looked at.
const QUIET: Duration = Duration::from_millis(700);

/// Servers, one lineage for all of them, and the daemon that keeps them.
struct Fleet<'w> {
    world: &'w World,
    clusters: Vec<Cluster>,
    config: Config,
    ca: Ca,
    lineage: Lineage,
}

impl<'w> Fleet<'w> {
    fn of(world: &'w World, size: usize) -> Self {
        let ca = Ca::new(world, "Test Root");
        let first = ca.issue(&[HOST]);
        let mut lineage = Lineage::new(world, HOST);
        lineage.renew(&first);
        // Nothing here may wait for the timer.
        let mut config = Config::new(world).watch("resync", "1h");
        let mut clusters = Vec::new();
        for number in 0..size {
            let name = format!("c{number}");
            let target = world.target(&name);
            world.place(&first, &target);
            let cluster = Cluster::build(world).name(&name).tls(&target).create();
            config = config.instance(Instance::for_cluster(&cluster, HOST));
            clusters.push(cluster);
        }
        thread::scope(|scope| {
            for cluster in &mut clusters {
                scope.spawn(|| cluster.start_at_first());
            }
        });
        Fleet {
            world,
            clusters,
            config: config.write(),
            ca,
            lineage,
        }
    }

    /// What a renewal costs, once the daemon has deployed one before. Where it comes upon a renewal in the midst it reads
    /// the lineage twice; then there is another turn, and at last the cheapest counts.
    #[track_caller]
    fn counted(mut self, turns: usize) -> Counts {
        let size = self.clusters.len();
        let daemon = Daemon::start(self.world, &self.config);
        eventually(SOON, "all is in sync", || {
            daemon.log().matches(": in_sync").count() >= size
        });
        self.renew(&daemon, 1);
        let strace = Attached::to(self.world, daemon.pid(), &["-y", "-e", UNCOUNTED]);
        let mut before = strace.at_rest();
        let mut counted: Vec<Counts> = Vec::new();
        while counted.len() < turns && counted.iter().all(|counts| counts.reads > READS) {
            let newest = self.renew(&daemon, counted.len() + 2);
            let after = strace.at_rest();
            let counts = Counts::of(&after[before.len()..], size);
            counts.are_durable();
            println!(
                "{} calls, {} of them to read",
                counts.all_calls(),
                counts.reads
            );
            counted.push(counts);
            before = after;
            for cluster in &self.clusters {
                assert_eq!(cluster.served(), newest.fingerprint);
            }
        }
        drop(strace);
        assert_eq!(daemon.stop().code(), Some(0));
        let least = counted.into_iter().min_by_key(Counts::all_calls).unwrap();
        println!("{size}: {:.0} calls each, {least:?}", least.calls_each());
        least
    }

    /// A renewal, the `number`th, which each instance deploys once.
    #[track_caller]
    fn renew(&mut self, daemon: &Daemon, number: usize) -> Issued {
        let issued = self.ca.issue(&[HOST]);
        self.lineage.renew(&issued);
        let all = number * self.clusters.len();
        eventually(SOON * 2, "all is deployed", || {
            match daemon.log().matches("deployed and served").count() {
                done if done == all => Ok(()),
                done => Err(format!("{done} of {all}")),
            }
        });
        issued
    }
}

impl Attached {
    /// What was traced until nothing happened any more.
    #[track_caller]
    fn at_rest(&self) -> String {
        let (mut seen, mut since) = (self.log(), Instant::now());
        eventually(SOON, "the daemon rests", || {
            let now = self.log();
            if now != seen {
                (seen, since) = (now, Instant::now());
            }
            since.elapsed() >= QUIET
        });
        seen
    }
}

/// What one renewal has cost.
#[derive(Debug, Default)]
struct Counts {
    instances: usize,
    /// The daemon's own, by name.
    calls: BTreeMap<String, usize>,
    children: usize,
    threads: usize,
    connections: usize,
    /// By what was synced.
    fsyncs: BTreeMap<String, usize>,
    /// Calls that read the lineage's files.
    reads: usize,
    /// Calls that write into the daemon's view.
    view_writes: usize,
    /// How often it was renamed into place.
    views: usize,
}

impl Counts {
    /// `31995 renameat(14</state>, ".server.pem.pgcertd-new", 12</state>, "server.pem") = 0`
    fn of(trace: &str, instances: usize) -> Counts {
        let lines = || {
            let lines = trace.lines().filter_map(|line| line.split_once(' '));
            lines.map(|(thread, call)| (thread, call.trim_start()))
        };
        let children: BTreeSet<&str> = lines()
            .filter(|(_, call)| call.starts_with("execve("))
            .map(|(thread, _)| thread)
            .collect();
        let mut counts = Counts {
            instances,
            children: children.len(),
            ..Counts::default()
        };
        for (_, call) in lines().filter(|(thread, _)| !children.contains(thread)) {
            // Else a call's second half, an end or a signal.
            let Some((name, arguments)) = call.split_once('(') else {
                continue;
            };
            // A debug build looks at each descriptor that it closes.
            let is_queue = QUEUES.iter().any(|queue| arguments.contains(queue));
            if call.starts_with(['<', '+', '-']) || is_queue || arguments.contains("F_GETFD") {
                continue;
            }
            *counts.calls.entry(name.to_owned()).or_default() += 1;
            counts.threads += usize::from(arguments.contains("CLONE_THREAD"));
            counts.connections += usize::from(name == "connect" && arguments.contains("AF_INET"));
            let path = arguments.split_once('<').map_or("", |(_, path)| path);
            let path = path.split_once('>').map_or("", |(path, _)| path);
            let is_view = path.ends_with(".status.json.pgcertd-new");
            match name {
                "fsync" | "fdatasync" if !is_view => {
                    let what = path.rsplit('/').next().unwrap_or_default();
                    let what = if what.starts_with('.') {
                        what
                    } else {
                        "its directory"
                    };
                    *counts.fsyncs.entry(what.to_owned()).or_default() += 1;
                }
                "read" | "pread64" if path.contains("/archive/") => counts.reads += 1,
                "write" | "writev" | "pwrite64" if is_view => counts.view_writes += 1,
                "renameat" if arguments.contains("\"status.json\"") => counts.views += 1,
                _ => {}
            }
        }
        counts
    }

    fn all_calls(&self) -> usize {
        self.calls.values().sum()
    }

    /// An instance's share.
    fn each(&self, all: usize) -> f64 {
        all as f64 / self.instances as f64
    }

    fn calls_each(&self) -> f64 {
        self.each(self.all_calls())
    }

    /// Exactly what durability needs: the new file before it is renamed, the directory before Postgres is asked to
    /// load it, and the directory again once it is known to be served (`proven` there, `trial` gone), for a crash
    /// must not have the next start take the good one for untried.
    #[track_caller]
    fn are_durable(&self) {
        let needed = [(".server.pem.pgcertd-new", 1), ("its directory", 2)];
        let needed = needed.map(|(what, times)| (what.to_owned(), times * self.instances));
        assert_eq!(self.fsyncs, BTreeMap::from(needed), "fsyncs");
    }
}

#[track_caller]
fn at_most(what: &str, is: f64, most: f64) {
    assert!(
        is <= most,
        "{what} of a deployment: {is:.1}, at most {most:.1}"
    );
}

#[test]
fn a_deployment_costs_so_many_system_calls_and_no_more_where_twenty_share_the_lineage() {
    or_skip!(Attached::possible());
    let world = or_skip!(World::with_debians(
        "the paths with which calls were counted"
    ));
    let one = Fleet::of(&world, 1).counted(8);
    drop(world);
    let world = or_skip!(World::with_debians(
        "the paths with which calls were counted"
    ));
    let twenty = Fleet::of(&world, 20).counted(2);

    for counts in [&one, &twenty] {
        at_most("children", counts.each(counts.children), CHILDREN as f64);
        at_most("threads", counts.each(counts.threads), THREADS as f64);
        let connections = counts.each(counts.connections);
        at_most("connections", connections, CONNECTIONS as f64);
        at_most("views", counts.each(counts.views), VIEWS as f64);
        assert_eq!(
            counts.view_writes, counts.views,
            "a view is written at once"
        );
    }
    at_most("reads of the lineage", one.reads as f64, READS as f64);
    at_most("system calls", one.calls_each(), CALLS as f64);
    let calls = twenty.calls_each();
    at_most("system calls of twenty", calls, CALLS_OF_TWENTY as f64);
    at_most("growth", calls / one.calls_each(), GROWTH);
}
