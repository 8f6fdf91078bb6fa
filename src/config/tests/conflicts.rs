//! What the configuration refuses of instances that are in each other's way, or in another's.

use super::refused::{refused, refused_of_instance};
use super::{Written, load};

#[test]
fn two_instances_do_not_share_a_name() {
    refused(
        r#"[[instance]]
name = "a"
lineage = "x"
data_directory = "/pg/a"
[[instance]]
name = "a"
lineage = "x"
data_directory = "/pg/b"
"#,
        r#"
FILE:6:8: another instance already has this name, FILE:2
 |
6| name = "a"
 |        ^^^
 = expected a different name for each instance"#,
    );
}

#[test]
fn two_instances_do_not_share_a_config_file_and_may_share_a_lineage() {
    let pooler = |name: &str, file: &str| {
        format!(
            "[[instance]]\nname = \"{name}\"\nlineage = \"x\"\nkind = \"pgbouncer\"\nconfig_file = \"{file}\"\n"
        )
    };
    let server = "[[instance]]\nname = \"s\"\nlineage = \"x\"\ndata_directory = \"/pg\"\n";
    let (one, other) = (pooler("a", "/etc/a.ini"), pooler("b", "/etc/b.ini"));
    assert_eq!(load(&format!("{server}{one}{other}")).instances.len(), 3);
    refused(
        &format!("{one}{}", pooler("b", "/etc/./x/../a.ini")),
        r#"
FILE:10:15: the instance a already has this config_file, FILE:5
  |
10| config_file = "/etc/./x/../a.ini"
  |               ^^^^^^^^^^^^^^^^^^^
  = expected a different config_file for each instance"#,
    );
}

#[test]
fn two_instances_do_not_share_a_data_directory() {
    refused(
        r#"[[instance]]
name = "a"
lineage = "x"
data_directory = "/pg/a"
[[instance]]
name = "b"
lineage = "x"
data_directory = "/pg/./x/../a"
"#,
        r#"
FILE:8:18: the instance a already has this data directory, FILE:4
 |
8| data_directory = "/pg/./x/../a"
 |                  ^^^^^^^^^^^^^^
 = expected a different data directory for each instance, or the same path with separate files and server_names for each: one certificate per name, as PostgreSQL 19 supports with ssl_sni"#,
    );
}

#[test]
fn names_of_one_server_may_be_an_instance_each() {
    let instance = |name: &str, data: &str, more: &str| {
        format!(
            "[[instance]]\nname = \"{name}\"\nlineage = \"x\"\ndata_directory = \"{data}\"\n{more}\n"
        )
    };
    let named = |names: &str| format!("server_names = [{names}]");
    let one = instance("a", "/pg", &named("\"a.example\", \"b.example\""));
    let other = instance("b", "/pg", &named("\"c.example\""));
    let config = load(&format!("{one}{other}"));
    let locks: Vec<_> = config
        .instances
        .iter()
        .map(|instance| config.lock_directory_of(instance))
        .collect();
    assert_eq!(locks[0], locks[1]);
    let same = "cert_file = \"/t/s.pem\"\nmode = \"observe\"\n";
    let refused = [
        ("nobody's name", one.clone(), instance("b", "/pg", "")),
        (
            "a name of both",
            one.clone(),
            instance("b", "/pg", &named("\"B.example\"")),
        ),
        (
            "the same file",
            instance("a", "/pg", &format!("{same}{}", named("\"a.example\""))),
            instance("b", "/pg", &format!("{same}{}", named("\"c.example\""))),
        ),
    ];
    for (what, one, other) in refused {
        let error = Written::new(format!("{one}{other}")).error().to_string();
        assert!(
            error.contains("the instance a already has this data directory"),
            "{what}: {error}"
        );
    }
}

#[test]
fn two_instances_do_not_write_one_file() {
    refused(
        r#"[[instance]]
name = "a"
lineage = "x"
data_directory = "/pg/a"
cert_file = "/t/s.pem"
[[instance]]
name = "b"
lineage = "x"
data_directory = "/pg/b"
cert_file = "/t/c.pem"
key_file = "/t/s.pem"
"#,
        r#"
FILE:11:12: the instances a and b both write /t/s.pem
  |
11| key_file = "/t/s.pem"
  |            ^^^^^^^^^^
  = expected separate files for each instance that pgcertd writes for, since each would overwrite the other's; with mode = "reload" or "observe", it does not write"#,
    );
}

