//! What certbot keeps for later renewals: `renewal/NAME.conf`, `cli.ini`, `renewal-hooks/`, and the variables with options
//! for Fedora's unit.

use std::path::{Path, PathBuf};

use super::contents::{AreaContents, Hook, HookPlace};
use super::tree::Tree;
use super::{client::Client, command};

/// certbot's default `--config-dir`.
pub(super) const HOME: &str = "/etc/letsencrypt";

/// Options that certbot saves; `deploy_hook` is the newer name of `renew_hook`.
const KEYS: [&str; 4] = ["pre_hook", "post_hook", "renew_hook", "deploy_hook"];

/// The stages of `renewal-hooks/`.
const STAGES: [&str; 3] = ["pre", "deploy", "post"];

/// Variables in Fedora's `/etc/sysconfig/certbot`, each with options of `certbot renew`.
const VARIABLES: [&str; 5] = [
    "PRE_HOOK",
    "POST_HOOK",
    "RENEW_HOOK",
    "DEPLOY_HOOK",
    "CERTBOT_ARGS",
];

/// The command that the values in [`sysconfig`] belong to.
pub(super) const RENEW: &str = "certbot renew";

/// The `--config-dir` of the lineage `live/NAME`; none if the path doesn't have that form.
pub(super) fn home_of(lineage: &Path) -> Option<&Path> {
    let live = lineage.parent()?;
    live.parent().filter(|_| live.ends_with("live"))
}

/// `renewal/NAME.conf` of that lineage.
pub(super) fn renewal_of(lineage: &Path) -> Option<PathBuf> {
    let mut file = lineage.file_name()?.to_owned();
    file.push(".conf");
    Some(home_of(lineage)?.join("renewal").join(file))
}

/// The line that turns off automatic renewal of this lineage, if there is one.
pub(super) fn left_alone(conf: &str) -> Option<&str> {
    let off = |line: &&str| {
        setting(line)
            .is_some_and(|(key, value)| key == "autorenew" && value.eq_ignore_ascii_case("false"))
    };
    conf.lines().find(off)
}

/// All hooks of the certbot with this `--config-dir`.
pub(super) fn hooks(tree: &Tree, home: &Path, contents: &mut AreaContents) {
    let confs = contents.or_note(tree.list(&home.join("renewal")));
    for file in confs {
        if file
            .extension()
            .is_some_and(|extension| extension == "conf")
        {
            let name = file.file_stem().map(|name| home.join("live").join(name));
            settings(tree, &file, name.as_deref(), contents);
        }
    }
    settings(tree, &home.join("cli.ini"), None, contents);
    for stage in STAGES {
        let directory = home.join("renewal-hooks").join(stage);
        let files = contents.or_note(tree.list(&directory));
        // certbot skips these as well (`list_hooks`).
        let editors = |file: &PathBuf| file.as_os_str().as_encoded_bytes().ends_with(b"~");
        for file in files.into_iter().filter(|file| !editors(file)) {
            program(tree, file, contents);
        }
    }
}

/// What Fedora's unit reads: each value is a part of certbot's command line.
pub(super) fn sysconfig(tree: &Tree, contents: &mut AreaContents) {
    let file = Path::new("/etc/sysconfig/certbot");
    let text = contents.or_note(tree.text(file)).unwrap_or_default();
    for line in text.lines() {
        let assigned = command::parse(line).variables;
        for (_, value) in assigned
            .iter()
            .filter(|(name, _)| VARIABLES.contains(&&***name))
        {
            contents.hooks.push(Hook {
                place: setting_of(file, line),
                commands: format!("{RENEW} {value}"),
                lineage: None,
            });
        }
    }
}

/// An executable that certbot runs at each renewal.
fn program(tree: &Tree, file: PathBuf, contents: &mut AreaContents) {
    if !tree.executable(&file) {
        return;
    }
    let text = contents.or_note(tree.text(&file));
    contents.hooks.push(Hook {
        commands: text.unwrap_or_default(),
        place: HookPlace::Program {
            link: tree.link(&file),
            file,
        },
        lineage: None,
    });
}

/// The hooks in a settings file, one per line.
pub(super) fn settings(
    tree: &Tree,
    file: &Path,
    lineage: Option<&Path>,
    contents: &mut AreaContents,
) {
    let text = contents.or_note(tree.text(file)).unwrap_or_default();
    for (line, commands) in hooks_in(&text) {
        contents.hooks.push(Hook {
            place: setting_of(file, line),
            commands,
            lineage: lineage.map(Path::to_owned),
        });
    }
}

