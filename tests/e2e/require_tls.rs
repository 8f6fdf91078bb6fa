//! `pg_hba.conf` without plaintext for clients of other hosts, by the library: whom a real server
//! lets in before and after, what is put back, and what is never written over.

#[cfg(feature = "failpoints")]
mod in_between;

use std::{
    fs,
    net::Ipv4Addr,
    os::unix::fs::{MetadataExt, symlink},
    path::{Path, PathBuf},
};

use pgcertd::testing::{
    host::look,
    host::privilege::Ids,
    server::{
        postmaster::{PidFile, Postmaster},
        sql::{Role, Sql},
    },
    setup::require_tls::{Tightened, Tightening, TighteningError},
};
use rustix::fs::{OFlags, XattrFlags};

use crate::{
    stage::{NAME, Stage},
    world::{
        Owner, SOON, World,
        ca::Ca,
        cluster::Cluster,
        eventually, give,
        network::{ADDRESS, in_own_network},
    },
};

const ROOT: Owner = Owner { uid: 0, gid: 0 };

/// A login on a cluster, as a command of pgcertd has it, and the directory for what is saved.
struct Hand {
    runtime: tokio::runtime::Runtime,
    sql: Sql,
    owner: Ids,
    hba: PathBuf,
    keep: PathBuf,
}

impl Hand {
    fn on(world: &World, cluster: &Cluster) -> Hand {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let Owner { uid, gid } = cluster.owner();
        let owner = Ids { uid, gid };
        let data = cluster.data_directory();
        let text = fs::read_to_string(data.join("postmaster.pid")).unwrap();
        let file = PidFile::parse(&text).unwrap();
        let postmaster =
            Postmaster::identify(file, look::file_id(data).unwrap().unwrap(), uid).unwrap();
        let login = Sql::login(&postmaster, data, owner, &Role::OfUser);
        Hand {
            sql: runtime.block_on(login).unwrap(),
            runtime,
            owner,
            hba: cluster.config_directory().join("pg_hba.conf"),
            keep: world.postgres_directory("keep", 0o700),
        }
    }

    fn proposed(&self) -> Result<Option<Tightening>, TighteningError> {
        let proposed = Tightening::proposed(&self.sql, self.owner);
        self.runtime.block_on(proposed)
    }

    #[track_caller]
    fn tightening(&self) -> Tightening {
        self.proposed().unwrap().expect("a line is exposed")
    }

    fn apply(&self, tightening: &Tightening) -> Result<Tightened, TighteningError> {
        let applied = tightening.apply(&self.sql, &self.keep);
        self.runtime.block_on(applied)
    }

