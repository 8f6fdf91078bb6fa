//! Installs, roll-backs and what is left of a crash, on a real file system.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails where its world cannot be built"
)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

use jiff::Timestamp;

use super::*;
use crate::bundle::{ClientTrust, KeyedBundle};
use crate::host::look::FileId;

/// Targets in a directory of their own, owned by who runs the test.
struct Place {
    directory: tempfile::TempDir,
    targets: Targets,
}

impl Place {
    fn with(cert: &str, key: &str) -> Place {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let own = Ids::own();
        let targets = Targets {
            kind: crate::config::ServerKind::Postgres,
            cert: at(cert),
            key: at(key),
            trust_files: TrustFiles::default(),
            state: directory.path().to_owned(),
            lock_directory: directory.path().to_owned(),
            data: directory.path().to_owned(),
            data_id: FileId::NONE,
            owner: own,
            server: own,
            by_others: false,
        };
        Place { directory, targets }
    }

    fn single() -> Place {
        Place::with("server.pem", "server.pem")
    }

    fn install(&self, bundle: &KeyedBundle, keep: &Keep<'_>) {
        let staged = self.targets.stage(bundle).unwrap();
        self.targets
            .commit(&staged, keep, Trial::Unchanged)
            .unwrap();
    }

    /// Installs it with a trial that begins.
    fn try_out(&self, bundle: &KeyedBundle) {
        let staged = self.targets.stage(bundle).unwrap();
        let begins = Trial::Begins((&**bundle).into());
        let before = self.look();
        let keep = Keep::AsPrevious(&before);
        self.targets.commit(&staged, &keep, begins).unwrap();
    }

