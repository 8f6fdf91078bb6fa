//! What the configuration takes.

use std::os::unix::fs::symlink;
use std::time::Duration;

use jiff::SignedDuration;
use proptest::prelude::*;
use rustls::pki_types::ServerName;

use super::{Written, instance, load, only, path};
use crate::config::address::AddressError;
use crate::config::{Account, Address, Config, Files, Mode, Reload, ServerKind, Verify};

#[test]
fn an_empty_file_watches_certbots_directory_for_no_instance() {
    let written = Written::new("");
    let config = written.config();
    assert_eq!(config.file, written.file());
    assert_eq!(config.instances, []);
    assert_eq!(config.state_directory, path("/var/lib/pgcertd"));
    assert_eq!(config.runtime_directory, path("/run/pgcertd"));
    assert_eq!(config.watch.directories, [path("/etc/letsencrypt/live")]);
    assert_eq!(config.watch.debounce, Duration::from_millis(200));
    assert_eq!(config.watch.settle_timeout, Duration::from_secs(600));
    assert_eq!(config.watch.resync, Duration::from_secs(600));
    assert_eq!(config.watch.poll, None);
}

#[test]
fn an_instance_with_three_keys_has_the_documented_defaults() {
    let config = load(&instance("16-main"));
    let one = config.instance("16-main").cloned();
    assert_eq!(one.as_ref(), config.instances.first());
    assert_eq!(config.instance("17-main"), None);
    let one = &config.instances[0];
    assert_eq!(one.kind(), ServerKind::Postgres);
    assert_eq!(one.lineage.name, "a.example");
    assert_eq!(
        one.lineage.candidates,
        [path("/etc/letsencrypt/live/a.example")]
    );
    assert_eq!(one.home(), path("/pg/16-main"));
    assert_eq!(one.cert_file, path("/var/lib/pgcertd/16-main/server.pem"));
    assert!(one.single_file());
    assert_eq!(config.state_of(one), path("/var/lib/pgcertd/16-main"));
    assert_eq!(one.server_names, []);
    assert_eq!(one.mode, Mode::Manage);
    assert_eq!(one.reload, Reload::Signal);
    assert_eq!(
        (&one.owner, &one.group, &one.address),
        (&None, &None, &None)
    );
    assert_eq!(one.verify, Verify::Handshake);
    assert_eq!(one.verify_timeout, Duration::from_secs(10));
    assert_eq!(one.delay, Duration::ZERO);
    assert_eq!(one.files, None);
    assert!(one.expiry.are_usual());
}

#[test]
fn every_key_of_an_instance_is_taken() {
    let one = only(&format!(
        "{}cert_file = \"/t/c.pem\"\nkey_file = \"/t/k.pem\"\nkind = \"postgres\"\n\
         server_names = [\"db.example.com\", \"::1\"]\nmode = \"reload\"\nreload = \"command\"\n\
         reload_command = [\"true\", \"\"]\nowner = \"postgres\"\ngroup = 0\naddress = \"[::1]:5433\"\n\
         verify = \"none\"\nverify_timeout = \"1m\"\ndelay = \"2d\"\n\
         files = {{ chain = \"tls/x.crt\", key = \"x.key\" }}\n\
         expiry = {{ warn = \"8h\", critical = \"90m\" }}\n",
        instance("a")
    ));
    assert_eq!(one.cert_file, path("/t/c.pem"));
    assert_eq!(one.key_file, path("/t/k.pem"));
    assert!(!one.single_file());
    let names = ["db.example.com", "::1"].map(|name| ServerName::try_from(name).ok());
    assert_eq!(
        one.server_names
            .iter()
            .cloned()
            .map(Some)
            .collect::<Vec<_>>(),
        names
    );
    assert_eq!(one.mode, Mode::Reload);
    assert_eq!(
        one.reload,
        Reload::Command(vec!["true".into(), String::new()])
    );
    assert_eq!(one.owner, Some(Account::Name("postgres".into())));
    assert_eq!(one.group, Some(Account::Id(0)));
    assert_eq!(
        one.address,
        Some(Address {
            host: "::1".into(),
            port: 5433
        })
    );
    assert_eq!(one.verify, Verify::None);
    assert_eq!(one.verify_timeout, Duration::from_secs(60));
    assert_eq!(one.delay, Duration::from_secs(2 * 86_400));
    assert_eq!(
        one.files,
        Some(Files {
            chain: "tls/x.crt".into(),
            key: "x.key".into()
        })
    );
    let minutes = |count| Some(SignedDuration::from_mins(count));
    assert_eq!(one.expiry.warn, minutes(480));
    assert_eq!(one.expiry.critical, minutes(90));
}

