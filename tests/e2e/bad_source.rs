//! What a lineage may hold that must not be served: refused with the reason, and outlived.

use std::{fs, os::unix::fs::symlink, time::SystemTime};

use crate::{
    stage::{HOST, NAME, Stage, says},
    world::{
        World,
        ca::{Ca, DAY, Issued, Options},
        daemon::{Daemon, eventually_state},
        in_place::InPlace,
        lineage::{Kind, Step},
    },
};

/// The most memory that the daemon may ever have had, in KiB, whatever a lineage holds.
const MOST_MEMORY: u64 = 100 << 10;

/// One way in which a lineage's files are bad.
struct Row {
    name: &'static str,
    /// Makes the files bad; the certificate is the one that would have been next.
    plant: fn(&Files, &Issued),
    /// What the problem says.
    says: &'static [&'static str],
}

/// A lineage of plain files, and what rows need to spoil them.
struct Files {
    lineage: InPlace,
    stranger: Ca,
}

impl Files {
    fn chain(&self, bytes: impl AsRef<[u8]>) {
        self.lineage.swap("fullchain.pem", bytes.as_ref());
    }

    fn both(&self, chain: impl AsRef<[u8]>, next: &Issued) {
        self.chain(chain);
        self.lineage.swap("privkey.pem", next.key_pem.as_bytes());
    }

    /// Takes `fullchain.pem` away, and gives its path for something else.
    fn no_chain(&self) -> std::path::PathBuf {
        let path = self.lineage.path().join("fullchain.pem");
        fs::remove_file(&path).unwrap();
        path
    }

    /// Removes whatever stands there.
    fn clear(&self) {
        for entry in fs::read_dir(self.lineage.path()).unwrap() {
            let path = entry.unwrap().path();
            if fs::symlink_metadata(&path).unwrap().is_dir() {
                fs::remove_dir(&path).unwrap()
            } else {
                fs::remove_file(&path).unwrap()
            }
        }
    }
}

fn fifo(path: &std::path::Path) {
    rustix::fs::mknodat(
        rustix::fs::CWD,
        path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o644),
        0,
    )
    .unwrap();
}

const ROWS: [Row; 13] = [
    Row {
        name: "an unrelated intermediate",
        plant: |files, next| {
            let other = files.stranger.issue(&[HOST]);
            files.both(next.leaf_pem.clone() + &other.chain_pem(), next);
        },
        says: &["certificate 1", "not issued by any other", "another issuer"],
    },
    Row {
        name: "garbage after a good leaf",
        plant: |files, next| {
            let garbage = "-----BEGIN CERTIFICATE-----\n!garbage!\n-----END CERTIFICATE-----\n";
            files.both(next.leaf_pem.clone() + garbage, next);
        },
        says: &["fullchain.pem", "not valid base64", "line"],
    },
    Row {
        name: "a certificate that is none after a good leaf",
        plant: |files, next| {
            let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
            files.both(next.leaf_pem.clone() + garbage, next);
        },
        says: &["certificate 2 of the chain", "damaged"],
    },
    Row {
        name: "NUL bytes after a good leaf",
        plant: |files, next| files.both(next.leaf_pem.clone() + &"\0".repeat(4096), next),
        says: &["NUL byte"],
    },
    Row {
        name: "truncated PEM",
        plant: |files, next| {
            let whole = next.fullchain_pem();
            files.both(&whole[..whole.len() - 100], next);
        },
        says: &["begins but does not end"],
    },
    Row {
        name: "DER instead of PEM",
        plant: |files, next| {
            let (_, der) = pem_rfc7468::decode_vec(next.leaf_pem.as_bytes()).unwrap();
            files.both(der, next);
        },
        says: &["DER", "convert it to PEM"],
    },
    Row {
        name: "empty",
        plant: |files, next| files.both("", next),
        says: &["fullchain.pem", "empty"],
    },
    Row {
        name: "a directory",
        plant: |files, _| fs::create_dir(files.no_chain()).unwrap(),
        says: &["fullchain.pem is a directory"],
    },
    Row {
        name: "a FIFO",
        plant: |files, _| fifo(&files.no_chain()),
        says: &["fullchain.pem is a FIFO"],
    },
    Row {
        name: "a FIFO as the key",
        plant: |files, _| {
            files.lineage.remove("privkey.pem");
            fifo(&files.lineage.path().join("privkey.pem"));
        },
        says: &["privkey.pem is a FIFO"],
    },
    Row {
        name: "a file of 2 GiB",
        plant: |files, _| {
            let file = fs::File::create(files.no_chain()).unwrap();
            file.set_len(2 << 30).unwrap();
        },
        says: &["fullchain.pem has 2147483648 bytes"],
    },
    Row {
        name: "a key of 2 GiB",
        plant: |files, _| {
            let file = files.lineage.truncate("privkey.pem");
            file.set_len(2 << 30).unwrap();
        },
        says: &["privkey.pem has 2147483648 bytes"],
    },
    Row {
        name: "a link loop",
        plant: |files, _| {
            let path = files.no_chain();
            symlink("other.pem", &path).unwrap();
            symlink("fullchain.pem", path.with_file_name("other.pem")).unwrap();
        },
        says: &["fullchain.pem", "symbolic links", "back to itself"],
    },
];

