//! What the configuration refuses of one value, and all that a person then reads.

use super::Written;

/// The start of an instance that takes any further key, on line 5.
const A: &str = "\
[[instance]]
name = \"a\"
lineage = \"x\"
data_directory = \"/pg/a\"
";

#[track_caller]
pub(super) fn refused(text: &str, drawn: &str) {
    Written::new(text).says(drawn);
}

/// An instance, and what further it says.
#[track_caller]
pub(super) fn refused_of_instance(keys: &str, drawn: &str) {
    refused(&format!("{A}{keys}"), drawn);
}

#[test]
fn a_duration_without_a_unit_is_shown_one() {
    refused(
        r#"[watch]
debounce = "10"
"#,
        r#"
FILE:2:12: "10" is not a duration
 |
2| debounce = "10"
 |            ^^^^
 = expected a duration with a unit, such as "10s""#,
    );
}

#[test]
fn a_number_is_no_duration() {
    refused(
        r#"[watch]
resync = 10
"#,
        r#"
FILE:2:10: wrong type: integer `10`
 |
2| resync = 10
 |          ^^
 = expected a duration with a unit, such as "10s""#,
    );
}

#[test]
fn a_negative_duration_is_refused() {
    refused_of_instance(
        r#"delay = "-1s""#,
        r#"
FILE:5:9: "-1s" is negative
 |
5| delay = "-1s"
 |         ^^^^^
 = expected a duration with a unit, such as "10s""#,
    );
}

#[test]
fn a_threshold_that_comes_before_the_warning_is_refused() {
    refused_of_instance(
        r#"expiry = { warn = "8h", critical = "1d" }"#,
        r#"
FILE:5:36: "1d" is more than `warn`
 |
5| expiry = { warn = "8h", critical = "1d" }
 |                                    ^^^^
 = expected at most `warn`, since the warning comes first"#,
    );
}

#[test]
fn a_threshold_may_not_be_zero() {
    refused_of_instance(
        r#"expiry = { warn = "0s" }"#,
        r#"
FILE:5:19: "0s" is not longer than zero
 |
5| expiry = { warn = "0s" }
 |                   ^^^^
 = expected a duration with a unit, such as "10s", longer than zero"#,
    );
}

#[test]
fn resync_may_not_be_zero() {
    refused(
        r#"[watch]
resync = "0s"
"#,
        r#"
FILE:2:10: "0s" is not longer than zero
 |
2| resync = "0s"
 |          ^^^^
 = expected a duration with a unit, such as "10s", longer than zero"#,
    );
}

#[test]
fn verify_timeout_in_the_defaults_may_not_be_zero_either() {
    refused(
        r#"[defaults]
verify_timeout = "0m"
"#,
        r#"
FILE:2:18: "0m" is not longer than zero
 |
2| verify_timeout = "0m"
 |                  ^^^^
 = expected a duration with a unit, such as "10s", longer than zero"#,
    );
}

#[test]
fn a_name_has_no_default() {
    refused(
        r#"[defaults]
name = "a"
"#,
        r#"
FILE:2:8: `name` cannot have a default
 |
2| name = "a"
 |        ^^^
 = expected any key of an instance except name, lineage, data_directory and config_file, which each [[instance]] sets for itself"#,
    );
}

#[test]
fn a_data_directory_has_no_default() {
    refused(
        r#"[defaults]
mode = "reload"
data_directory = "/pg"
"#,
        r#"
FILE:3:18: `data_directory` cannot have a default
 |
3| data_directory = "/pg"
 |                  ^^^^^
 = expected any key of an instance except name, lineage, data_directory and config_file, which each [[instance]] sets for itself"#,
    );
}

#[test]
fn an_instance_needs_a_name() {
    refused(
        r#"
[[instance]]
lineage = "x"
"#,
        r#"
FILE:2:1: an instance without `name`
 |
2| [[instance]]
 | ^^^^^^^^^^^^
 = expected name = "16-main", or another name of your choice"#,
    );
}