#[test]
fn an_instance_overrides_the_defaults_key_by_key_and_tables_as_a_whole() {
    let config = load(&format!(
        "[defaults]\nmode = \"observe\"\ndelay = \"1h 30m\"\nreload = \"command\"\n\
         reload_command = [\"x\"]\nfiles = {{ chain = \"c\", key = \"k\" }}\n{}{}mode = \"manage\"\n\
         reload = \"pg_ctl\"\nfiles = {{ chain = \"d\", key = \"e\" }}\n",
        instance("a"),
        instance("b")
    ));
    let [a, b] = config.instances.as_slice() else {
        panic!("two instances");
    };
    assert_eq!((a.mode, b.mode), (Mode::Observe, Mode::Manage));
    assert_eq!(a.delay, Duration::from_secs(5400));
    assert_eq!(b.delay, a.delay);
    assert_eq!(a.reload, Reload::Command(vec!["x".into()]));
    assert_eq!(b.reload, Reload::PgCtl);
    let chain = |files: &Option<Files>| files.clone().map(|files| files.chain);
    assert_eq!(chain(&a.files).as_deref(), Some("c"));
    assert_eq!(chain(&b.files).as_deref(), Some("d"));
}

#[test]
fn fragments_add_instances_in_name_order_and_take_the_defaults() {
    let config = Written::new(format!("{}[defaults]\ndelay = \"5m\"\n", instance("main")))
        .fragment("20-b.toml", &instance("b"))
        .fragment("10-a.toml", &(instance("z") + &instance("a")))
        .fragment(".hidden.toml", "not TOML")
        .fragment("10-a.toml~", "not TOML")
        .fragment("README", "not TOML")
        .config();
    let names: Vec<_> = config
        .instances
        .iter()
        .map(|one| one.name.as_str())
        .collect();
    assert_eq!(names, ["main", "z", "a", "b"]);
    let delayed = |one: &crate::config::InstanceConfig| one.delay == Duration::from_secs(300);
    assert!(config.instances.iter().all(delayed));
}

#[test]
fn relative_paths_start_at_the_file_that_they_are_written_in() {
    let text = "state_directory = \"state\"\nruntime_directory = \"./run//x\"\n\
                [watch]\ndirectories = [\"live\", \"./live\", \"../live\"]\n";
    let fragment = "[[instance]]\nname = \"a\"\nlineage = \"a.example\"\ndata_directory = \"data\"\n\
                    cert_file = \"../tls/a.pem\"\n";
    let written = Written::new(text).fragment("a.toml", fragment);
    let config = written.config();
    let above = written
        .directory
        .path()
        .parent()
        .map(|above| above.join("live"));
    assert_eq!(config.state_directory, written.path("state"));
    assert_eq!(config.runtime_directory, written.path("run/x"));
    assert_eq!(
        config
            .watch
            .directories
            .iter()
            .cloned()
            .map(Some)
            .collect::<Vec<_>>(),
        [Some(written.path("live")), above.clone()]
    );
    let one = &config.instances[0];
    assert_eq!(one.home(), written.path("conf.d/data"));
    assert_eq!(one.cert_file, written.path("tls/a.pem"));
    assert_eq!(
        one.lineage
            .candidates
            .iter()
            .cloned()
            .map(Some)
            .collect::<Vec<_>>(),
        [
            Some(written.path("live/a.example")),
            above.map(|above| above.join("a.example"))
        ]
    );
}

#[test]
fn an_absolute_lineage_needs_no_watched_directory() {
    let one = only(
        "[watch]\ndirectories = []\n[[instance]]\nname = \"a\"\nlineage = \"/srv/./acme/x\"\n\
         data_directory = \"/pg\"\n",
    );
    assert_eq!(one.lineage.name, "/srv/./acme/x");
    assert_eq!(one.lineage.candidates, [path("/srv/acme/x")]);
}