#[test]
fn bad_files_are_refused_with_their_reason_and_what_is_served_stays() {
    let world = or_skip!(World::new());
    let files = Files {
        lineage: InPlace::new(&world, "files"),
        stranger: Ca::new(&world, "Stranger"),
    };
    let stage = Stage::build(&world)
        .config(|config| config.watch("settle_timeout", "1s"))
        .files(files.lineage.path())
        .start();
    files.lineage.renew(&stage.first);
    let mut daemon = Daemon::start(&world, &stage.config);

    let mut served = stage.first.clone();
    for row in &ROWS {
        let next = stage.ca.issue(&[HOST]);
        (row.plant)(&files, &next);
        let problem = stage.both_say("source_invalid");
        println!("{}: {problem}", row.name);
        let place = files.lineage.path().to_str().unwrap();
        says(&problem, row.says);
        says(&problem, &[place, ";"]);
        stage.keeps(&served);
        assert!(daemon.is_running(), "{}", row.name);
        let memory = most_memory(&daemon);
        assert!(memory < MOST_MEMORY, "{}: {memory} KiB", row.name);

        files.clear();
        files.lineage.renew(&next);
        stage.serves(&next);
        stage.both_say("in_sync");
        served = next;
    }

    // It ends in time although there is a FIFO that nobody writes to.
    fifo(&files.no_chain());
    stage.both_say("source_invalid");
    stage.ends(daemon, &served);
}

/// The peak of the daemon's resident memory so far, in KiB.
fn most_memory(daemon: &Daemon) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn the_key_of_another_certificate_is_waited_for_and_then_refused() {
    let world = or_skip!(World::new());
    let mut stage = Stage::build(&world)
        .config(|config| config.watch("settle_timeout", "5s"))
        .start();
    let daemon = stage.daemon();

    // certbot was killed when it had moved the key's link, and not yet the chain's.
    let second = stage.ca.issue(&[HOST]);
    let renewal = stage
        .lineage
        .renew_until(&second, Step::Link(Kind::Privkey));
    let waiting = stage.daemon_says("waiting", "does not belong to the leaf");
    println!("{waiting}");
    let problem = stage.both_say("source_invalid");
    println!("{problem}");
    says(
        &problem,
        &["does not belong to the leaf", "privkey.pem", ";"],
    );
    stage.keeps(&stage.first);

    renewal.finish();
    stage.serves(&second);
    stage.both_say("in_sync");
    stage.ends(daemon, &second);
}

#[test]
fn an_expired_certificate_is_refused_with_its_date() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let daemon = Daemon::start(&world, &stage.config);

    let now = SystemTime::now();
    let options = Options {
        not_before: now - 90 * DAY,
        not_after: now - DAY,
        ..Options::default()
    };
    stage.lineage.renew(&stage.ca.issue_with(&[HOST], &options));
    let problem = stage.both_say("source_invalid");
    println!("{problem}");
    let seen = eventually_state(&world, &stage.config, NAME, "source_invalid");
    let end = seen["source"]["not_after"].as_str().unwrap();
    says(&problem, &["expired", end, "renew"]);
    stage.keeps(&stage.first);

    let third = stage.renewal_is_served();
    stage.ends(daemon, &third);
}

#[test]
fn a_certificate_for_other_names_is_refused_with_both() {
    let world = or_skip!(World::new());
    let mut stage = Stage::build(&world).server_names().start();
    let daemon = Daemon::start(&world, &stage.config);

    stage
        .lineage
        .renew(&stage.ca.issue(&["www.example.com", "*.b.example.com"]));
    let problem = stage.both_say("source_invalid");
    println!("{problem}");
    says(
        &problem,
        &[
            "cover pg.example.com",
            "www.example.com, *.b.example.com",
            "server_names",
        ],
    );
    stage.keeps(&stage.first);

    let third = stage.ca.issue(&["*.example.com"]);
    stage.lineage.renew(&third);
    stage.serves(&third);
    stage.ends(daemon, &third);
}

#[test]
fn an_older_generation_that_is_still_valid_is_deployed_with_a_warning() {
    let world = or_skip!(World::new());
    let now = SystemTime::now();
    let options = Options {
        not_before: now - 30 * DAY,
        not_after: now + 60 * DAY,
        ..Options::default()
    };
    let mut stage = Stage::build(&world).first(options).start();
    let daemon = Daemon::start(&world, &stage.config);
    let _second = stage.renewal_is_served();

    stage.lineage.set_back(1);
    stage.serves(&stage.first);
    let warning = daemon.wait_for_log("older than the installed one");
    println!("{warning}");
    assert!(warning.starts_with("warning: "), "{warning}");
    stage.both_say("in_sync");
    stage.ends_as_it_began(daemon);
}