    /// As another process does it, by what was stored.
    fn undo(&self, tightened: &Tightened) -> Result<(), TighteningError> {
        let stored = serde_json::to_string(tightened).unwrap();
        let read: Tightened = serde_json::from_str(&stored).unwrap();
        self.runtime.block_on(read.undo(&self.sql, self.owner))
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.hba).unwrap()
    }

    /// The names in the directory for what is saved.
    fn kept(&self) -> Vec<String> {
        names(&self.keep)
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Has a server go by this file, which a login of `postgres` over the socket must pass.
#[track_caller]
fn hba(cluster: &mut Cluster, text: &str) {
    let file = cluster.config_directory().join("pg_hba.conf");
    fs::write(&file, text).unwrap();
    give(&file, cluster.owner(), 0o640);
    cluster.reload_by_hand();
}

/// How often the server was reloaded. Signals are taken in order: one of the test's own shows that
/// none is under way.
#[track_caller]
fn reloads(cluster: &mut Cluster) -> usize {
    cluster.reload_by_hand();
    cluster.log().matches("received SIGHUP").count()
}

const OPEN: &str = "\
local\tall\tall\ttrust
host all all 0.0.0.0/0 trust  # the world
host all all ::/0 reject
";

/// Whom the server lets in, as a client tries it.
fn tries(cluster: &Cluster, conninfo: &str) -> Result<String, String> {
    cluster.try_by(conninfo, "select 1")
}

#[test]
fn clients_of_other_hosts_need_tls_and_nothing_changes_for_those_of_this_one() {
    in_own_network(|| {
        let world = or_skip!(World::new());
        let mut stage = Stage::new(&world);
        let addresses = format!("{},{ADDRESS}", Ipv4Addr::LOCALHOST);
        stage.cluster.set("listen_addresses", &addresses);
        stage.cluster.restart().unwrap();
        let replication = "host replication all 192.0.2.0/24 trust\n";
        let text = OPEN.replacen("host", &format!("{replication}host"), 1);
        hba(&mut stage.cluster, &text);
        let cluster = &stage.cluster;
        let far = format!("host={ADDRESS} sslmode=disable");
        let far_with_tls = format!("host={ADDRESS} sslmode=require");
        let sender = format!("{far} replication=true dbname=");
        let near = "host=127.0.0.1 sslmode=disable";
        let local = format!("host={}", cluster.sockets().display());
        let all = [&far, &far_with_tls, near, &local];
        for conninfo in all {
            assert_eq!(tries(cluster, conninfo).as_deref(), Ok("1"), "{conninfo}");
        }
        let identify = |conninfo: &str| cluster.try_by(conninfo, "IDENTIFY_SYSTEM");
        identify(&sender).unwrap();

        let hand = Hand::on(&world, cluster);
        let before = fs::metadata(&hand.hba).unwrap();
        let tightening = hand.tightening();
        println!("{}", tightening.diff());
        let lines = tightening.lines();
        println!("{}", serde_json::to_string_pretty(&lines).unwrap());
        assert_eq!(
            lines.iter().map(|seen| seen.line).collect::<Vec<_>>(),
            [2, 3]
        );
        assert_eq!(lines[1].text, "host all all 0.0.0.0/0 trust  # the world");
        assert_eq!(
            lines[1].whom,
            "every user, to every database, from every IPv4 address, by trust"
        );
        assert_eq!(hand.text(), text, "nothing is changed by looking");
        let record = tightening.record(&hand.keep);
        let done = hand.apply(&tightening).unwrap();
        assert_eq!(done, record);
        for conninfo in [&far, &sender] {
            eventually(SOON, "plaintext is refused", || {
                let refused = tries(cluster, conninfo);
                refused.is_err_and(|error| error.contains("no pg_hba.conf entry"))
            });
        }
        for conninfo in [&far_with_tls, near, &local] {
            assert_eq!(tries(cluster, conninfo).as_deref(), Ok("1"), "{conninfo}");
        }
        identify(&sender.replace("disable", "require")).unwrap();
        let after = fs::metadata(&hand.hba).unwrap();
        let attributes = |file: &fs::Metadata| (file.uid(), file.gid(), file.mode());
        assert_eq!(attributes(&after), attributes(&before));
        let kept = hand.kept();
        let saved = hand.keep.join(&kept[0]);
        assert_eq!(kept.len(), 1, "{kept:?}");
        assert_eq!(fs::read_to_string(&saved).unwrap(), text);
        let mode = fs::metadata(&saved).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o600);
        assert!(hand.proposed().unwrap().is_none(), "nothing is left to do");

        hand.undo(&done).unwrap();
        assert_eq!(hand.text(), text);
        eventually(SOON, "plaintext is let in again", || tries(cluster, &far));
        assert_eq!(
            attributes(&fs::metadata(&hand.hba).unwrap()),
            attributes(&before)
        );
        assert_eq!(hand.kept(), [""; 0]);
        hand.undo(&done).unwrap();
        assert_eq!(hand.text(), text, "twice is once");
        let beside = names(cluster.config_directory());
        let left = |text: &String| text.contains("pgcertd");
        assert!(!beside.iter().any(left), "{beside:?}");
    });
}

/// A cluster that serves TLS, of a version that knows includes.
fn of_seventeen(world: &World) -> Cluster {
    let target = world.target(NAME);
    world.place(
        &Ca::new(world, "Test Root").issue(&["pg.example.com"]),
        &target,
    );
    Cluster::build(world).version(17).tls(&target).start()
}

/// The files that [`including`] writes beside `pg_hba.conf`, and what becomes of each.
const INCLUDED: [(&str, &str, &str); 3] = [
    (
        "hba.d/10.conf",
        "host all all 192.0.2.0/24 md5\r\nhost all all \\\n samehost md5\n",
        "hostssl all all 192.0.2.0/24 md5\r\nhost all all \\\n samehost md5\n",
    ),
    (
        "hba.d/20.conf",
        "hostnossl \"all\" all .example.com trust\n",
        "#hostnossl \"all\" all .example.com trust\n",
    ),
    (
        "elsewhere/other",
        "host @names all 192.0.2.7/32 trust\n",
        "hostssl @names all 192.0.2.7/32 trust\n",
    ),
];

