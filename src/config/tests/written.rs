//! What the configuration refuses as TOML, of keys and of types, and all that a person then reads.

use super::refused::{refused, refused_of_instance};

#[test]
fn an_unknown_key_names_the_known_ones() {
    refused(
        r#"[watch]
debouce = "200ms"
"#,
        r#"
FILE:2:1: unknown key `debouce`
 |
2| debouce = "200ms"
 | ^^^^^^^
 = expected one of: directories, debounce, settle_timeout, resync, poll"#,
    );
}

#[test]
fn an_unknown_key_of_files_names_the_known_ones() {
    refused_of_instance(
        r#"files = { chain = "c", ky = "k" }"#,
        r#"
FILE:5:24: unknown key `ky`
 |
5| files = { chain = "c", ky = "k" }
 |                        ^^
 = expected one of: chain, key"#,
    );
}

#[test]
fn a_missing_key_of_files_is_named() {
    refused_of_instance(
        r#"files = { chain = "c" }"#,
        r#"
FILE:5:9: missing key `key`
 |
5| files = { chain = "c" }
 |         ^^^^^^^^^^^^^^^
 = expected `key` here as well"#,
    );
}

#[test]
fn a_text_where_an_array_belongs_is_shown() {
    refused(
        r#"[watch]
directories = "x"
"#,
        r#"
FILE:2:15: wrong type: string "x"
 |
2| directories = "x"
 |               ^^^
 = expected an array, in [ ]"#,
    );
}

#[test]
fn a_number_in_an_array_of_texts_is_shown() {
    refused(
        r#"[watch]
directories = ["x", 5]
"#,
        r#"
FILE:2:21: wrong type: integer `5`
 |
2| directories = ["x", 5]
 |                     ^
 = expected a string"#,
    );
}

#[test]
fn broken_toml_is_shown_where_it_breaks() {
    refused(
        r#"[watch]
directories = ["x"
"#,
        r#"
FILE:2:19: unclosed array
 |
2| directories = ["x"
 |                   ^
 = expected `]`"#,
    );
}

#[test]
fn a_key_written_twice_is_shown() {
    refused(
        r#"[watch]
poll = "1m"
poll = "2m"
"#,
        r#"
FILE:3:1: duplicate key
 |
3| poll = "2m"
 | ^^^^
 = expected each key and table only once"#,
    );
}

#[test]
fn a_watch_array_is_no_table() {
    refused(
        r#"[[watch]]
debounce = "1s"
"#,
        r#"
FILE:1:1: wrong type: an array
 |
1| [[watch]]
 | ^^^^^^^^^
 = expected one table, [watch]"#,
    );
}

#[test]
fn an_instance_in_single_brackets_is_shown_the_double_ones() {
    refused(
        r#"[instance]
name = "a"
"#,
        r#"
FILE:1:1: wrong type: a table
 |
1| [instance]
 | ^^^^^^^^^^
 = expected [[instance]], in double brackets, for each instance"#,
    );
}

#[test]
fn an_array_does_not_stand_for_files() {
    refused_of_instance(
        r#"files = ["c", "k"]"#,
        r#"
FILE:5:9: wrong type: an array
 |
5| files = ["c", "k"]
 |         ^^^^^^^^^^
 = expected a table, such as { chain = "fullchain.pem", key = "privkey.pem" }"#,
    );
}
