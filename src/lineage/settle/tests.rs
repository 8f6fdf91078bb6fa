//! Renewals as each client writes them, told event by event, with time passed in.

mod cost;

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::read::{Homes, ReadError, Sway, Trail};
use super::*;

const DEBOUNCE: u64 = 200;
const TIMEOUT: u64 = 600_000;

/// A lineage's files as a list of stamps, two clocks, and the settler that hears of them. Times are in milliseconds.
struct World {
    settler: Settler,
    start: Instant,
    wall: Timestamp,
    stamps: BTreeMap<PathBuf, Stamp>,
    missing: BTreeSet<PathBuf>,
    stable: bool,
    writes: u64,
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

impl World {
    /// A lineage whose files are an hour old, read and taken at time 0.
    fn settled(paths: &[&str]) -> Self {
        let mut world = Self::unknown(paths);
        world.settler.unknown(world.start);
        assert_eq!(world.read(Fit::Fits, 0), Settled::Taken);
        assert_eq!(world.settler.due(), None);
        world
    }

    fn unknown(paths: &[&str]) -> Self {
        let wall = Timestamp::from_second(1_800_000_000).expect("a time in the calendar");
        let mut world = Self {
            settler: Settler::new(ms(DEBOUNCE), ms(TIMEOUT)),
            start: Instant::now() + ms(3_600_000),
            wall,
            stamps: BTreeMap::new(),
            missing: BTreeSet::new(),
            stable: true,
            writes: 0,
        };
        paths
            .iter()
            .for_each(|path| world.stamp(path, StampKind::File, -3_600_000));
        world
    }

    fn at(&self, time: u64) -> Instant {
        self.start + ms(time)
    }

    fn stamp(&mut self, path: &str, kind: StampKind, time: i64) {
        self.writes += 1;
        let ctime = self.wall.as_millisecond() + time;
        let path = PathBuf::from(path);
        self.missing.remove(&path);
        let stamp = Stamp {
            path: path.clone(),
            device: 1,
            inode: self.writes,
            size: self.writes,
            ctime: (ctime / 1000, ctime % 1000 * 1_000_000),
            kind,
        };
        self.stamps.insert(path, stamp);
    }

    fn hear(&mut self, path: &str, change: Change, time: u64) {
        self.settler
            .event(Path::new(path), change, self.start + ms(time));
    }

    /// A file of the trail is written in place.
    fn write(&mut self, path: &str, time: u64) {
        self.stamp(path, StampKind::File, time.cast_signed());
        self.hear(path, Change::Written, time);
    }

    fn close(&mut self, path: &str, time: u64) {
        self.hear(path, Change::Closed, time);
    }

    /// A file that the lineage does not lead to (yet) is created, written and closed.
    fn elsewhere(&mut self, path: &str, time: u64) {
        self.hear(path, Change::Created, time);
        self.hear(path, Change::Written, time);
        self.close(path, time);
    }

    fn unlink(&mut self, path: &str, time: u64) {
        self.stamps.remove(Path::new(path));
        self.missing.insert(PathBuf::from(path));
        self.hear(path, Change::Removed, time);
    }

    fn symlink(&mut self, path: &str, time: u64) {
        self.stamp(path, StampKind::Link, time.cast_signed());
        self.hear(path, Change::Created, time);
    }

    /// The lineage leads to `new` instead of `old`, which was written at `time`.
    fn leads(&mut self, old: &str, new: &str, time: u64) {
        self.stamps.remove(Path::new(old));
        self.stamp(new, StampKind::File, time.cast_signed());
    }

    fn reading(&self) -> Reading {
        let paths = self.stamps.keys().chain(&self.missing).cloned().collect();
        Reading {
            directory: None,
            layout: None,
            stamps: self.stamps.values().cloned().collect(),
            stable: self.stable,
            newest_change: self.stamps.values().filter_map(Stamp::changed).max(),
            trail: Trail {
                paths,
                directories: BTreeSet::new(),
            },
            sway: Sway::default(),
            homes: Homes::new(),
            parts: Err(ReadError::DirectoryMissing {
                candidates: Vec::new(),
            }),
        }
    }