#[test]
fn an_instance_needs_a_lineage() {
    refused(
        r#"[[instance]]
name = "a"
"#,
        r#"
FILE:1:1: an instance without `lineage`
 |
1| [[instance]]
 | ^^^^^^^^^^^^
 = expected lineage = "postgres.example.com", a subdirectory of a watched directory, or an absolute path"#,
    );
}

#[test]
fn an_instance_needs_a_data_directory() {
    refused(
        r#"[[instance]]
name = "a"
lineage = "x"
"#,
        r#"
FILE:1:1: an instance without `data_directory`
 |
1| [[instance]]
 | ^^^^^^^^^^^^
 = expected data_directory = "/var/lib/postgresql/16/main", or what SHOW data_directory gives in psql"#,
    );
}

#[test]
fn a_name_with_a_slash_is_refused() {
    refused(
        r#"[[instance]]
name = "a/b"
"#,
        r#"
FILE:2:8: "a/b" is not a valid name for an instance
 |
2| name = "a/b"
 |        ^^^^^
 = expected letters, digits, `.`, `_` and `-`, with neither `.` nor `-` at the start"#,
    );
}

#[test]
fn a_lineage_that_is_a_relative_path_is_refused() {
    refused(
        r#"[[instance]]
name = "a"
lineage = "live/x"
data_directory = "/pg/a"
"#,
        r#"
FILE:3:11: "live/x" is neither the name of a lineage nor an absolute path
 |
3| lineage = "live/x"
 |           ^^^^^^^^
 = expected the name of a subdirectory of a watched directory, or an absolute path"#,
    );
}

#[test]
fn a_bare_lineage_needs_a_watched_directory() {
    refused(
        r#"[watch]
directories = []
[[instance]]
name = "a"
lineage = "x"
data_directory = "/pg/a"
"#,
        r#"
FILE:5:11: "x" names a subdirectory of a watched directory, but no directory is watched
 |
5| lineage = "x"
 |           ^^^
 = expected an absolute path here, or a directory in `directories` of [watch]"#,
    );
}

#[test]
fn an_unknown_mode_names_the_known_ones() {
    refused_of_instance(
        r#"mode = "mange""#,
        r#"
FILE:5:8: unknown value "mange"
 |
5| mode = "mange"
 |        ^^^^^^^
 = expected one of: manage, reload, observe"#,
    );
}

#[test]
fn an_unknown_mode_in_the_defaults_is_refused_without_any_instance() {
    refused(
        r#"[defaults]
mode = "mange"
"#,
        r#"
FILE:2:8: unknown value "mange"
 |
2| mode = "mange"
 |        ^^^^^^^
 = expected one of: manage, reload, observe"#,
    );
}

#[test]
fn a_pgbouncer_has_no_data_directory() {
    refused_of_instance(
        r#"kind = "pgbouncer"
config_file = "/etc/pgbouncer/pgbouncer.ini""#,
        r#"
FILE:4:18: `data_directory` does not apply to PgBouncer
 |
4| data_directory = "/pg/a"
 |                  ^^^^^^^
 = expected config_file, the file that it is started with"#,
    );
}

#[test]
fn a_postgres_has_no_config_file_here() {
    refused_of_instance(
        r#"config_file = "/etc/postgresql/16/main/postgresql.conf""#,
        r#"
FILE:5:15: `config_file` does not apply to Postgres
 |
5| config_file = "/etc/postgresql/16/main/postgresql.conf"
 |               ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
 = expected data_directory, from which pgcertd finds the rest; config_file is for kind = "pgbouncer" and "patroni""#,
    );
}

#[test]
fn a_pgbouncer_and_a_patroni_need_a_config_file() {
    for (kind, file) in [
        (
            "pgbouncer",
            "\"/etc/pgbouncer/pgbouncer.ini\", or the file that PgBouncer is started with",
        ),
        (
            "patroni",
            "\"/etc/patroni/config.yml\", or the file that Patroni is started with",
        ),
    ] {
        refused(
            &format!("[[instance]]\nname = \"a\"\nlineage = \"x\"\nkind = \"{kind}\"\n"),
            &format!(
                "\nFILE:1:1: an instance without `config_file`\n |\n1| [[instance]]\n | ^^^^^^^^^^^^\n = expected config_file = {file}"
            ),
        );
    }
}

