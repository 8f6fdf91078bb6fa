//! Files that cannot be read, paths that are one through links, and how an error is shown.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::time::Duration;

use super::{Written, instance};
use crate::config::Config;
use crate::config::duration::{DurationError, parse};

#[test]
fn a_missing_file_is_named_with_the_remedy() -> io::Result<()> {
    let written = Written::new("");
    fs::remove_file(written.file())?;
    written.says(
        "FILE: there is no such file\n = copy the model config/pgcertd.toml there, or name another file with \
         --config",
    );
    assert_eq!(written.error().line_column(), None);
    Ok(())
}

#[test]
fn a_directory_in_place_of_the_file_is_named() -> io::Result<()> {
    let written = Written::new("");
    fs::remove_file(written.file())?;
    fs::create_dir(written.file())?;
    written.says(
        "FILE: cannot be read: Is a directory (os error 21)\n = expected a readable file; --config names another",
    );
    Ok(())
}

#[test]
fn a_file_in_place_of_the_fragments_directory_is_named() -> io::Result<()> {
    let written = Written::new("");
    fs::write(written.path("conf.d"), "")?;
    let error = written.error();
    assert_eq!(error.file(), written.path("conf.d"));
    assert_eq!(
        error.message(),
        "cannot be read: Not a directory (os error 20)"
    );
    Ok(())
}

#[test]
fn a_fragment_that_is_a_link_to_nowhere_is_named() -> io::Result<()> {
    let written = Written::new("").fragment("a.toml", "");
    symlink("nowhere", written.path("conf.d/b.toml"))?;
    written.says(
        "CONF.D/b.toml: there is no such file\n = expected a fragment; if this is a dangling link, remove it",
    );
    Ok(())
}

#[test]
fn a_file_that_is_no_text_is_shown_where_it_ends_to_be() {
    Written::new(b"[watch]\npoll = \"\xff\"\n").says(
        "FILE:2:9: this is not UTF-8\n |\n2| poll = \"\u{fffd}\"\n |         ^\n = expected UTF-8, as in \
         every TOML file",
    );
}

#[test]
fn a_file_without_end_is_not_read_to_its_end() {
    let error = Config::load(std::path::Path::new("/dev/zero")).map_err(|error| error.one_line());
    let expected = "/dev/zero: larger than 4 MiB: expected a configuration in TOML";
    assert_eq!(error, Err(expected.to_owned()));
}

#[test]
fn an_error_has_its_parts_for_machines() {
    let written = Written::new("[watch]\n# é\ndébounce = \"1s\"\n");
    let error = written.error();
    assert_eq!(error.file(), written.file());
    assert_eq!(error.line_column(), Some((3, 2)));
    assert_eq!(error.note(), "expected letters, numbers, `-`, `_`");
    let file = written.file().display().to_string();
    let line = format!("{file}:3:2: {}: {}", error.message(), error.note());
    assert_eq!(error.one_line(), line);
}

#[test]
fn columns_count_characters() {
    Written::new("watch = { directories = [\"é\"], x = 2 }\n").says(
        "FILE:1:32: unknown key `x`\n |\n1| watch = { directories = [\"é\"], x = 2 }\n |                                ^\n = \
         expected one of: directories, debounce, settle_timeout, resync, poll",
    );
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    let shown = Written::new("\"\\u001b[31m\" = 1\t# \u{9b}x\n")
        .error()
        .to_string();
    assert!(
        !shown.replace('\n', "").contains(char::is_control),
        "{shown:?}"
    );
}

#[test]
fn a_long_line_is_cut_around_what_is_wrong() {
    let text = format!("{:300}x = 1{:300}# the end\n", "", "");
    let shown = Written::new(text).error().to_string();
    let lines: Vec<_> = shown.lines().collect();
    assert!(lines[0].contains(":1:301: unknown key `x`"), "{shown}");
    assert_eq!(lines[2].find("x = 1"), lines[3].find('^'), "{shown}");
    assert!(lines[2].len() < 130, "{shown}");
}

#[test]
fn a_data_directory_is_one_through_a_link() -> io::Result<()> {
    let one = |name: &str, data: &str| {
        instance(name).replace(&format!("\"/pg/{name}\""), &format!("\"{data}\""))
    };
    let written = Written::new(one("a", "data") + &one("b", "link"));
    fs::create_dir(written.path("data"))?;
    assert!(written.load().is_ok());
    symlink("data", written.path("link"))?;
    written.says(
        "FILE:8:18: the instance a already has this data directory, FILE:4\n |\n8| data_directory = \"link\"\n |            \
         \u{20}     ^^^^^^\n = expected a different data directory for each instance, or the same path with separate files and server_names for each: one certificate per name, as PostgreSQL 19 supports with ssl_sni",
    );
    Ok(())
}

#[test]
fn a_target_is_inside_a_watched_directory_through_a_link() -> io::Result<()> {
    let text = format!(
        "[watch]\ndirectories = [\"live\"]\n{}cert_file = \"tls/new/server.pem\"\n",
        instance("a")
    );
    let written = Written::new(text);
    fs::create_dir(written.path("live"))?;
    assert!(written.load().is_ok());
    symlink("live", written.path("tls"))?;
    assert_eq!(written.error().line_column(), Some((7, 13)));
    Ok(())
}

#[test]
fn two_targets_are_one_through_a_link() -> io::Result<()> {
    let text = format!(
        "{}cert_file = \"tls/s.pem\"\n{}cert_file = \"link/s.pem\"\n",
        instance("a"),
        instance("b")
    );
    let written = Written::new(text);
    fs::create_dir(written.path("tls"))?;
    assert!(written.load().is_ok());
    symlink("tls", written.path("link"))?;
    assert_eq!(written.error().line_column(), Some((10, 13)));
    Ok(())
}

#[test]
fn one_file_by_two_paths_is_not_taken_for_two() -> io::Result<()> {
    let text = format!(
        "{}cert_file = \"tls/s.pem\"\nkey_file = \"link/s.pem\"\n",
        instance("a")
    );
    let written = Written::new(text);
    fs::create_dir(written.path("tls"))?;
    assert!(written.load().is_ok());
    symlink("tls", written.path("link"))?;
    written.says(
        "FILE:6:12: `key_file` is the same file as `cert_file`, DIR/tls/s.pem, by another path\n |\n6| key_file = \
         \"link/s.pem\"\n |            ^^^^^^^^^^^^\n = expected the same path in both, or two different files",
    );
    Ok(())
}

#[test]
fn durations_have_units() {
    for (text, millis) in [
        ("200ms", 200),
        ("0s", 0),
        ("10s", 10_000),
        ("10m", 600_000),
        ("1h 30m", 5_400_000),
        ("1.5h", 5_400_000),
        ("2d", 172_800_000),
        ("1w", 604_800_000),
    ] {
        assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
    }
    for text in [
        "",
        "0",
        "10",
        "s",
        "1:30:00",
        "1mo",
        "1y",
        "10 parsecs",
        "99999999999d",
    ] {
        assert_eq!(parse(text), Err(DurationError::Malformed), "{text}");
    }
    for text in ["-1s", "10s ago"] {
        assert_eq!(parse(text), Err(DurationError::Negative), "{text}");
    }
}
