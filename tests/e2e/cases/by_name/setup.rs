//! `setup` where the name decides: it adds the line of `pg_hosts.conf`, and takes it back.

use super::*;

/// What is set up on it, and what of that the server's user and the operator see.
impl Named<'_> {
    #[track_caller]
    fn setup(&self, arguments: &[&str]) -> Outcome {
        self.setup_by(&Launch::new(self.stage.world), arguments)
    }

    #[track_caller]
    fn setup_by(&self, launch: &Launch, arguments: &[&str]) -> Outcome {
        let done = launch.run(&self.stage.config, &[&["setup"], arguments].concat());
        let (out, errors) = (done.stdout(), done.stderr());
        println!("--- setup {arguments:?}: {}\n{out}{errors}", done.code());
        done
    }

    #[track_caller]
    fn is_set_up(&self) {
        assert_eq!(self.setup(&["--yes", "--instance", NAME]).code(), 0);
    }

    fn hosts_text(&self) -> String {
        fs::read_to_string(self.hosts_file()).unwrap()
    }

    /// Nothing came of a set-up.
    #[track_caller]
    fn is_as_before(&self, text: &str, served: &Issued) {
        assert_eq!(self.hosts_text(), text);
        let installed = fs::read_to_string(&self.stage.cert).unwrap();
        assert_eq!(installed, self.stage.first.combined_pem());
        assert!(!self.stage.cert.with_file_name("setup.json").exists());
        self.serves_by(HOST, served);
    }

    /// ALTER SYSTEM would set what the server does not even open.
    #[track_caller]
    fn no_setting_was_changed(&self) {
        let auto = self.stage.cluster.data_directory();
        let altered = fs::read_to_string(auto.join("postgresql.auto.conf")).unwrap();
        assert!(!altered.contains("ssl_"), "{altered}");
    }
}

#[test]
fn setup_adds_the_line_of_our_name_and_the_undo_gives_the_file_back() {
    let world = or_skip!(World::with_postgres(BY_NAME));
    let mut named = Named::new(&world);
    let (ours, (foreign, other)) = (named.ours(), named.other("other.example.com"));
    named.stage.cluster.set("ssl_cert_file", &other);
    named.stage.cluster.set("ssl_key_file", &other);
    let line = format!("{HOST} {ours}");
    let rest = format!("* {other} {other}");
    let mut newest = None;
    named.with_hosts(&rest);
    let shown = named.setup(&["--dry-run", "--instance", NAME]);
    assert_eq!(shown.code(), 0);
    says(shown.stdout(), &[&format!("+{line}"), "pg_hosts.conf"]);
    let shown = named.setup(&["--dry-run", "--json", "--instance", NAME]);
    assert_eq!(shown.json()["host_line"]["line"], *line);
    let printed = named.setup(&["--print", "--instance", NAME]);
    says(printed.stdout(), &[&line, "pg_hosts.conf"]);
    assert!(!printed.stdout().contains("ssl_cert_file"), "{printed:?}");
    assert_eq!(named.hosts_text(), rest);
    for text in [
        format!("# by hand\n{rest}\n"),
        rest.clone(),
        format!("{rest} \\\n"),
        format!("else.example {other} \\\n {other}\n/no_sni/ {other} {other}\n"),
    ] {
        named.with_hosts(&text);
        fs::set_permissions(named.hosts_file(), fs::Permissions::from_mode(0o640)).unwrap();
        named.is_set_up();
        assert!(named.hosts_text().starts_with(&text), "{text}");
        named.serves_by(HOST, newest.as_ref().unwrap_or(&named.stage.first));
        assert_eq!(named.status()["state"], "in_sync");
        named.serves_by("else.example", &foreign);
        named.no_setting_was_changed();
        let next = named.stage.renew();
        named.stage.synced(&[], "deployed", 0);
        named.serves_by(HOST, &next);
        newest = Some(next);
        let again = named.setup(&["--yes", "--json", "--instance", NAME]).json();
        assert_eq!(again["outcome"], "unchanged", "{again}");

        assert_eq!(named.setup(&["--yes", "--undo", NAME]).code(), 0);
        assert_eq!(named.hosts_text(), text);
        let mode = fs::metadata(named.hosts_file()).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o640);
        let backups = fs::read_dir(named.stage.cert.parent().unwrap()).unwrap();
        let mut names = backups.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert!(!names.any(|name| name.starts_with("pg_hosts")), "{text}");
        let others_get = text.contains("* ").then(|| foreign.fingerprint.clone());
        eventually(SOON, "the undo was loaded", || {
            let peer = named.stage.cluster.peer_named(HOST).ok();
            peer.map(|peer| peer.fingerprint) == others_get
        });
    }
}