/// A pooler and what further it says, in one text.
fn of_pooler(keys: &str) -> String {
    let config_file = "config_file = \"/etc/pgbouncer/pgbouncer.ini\"";
    format!(
        "[[instance]]\nname = \"a\"\nlineage = \"x\"\nkind = \"pgbouncer\"\n{config_file}\n{keys}"
    )
}

#[test]
fn a_ca_or_crl_file_is_kept_for_a_postgres_alone() {
    refused(
        &of_pooler("ca_source = \"ca.crt\"\n"),
        r#"
FILE:6:13: `ca_source` is only for kind = "postgres"
 |
6| ca_source = "ca.crt"
 |             ^^^^^^^^
 = expected none for PgBouncer: manage the file that client_tls_ca_file names by other means, and reload PgBouncer after each change"#,
    );
    refused(
        r#"[[instance]]
name = "a"
lineage = "x"
kind = "patroni"
config_file = "/etc/patroni/config.yml"
crl_source = "crl.pem"
"#,
        r#"
FILE:6:14: `crl_source` is only for kind = "postgres"
 |
6| crl_source = "crl.pem"
 |              ^^^^^^^^^
 = expected none for Patroni: manage the file that restapi.cafile names by other means, and reload Patroni after each change"#,
    );
    refused(
        &of_pooler("ca_file = \"/t/ca.pem\"\n"),
        r#"
FILE:6:11: `ca_file` is only for kind = "postgres"
 |
6| ca_file = "/t/ca.pem"
 |           ^^^^^^^^^^^
 = expected none for PgBouncer: manage the file that client_tls_ca_file names by other means, and reload PgBouncer after each change"#,
    );
}

#[test]
fn a_ca_source_by_default_is_one_of_the_poolers_too() {
    refused(
        &format!("[defaults]\nca_source = \"ca.crt\"\n{}", of_pooler("")),
        r#"
FILE:2:13: `ca_source` is only for kind = "postgres"
 |
2| ca_source = "ca.crt"
 |             ^^^^^^^^
 = expected none for PgBouncer: manage the file that client_tls_ca_file names by other means, and reload PgBouncer after each change"#,
    );
}

#[test]
fn pg_ctl_reloads_a_postgres_alone() {
    refused(
        r#"[[instance]]
name = "a"
lineage = "x"
kind = "pgbouncer"
config_file = "/etc/pgbouncer/pgbouncer.ini"
reload = "pg_ctl"
"#,
        r#"
FILE:6:10: pg_ctl does not reload PgBouncer
 |
6| reload = "pg_ctl"
 |          ^^^^^^^^
 = expected one of: signal, command"#,
    );
}

#[test]
fn an_unknown_kind_is_refused() {
    refused_of_instance(
        r#"kind = "mysql""#,
        r#"
FILE:5:8: unknown value "mysql"
 |
5| kind = "mysql"
 |        ^^^^^^^
 = expected one of: postgres, pgbouncer, patroni"#,
    );
}

#[test]
fn reload_by_command_needs_the_command() {
    refused_of_instance(
        r#"reload = "command""#,
        r#"
FILE:5:10: reload = "command" without `reload_command`
 |
5| reload = "command"
 |          ^^^^^^^^^
 = expected reload_command = ["program", "argument"]"#,
    );
}

#[test]
fn reload_by_an_empty_command_is_refused() {
    refused_of_instance(
        r#"reload = "command"
reload_command = []"#,
        r#"
FILE:6:18: [] is not a command
 |
6| reload_command = []
 |                  ^^
 = expected ["program", "argument"]"#,
    );
}

#[test]
fn a_command_that_is_not_used_is_refused() {
    refused_of_instance(
        r#"reload_command = ["x"]"#,
        r#"
FILE:5:18: `reload_command` is not used
 |
5| reload_command = ["x"]
 |                  ^^^^^
 = expected reload = "command" with it"#,
    );
}