fn setting_of(file: &Path, line: &str) -> HookPlace {
    HookPlace::Setting {
        file: file.to_owned(),
        line: line.to_owned(),
        client: Client::Certbot,
    }
}

/// Each line that sets a hook, and the hook. For a hook of several lines, only the first, which is enough to find it.
fn hooks_in(text: &str) -> Vec<(&str, String)> {
    let mut hooks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some((key, value)) = setting(line) else {
            continue;
        };
        if !KEYS.contains(&&*key.replace('-', "_")) {
            continue;
        }
        let mut value = value.to_owned();
        // ConfigObj uses triple quotes for a value of several lines, or with both kinds of quotes.
        if let Some(open) = ["'''", "\"\"\""]
            .into_iter()
            .find(|quotes| value.starts_with(quotes))
        {
            while !value[3..].contains(open) {
                let Some(more) = lines.next() else { break };
                value.push('\n');
                value.push_str(more);
            }
        }
        hooks.push((line, unquoted(&value)));
    }
    hooks
}

/// Key and value of a line; certbot's files use `=`, `cli.ini` also a colon or a space.
fn setting(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    if line.starts_with(['#', ';', '[']) {
        return None;
    }
    let end = line.find(['=', ':', ' ', '\t'])?;
    let value = line[end..].trim_start_matches([' ', '\t']);
    let value = value.strip_prefix(['=', ':']).unwrap_or(value);
    Some((&line[..end], value.trim()))
}

/// A value without its quotes.
fn unquoted(value: &str) -> String {
    for quotes in ["'''", "\"\"\"", "'", "\""] {
        let inner = value.strip_prefix(quotes);
        if let Some(inner) = inner.and_then(|rest| rest.strip_suffix(quotes)) {
            return inner.to_owned();
        }
    }
    value.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As certbot 2.1 and 5.8 write it (ConfigObj).
    const CONF: &str = r#"# renew_before_expiry = 30 days
version = 2.1.0
archive_dir = /etc/letsencrypt/archive/pg.example.com

# Options used in the renewal process
[renewalparams]
account = 0123
pre_hook = "echo a, b # c"
post_hook = cp /a /b && systemctl restart postgresql
renew_hook = '''sh -c "cp a 'b'"'''
autorenew = False
"#;

    #[test]
    fn hooks_are_read_as_certbot_writes_them() {
        let hooks = hooks_in(CONF);
        let commands: Vec<&str> = hooks.iter().map(|(_, hook)| hook.as_str()).collect();
        assert_eq!(
            commands,
            [
                "echo a, b # c",
                "cp /a /b && systemctl restart postgresql",
                "sh -c \"cp a 'b'\"",
            ]
        );
        assert_eq!(hooks[0].0, "pre_hook = \"echo a, b # c\"");
        assert_eq!(left_alone(CONF), Some("autorenew = False"));
        assert_eq!(left_alone("autorenew = True"), None);
    }

    #[test]
    fn a_hook_of_several_lines_is_read_whole() {
        let hooks = hooks_in("post_hook = '''cp a b\nreboot'''\nkey = x\n");
        assert_eq!(
            hooks,
            [("post_hook = '''cp a b", "cp a b\nreboot".to_owned())]
        );
    }

    #[test]
    fn cli_ini_has_other_ways_to_set_one() {
        for line in [
            "post-hook = cp a b",
            "post-hook=cp a b",
            "post-hook: cp a b",
            "post_hook cp a b",
            "  post-hook = \"cp a b\"",
        ] {
            assert_eq!(hooks_in(line), [(line, "cp a b".to_owned())], "{line}");
        }
        assert_eq!(hooks_in("# post-hook = cp a b\nposthook = x\n[a]"), []);
    }

    #[test]
    fn only_a_directory_in_live_is_a_lineage_of_certbots() {
        let renewal = |path: &str| renewal_of(Path::new(path));
        assert_eq!(
            renewal("/etc/letsencrypt/live/a.b").unwrap_or_default(),
            Path::new("/etc/letsencrypt/renewal/a.b.conf")
        );
        assert_eq!(renewal("/srv/tls/a.b"), None);
    }
}