/// The config may name none, and may name more later: each line is taken out.
#[test]
fn setup_adds_a_line_for_the_leafs_name_and_later_one_for_those_that_were_added() {
    let world = or_skip!(World::with_postgres(BY_NAME));
    let mut named = Named::new(&world);
    let (ours, (foreign, other)) = (named.ours(), named.other("other.example.com"));
    let text = format!("/no_sni/ {other} {other}");
    named.with_hosts(&text);
    let entry = || Instance::for_cluster(&named.stage.cluster, HOST);
    let nameless = Config::new(&world).instance(entry()).write();
    let more = entry().set(
        "server_names",
        vec!["PG.Example.com", "a.example", "A.example"],
    );
    named.stage.config = nameless;
    named.is_set_up();
    let once = format!("{text}\n{HOST} {ours}\n");
    assert_eq!(named.hosts_text(), once);
    named.serves_by(HOST, &named.stage.first);
    assert_eq!(named.stage.cluster.served(), foreign.fingerprint);

    named.stage.config = Config::new(&world).instance(more).write();
    let wider = named.stage.ca.issue(&[HOST, "a.example"]);
    named.stage.lineage.renew(&wider);
    named.is_set_up();
    assert_eq!(named.hosts_text(), format!("{once}a.example {ours}\n"));
    named.serves_by("a.example", &wider);
    assert_eq!(named.setup(&["--yes", "--undo", NAME]).code(), 0);
    assert_eq!(named.hosts_text(), text);
    assert_eq!(named.stage.cluster.served(), foreign.fingerprint);
    named.no_setting_was_changed();
}

/// A second line for a name would have the server refuse the whole file.
#[test]
fn setup_names_the_line_that_gives_our_name_another_certificate_and_changes_nothing() {
    let world = or_skip!(World::with_postgres(BY_NAME));
    let mut named = Named::new(&world);
    let (ours, (_, other)) = (named.ours(), named.other("other.example.com"));
    let loud = HOST.to_uppercase();
    for text in [
        format!("* {ours}\na.example,{loud} {other} {other}\n"),
        format!("# us\n{HOST} {ours}x {ours}x\n"),
    ] {
        named.write_hosts(&text);
        let refused = named.setup(&["--yes", "--instance", NAME]);
        assert_eq!(refused.code(), 1);
        says(
            refused.stderr(),
            &[&named.line(2), &format!("take {HOST} out")],
        );
        assert_eq!(named.hosts_text(), text);
    }
    // Without a line the settings count, and the first line would take the certificate from every other name.
    for text in ["", "# nobody\n"] {
        named.with_hosts(text);
        named.is_set_up();
        assert_eq!(named.hosts_text(), text);
    }
    // A link is somebody else's to keep.
    let text = format!("* {other} {other}\n");
    let kept = named.others.join("hosts");
    fs::write(&kept, &text).unwrap();
    give(&kept, world.postgres(), 0o600);
    fs::remove_file(named.hosts_file()).unwrap();
    std::os::unix::fs::symlink(&kept, named.hosts_file()).unwrap();
    let refused = named.setup(&["--yes", "--instance", NAME]);
    assert_eq!(refused.code(), 1);
    let line = format!("{HOST} {ours}");
    says(refused.stderr(), &[kept.to_str().unwrap(), &line]);
    assert_eq!(fs::read_to_string(&kept).unwrap(), text);
    named.no_setting_was_changed();
}