const INCLUDING: &str = "\
local all all trust
include_dir hba.d
include elsewhere/other
include_if_exists nowhere
host all all 198.51.100.0/24 scram-sha-256
";

fn including(cluster: &mut Cluster) {
    let directory = cluster.config_directory().to_owned();
    for (name, text, _) in INCLUDED {
        let file = directory.join(name);
        let parent = file.parent().unwrap();
        fs::create_dir_all(parent).unwrap();
        give(parent, cluster.owner(), 0o700);
        fs::write(&file, text).unwrap();
        give(&file, cluster.owner(), 0o600);
    }
    let names = directory.join("elsewhere/names");
    fs::write(&names, "shop, wiki\n").unwrap();
    give(&names, cluster.owner(), 0o600);
    hba(cluster, INCLUDING);
}

#[track_caller]
fn assert_included(cluster: &Cluster, is_new: impl Fn(&str) -> bool) {
    for (name, old, new) in INCLUDED {
        let text = fs::read_to_string(cluster.config_directory().join(name)).unwrap();
        assert_eq!(text, if is_new(name) { new } else { old }, "{name}");
    }
}

#[test]
fn included_files_are_changed_in_their_places_and_put_back() {
    let world = or_skip!(World::new());
    let mut cluster = of_seventeen(&world);
    including(&mut cluster);
    let hand = Hand::on(&world, &cluster);
    let tightening = hand.tightening();
    println!("{}", tightening.diff());
    assert_eq!(tightening.lines().len(), 4);
    let done = hand.apply(&tightening).unwrap();
    assert_included(&cluster, |_| true);
    let changed = INCLUDING.replace("host all", "hostssl all");
    assert_eq!(hand.text(), changed);
    assert_eq!((done.files().count(), hand.kept().len()), (4, 4));
    hand.undo(&done).unwrap();
    assert_included(&cluster, |_| false);
    assert_eq!(hand.text(), INCLUDING);
}

/// The files are written in the order of their names, `elsewhere/other` first.
#[test]
fn what_cannot_be_written_whole_is_put_back_whole() {
    let world = or_skip!(World::new());
    let mut cluster = of_seventeen(&world);
    including(&mut cluster);
    let hand = Hand::on(&world, &cluster);
    let tightening = hand.tightening();
    let closed = cluster.config_directory().join("hba.d");
    give(&closed, cluster.owner(), 0o500);
    let reloaded = reloads(&mut cluster);
    let error = hand.apply(&tightening).unwrap_err();
    println!("{error}");
    assert!(
        matches!(&error, TighteningError::Files { file, .. } if file.starts_with(&closed)),
        "{error}"
    );
    assert_included(&cluster, |_| false);
    assert_eq!(
        (hand.text().as_str(), reloads(&mut cluster)),
        (INCLUDING, reloaded + 1)
    );
    // Once it can be, the same proposal is good still.
    give(&closed, cluster.owner(), 0o700);
    let done = hand.apply(&tightening).unwrap();
    // The undo of some files would leave a mixture: one that was edited keeps all as they are.
    let edited = closed.join("10.conf");
    let text = fs::read_to_string(&edited).unwrap() + "# mine\n";
    fs::write(&edited, &text).unwrap();
    let error = hand.undo(&done).unwrap_err();
    assert!(matches!(error, TighteningError::Edited { .. }), "{error}");
    assert_eq!(fs::read_to_string(&edited).unwrap(), text);
    fs::write(&edited, text.trim_end_matches("# mine\n")).unwrap();
    assert_included(&cluster, |_| true);
}

