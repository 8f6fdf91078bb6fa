//! What `[metrics]` takes and refuses.

use super::refused::refused;
use super::{Written, load, path};
use crate::config::listen::ListenError;
use crate::config::{Listen, MetricsConfig};

fn listen(value: &str) -> Option<Listen> {
    load(&format!("[metrics]\nlisten = \"{value}\"\n"))
        .metrics
        .listen
}

#[test]
fn without_the_table_there_are_none() {
    assert_eq!(load("").metrics, MetricsConfig::default());
    assert_eq!(load("[metrics]\n").metrics, MetricsConfig::default());
}

#[test]
fn a_loopback_address_is_taken() {
    for address in ["127.0.0.1:19187", "127.8.9.1:1", "[::1]:65535"] {
        let taken = listen(address);
        assert!(matches!(taken, Some(Listen::Tcp(_))), "{address}");
        assert_eq!(
            taken.map(|listen| listen.to_string()).as_deref(),
            Some(address)
        );
    }
}

#[test]
fn a_socket_is_taken_by_its_path_with_or_without_a_word_before_it() {
    let socket = Listen::Unix(path("/run/pgcertd/m.sock"));
    assert_eq!(listen("/run/pgcertd/m.sock"), Some(socket.clone()));
    assert_eq!(listen("unix:/run/pgcertd/../pgcertd/m.sock"), Some(socket));
    let written = Written::new("[metrics]\nlisten = \"unix:m.sock\"\ntextfile = \"m.prom\"\n");
    let beside = written.file().parent().map(|place| place.to_owned());
    let metrics = written.config().metrics;
    assert_eq!(
        metrics.listen.map(|listen| listen.to_string()),
        beside
            .clone()
            .map(|found| format!("unix:{}", found.join("m.sock").display()))
    );
    assert_eq!(metrics.textfile, beside.map(|path| path.join("m.prom")));
}

#[test]
fn an_address_that_other_hosts_reach_is_refused_and_why() {
    refused(
        "[metrics]\nlisten = \"0.0.0.0:19187\"\n",
        r#"
FILE:2:10: "0.0.0.0:19187" can be reached from other hosts, and there is neither a password nor encryption: to serve those hosts, use a proxy or node_exporter (`textfile`)
 |
2| listen = "0.0.0.0:19187"
 |          ^^^^^^^^^^^^^^^
 = expected a loopback address with a port, such as "127.0.0.1:19187" or "[::1]:19187", or the path of a Unix socket, such as "unix:/run/pgcertd/metrics.sock""#,
    );
}

#[test]
fn what_is_no_place_on_this_host_is_refused() {
    for (value, error) in [
        ("192.0.2.1:9187", ListenError::NotLoopback),
        ("[::]:9187", ListenError::NotLoopback),
        ("[::ffff:127.0.0.1]:9187", ListenError::NotLoopback),
        ("127.0.0.1", ListenError::Port),
        ("[::1]", ListenError::Port),
        ("::1", ListenError::Port),
        ("127.0.0.1:0", ListenError::Port),
        ("127.0.0.1:65536", ListenError::Address),
        ("localhost:9187", ListenError::Address),
        (":9187", ListenError::Address),
        ("9187", ListenError::Address),
        ("", ListenError::Address),
        ("unix:", ListenError::Path),
        ("/run/", ListenError::Path),
        ("unix:/", ListenError::Path),
        ("unix:..", ListenError::Path),
        (&format!("/{}", "m".repeat(107)), ListenError::Long),
    ] {
        let text = format!("[metrics]\nlisten = \"{value}\"\n");
        let told = Written::new(text).error();
        let says = told.one_line();
        let expected = format!(":2:10: \"{value}\" {error}");
        let expected = expected.chars().take(60).collect::<String>();
        assert!(says.contains(&expected), "{value}: {says}");
    }
    let longest = format!("/{}", "m".repeat(106));
    assert_eq!(listen(&longest), Some(Listen::Unix(path(&longest))));
}

#[test]
fn a_file_that_node_exporter_does_not_read_is_refused() {
    refused(
        "[metrics]\ntextfile = \"/srv/pgcertd.txt\"\n",
        r#"
FILE:2:12: "/srv/pgcertd.txt" is not a file that node_exporter reads
 |
2| textfile = "/srv/pgcertd.txt"
 |            ^^^^^^^^^^^^^^^^^^
 = expected the path of a file whose name ends in `.prom`"#,
    );
    for bad in ["", "/srv/", "/srv/.prom"] {
        let text = format!("[metrics]\ntextfile = \"{bad}\"\n");
        assert!(Written::new(text).load().is_err(), "{bad}");
    }
}