#[test]
fn the_undo_takes_our_line_alone_out_of_a_file_that_was_edited_since() {
    let world = or_skip!(World::with_postgres(BY_NAME));
    let named = Named::new(&world);
    let (ours, (_, other)) = (named.ours(), named.other("other.example.com"));
    let undo = || named.setup(&["--yes", "--undo", NAME]);
    let before = format!("* {other} {other}");
    let line = format!("{HOST} {ours}");
    named.write_hosts(&before);
    named.is_set_up();
    named.write_hosts(&format!(
        "# more\n{before}\n{line}\nb.example {other} {other}\n"
    ));
    assert_eq!(undo().code(), 0);
    let rest = format!("# more\n{before}\nb.example {other} {other}\n");
    assert_eq!(named.hosts_text(), rest);

    // It has become another line, or another user says that it was: neither is ours to take out.
    named.is_set_up();
    let edited = format!("{before}\n{HOST},c.example {ours}\n");
    named.write_hosts(&edited);
    let record = named.stage.cert.with_file_name("setup.json");
    let remembered = fs::read_to_string(&record).unwrap();
    assert_eq!(undo().code(), 1);
    assert_eq!(named.hosts_text(), edited);
    assert!(!record.exists());
    let forged = remembered.replace(HOST, "other.example.com");
    fs::write(
        &record,
        forged.replace("\"before\": \"", "\"before\": \"../"),
    )
    .unwrap();
    give(&record, world.postgres(), 0o600);
    assert_eq!(undo().code(), 1);
    assert_eq!(named.hosts_text(), edited);
}

#[test]
fn a_line_that_the_server_does_not_load_goes_again() {
    let world = or_skip!(World::with_postgres(BY_NAME));
    let mut named = Named::with(&world, |cluster| cluster.strict());
    let (foreign, other) = named.other("other.example.com");
    let text = format!("* {other} {other}\n");
    named.with_hosts(&text);
    named.stage.renew();
    // Seen before anything is changed.
    fs::write(&other, foreign.leaf_pem.clone()).unwrap();
    let refused = named.setup(&["--yes", "--instance", NAME]);
    assert_eq!(refused.code(), 1);
    says(refused.stderr(), &[&other, &named.line(1)]);
    named.is_as_before(&text, &foreign);
    // Seen by the server alone.
    let kind = of_kind(KeyType::Rsa2048);
    let weak = named.stage.ca.issue_with(&["other.example.com"], &kind);
    fs::write(&other, weak.combined_pem()).unwrap();
    let failed = named.setup(&["--yes", "--instance", NAME]);
    assert_eq!(failed.code(), 1);
    says(failed.stdout(), &["as it was before"]);
    named.is_as_before(&text, &foreign);
}