    fn read(&mut self, fit: Fit, time: u64) -> Settled {
        let reading = self.reading();
        let wall = self.wall + SignedDuration::from_millis(time.cast_signed());
        self.settler
            .read(&reading, fit, self.start + ms(time), wall)
    }

    fn due(&self) -> Option<u128> {
        self.settler
            .due()
            .map(|due| due.duration_since(self.start).as_millis())
    }

    fn not_yet(&self, time: u64) -> Settled {
        Settled::NotYet {
            again: self.at(time),
        }
    }

    fn waiting(&self, time: u64) -> Settled {
        Settled::Waiting {
            problem_at: self.wall + SignedDuration::from_millis(time.cast_signed()),
        }
    }
}

const CERTBOT: [&str; 4] = [
    "live/fullchain.pem",
    "live/privkey.pem",
    "archive/fullchain1.pem",
    "archive/privkey1.pem",
];

#[test]
fn certbot_is_taken_at_once_at_its_last_link() {
    let mut world = World::settled(&CERTBOT);
    for part in ["privkey2", "cert2", "chain2", "fullchain2"] {
        world.elsewhere(&format!("archive/{part}.pem"), 10);
    }
    world.hear("live/previous_privkey.pem", Change::Created, 11);
    world.hear("live/cert.pem", Change::Removed, 12);
    world.hear("live/cert.pem", Change::Created, 12);
    assert_eq!(
        world.due(),
        None,
        "nothing of this concerns the two files that are read"
    );

    world.unlink("live/privkey.pem", 13);
    assert_eq!(world.due(), Some(13));
    assert_eq!(
        world.read(Fit::Incomplete, 13),
        Settled::Problem,
        "in this world the directory is not looked at, and the files left are old"
    );
    world.symlink("live/privkey.pem", 14);
    world.leads("archive/privkey1.pem", "archive/privkey2.pem", 10);
    assert_eq!(world.read(Fit::Incomplete, 14), world.waiting(TIMEOUT + 14));
    world.hear("live/chain.pem", Change::Removed, 15);
    world.unlink("live/fullchain.pem", 16);
    world.symlink("live/fullchain.pem", 16);
    world.leads("archive/fullchain1.pem", "archive/fullchain2.pem", 10);
    assert_eq!(world.due(), Some(16));
    assert_eq!(world.read(Fit::Fits, 16), Settled::Taken);
    assert_eq!(world.due(), None);
}

#[test]
fn certbot_that_is_read_in_the_midst_of_its_links_is_read_again_at_once() {
    let mut world = World::settled(&CERTBOT);
    world.unlink("live/privkey.pem", 10);
    world.symlink("live/privkey.pem", 11);
    world.stable = false;
    // The reading began at 10, and the link was heard of while it ran.
    assert_eq!(world.read(Fit::Fits, 10), world.not_yet(11));
    world.stable = true;
    assert_eq!(world.read(Fit::Fits, 11), Settled::Taken);
}

#[test]
fn certbot_that_crashed_half_way_waits_and_becomes_a_problem_in_the_end() {
    let mut world = World::settled(&CERTBOT);
    world.unlink("live/privkey.pem", 10);
    world.symlink("live/privkey.pem", 10);
    assert_eq!(world.read(Fit::Incomplete, 10), world.waiting(TIMEOUT + 10));
    assert_eq!(world.due(), Some(u128::from(TIMEOUT + 10)));
    assert_eq!(world.read(Fit::Incomplete, TIMEOUT + 10), Settled::Problem);
    assert_eq!(world.due(), None, "only an event can mend it");
    // The same, seen by a process that was started later and remembers nothing.
    world.settler = Settler::new(ms(DEBOUNCE), ms(TIMEOUT));
    world.settler.unknown(world.at(300_010));
    assert_eq!(
        world.read(Fit::Incomplete, 300_010),
        world.waiting(TIMEOUT + 10)
    );
    assert_eq!(world.read(Fit::Incomplete, TIMEOUT + 10), Settled::Problem);
}

#[test]
fn acme_sh_writes_in_place_and_is_taken_after_its_last_close_and_quiet() {
    let mut world = World::settled(&["fullchain.pem", "key.pem"]);
    world.write("key.pem", 10);
    world.close("key.pem", 11);
    assert_eq!(world.read(Fit::Incomplete, 50), world.not_yet(211));
    world.write("fullchain.pem", 100);
    world.write("fullchain.pem", 101);
    assert_eq!(
        world.read(Fit::Fits, 101),
        world.not_yet(TIMEOUT + 101),
        "cut off after a whole certificate it would fit"
    );
    world.close("fullchain.pem", 102);
    assert_eq!(world.due(), Some(302));
    assert_eq!(world.read(Fit::Fits, 301), world.not_yet(302));
    assert_eq!(world.read(Fit::Fits, 302), Settled::Taken);
}

#[test]
fn lego_writes_many_lineages_in_one_directory_and_only_ours_matters() {
    let mut world = World::settled(&["certs/a.crt", "certs/a.key"]);
    for number in 0..5000 {
        world.elsewhere(&format!("certs/b{number}.crt"), number);
    }
    assert_eq!(world.due(), None);
    assert!(world.settler.touches.len() <= REMEMBERED + 1);
    assert_eq!(world.read(Fit::Fits, 5000), Settled::Taken);
    world.write("certs/a.crt", 6000);
    world.close("certs/a.crt", 6000);
    world.elsewhere("certs/a.issuer.crt", 6001);
    world.write("certs/a.key", 6002);
    world.close("certs/a.key", 6002);
    assert_eq!(world.due(), Some(6202));
    assert_eq!(world.read(Fit::Fits, 6202), Settled::Taken);
}

#[test]
fn more_open_strangers_than_are_remembered_count_as_a_lost_history() {
    let mut world = World::settled(&["certs/a.crt", "certs/a.key"]);
    for number in 0..=REMEMBERED {
        world.hear(&format!("certs/b{number}.crt"), Change::Written, 10);
    }
    assert!(world.settler.touches.len() <= REMEMBERED);
    assert!(world.settler.history_lost);
}

#[test]
fn dehydrated_moves_links_into_place_and_is_taken_at_the_one_that_fits() {
    let mut world = World::settled(&[
        "privkey.pem",
        "fullchain.pem",
        "privkey-1.pem",
        "fullchain-1.pem",
    ]);
    world.elsewhere("privkey-2.pem", 10);
    world.elsewhere("fullchain-2.pem", 11);
    world.hear("privkey.pem", Change::Replaced, 12);
    world.leads("privkey-1.pem", "privkey-2.pem", 10);
    assert_eq!(world.read(Fit::Incomplete, 12), world.waiting(TIMEOUT + 10));
    world.hear("fullchain.pem", Change::Replaced, 13);
    world.leads("fullchain-1.pem", "fullchain-2.pem", 11);
    assert_eq!(world.read(Fit::Fits, 13), Settled::Taken);
}

#[test]
fn kubernetes_swaps_its_data_link_and_is_taken_at_once() {
    let mut world = World::settled(&["tls.crt", "tls.key", "..data", "..1/tls.crt", "..1/tls.key"]);
    world.hear("..2", Change::Created, 10);
    world.hear("..data_tmp", Change::Created, 11);
    world.hear("..data_tmp", Change::Removed, 12);
    assert_eq!(world.due(), None);
    world.hear("..data", Change::Replaced, 12);
    world.leads("..1/tls.crt", "..2/tls.crt", 10);
    world.leads("..1/tls.key", "..2/tls.key", 10);
    assert_eq!(world.read(Fit::Fits, 12), Settled::Taken);
    // The new directory is watched from now on, and what happened before in it is not known.
    world.settler.unknown(world.at(13));
    assert_eq!(world.read(Fit::Fits, 13), world.not_yet(210));
    assert_eq!(world.read(Fit::Fits, 210), Settled::Taken);
}

#[test]
fn consul_template_renames_file_by_file_and_is_taken_at_the_second() {
    let mut world = World::settled(&["tls.crt", "tls.key"]);
    world.elsewhere("tls.key.tmp", 10);
    world.hear("tls.key.tmp", Change::Removed, 11);
    world.hear("tls.key", Change::Replaced, 11);
    world.stamp("tls.key", StampKind::File, 11);
    assert_eq!(world.read(Fit::Incomplete, 11), world.waiting(TIMEOUT + 11));
    world.elsewhere("tls.crt.tmp", 12);
    world.hear("tls.crt.tmp", Change::Removed, 13);
    world.hear("tls.crt", Change::Replaced, 13);
    world.stamp("tls.crt", StampKind::File, 13);
    assert_eq!(world.read(Fit::Fits, 13), Settled::Taken);
}

#[test]
fn a_file_that_is_moved_into_place_before_it_is_closed_counts_as_open() {
    let mut world = World::settled(&["tls.crt", "tls.key"]);
    world.hear("new.crt", Change::Created, 10);
    world.hear("new.crt", Change::Written, 10);
    world.hear("new.crt", Change::Removed, 11);
    world.hear("tls.crt", Change::Replaced, 11);
    world.stamp("tls.crt", StampKind::File, 11);
    assert_eq!(world.read(Fit::Fits, 11), world.not_yet(TIMEOUT + 11));
    world.close("tls.crt", 12);
    assert_eq!(world.read(Fit::Fits, 212), Settled::Taken);
}

#[test]
fn a_link_to_a_file_that_is_still_being_written_is_not_taken() {
    let mut world = World::settled(&CERTBOT);
    world.hear("archive/fullchain2.pem", Change::Created, 10);
    world.hear("archive/fullchain2.pem", Change::Written, 10);
    world.unlink("live/fullchain.pem", 11);
    world.symlink("live/fullchain.pem", 11);
    world.leads("archive/fullchain1.pem", "archive/fullchain2.pem", 10);
    assert_eq!(world.read(Fit::Fits, 11), world.not_yet(TIMEOUT + 11));
    world.write("archive/fullchain2.pem", 150);
    world.close("archive/fullchain2.pem", 160);
    assert_eq!(world.read(Fit::Fits, 211), world.not_yet(360));
    assert_eq!(world.read(Fit::Fits, 360), Settled::Taken);
}

#[test]
fn a_file_that_was_linked_first_and_written_then_is_taken_after_quiet() {
    let mut world = World::settled(&CERTBOT);
    world.unlink("live/fullchain.pem", 10);
    world.symlink("live/fullchain.pem", 10);
    world.elsewhere("archive/fullchain2.pem", 11);
    world.leads("archive/fullchain1.pem", "archive/fullchain2.pem", 11);
    assert_eq!(world.read(Fit::Fits, 12), world.not_yet(211));
    assert_eq!(world.read(Fit::Fits, 211), Settled::Taken);
}

#[test]
fn a_replaced_key_does_not_hurry_a_chain_that_was_just_written_in_place() {
    let mut world = World::settled(&["fullchain.pem", "privkey.pem"]);
    world.write("fullchain.pem", 10);
    world.close("fullchain.pem", 10);
    world.hear("privkey.pem", Change::Replaced, 20);
    world.stamp("privkey.pem", StampKind::File, 20);
    assert_eq!(world.due(), Some(20));
    assert_eq!(world.read(Fit::Fits, 20), world.not_yet(210));
    assert_eq!(world.read(Fit::Fits, 210), Settled::Taken);
}

#[test]
fn a_created_file_is_open_until_it_is_closed() {
    let mut world = World::settled(&["fullchain.pem", "privkey.pem"]);
    world.unlink("fullchain.pem", 10);
    world.stamp("fullchain.pem", StampKind::File, 11);
    world.hear("fullchain.pem", Change::Created, 11);
    assert_eq!(world.read(Fit::Fits, 11), world.not_yet(211));
    world.write("fullchain.pem", 12);
    world.close("fullchain.pem", 13);
    assert_eq!(world.read(Fit::Fits, 213), Settled::Taken);
}

#[test]
fn an_appending_writer_is_taken_after_its_last_append() {
    let mut world = World::settled(&["fullchain.pem", "privkey.pem"]);
    world.write("fullchain.pem", 10);
    world.close("fullchain.pem", 11);
    assert_eq!(world.read(Fit::Fits, 150), world.not_yet(211));
    world.write("fullchain.pem", 205);
    assert_eq!(world.due(), Some(405));
    world.close("fullchain.pem", 206);
    assert_eq!(world.read(Fit::Fits, 405), world.not_yet(406));
    assert_eq!(world.read(Fit::Fits, 406), Settled::Taken);
}

#[test]
fn a_close_that_never_comes_is_not_waited_for_for_ever() {
    let mut world = World::settled(&["fullchain.pem", "privkey.pem"]);
    world.write("fullchain.pem", 10);
    assert_eq!(world.due(), Some(210));
    assert_eq!(
        world.read(Fit::Fits, 210),
        world.not_yet(TIMEOUT + 210),
        "it may be torn as long as it is open"
    );
    world.stamp("fullchain.pem", StampKind::File, 300); // a mapped page went out, without an event
    let (then, last) = (TIMEOUT + 210, 2 * TIMEOUT + 210);
    assert_eq!(world.read(Fit::Fits, then), world.not_yet(last));
    assert_eq!(world.read(Fit::Fits, last), Settled::Taken);
}

#[test]
fn a_close_that_an_overflow_swallowed_is_waited_for_only_as_long_as_any_quiet() {
    let mut world = World::settled(&["fullchain.pem", "privkey.pem"]);
    world.write("fullchain.pem", 10);
    world.settler.unknown(world.at(20));
    assert_eq!(world.read(Fit::Fits, 20), world.not_yet(220));
    assert_eq!(world.read(Fit::Fits, 220), Settled::Taken);
}

#[test]
fn a_mode_that_is_set_leads_to_a_reading_but_delays_none() {
    let mut world = World::settled(&CERTBOT);
    world.hear("archive/privkey1.pem", Change::Attributes, 10);
    assert_eq!(world.due(), Some(10));
    assert_eq!(world.read(Fit::Fits, 10), Settled::Taken);
    world.elsewhere("archive/privkey2.pem", 20);
    world.unlink("live/privkey.pem", 21);
    world.symlink("live/privkey.pem", 21);
    world.hear("archive/privkey2.pem", Change::Attributes, 22);
    world.leads("archive/privkey1.pem", "archive/privkey2.pem", 22);
    assert_eq!(world.read(Fit::Fits, 22), Settled::Taken);
}

#[test]
fn at_start_young_files_are_read_again_when_they_are_old_enough() {
    let mut world = World::unknown(&["fullchain.pem", "privkey.pem"]);
    world.stamp("fullchain.pem", StampKind::File, -50);
    world.settler.unknown(world.start);
    assert_eq!(world.due(), Some(0));
    assert_eq!(world.read(Fit::Fits, 0), world.not_yet(150));
    assert_eq!(world.read(Fit::Fits, 150), Settled::Taken);
}

#[test]
fn a_young_torn_file_is_read_again_before_it_is_said_to_wait() {
    let mut world = World::unknown(&["fullchain.pem", "privkey.pem"]);
    world.stamp("fullchain.pem", StampKind::File, -50);
    world.settler.unknown(world.start);
    assert_eq!(world.read(Fit::Unfit, 0), world.not_yet(150));
    assert_eq!(world.read(Fit::Unfit, 150), world.waiting(TIMEOUT - 50));
}

#[test]
fn after_an_overflow_a_file_that_changes_is_not_taken() {
    let mut world = World::settled(&["fullchain.pem", "privkey.pem"]);
    world.settler.unknown(world.at(10));
    world.stamp("fullchain.pem", StampKind::File, 5);
    assert_eq!(world.read(Fit::Fits, 10), world.not_yet(205));
    world.stamp("fullchain.pem", StampKind::File, 204);
    assert_eq!(world.read(Fit::Fits, 205), world.not_yet(404));
    world.stable = false;
    assert_eq!(world.read(Fit::Fits, 404), world.not_yet(604));
    world.stable = true;
    assert_eq!(world.read(Fit::Fits, 604), Settled::Taken);
}

#[test]
fn a_clock_that_was_set_back_does_not_block_a_renewal() {
    let mut world = World::unknown(&["fullchain.pem", "privkey.pem"]);
    world.stamp("fullchain.pem", StampKind::File, 86_400_000);
    world.settler.unknown(world.start);
    assert_eq!(world.read(Fit::Fits, 0), world.not_yet(200));
    assert_eq!(world.read(Fit::Fits, 200), Settled::Taken);
}

#[test]
fn a_clock_that_was_set_back_does_not_silence_a_problem() {
    let mut world = World::unknown(&["fullchain.pem", "privkey.pem"]);
    world.stamp("fullchain.pem", StampKind::File, 86_400_000);
    world.settler.unknown(world.start);
    assert_eq!(world.read(Fit::Incomplete, 0), world.not_yet(200));
    assert_eq!(world.read(Fit::Incomplete, 200), world.waiting(TIMEOUT));
    assert_eq!(world.due(), Some(u128::from(TIMEOUT)));
    assert_eq!(world.read(Fit::Incomplete, TIMEOUT), Settled::Problem);
}

#[test]
fn a_clock_that_was_set_forward_changes_nothing_where_the_history_is_known() {
    let mut world = World::settled(&["fullchain.pem", "privkey.pem"]);
    world.write("fullchain.pem", 10);
    world.wall += SignedDuration::from_hours(24);
    assert_eq!(world.read(Fit::Fits, 20), world.not_yet(TIMEOUT + 20));
}

#[test]
fn a_lineage_without_any_file_is_a_problem_and_no_reading_is_due() {
    let mut world = World::unknown(&[]);
    world.settler.unknown(world.start);
    assert_eq!(world.read(Fit::Unfit, 0), Settled::Problem);
    assert_eq!(world.due(), None);
}

/// One step of a writer: which file, how long after the step before, and whether it closes.
fn steps() -> impl Strategy<Value = Vec<(usize, u64, bool, bool)>> {
    proptest::collection::vec(
        (0..2_usize, 1..DEBOUNCE, any::<bool>(), any::<bool>()),
        1..60,
    )
}

proptest! {
    #[test]
    fn no_bundle_is_taken_while_one_of_its_files_is_open(steps in steps()) {
        let files = ["fullchain.pem", "privkey.pem"];
        let mut world = World::settled(&files);
        let mut open = [false; 2];
        // Each file's last event: the quiet of an open one never lasts as long as `debounce`.
        let mut last = [0; 2];
        let mut now = 0;
        for (file, pause, closes, heard) in steps {
            let next = now + pause;
            let bound = (0..2).filter(|file| open[*file]).map(|file| last[file] + DEBOUNCE).min();
            if bound.is_some_and(|bound| next >= bound) {
                // The file that would fall silent writes again just before.
                for other in (0..2).filter(|file| open[*file]) {
                    world.write(files[other], now);
                    last[other] = now;
                }
            }
            // Whenever a reading is due before the next step, it is made; and some more.
            while let Some(due) = world.settler.due().filter(|due| *due < world.at(next)) {
                let time = u64::try_from(due.saturating_duration_since(world.start).as_millis()).unwrap_or(u64::MAX).max(now);
                let verdict = world.read(Fit::Fits, time);
                prop_assert!(verdict != Settled::Taken || open == [false; 2], "taken at {time}: {open:?}");
                if verdict == Settled::Taken { break; }
            }
            now = next;
            if closes && open[file] {
                world.close(files[file], now);
                open[file] = false;
            } else {
                world.write(files[file], now);
                open[file] = true;
            }
            last[file] = now;
            if heard {
                let verdict = world.read(Fit::Fits, now);
                prop_assert!(verdict != Settled::Taken || open == [false; 2], "taken at {now}: {open:?}");
            }
        }
        // And in the end it is.
        for file in 0..2 {
            if open[file] { world.close(files[file], now); }
        }
        prop_assert_eq!(world.read(Fit::Fits, now + DEBOUNCE), Settled::Taken);
    }
}
