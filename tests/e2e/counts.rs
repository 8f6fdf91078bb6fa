//! What a deployment asks of the kernel, counted by strace on the running daemon: system calls, threads, children,
//! connections, fsyncs. A count is the same on a busy machine, where a time says nothing, and the same in a build that is
//! optimized.
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
        skipped::Skipped,
    },
};

/// What is not counted: how often a thread waits for another or wakes it, how much of a socket is there at once, and how the
/// allocator shares memory among threads is decided by the scheduler, and not by the program.
const UNCOUNTED: &str = "trace=!futex,epoll_wait,epoll_pwait,epoll_pwait2,restart_syscall,sched_yield,recvfrom,\
                         mmap,munmap,mremap,mprotect,madvise,brk";

/// What is read of these is as much as has come until then: one event by one, or all at once.
const QUEUES: [&str; 2] = ["<anon_inode:inotify>", "<anon_inode:[eventfd]>"];

/// The most of each for one instance.
struct Bounds {
    /// System calls of the daemon itself. A few more are allowed than are made here, for other kernels and C libraries.
    calls: f64,
    /// Which files a configuration is made of is asked of `postgres -C` once a server start, and not here.
    children: f64,
    threads: f64,
    /// One handshake shows the new certificate. Of twenty servers one may not have loaded it yet.
    connections: f64,
    /// Calls that read the lineage's files: chain and key, each to its end, once for all who share it.
    reads: f64,
    /// How often the view is written.
    views: f64,
}

/// The only instance of a lineage: 585 calls, on 2 threads that look at file systems that may hang.
const ONE: Bounds = Bounds {
    calls: 620.0,
    children: 0.0,
    threads: 3.0,
    connections: 1.0,
    reads: 4.0,
    views: 1.0,
};

/// Each of twenty: 410 to 420 calls, as more or fewer of them ask the lineage at once; some 200 more where so much time has
/// passed since the renewal before that their threads had ended, and are started again.
const TWENTY: Bounds = Bounds {
    calls: 660.0,
    children: 0.0,
    threads: 3.0,
    connections: 1.2,
    reads: 1.0,
    views: 0.5,
};

/// How much more than the only one each of twenty may cost.
const GROWTH: f64 = 1.2;

/// How many renewals are tried until one costs no more than it may: a turn that comes upon a renewal in its midst reads the
/// lineage twice, and a server that is late is asked twice.
const TURNS: usize = 6;

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

    /// What a renewal costs, once the daemon has deployed one before.
    #[track_caller]
    fn counted(mut self, bounds: &Bounds) -> Counts {
        let size = self.clusters.len();
        let daemon = Daemon::start(self.world, &self.config);
        eventually(SOON, "all is in sync", || {
            daemon.log().matches(": in_sync").count() >= size
        });
        self.renew(&daemon, 1);
        let strace = Attached::to(self.world, daemon.pid(), &["-y", "-e", UNCOUNTED]);
        let mut before = strace.at_rest();
        for turn in 1..=TURNS {
            let newest = self.renew(&daemon, turn + 1);
            let after = strace.at_rest();
            let counts = Counts::of(&after[before.len()..], size);
            before = after;
            println!("{:.0} calls each: {counts:?}", counts.calls_each());
            counts.are_durable();
            for cluster in &self.clusters {
                assert_eq!(cluster.served(), newest.fingerprint);
            }
            let over = counts.over(bounds);
            if over.is_empty() {
                drop(strace);
                assert_eq!(daemon.stop().code(), Some(0));
                return counts;
            }
            println!("{over:?}");
        }
        panic!("none of {TURNS} renewals cost {size} no more than it may: see above");
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

    /// What is more than it may be.
    fn over(&self, bounds: &Bounds) -> Vec<String> {
        let compared = [
            ("calls", self.all_calls(), bounds.calls),
            ("children", self.children, bounds.children),
            ("threads", self.threads, bounds.threads),
            ("connections", self.connections, bounds.connections),
            ("reads", self.reads, bounds.reads),
            ("views", self.views, bounds.views),
        ];
        let over = compared
            .into_iter()
            .map(|(what, all, most)| (what, self.each(all), most))
            .filter(|(_, each, most)| each > most);
        over.map(|(what, each, most)| format!("{each:.2} {what} each, at most {most}"))
            .collect()
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

#[test]
fn a_deployment_costs_so_many_system_calls_and_no_more_where_twenty_share_the_lineage() {
    or_skip!(Attached::possible());
    let counted = |size, bounds| -> Result<Counts, Skipped> {
        let world = World::with_debians("the paths with which calls were counted")?;
        Ok(Fleet::of(&world, size).counted(bounds))
    };
    let one = or_skip!(counted(1, &ONE));
    let twenty = or_skip!(counted(20, &TWENTY));
    for counts in [&one, &twenty] {
        let written = (counts.view_writes, counts.views);
        assert_eq!(written.0, written.1, "a view is written at once");
    }
    let growth = twenty.calls_each() / one.calls_each();
    assert!(growth <= GROWTH, "each of twenty costs {growth:.2} times");
}