#[test]
fn a_wildcard_is_no_server_name() {
    refused_of_instance(
        r#"server_names = ["a.example", "*.example"]"#,
        r#"
FILE:5:30: "*.example" is a wildcard; clients verify host names, not wildcards
 |
5| server_names = ["a.example", "*.example"]
 |                              ^^^^^^^^^^^
 = expected the host names that clients connect to, such as "db.example.com""#,
    );
}

#[test]
fn a_name_that_ends_with_a_dot_is_no_server_name() {
    refused_of_instance(
        r#"server_names = ["a.example", "b.example."]"#,
        r#"
FILE:5:30: "b.example." ends with a dot; libpq compares names as text, and no certificate has such a name
 |
5| server_names = ["a.example", "b.example."]
 |                              ^^^^^^^^^^^^
 = expected the host names that clients connect to, such as "db.example.com""#,
    );
}

#[test]
fn a_server_name_is_a_host_name() {
    refused_of_instance(
        r#"server_names = ["a example"]"#,
        r#"
FILE:5:17: "a example" is not a host name
 |
5| server_names = ["a example"]
 |                 ^^^^^^^^^^^
 = expected the host names that clients connect to, such as "db.example.com""#,
    );
}

#[test]
fn an_owner_is_a_name_or_a_number() {
    refused_of_instance(
        r#"owner = true"#,
        r#"
FILE:5:9: wrong type: boolean `true`
 |
5| owner = true
 |         ^^^^
 = expected a name in quotes or a number"#,
    );
}

#[test]
fn the_number_that_means_nobody_is_no_owner() {
    refused_of_instance(
        r#"owner = 4294967295"#,
        r#"
FILE:5:9: 4294967295 is not a valid user or group ID
 |
5| owner = 4294967295
 |         ^^^^^^^^^^
 = expected a name such as "postgres", or an ID from 0 to 4294967294"#,
    );
}

#[test]
fn a_socket_is_no_address() {
    refused_of_instance(
        r#"address = "/run/postgresql""#,
        r#"
FILE:5:11: "/run/postgresql" is not an address: it is a path, and PostgreSQL doesn't speak TLS over Unix sockets
 |
5| address = "/run/postgresql"
 |           ^^^^^^^^^^^^^^^^^
 = expected HOST or HOST:PORT, such as "127.0.0.1:5432" or "[::1]:5432""#,
    );
}

#[test]
fn a_port_is_a_number() {
    refused_of_instance(
        r#"address = "h:x""#,
        r#"
FILE:5:11: "h:x" is not an address: the port is not a number from 1 to 65535
 |
5| address = "h:x"
 |           ^^^^^
 = expected HOST or HOST:PORT, such as "127.0.0.1:5432" or "[::1]:5432""#,
    );
}

#[test]
fn files_stay_inside_the_lineage() {
    refused_of_instance(
        r#"files = { chain = "c", key = "../k" }"#,
        r#"
FILE:5:30: "../k" is not a file inside the lineage
 |
5| files = { chain = "c", key = "../k" }
 |                              ^^^^^^
 = expected a file name, or a path without `..` relative to the lineage"#,
    );
}

#[test]
fn absolute_files_are_refused() {
    refused_of_instance(
        r#"files = { chain = "/c", key = "k" }"#,
        r#"
FILE:5:19: "/c" is not a file inside the lineage
 |
5| files = { chain = "/c", key = "k" }
 |                   ^^^^
 = expected a file name, or a path without `..` relative to the lineage"#,
    );
}

#[test]
fn a_target_is_no_directory() {
    refused_of_instance(
        r#"cert_file = "/tls/""#,
        r#"
FILE:5:13: "/tls/" names a directory
 |
5| cert_file = "/tls/"
 |             ^^^^^^^
 = expected the path of a file"#,
    );
}

#[test]
fn an_empty_path_is_refused() {
    refused(
        r#"state_directory = ""
"#,
        r#"
FILE:1:19: "" is not a path
 |
1| state_directory = ""
 |                   ^^
 = expected a path"#,
    );
}
