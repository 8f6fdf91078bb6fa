//! The rights of each thread of the daemon, and what of a private key stays in its memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    os::unix::fs::{FileExt, MetadataExt},
};

use crate::stage::Stage;
use crate::world::{
    SOON, World,
    ca::Issued,
    command,
    daemon::{Daemon, Launch, eventually_state},
    eventually,
    process::run,
};

const NONE: &str = "0000000000000000";
const DAC_READ_SEARCH: &str = "0000000000000004";

/// The fields of `/proc/PID/task/TID/status`.
type Status = BTreeMap<String, String>;

/// The daemon's threads by their names.
fn threads(daemon: &Daemon) -> Vec<(String, Status)> {
    fs::read_dir(format!("/proc/{}/task", daemon.pid()))
        .unwrap()
        .filter_map(|task| {
            // One that has ended meanwhile cannot be read.
            let text = fs::read_to_string(task.ok()?.path().join("status")).ok()?;
            let status: Status = text
                .lines()
                .filter_map(|line| line.split_once(':'))
                .map(|(key, value)| (key.to_owned(), value.trim().to_owned()))
                .collect();
            Some((status["Name"].clone(), status))
        })
        .collect()
}

/// Whether it is the thread that reads a lineage, or one of those that watch directories.
fn looks(name: &str) -> bool {
    name.starts_with("r:") || name == "watcher" || name.starts_with("notify-rs")
}

/// Brings one deployment, so that every thread has come to life and done its work.
fn deployed(world: &World, stage: &mut Stage, daemon: &mut Daemon) -> Issued {
    daemon.ready();
    let second = stage.ca.issue(&["pg.example.com"]);
    stage.lineage.renew(&second);
    daemon.wait_for_log("deployed and served");
    eventually_state(world, &stage.config, "16-main", "in_sync");
    second
}

#[test]
fn only_the_threads_that_read_lineages_have_the_one_capability() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let mut daemon = Launch::new(&world).like_the_unit().daemon(&stage.config);
    deployed(&world, &mut stage, &mut daemon);

    let all = threads(&daemon);
    for (name, status) in &all {
        let effective = if looks(name) { DAC_READ_SEARCH } else { NONE };
        assert_eq!(status["CapEff"], effective, "{name}: {all:?}");
        assert_eq!(status["CapAmb"], NONE, "{name}");
        assert_eq!(status["CapInh"], NONE, "{name}");
        assert_eq!(status["CapBnd"], DAC_READ_SEARCH, "{name}");
        assert_eq!(status["NoNewPrivs"], "1", "{name}");
        if name.starts_with("w:") {
            assert_eq!(status["CapPrm"], NONE, "{name}");
        }
    }
    for expected in ["pgcertd", "w:16-main", "r:", "watcher", "notify-rs"] {
        let there = all.iter().any(|(name, _)| name.starts_with(expected));
        assert!(there, "no thread {expected} in {all:?}");
    }
    // The kernel gives what cannot be dumped to root, whoever the process runs as.
    let memory = fs::metadata(format!("/proc/{}/mem", daemon.pid())).unwrap();
    assert_eq!(
        memory.uid(),
        0,
        "a process of the same user may read its memory"
    );
    assert_eq!(daemon.stop().code(), Some(0));
}

#[test]
fn as_root_the_writer_has_the_owners_rights_and_the_reader_may_only_read() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let mut daemon = Launch::new(&world).daemon(&stage.config);
    deployed(&world, &mut stage, &mut daemon);

    let all = threads(&daemon);
    let of = |prefix: &str| {
        let mut found = all.iter().filter(|(name, _)| name.starts_with(prefix));
        &found
            .next()
            .unwrap_or_else(|| panic!("no thread {prefix}"))
            .1
    };
    let writer = of("w:16-main");
    assert_eq!((&*writer["CapEff"], &*writer["CapPrm"]), (NONE, NONE));
    let owner = world.postgres();
    let file_system_id = |ids: &str| ids.split_whitespace().nth(3).unwrap().to_owned();
    assert_eq!(file_system_id(&writer["Uid"]), owner.uid.to_string());
    assert_eq!(file_system_id(&writer["Gid"]), owner.gid.to_string());
    // All groups of the owner, as a service of his has them.
    let id = run(command("id").args(["-G", "postgres"]), SOON);
    let sorted = |groups: &str| -> BTreeSet<u32> {
        let numbers = groups.split_whitespace();
        numbers.map(|number| number.parse().unwrap()).collect()
    };
    assert_eq!(sorted(&writer["Groups"]), sorted(&id.result().unwrap()));
    for (name, status) in all.iter().filter(|(name, _)| looks(name)) {
        assert_eq!(status["CapEff"], DAC_READ_SEARCH, "{name}");
        assert_eq!(status["CapPrm"], DAC_READ_SEARCH, "{name}");
    }
    assert_eq!(daemon.stop().code(), Some(0));
}