/// Debian's belong to the server's user; a file that Ansible places may be root's.
#[test]
fn owner_mode_label_and_access_list_stay() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    hba(&mut stage.cluster, OPEN);
    let hand = Hand::on(&world, &stage.cluster);
    let directory = stage.cluster.config_directory().to_owned();
    let postgres = stage.cluster.owner();
    let group = Owner { uid: 0, ..postgres };
    let apart = world.directory("etc");
    let moved = apart.join("pg_hba.conf");
    for (directory, file, directory_owner, file_owner, mode) in [
        (&directory, &hand.hba, postgres, postgres, 0o600),
        (&directory, &hand.hba, postgres, group, 0o640),
        (&apart, &moved, ROOT, group, 0o640),
        (&apart, &moved, ROOT, ROOT, 0o644),
        (&apart, &moved, ROOT, postgres, 0o400),
    ] {
        if directory == &apart && stage.cluster.sql("show hba_file") != moved.to_str().unwrap() {
            stage.cluster.set("hba_file", moved.to_str().unwrap());
            fs::write(&moved, OPEN).unwrap();
            stage.cluster.restart().unwrap();
        }
        let hand = Hand::on(&world, &stage.cluster);
        give(
            directory,
            directory_owner,
            if directory == &apart { 0o755 } else { 0o700 },
        );
        give(file, file_owner, mode);
        let label = b"system_u:object_r:etc_t:s0\0";
        let list = access_list(mode);
        set_attribute(file, "security.selinux", label);
        set_attribute(file, "system.posix_acl_access", &list);
        let before = fs::metadata(file).unwrap();
        let done = hand.apply(&hand.tightening()).unwrap();
        for step in ["after the change", "after the undo"] {
            let now = fs::metadata(file).unwrap();
            let what = format!("{} {file_owner:?} {step}", file.display());
            assert_eq!(
                (now.uid(), now.gid()),
                (before.uid(), before.gid()),
                "{what}"
            );
            assert_eq!(now.mode(), before.mode(), "{what}");
            assert_eq!(attribute(file, "security.selinux"), label, "{what}");
            assert_eq!(attribute(file, "system.posix_acl_access"), list, "{what}");
            if step == "after the change" {
                assert_ne!(now.ino(), before.ino(), "a new file: {what}");
                hand.undo(&done).unwrap();
            }
        }
        assert_eq!(fs::read_to_string(file).unwrap(), OPEN);
    }
}