#[test]
fn instances_that_are_not_written_may_serve_the_lineage_itself_and_share_files() {
    let live = "cert_file = \"/etc/letsencrypt/live/a.example/fullchain.pem\"\n\
                key_file = \"/etc/letsencrypt/live/a.example/privkey.pem\"\n";
    let config = load(&format!(
        "{}{live}mode = \"observe\"\n{}{live}mode = \"reload\"\n",
        instance("a"),
        instance("b")
    ));
    assert_eq!(config.instances.len(), 2);
}

#[test]
fn a_target_that_is_a_link_into_the_lineage_is_replaced_and_thus_taken() -> std::io::Result<()> {
    let written = Written::new(
        "[watch]\ndirectories = [\"live\"]\n[[instance]]\nname = \"a\"\nlineage = \"x\"\n\
         data_directory = \"/pg\"\ncert_file = \"server.pem\"\n",
    );
    std::fs::create_dir_all(written.path("live/x"))?;
    std::fs::write(written.path("live/x/fullchain.pem"), "")?;
    symlink(
        written.path("live/x/fullchain.pem"),
        written.path("server.pem"),
    )?;
    assert_eq!(
        written.config().instances[0].cert_file,
        written.path("server.pem")
    );
    Ok(())
}

#[test]
fn only_what_may_be_zero_is_zero() {
    let text = format!(
        "[watch]\ndebounce = \"0s\"\n{}delay = \"0s\"\n",
        instance("a")
    );
    let config = load(&text);
    assert_eq!(config.watch.debounce, Duration::ZERO);
    assert_eq!(config.instances[0].delay, Duration::ZERO);
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_first_line() {
    Written::new("\u{feff}watch = 5").says(
        "FILE:1:9: wrong type: integer `5`\n |\n1| watch = 5\n |         ^\n = expected one table, [watch]",
    );
}

#[test]
fn addresses_are_read_and_shown() {
    let shown = |text: &str| text.parse::<Address>().map(|address| address.to_string());
    for (text, full) in [
        ("127.0.0.1:5433", "127.0.0.1:5433"),
        ("127.0.0.1", "127.0.0.1:5432"),
        ("[::1]:5433", "[::1]:5433"),
        ("[::1]", "[::1]:5432"),
        ("::1", "[::1]:5432"),
        ("db.example.com", "db.example.com:5432"),
        ("db_1:1", "db_1:1"),
    ] {
        assert_eq!(shown(text).as_deref(), Ok(full), "{text}");
        assert_eq!(shown(full).as_deref(), Ok(full), "{full}");
    }
    for (text, error) in [
        ("", AddressError::Host),
        (":5432", AddressError::Host),
        ("a b", AddressError::Host),
        ("[::1", AddressError::Host),
        ("[localhost]:1", AddressError::Host),
        ("::1::2", AddressError::Host),
        ("h:0", AddressError::Port),
        ("h:", AddressError::Port),
        ("h:+1", AddressError::Port),
        ("h:65536", AddressError::Port),
        ("[::1]5432", AddressError::Port),
        ("/run/postgresql", AddressError::Socket),
    ] {
        assert_eq!(shown(text), Err(error), "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_loading_panic(text in any::<Vec<u8>>()) {
        let written = Written::new(text);
        let _ = written.load().map_err(|error| (error.to_string(), error.one_line()));
    }

    #[test]
    fn no_value_makes_loading_panic(
        key in "name|lineage|data_directory|cert_file|key_file|address|delay|owner|mode|reload_command",
        value in "\"[^\"\\\\\n]{0,20}\"|-?[0-9]{1,22}|\\[\"\\PC{0,8}\"\\]|\\{ ?\\}",
    ) {
        let text = instance("a").replace(&format!("{key} = "), "# ") + &format!("{key} = {value}\n");
        let written = Written::new(text);
        if let Err(error) = written.load() {
            prop_assert!(error.line_column().is_some());
            prop_assert!(error.to_string().contains("^"));
        }
    }

    #[test]
    fn addresses_survive_being_shown(host in "[a-z][a-z0-9]{0,9}(\\.[a-z]{1,9})?", port in 1_u16..) {
        let address = Address { host, port };
        prop_assert_eq!(address.to_string().parse(), Ok(address));
    }
}

#[test]
fn a_config_is_equal_to_itself_loaded_again() {
    let written = Written::new(instance("a"));
    assert_eq!(Config::load(&written.file()), written.load());
}