    fn look(&self) -> FilesSnapshot {
        self.targets.look().unwrap()
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn bundle(name: &str) -> KeyedBundle {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let key = made.signing_key.serialize_pem();
    KeyedBundle::parse(&[made.cert.pem().as_bytes()], key.as_bytes()).unwrap()
}

fn mode(path: &PathBuf) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn an_install_puts_a_new_private_file_in_the_place_of_the_old() {
    let place = Place::single();
    let (old, new) = (bundle("old"), bundle("new"));
    place.install(&old, &Keep::No);
    let before = fs::metadata(&place.targets.cert).unwrap().ino();
    place.install(&new, &Keep::No);
    assert_ne!(fs::metadata(&place.targets.cert).unwrap().ino(), before);
    assert_eq!(mode(&place.targets.cert), 0o600);
    let look = place.look();
    assert!(look.installed.bundle().unwrap().same_content(&new));
    assert!(look.previous.is_none());
    assert_eq!(place.names(), ["server.pem"]);
}

#[test]
fn two_files_have_a_private_key_and_a_public_chain() {
    let place = Place::with("cert.pem", "key.pem");
    let new = bundle("new");
    place.install(&new, &Keep::No);
    assert_eq!(mode(&place.targets.cert), 0o644);
    assert_eq!(mode(&place.targets.key), 0o600);
    let chain = fs::read_to_string(&place.targets.cert).unwrap();
    assert!(!chain.contains("PRIVATE KEY"));
    assert!(place.look().installed.bundle().unwrap().same_content(&new));
}

#[test]
fn what_was_proven_served_becomes_the_previous_bundle_also_a_second_time() {
    for place in [Place::single(), Place::with("cert.pem", "key.pem")] {
        let (first, second, third) = (bundle("1"), bundle("2"), bundle("3"));
        place.install(&first, &Keep::No);
        place.install(&second, &Keep::AsPrevious(&place.look()));
        assert!(place.look().previous.unwrap().same_content(&first));
        place.install(&third, &Keep::AsPrevious(&place.look()));
        assert!(place.look().previous.unwrap().same_content(&second));
        assert_eq!(mode(&place.targets.previous_file()), 0o600);
        assert!(place.names().iter().all(|n| !n.starts_with('.')));
    }
}

#[test]
fn the_same_bytes_are_parsed_once_while_somebody_holds_what_they_are() {
    let (one, other) = (Place::single(), Place::with("cert.pem", "key.pem"));
    let first = bundle("1");
    one.install(&first, &Keep::No);
    let held = one.look().installed.bundle().cloned().unwrap();
    assert!(Arc::ptr_eq(&held, one.look().installed.bundle().unwrap()));
    // Its mode and its owner are judged at each look.
    fs::set_permissions(&one.targets.cert, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(one.look().installed.bundle().is_none());
    fs::set_permissions(&one.targets.cert, fs::Permissions::from_mode(0o600)).unwrap();

    one.install(&bundle("2"), &Keep::AsPrevious(&one.look()));
    let look = one.look();
    assert!(!look.installed.bundle().unwrap().same_content(&held));
    assert!(Arc::ptr_eq(&held, look.previous.as_ref().unwrap()));

    // Two files with the same bundle are different bytes.
    other.install(&first, &Keep::No);
    let found = other.look();
    assert!(found.installed.bundle().unwrap().same_content(&held));
    // A key file with one wrong byte.
    let mut key = fs::read(&other.targets.key).unwrap();
    key[60] ^= 1;
    fs::write(&other.targets.key, key).unwrap();
    assert!(other.look().installed.bundle().is_none());
}

#[test]
fn a_seal_tells_that_a_target_was_touched_and_nothing_else() {
    let place = Place::single();
    let nothing = place.look().seal;
    place.install(&bundle("1"), &Keep::No);
    let seal = place.look().seal;
    assert_ne!(seal, nothing);
    place.targets.proven(bundle("1").identity()).unwrap();
    let text = fs::read(&place.targets.cert).unwrap();
    let again = |text: &[u8]| {
        fs::write(&place.targets.cert, text).unwrap();
        place.targets.seal().unwrap()
    };
    assert_eq!(again(&text), seal);
    // As large, and written within the same tick of the kernel's clock.
    let mut other = text.clone();
    other[100] ^= 1;
    assert_ne!(again(&other), seal);
    assert_eq!(again(&text), seal);
    fs::set_permissions(&place.targets.cert, fs::Permissions::from_mode(0o640)).unwrap();
    assert_ne!(place.targets.seal().unwrap(), seal);
    fs::remove_file(&place.targets.cert).unwrap();
    assert_eq!(place.targets.seal().unwrap(), nothing);
}

#[test]
fn a_crash_between_keeping_and_replacing_leaves_nothing_that_the_next_run_stumbles_over() {
    let place = Place::single();
    let (old, new) = (bundle("old"), bundle("new"));
    place.install(&old, &Keep::No);
    // Previous and target are one file, as after a crash between the two renames.
    fs::hard_link(&place.targets.cert, place.targets.previous_file()).unwrap();
    place.install(&new, &Keep::AsPrevious(&place.look()));
    assert!(place.look().previous.unwrap().same_content(&old));
    assert_eq!(place.names(), ["previous.pem", "server.pem"]);
}

#[test]
fn leftovers_of_a_crash_are_removed() {
    let place = Place::single();
    for name in [
        ".server.pem",
        ".previous.pem",
        ".held.json",
        ".trial",
        ".proven",
    ] {
        fs::write(
            place.directory.path().join(format!("{name}.pgcertd-new")),
            "x",
        )
        .unwrap();
    }
    place.targets.clean().unwrap();
    assert!(place.names().is_empty());
}

#[test]
fn a_link_in_the_place_of_a_target_is_replaced_and_its_end_is_left_alone() {
    let place = Place::single();
    let elsewhere = place.directory.path().join("elsewhere.pem");
    fs::write(&elsewhere, "theirs").unwrap();
    symlink(&elsewhere, &place.targets.cert).unwrap();
    let look = place.look();
    assert!(matches!(look.installed, Installed::Unusable(_)));
    place.install(&bundle("new"), &Keep::No);
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "theirs");
    assert!(place.look().installed.bundle().is_some());
    place.targets.put_back(&look.found).unwrap();
    assert_eq!(fs::read_link(&place.targets.cert).unwrap(), elsewhere);
}

#[test]
fn what_was_found_is_put_back_as_it_was() {
    let place = Place::single();
    let nothing = place.look();
    place.install(&bundle("new"), &Keep::No);
    place.targets.put_back(&nothing.found).unwrap();
    assert!(place.names().is_empty());

    fs::write(&place.targets.cert, "by hand").unwrap();
    fs::set_permissions(&place.targets.cert, fs::Permissions::from_mode(0o640)).unwrap();
    let by_hand = place.look();
    place.install(&bundle("new"), &Keep::No);
    place.targets.put_back(&by_hand.found).unwrap();
    assert_eq!(fs::read_to_string(&place.targets.cert).unwrap(), "by hand");
    assert_eq!(mode(&place.targets.cert), 0o640);
}

#[test]
fn a_key_that_others_may_read_would_not_load() {
    let place = Place::single();
    place.install(&bundle("new"), &Keep::No);
    fs::set_permissions(&place.targets.cert, fs::Permissions::from_mode(0o644)).unwrap();
    let Installed::Unusable(why) = place.look().installed else {
        panic!("it would not load");
    };
    assert!(why.contains("has mode 0644"), "{why}");
}

#[test]
fn no_odd_file_is_read_or_replaced() {
    let place = Place::single();
    fs::create_dir(&place.targets.cert).unwrap();
    assert!(matches!(place.look().found[0], Found::Odd("a directory")));
    let error = place.targets.stage(&bundle("new")).err().unwrap();
    assert!(error.to_string().contains("it is a directory"), "{error}");
    assert_eq!(place.names(), ["server.pem"]);

    let place = Place::single();
    let path = &place.targets.cert;
    rustix::fs::mknodat(
        rustix::fs::CWD,
        path,
        FileType::Fifo,
        Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    assert!(matches!(place.look().found[0], Found::Odd("a FIFO")));

    let place = Place::single();
    let file = fs::File::create(&place.targets.cert).unwrap();
    file.set_len(LARGEST + 1).unwrap();
    assert!(matches!(place.look().found[0], Found::Odd(_)));
}

#[test]
fn a_missing_directory_is_an_error_that_says_what_to_create() {
    let mut place = Place::single();
    place.targets.cert = place.directory.path().join("absent/server.pem");
    place.targets.key.clone_from(&place.targets.cert);
    assert!(matches!(place.look().installed, Installed::Absent));
    let error = place
        .targets
        .stage(&bundle("new"))
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("create the directory"), "{error}");
}

#[test]
fn what_is_held_is_remembered_until_it_is_released() {
    let place = Place::single();
    let held = Held {
        fingerprint: bundle("bad").fingerprint(),
        companions: None,
        by: HeldBy::Postgres,
        reason: "refused".into(),
        since: Timestamp::now(),
        postmaster_start: Some(7),
    };
    place.targets.hold(&held).unwrap();
    assert_eq!(place.look().held, Some(held));
    place.targets.release().unwrap();
    assert_eq!(place.look().held, None);
    fs::write(place.directory.path().join("held.json"), "{").unwrap();
    assert_eq!(place.look().held, None);
}

#[test]
fn a_trial_is_known_from_the_install_on_until_the_verdict() {
    let place = Place::single();
    let (old, new) = (bundle("old"), bundle("new"));
    place.install(&old, &Keep::No);
    place.targets.proven(old.identity()).unwrap();
    assert!(!place.look().is_on_trial());
    place.try_out(&new);
    let look = place.look();
    assert!(look.is_on_trial());
    assert_eq!(look.proven, Some(old.identity()));
    assert_eq!(
        place.names(),
        ["previous.pem", "proven", "server.pem", "trial"]
    );

    // The one of before is back: what is on trial is known, and not installed.
    place.install(&old, &Keep::No);
    let look = place.look();
    assert!(!look.is_on_trial());
    assert_eq!(look.trial(), Some(new.identity()));

    place.install(&new, &Keep::No);
    place.targets.proven(new.identity()).unwrap();
    let look = place.look();
    assert_eq!((look.trial(), look.proven), (None, Some(new.identity())));
    assert!(!look.is_on_trial());
}

#[test]
fn a_trial_that_names_no_bundle_is_none_whatever_lies_there() {
    let place = Place::single();
    let (old, new) = (bundle("old"), bundle("new"));
    place.install(&old, &Keep::No);
    place.install(&new, &Keep::AsPrevious(&place.look()));
    let trial = place.directory.path().join("trial");
    for text in ["server.pem", "../../etc/passwd", "", "+"] {
        if text.is_empty() {
            fs::write(&trial, new.fingerprint().to_string()).unwrap();
        } else {
            symlink(text, &trial).unwrap();
        }
        assert_eq!(place.look().trial, None, "{text:?}");
        place.targets.end_trial().unwrap();
    }
    place.targets.end_trial().unwrap();
    assert!(!place.names().contains(&"trial".to_owned()));
}

#[test]
fn a_ca_file_of_the_bundle_on_trial_alone_is_what_a_crash_has_left_of_it() {
    let (mut place, _) = four_files();
    place.targets.trust_files.crl = None;
    let with_ca = |name| {
        bundle(name).with(trust(TrustFiles {
            crl: None,
            ..ca_and_crl(name)
        }))
    };
    let (old, new) = (with_ca("old"), with_ca("new"));
    place.install(&old, &Keep::No);
    place.try_out(&new);
    let look = place.look();
    assert_eq!(look.trial, Some((&*new).into()));
    assert!(look.is_on_trial() && !look.is_torn());
    let ca = fs::read(place.targets.trust_files.ca.as_ref().unwrap()).unwrap();

    // On the way in, and on the way back.
    let found = || place.look().is_on_trial() && place.look().is_torn();
    place.install(&old, &Keep::No);
    assert!(!found());
    fs::write(place.targets.trust_files.ca.as_ref().unwrap(), ca).unwrap();
    assert!(found());
    place.install(&new, &Keep::No);
    let theirs = old.client_trust().pem(Piece::Ca).unwrap();
    fs::write(place.targets.trust_files.ca.as_ref().unwrap(), theirs).unwrap();
    assert!(found());

    // What somebody else has placed is nobody's.
    place.install(&bundle("other"), &Keep::No);
    assert!(!place.look().is_on_trial());
}

/// A pair with a CA file and a CRL file, in four files, and the names of these in the order of an install.
fn four_files() -> (Place, [&'static str; 4]) {
    let names = ["crl.pem", "ca.pem", "server.key", "server.crt"];
    let mut place = Place::with("server.crt", "server.key");
    place.targets.trust_files.ca = Some(place.directory.path().join("ca.pem"));
    place.targets.trust_files.crl = Some(place.directory.path().join("crl.pem"));
    (place, names)
}

/// A CA file and a CRL file, each of which differs from that of any other such name.
fn ca_and_crl(name: &str) -> TrustFiles<Option<String>> {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    let common_name = rcgen::DnType::CommonName;
    params.distinguished_name.push(common_name, name);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![
        rcgen::KeyUsagePurpose::KeyCertSign,
        rcgen::KeyUsagePurpose::CrlSign,
    ];
    let ca = params.self_signed(&key).unwrap().pem();
    let issuer = rcgen::Issuer::new(params, key);
    let list = rcgen::CertificateRevocationListParams {
        this_update: rcgen::date_time_ymd(2024, 1, 1),
        next_update: rcgen::date_time_ymd(2044, 1, 1),
        crl_number: 1.into(),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    let crl = list.signed_by(&issuer).unwrap().pem().unwrap();
    TrustFiles {
        ca: Some(ca),
        crl: Some(crl),
    }
}

fn trust(files: TrustFiles<Option<String>>) -> ClientTrust {
    ClientTrust::parse(&files).unwrap()
}

fn bundle_of_four(name: &str) -> KeyedBundle {
    bundle(name).with(trust(ca_and_crl(name)))
}

/// Something that no rename of a file gets past, in the place of `name`.
fn block(place: &Place, name: &str) {
    let path = place.directory.path().join(name);
    if path.exists() {
        fs::remove_file(&path).unwrap();
    }
    fs::create_dir(path).unwrap();
}

fn contents(place: &Place, but: &str) -> Vec<(String, Vec<u8>)> {
    let names = place.names().into_iter().filter(|name| name != but);
    let read = |name: String| {
        let content = fs::read(place.directory.path().join(&name)).unwrap();
        (name, content)
    };
    names
        .filter(|name| name != "reload-due")
        .map(read)
        .collect()
}

#[test]
fn whichever_of_four_renames_is_refused_none_of_the_others_stays() {
    let (old, new) = (bundle_of_four("old"), bundle_of_four("new"));
    for at in 0..4 {
        let (place, names) = four_files();
        place.install(&old, &Keep::No);
        let staged = place.targets.stage(&new).unwrap();
        block(&place, names[at]);
        let before = contents(&place, names[at]);
        let before: Vec<_> = before
            .into_iter()
            .filter(|(name, _)| !name.starts_with('.'))
            .collect();
        let begins = Trial::Begins((&*new).into());
        let error = place.targets.commit(&staged, &Keep::No, begins);
        let error = error.unwrap_err().to_string();
        assert_eq!(contents(&place, names[at]), before, "{}", names[at]);
        assert_eq!(error.contains("back as they were"), at > 0, "{error}");
        assert!(error.contains(names[at]), "{error}");
        assert_eq!(place.targets.candidate(), None, "{}", names[at]);
    }
}

#[test]
fn whichever_file_cannot_be_put_back_none_of_the_others_is() {
    let (old, new) = (bundle_of_four("old"), bundle_of_four("new"));
    for at in 0..4 {
        let (place, names) = four_files();
        place.install(&old, &Keep::No);
        let found = place.look().found;
        place.install(&new, &Keep::No);
        block(&place, names[at]);
        let before = contents(&place, names[at]);
        let error = place.targets.put_back(&found).unwrap_err().to_string();
        assert_eq!(contents(&place, names[at]), before, "{error}");
    }
}

#[test]
fn whichever_file_of_the_previous_bundle_cannot_be_kept_the_one_before_it_stays_whole() {
    let [first, second, third] = ["1", "2", "3"].map(bundle_of_four);
    let names = ["previous-ca.pem", "previous-crl.pem", "previous.pem"];
    for name in names {
        let (place, _) = four_files();
        place.install(&first, &Keep::No);
        place.install(&second, &Keep::AsPrevious(&place.look()));
        let look = place.look();
        assert!(look.previous.as_ref().unwrap().same_content(&first));
        let staged = place.targets.stage(&third).unwrap();
        block(&place, name);
        let before = contents(&place, name);
        let keep = Keep::AsPrevious(&look);
        let committed = place.targets.commit(&staged, &keep, Trial::Unchanged);
        let error = committed.unwrap_err().to_string();
        assert_eq!(contents(&place, name), before, "{error}");
        assert!(
            place
                .look()
                .installed
                .bundle()
                .unwrap()
                .same_content(&second)
        );
    }
}

#[test]
fn the_previous_bundle_is_read_again_with_its_key_and_no_other_in_its_place() {
    let place = Place::single();
    let [first, second] = ["1", "2"].map(bundle);
    place.install(&first, &Keep::No);
    place.install(&second, &Keep::AsPrevious(&place.look()));
    let keyed = place.targets.previous_with_key(&first).unwrap();
    assert_eq!(*keyed.combined_pem(), *first.combined_pem());
    let error = place.targets.previous_with_key(&second).unwrap_err();
    assert!(error.to_string().contains("has changed it"), "{error}");
}

#[test]
fn one_process_at_a_time_holds_the_lock_though_its_file_is_removed() {
    let place = Place::single();
    let try_lock = || place.targets.try_lock().unwrap();
    let held = try_lock();
    assert!(held.is_some() && try_lock().is_none());
    drop(held);
    let held = try_lock();
    assert!(held.is_some());
    let lock = place.targets.lock_file();
    assert_eq!(mode(&lock), 0o600);
    fs::remove_file(&lock).unwrap();
    let again = try_lock();
    assert!(again.is_some() && lock.exists() && try_lock().is_none());
    drop(held);
    assert!(try_lock().is_none());
}

#[test]
fn a_link_in_the_place_of_the_lock_is_not_followed() {
    let place = Place::single();
    let elsewhere = place.directory.path().join("elsewhere");
    symlink(&elsewhere, place.targets.lock_file()).unwrap();
    let error = place.targets.try_lock().unwrap_err().to_string();
    assert!(error.contains("symbolic link"), "{error}");
    assert!(!elsewhere.exists());
}