/// An access list of this mode that lets one more user read (acl(5), as the kernel takes it).
fn access_list(mode: u32) -> Vec<u8> {
    let of = |shift: u32| u16::try_from(mode >> shift & 7).unwrap();
    let mut list = 2u32.to_le_bytes().to_vec();
    let everyone = u32::MAX;
    for (tag, permissions, id) in [
        (0x01u16, of(6), everyone),
        (0x02, 4, 1),
        (0x04, of(3), everyone),
        (0x10, 4, everyone),
        (0x20, of(0), everyone),
    ] {
        list.extend(tag.to_le_bytes());
        list.extend(permissions.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    list
}

fn set_attribute(file: &Path, name: &str, value: &[u8]) {
    let opened = rustix::fs::open(file, OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
    rustix::fs::fsetxattr(&opened, name, value, XattrFlags::empty()).unwrap();
}

fn attribute(file: &Path, name: &str) -> Vec<u8> {
    let opened = rustix::fs::open(file, OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
    let mut value = vec![0; 4096];
    let length = rustix::fs::fgetxattr(&opened, name, value.as_mut_slice()).unwrap();
    value.truncate(length);
    value
}

#[test]
fn a_link_or_a_file_with_two_names_is_left_to_those_who_keep_it() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    hba(&mut stage.cluster, OPEN);
    let hand = Hand::on(&world, &stage.cluster);
    let kept = stage.cluster.config_directory().join("kept_by_ansible");
    fs::rename(&hand.hba, &kept).unwrap();
    symlink(&kept, &hand.hba).unwrap();
    let error = hand.proposed().unwrap_err();
    println!("{error}");
    assert!(
        matches!(&error, TighteningError::Link { target, .. } if *target == kept),
        "{error}"
    );
    fs::remove_file(&hand.hba).unwrap();
    fs::hard_link(&kept, &hand.hba).unwrap();
    let error = hand.proposed().unwrap_err();
    println!("{error}");
    assert!(matches!(error, TighteningError::Odd { .. }), "{error}");
    assert_eq!(hand.text(), OPEN);
}

#[test]
fn a_line_that_was_broken_before_is_to_be_mended_first() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let broken = format!("{OPEN}host all all 10.0.0.0/8 ldap nothing=here\n");
    hba(&mut stage.cluster, OPEN);
    let hand = Hand::on(&world, &stage.cluster);
    let tightening = hand.tightening();
    fs::write(&hand.hba, &broken).unwrap();
    let error = hand.proposed().unwrap_err();
    println!("{error}");
    assert!(
        matches!(error, TighteningError::Broken { line: 4, .. }),
        "{error}"
    );
    let error = hand.apply(&tightening).unwrap_err();
    println!("{error}");
    assert!(matches!(error, TighteningError::Changed { .. }), "{error}");
    assert_eq!(hand.text(), broken);
    assert_eq!(hand.kept(), [""; 0]);
}

/// `hostssl` is a fault while `ssl` is off: a preview is to be had all the same.
#[test]
fn while_ssl_is_off_the_change_is_shown_and_not_made() {
    let world = or_skip!(World::new());
    let mut cluster = Cluster::build(&world).start();
    let text = format!("{OPEN}hostssl all all 10.0.0.0/8 trust\n");
    hba(&mut cluster, &text);
    let hand = Hand::on(&world, &cluster);
    let tightening = hand.tightening();
    assert!(
        tightening
            .diff()
            .contains("\n+hostssl all all 0.0.0.0/0 trust")
    );
    let error = hand.apply(&tightening).unwrap_err();
    println!("{error}");
    assert!(matches!(error, TighteningError::TlsOff), "{error}");
    assert_eq!(hand.text(), text);
}

#[test]
fn edits_since_and_what_was_not_saved_are_never_written_over() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    hba(&mut stage.cluster, OPEN);
    let hand = Hand::on(&world, &stage.cluster);
    let done = hand.apply(&hand.tightening()).unwrap();
    let written = hand.text();
    let edited = format!("{written}host all all 203.0.113.7/32 scram-sha-256\n");
    fs::write(&hand.hba, &edited).unwrap();
    let error = hand.undo(&done).unwrap_err();
    println!("{error}");
    assert!(matches!(error, TighteningError::Edited { .. }), "{error}");
    assert_eq!(hand.text(), edited);

    fs::write(&hand.hba, &written).unwrap();
    let saved = hand.keep.join(&hand.kept()[0]);
    // Whoever may write the record and the file of before must not gain by it.
    let forged_text = format!("host all all all trust\n{OPEN}");
    fs::write(&saved, &forged_text).unwrap();
    let error = hand.undo(&done).unwrap_err();
    println!("{error}");
    assert!(matches!(error, TighteningError::Unsaved { .. }), "{error}");
    let mut forged = serde_json::to_value(&done).unwrap();
    forged["files"][0]["before"] = sha256(&saved).into();
    let forged: Tightened = serde_json::from_value(forged).unwrap();
    let error = hand.undo(&forged).unwrap_err();
    assert!(matches!(error, TighteningError::Unsaved { .. }), "{error}");
    fs::remove_file(&saved).unwrap();
    let error = hand.undo(&done).unwrap_err();
    assert!(matches!(error, TighteningError::Unsaved { .. }), "{error}");
    assert_eq!(hand.text(), written);
}

#[test]
fn without_a_place_for_what_is_saved_nothing_is_written() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    hba(&mut stage.cluster, OPEN);
    let mut hand = Hand::on(&world, &stage.cluster);
    let tightening = hand.tightening();
    give(&hand.keep, Owner { uid: 1, gid: 1 }, 0o777);
    let error = hand.apply(&tightening).unwrap_err();
    println!("{error}");
    assert!(
        matches!(error, TighteningError::Stranger { uid: 1, .. }),
        "{error}"
    );
    let link = world.path().join("link");
    symlink(world.directory("of_root"), &link).unwrap();
    for keep in [link, world.path().join("missing")] {
        hand.keep = keep;
        let error = hand.apply(&tightening).unwrap_err();
        println!("{error}");
        assert!(matches!(error, TighteningError::Files { .. }), "{error}");
    }
    assert_eq!(names(&world.directory("of_root")), [""; 0]);
    assert_eq!(hand.text(), OPEN);
}

/// In a container the same path is another file.
#[test]
fn a_server_that_reads_another_file_of_that_name_is_left_alone() {
    let world = or_skip!(World::new());
    let cluster = Cluster::build(&world).create();
    let file = cluster.config_directory().join("pg_hba.conf");
    fs::write(&file, OPEN).unwrap();
    give(&file, cluster.owner(), 0o600);
    let theirs = world.path().join("theirs");
    fs::write(&theirs, "local all all trust\nhost all all all trust\n").unwrap();
    give(&theirs, cluster.owner(), 0o600);
    let over = format!("mount --bind {} {}", theirs.display(), file.display());
    let mut server = cluster.start_in_own_mounts(&over);
    let proposed = Hand::on(&world, &cluster).proposed();
    server.signal(rustix::process::Signal::INT);
    server.wait(SOON);
    let error = proposed.unwrap_err();
    println!("{error}");
    assert!(
        matches!(error, TighteningError::Elsewhere { .. }),
        "{error}"
    );
}

fn sha256(file: &Path) -> String {
    let bytes = fs::read(file).unwrap();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes);
    let digits = digest.as_ref().iter().map(|byte| format!("{byte:02x}"));
    digits.collect()
}
