//! What a lineage may hold that must not be served: refused with the reason, and outlived.

use std::{fs, os::unix::fs::symlink, time::SystemTime};

use crate::{
    stage::{HOST, NAME, Stage, assert_says, daemon_view, eventually_both},
    world::{
        SOON, World,
        ca::{Ca, DAY, Issued, Options},
        config::Config,
        daemon::{Daemon, eventually_state},
        eventually,
        in_place::InPlace,
        lineage::{Kind, Lineage, Step},
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
            match fs::symlink_metadata(&path).unwrap().is_dir() {
                true => fs::remove_dir(&path).unwrap(),
                false => fs::remove_file(&path).unwrap(),
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
    let stage = Stage::new(&world);
    let files = Files {
        lineage: InPlace::new(&world, "files"),
        stranger: Ca::new(&world, "Stranger"),
    };
    files.lineage.renew(&stage.first);
    let config = Config::new(&world)
        .watch("settle_timeout", "1s")
        .instance(stage.instance(files.lineage.path()))
        .write();
    let mut daemon = Daemon::start(&world, &config);

    let mut served = stage.first.clone();
    for row in &ROWS {
        let next = stage.ca.issue(&[HOST]);
        (row.plant)(&files, &next);
        let problem = eventually_both(&world, &config, "source_invalid", row.name);
        println!("{}: {problem}", row.name);
        let place = files.lineage.path().to_str().unwrap();
        assert_says(&problem, row.says, row.name);
        assert_says(&problem, &[place, ";"], row.name);
        stage.keeps(&served, row.name);
        assert!(daemon.is_running(), "{}", row.name);
        let memory = most_memory(&daemon);
        assert!(memory < MOST_MEMORY, "{}: {memory} KiB", row.name);

        files.clear();
        files.lineage.renew(&next);
        stage.eventually_serves(&next, row.name);
        eventually_both(&world, &config, "in_sync", row.name);
        served = next;
    }

    // It ends in time although there is a FIFO that nobody writes to.
    fifo(&files.no_chain());
    eventually_both(&world, &config, "source_invalid", "a FIFO at the end");
    stage.ends_with(daemon, &served);
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
    let stage = Stage::new(&world);
    let mut lineage = Lineage::new(&world, HOST);
    lineage.renew(&stage.first);
    let config = Config::new(&world)
        .watch("settle_timeout", "5s")
        .instance(stage.instance(HOST))
        .write();
    let daemon = Daemon::start(&world, &config);
    eventually_both(&world, &config, "in_sync", "at first");

    // certbot was killed when it had moved the key's link, and not yet the chain's.
    let second = stage.ca.issue(&[HOST]);
    let renewal = lineage.renew_until(&second, Step::Link(Kind::Privkey));
    let waiting = eventually(SOON, "the daemon waits for the chain", || {
        let view = daemon_view(&config)?;
        let problem = view["problem"].as_str().unwrap_or_default();
        match view["state"] == "waiting" && problem.contains("does not belong to the leaf") {
            true => Ok(problem.to_owned()),
            false => Err(view.to_string()),
        }
    });
    println!("{waiting}");
    let problem = eventually_both(&world, &config, "source_invalid", "after settle_timeout");
    println!("{problem}");
    assert_says(
        &problem,
        &["does not belong to the leaf", "privkey.pem", ";"],
        "after settle_timeout",
    );
    stage.keeps(&stage.first, "while it does not fit");

    renewal.finish();
    stage.eventually_serves(&second, "the files fit again");
    eventually_both(&world, &config, "in_sync", "the files fit again");
    stage.ends_with(daemon, &second);
}

#[test]
fn an_expired_certificate_is_refused_with_its_date() {
    let world = or_skip!(World::new());
    let stage = Stage::new(&world);
    let mut lineage = Lineage::new(&world, HOST);
    lineage.renew(&stage.first);
    let config = Config::new(&world).instance(stage.instance(HOST)).write();
    let daemon = Daemon::start(&world, &config);

    let now = SystemTime::now();
    let options = Options {
        not_before: now - 90 * DAY,
        not_after: now - DAY,
        ..Options::default()
    };
    lineage.renew(&stage.ca.issue_with(&[HOST], &options));
    let problem = eventually_both(&world, &config, "source_invalid", "expired");
    println!("{problem}");
    let seen = eventually_state(&world, &config, NAME, "source_invalid");
    let end = seen["source"]["not_after"].as_str().unwrap();
    assert_says(&problem, &["expired", end, "renew"], "expired");
    stage.keeps(&stage.first, "expired");

    let third = stage.ca.issue(&[HOST]);
    lineage.renew(&third);
    stage.eventually_serves(&third, "a good one after the expired one");
    stage.ends_with(daemon, &third);
}

#[test]
fn a_certificate_for_other_names_is_refused_with_both() {
    let world = or_skip!(World::new());
    let stage = Stage::new(&world);
    let mut lineage = Lineage::new(&world, HOST);
    lineage.renew(&stage.first);
    let names = toml::Value::try_from([HOST]).unwrap();
    let config = Config::new(&world)
        .instance(stage.instance(HOST).set("server_names", names))
        .write();
    let daemon = Daemon::start(&world, &config);

    lineage.renew(&stage.ca.issue(&["www.example.com", "*.b.example.com"]));
    let problem = eventually_both(&world, &config, "source_invalid", "other names");
    println!("{problem}");
    assert_says(
        &problem,
        &[
            "cover pg.example.com",
            "www.example.com, *.b.example.com",
            "server_names",
        ],
        "other names",
    );
    stage.keeps(&stage.first, "other names");

    let third = stage.ca.issue(&["*.example.com"]);
    lineage.renew(&third);
    stage.eventually_serves(&third, "a wildcard covers the name");
    stage.ends_with(daemon, &third);
}

#[test]
fn an_older_generation_that_is_still_valid_is_deployed_with_a_warning() {
    let world = or_skip!(World::new());
    let ca = Ca::new(&world, "Test Root");
    let now = SystemTime::now();
    let options = Options {
        not_before: now - 30 * DAY,
        not_after: now + 60 * DAY,
        ..Options::default()
    };
    let first = ca.issue_with(&[HOST], &options);
    let stage = Stage::serving(&world, ca, first);
    let mut lineage = Lineage::new(&world, HOST);
    lineage.renew(&stage.first);
    let config = Config::new(&world).instance(stage.instance(HOST)).write();
    let daemon = Daemon::start(&world, &config);
    let second = stage.ca.issue(&[HOST]);
    lineage.renew(&second);
    stage.eventually_serves(&second, "the renewal");

    lineage.set_back(1);
    stage.eventually_serves(&stage.first, "the lineage was set back");
    let warning = daemon.wait_for_log("older than the installed one");
    println!("{warning}");
    assert!(warning.starts_with("warning: "), "{warning}");
    eventually_both(&world, &config, "in_sync", "set back");
    let first = stage.first.clone();
    stage.ends_with(daemon, &first);
}