/// Every page that the daemon may write, its heaps and stacks.
fn memory(daemon: &Daemon) -> Vec<Vec<u8>> {
    let maps = fs::read_to_string(format!("/proc/{}/maps", daemon.pid())).unwrap();
    let memory = File::open(format!("/proc/{}/mem", daemon.pid())).unwrap();
    maps.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (from, to) = words.next()?.split_once('-')?;
            if !words.next()?.starts_with("rw") {
                return None;
            }
            let number = |text| u64::from_str_radix(text, 16).unwrap();
            let (from, to) = (number(from), number(to));
            let mut bytes = vec![0; (to - from).try_into().unwrap()];
            // A mapping may go between the two readings.
            memory.read_exact_at(&mut bytes, from).ok()?;
            Some(bytes)
        })
        .collect()
}

fn occurrences(memory: &[Vec<u8>], needle: &[u8]) -> usize {
    memory
        .iter()
        .map(|region| {
            region
                .windows(needle.len())
                .filter(|w| *w == needle)
                .count()
        })
        .sum()
}

/// A key in the forms in which it passes through the daemon.
struct Key {
    der: Vec<u8>,
    scalar: Vec<u8>,
    text: Vec<String>,
}

impl Key {
    fn from_issued(issued: &Issued) -> Self {
        let (_, der) = pem_rfc7468::decode_vec(issued.key_pem.as_bytes()).unwrap();
        // ECPrivateKey (RFC 5915): version 1, then the number as an OCTET STRING of 32 bytes.
        let mark = [0x02, 0x01, 0x01, 0x04, 0x20];
        let at = der.windows(mark.len()).position(|w| w == mark).unwrap() + mark.len();
        Self {
            scalar: der[at..at + 32].to_vec(),
            text: issued
                .key_pem
                .lines()
                .filter(|line| !line.starts_with('-'))
                .map(str::to_owned)
                .collect(),
            der,
        }
    }
}

#[test]
fn no_private_key_stays_in_memory_once_it_is_installed() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let mut daemon = Launch::new(&world).like_the_unit().daemon(&stage.config);
    let second = deployed(&world, &mut stage, &mut daemon);
    let (old, new) = (Key::from_issued(&stage.first), Key::from_issued(&second));
    let (_, leaf) = pem_rfc7468::decode_vec(second.leaf_pem.as_bytes()).unwrap();

    eventually(SOON, "no key is in memory", || {
        let memory = memory(&daemon);
        // What must be there shows that the search finds.
        assert!(
            occurrences(&memory, &leaf) >= 1,
            "the leaf itself is not found"
        );
        let text = |key: &Key| -> usize {
            let lines = key.text.iter();
            lines
                .map(|line| occurrences(&memory, line.as_bytes()))
                .sum()
        };
        let found = [
            ("the new key as text", text(&new)),
            ("the old key as text", text(&old)),
            ("the old key as DER", occurrences(&memory, &old.der)),
            ("the old key's number", occurrences(&memory, &old.scalar)),
            ("the new key as DER", occurrences(&memory, &new.der)),
            ("the new key's number", occurrences(&memory, &new.scalar)),
        ];
        let found: Vec<_> = found.iter().filter(|(_, count)| *count > 0).collect();
        if found.is_empty() {
            Ok(())
        } else {
            Err(format!("{found:?}"))
        }
    });
    assert_eq!(daemon.stop().code(), Some(0));
}