#[test]
fn a_default_target_is_not_written_by_another_instance() {
    refused(
        r#"[[instance]]
name = "a"
lineage = "x"
data_directory = "/pg/a"
cert_file = "/var/lib/pgcertd/b/server.pem"
[[instance]]
name = "b"
lineage = "x"
data_directory = "/pg/b"
"#,
        r#"
FILE:5:13: the instances a and b both write /var/lib/pgcertd/b/server.pem
 |
5| cert_file = "/var/lib/pgcertd/b/server.pem"
 |             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
 = expected separate files for each instance that pgcertd writes for, since each would overwrite the other's; with mode = "reload" or "observe", it does not write"#,
    );
}

#[test]
fn a_target_in_the_defaults_serves_one_instance_alone() {
    refused(
        r#"[defaults]
cert_file = "/t/s.pem"
[[instance]]
name = "a"
lineage = "x"
data_directory = "/pg/a"
[[instance]]
name = "b"
lineage = "x"
data_directory = "/pg/b"
"#,
        r#"
FILE:2:13: the instances a and b both write /t/s.pem
 |
2| cert_file = "/t/s.pem"
 |             ^^^^^^^^^^
 = expected separate files for each instance that pgcertd writes for, since each would overwrite the other's; with mode = "reload" or "observe", it does not write"#,
    );
}

#[test]
fn a_target_inside_a_watched_directory_is_refused() {
    refused_of_instance(
        r#"cert_file = "/etc/letsencrypt/live/a.pem""#,
        r#"
FILE:5:13: `cert_file` is /etc/letsencrypt/live/a.pem, inside the watched directory /etc/letsencrypt/live
 |
5| cert_file = "/etc/letsencrypt/live/a.pem"
 |             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
 = expected a file outside the directories that certificates come from; with mode = "reload" or "observe", pgcertd does not write it"#,
    );
}

#[test]
fn a_default_target_inside_a_watched_directory_is_refused() {
    refused(
        r#"[watch]
directories = ["/var/lib/pgcertd"]
[[instance]]
name = "a"
lineage = "x"
data_directory = "/pg/a"
"#,
        r#"
FILE:4:8: `cert_file` is /var/lib/pgcertd/a/server.pem, inside the watched directory /var/lib/pgcertd
 |
4| name = "a"
 |        ^^^
 = expected a file outside the directories that certificates come from; with mode = "reload" or "observe", pgcertd does not write it"#,
    );
}

#[test]
fn a_target_inside_a_lineage_is_refused() {
    refused(
        r#"[[instance]]
name = "a"
lineage = "/srv/x"
data_directory = "/pg/a"
cert_file = "/t/s.pem"
key_file = "/srv/x/k.pem"
"#,
        r#"
FILE:6:12: `key_file` is /srv/x/k.pem, inside the lineage /srv/x
 |
6| key_file = "/srv/x/k.pem"
 |            ^^^^^^^^^^^^^^
 = expected a file outside the directories that certificates come from; with mode = "reload" or "observe", pgcertd does not write it"#,
    );
}

#[test]
fn debians_shared_certificate_is_not_written() {
    refused_of_instance(
        r#"cert_file = "/etc/ssl/certs/ssl-cert-snakeoil.pem"
key_file = "/t/k""#,
        r#"
FILE:5:13: /etc/ssl/certs/ssl-cert-snakeoil.pem is shared by the services on this host
 |
5| cert_file = "/etc/ssl/certs/ssl-cert-snakeoil.pem"
 |             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
 = expected a file that is only for this instance, named by ssl_cert_file and ssl_key_file in postgresql.conf"#,
    );
}

#[test]
fn debians_shared_key_is_not_written() {
    refused_of_instance(
        r#"cert_file = "/t/c"
key_file = "/etc/ssl/private/ssl-cert-snakeoil.key""#,
        r#"
FILE:6:12: /etc/ssl/private/ssl-cert-snakeoil.key is shared by the services on this host
 |
6| key_file = "/etc/ssl/private/ssl-cert-snakeoil.key"
 |            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
 = expected a file that is only for this instance, named by ssl_cert_file and ssl_key_file in postgresql.conf"#,
    );
}