#[cfg(feature = "failpoints")]
#[test]
fn after_a_fault_or_a_crash_the_line_is_taken_out_and_so_is_what_was_installed() {
    let world = or_skip!(World::with_postgres(BY_NAME));
    let mut named = Named::new(&world);
    let (foreign, other) = named.other("other.example.com");
    let text = format!("* {other} {other}\n");
    named.with_hosts(&text);
    named.stage.renew();
    for point in ["setup_listed", "setup_verified"] {
        let launch =
            |action: &str| Launch::new(&world).env("FAILPOINTS", format!("{point}={action}"));
        let failed = named.setup_by(&launch("return"), &["--yes", "--instance", NAME]);
        assert_eq!(failed.code(), 1, "{point}");
        named.is_as_before(&text, &foreign);
    }
    for point in ["setup_installed", "setup_listed"] {
        let launch = Launch::new(&world).env("FAILPOINTS", format!("{point}=panic"));
        let crashed = named.setup_by(&launch, &["--yes", "--instance", NAME]);
        assert!(crashed.code() < 0, "{point}");
        assert_eq!(named.setup(&["--yes", "--undo", NAME]).code(), 0, "{point}");
        assert_eq!(named.hosts_text(), text, "{point}");
        named.serves_by(HOST, &foreign);
    }

    // What was installed where nothing was goes as well, once no line names it.
    named.stage.cluster.set("ssl_cert_file", &other);
    named.stage.cluster.set("ssl_key_file", &other);
    named.stage.cluster.reload_by_hand();
    fs::remove_file(&named.stage.cert).unwrap();
    let launch = Launch::new(&world).env("FAILPOINTS", "setup_reloaded=panic");
    let crashed = named.setup_by(&launch, &["--yes", "--instance", NAME]);
    assert!(crashed.code() < 0);
    assert!(named.stage.cert.exists());
    assert_eq!(named.setup(&["--yes", "--instance", NAME]).code(), 0);
    assert_eq!(named.setup(&["--yes", "--undo", NAME]).code(), 0);
    assert_eq!(named.hosts_text(), text);
    fs::remove_file(&named.stage.cert).unwrap();
    let crashed = named.setup_by(&launch, &["--yes", "--instance", NAME]);
    assert!(crashed.code() < 0);
    assert_eq!(named.setup(&["--yes", "--undo", NAME]).code(), 0);
    assert!(!named.stage.cert.exists());
    named.serves_by(HOST, &foreign);
}

/// Nothing is installed yet: the line waits for its files.
#[test]
fn setup_of_a_new_instance_adds_a_line_for_its_names_and_takes_over_no_other_names_files() {
    const MORE: &str = "www.example.com";
    let world = or_skip!(World::with_postgres(BY_NAME));
    let mut named = Named::new(&world);
    let (foreign, other) = named.other("other.example.com");
    named.stage.cluster.set("ssl_cert_file", &other);
    named.stage.cluster.set("ssl_key_file", &other);
    let text = format!("* {other} {other}\n");
    named.with_hosts(&text);
    fs::remove_file(&named.stage.cert).unwrap();
    named.stage.config = Config::new(&world).write();
    let issued = named.stage.ca.issue(&[HOST, MORE]);
    named.stage.lineage.renew(&issued);
    let data = named.stage.cluster.data_directory().to_owned();
    let data = data.to_str().unwrap();
    let which = ["--yes", "--data-directory", data, "--instance", NAME];
    let names = [
        "--lineage",
        HOST,
        "--server-name",
        HOST,
        "--server-name",
        MORE,
    ];
    let arguments = [&which[..], &names].concat();
    assert_eq!(named.setup(&arguments).code(), 0);
    assert_eq!(
        named.hosts_text(),
        format!("{text}{HOST},{MORE} {}\n", named.ours())
    );
    named.serves_by(HOST, &issued);
    named.serves_by(MORE, &issued);
    named.serves_by("other.example.com", &foreign);
    assert_eq!(named.status()["state"], "in_sync");
    named.no_setting_was_changed();
    assert_eq!(named.setup(&["--yes", "--undo", NAME]).code(), 0);
    assert_eq!(named.hosts_text(), text);
    named.serves_by(HOST, &foreign);

    // What no other name gets is taken over.
    let (_, own) = named.other("own");
    let text = format!("{text}{HOST},{MORE} {own} {own}\n");
    named.with_hosts(&text);
    assert_eq!(named.setup(&arguments).code(), 0);
    assert_eq!(named.hosts_text(), text);
    named.serves_by(HOST, &issued);
    assert_eq!(fs::read_to_string(&own).unwrap(), issued.combined_pem());
    assert_eq!(fs::read_to_string(&other).unwrap(), foreign.combined_pem());
}