#[test]
fn the_previous_bundle_is_no_target() {
    refused_of_instance(
        r#"cert_file = "/var/lib/pgcertd/a/previous.pem""#,
        r#"
FILE:5:13: `cert_file` is /var/lib/pgcertd/a/previous.pem, which pgcertd uses for something else
 |
5| cert_file = "/var/lib/pgcertd/a/previous.pem"
 |             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
 = expected another file, such as server.pem beside it, the default of cert_file"#,
    );
}

#[test]
fn the_hold_is_no_target() {
    refused_of_instance(
        r#"key_file = "/var/lib/pgcertd/a/held.json""#,
        r#"
FILE:5:12: `key_file` is /var/lib/pgcertd/a/held.json, which pgcertd uses for something else
 |
5| key_file = "/var/lib/pgcertd/a/held.json"
 |            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
 = expected another file, such as server.pem beside it, the default of cert_file"#,
    );
}

#[test]
fn a_fragment_only_adds_instances() {
    let fragment = r#"[watch]
poll = "1m"
"#;
    Written::new(r#""#).fragment("a.toml", fragment).says(
        r#"
CONF.D/a.toml:1:2: unknown key `watch`
 |
1| [watch]
 |  ^^^^^
 = expected [[instance]] alone: fragments only add instances"#,
    );
}

#[test]
fn a_conflict_across_files_names_both() {
    let fragment = r#"[[instance]]
name = "a"
lineage = "x"
data_directory = "/pg/a"
"#;
    Written::new(
        r#"[[instance]]
name = "a"
lineage = "x"
data_directory = "/pg/a"
"#,
    )
    .fragment("a.toml", fragment)
    .says(
        r#"
CONF.D/a.toml:2:8: another instance already has this name, FILE:2
 |
2| name = "a"
 |        ^^^
 = expected a different name for each instance"#,
    );
}

#[test]
fn a_fragment_does_not_write_the_file_of_another_instance() {
    let fragment = r#"[[instance]]
name = "b"
lineage = "x"
data_directory = "/pg/b"
mode = "manage"
cert_file = "/t/s"
"#;
    Written::new(r#"[[instance]]
name = "a"
lineage = "x"
data_directory = "/pg/a"
cert_file = "/t/s"
"#).fragment("a.toml", fragment).says(r#"
CONF.D/a.toml:6:13: the instances a and b both write /t/s
 |
6| cert_file = "/t/s"
 |             ^^^^^^
 = expected separate files for each instance that pgcertd writes for, since each would overwrite the other's; with mode = "reload" or "observe", it does not write"#);
}

#[test]
fn a_ca_or_crl_file_has_a_path_of_its_own() {
    refused_of_instance(
        "ca_source = \"ca.crt\"\nca_file = \"/t/s.pem\"\ncert_file = \"/t/s.pem\"\n",
        r#"
FILE:6:11: `ca_file` is the same file as `cert_file`, /t/s.pem
 |
6| ca_file = "/t/s.pem"
 |           ^^^^^^^^^^
 = expected a different file for each"#,
    );
}

#[test]
fn a_ca_file_is_not_written_over_its_source() {
    refused_of_instance(
        "ca_source = \"/srv/ca.pem\"\nca_file = \"/srv/x/../ca.pem\"\n",
        r#"
FILE:6:11: `ca_file` is /srv/ca.pem, which is a source, /srv/ca.pem
 |
6| ca_file = "/srv/x/../ca.pem"
 |           ^^^^^^^^^^^^^^^^^^
 = expected a file outside the directories that certificates come from; with mode = "reload" or "observe", pgcertd does not write it"#,
    );
}

#[test]
fn a_target_without_a_source_and_a_crl_without_its_cas_are_refused() {
    refused_of_instance(
        "crl_file = \"/t/crl.pem\"\n",
        r#"
FILE:5:12: `crl_file` is not used
 |
5| crl_file = "/t/crl.pem"
 |            ^^^^^^^^^^^^
 = expected crl_source with it, where the file comes from"#,
    );
    refused_of_instance(
        "crl_source = \"crl.pem\"\n",
        r#"
FILE:5:14: `crl_source` without `ca_source`
 |
5| crl_source = "crl.pem"
 |              ^^^^^^^^^
 = expected ca_source with it, the CA file that the CRL is checked against"#,
    );
}
