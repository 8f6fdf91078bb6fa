//! The completions for bash, zsh and fish: clap's, and the names of the instances behind the commands that
//! take them.
//!
//! The scripts read the names out of the config by themselves, since pgcertd would look at servers first. A `name`
//! that stands where no `[[instance]]` table writes it is not found, and can be typed.

use clap_complete::Shell;

use super::Made;
use crate::cli::command;
use crate::config::DEFAULT_FILE;

/// A sed script, within single quotes: the names of instances, as they stand in a config.
const NAMES: &str = r#"s/^[[:space:]]*name[[:space:]]*=[[:space:]]*"\([A-Za-z0-9._-]*\)".*/\1/p"#;

const BASH: &str = r#"
_pgcertd_instances() {
    local i file=CONFIG
    for ((i = 1; i < COMP_CWORD; i++)); do
        if [[ ${COMP_WORDS[i]} == --config ]]; then
            file=${COMP_WORDS[i + 1]}
            if [[ $file == = ]]; then
                file=${COMP_WORDS[i + 2]}
            fi
        fi
    done
    sed -n 'NAMES' "$file" "$(dirname -- "$file")"/conf.d/*.toml 2>/dev/null
}
"#;

const ZSH: &str = r#"
(( $+functions[_pgcertd_instances] )) ||
_pgcertd_instances() {
    # opt_args does not tell of an option just before the first argument.
    local file=CONFIG before= word
    for word in ${(Q)${(z)LBUFFER}}; do
        if [[ $before == --config ]]; then
            file=$word
        elif [[ $word == --config=* ]]; then
            file=${word#--config=}
        fi
        before=$word
    done
    local -a names
    names=(${(f)"$(sed -n 'NAMES' $file ${file:h}/conf.d/*.toml(N) 2>/dev/null)"})
    compadd -- $names
}
"#;

const FISH: &str = r#"
function __fish_pgcertd_instances
    set -l file CONFIG
    set -l before
    for word in (commandline -opc)
        if test "$before" = --config
            set file $word
        else if string match -q -- '--config=*' $word
            set file (string replace -- '--config=' '' $word)
        end
        set before $word
    end
    set -l files $file (dirname $file)/conf.d/*.toml
    sed -n 'NAMES' $files 2>/dev/null
end
"#;

const FISH_COMMAND: &str = r#"
complete -c pgcertd -n "__fish_pgcertd_using_subcommand COMMAND" -f -a "(__fish_pgcertd_instances)" -d 'Instance'
"#;

/// The commands that take names of instances.
const COMMANDS: [&str; 3] = ["sync", "rollback", "sessions"];

/// A script for each shell, under the name that the shell looks for.
pub(super) fn all() -> Vec<Made> {
    let bash = COMMANDS
        .iter()
        .fold(scripted(Shell::Bash), |script, command| {
            let options = format!("pgcertd__subcmd__{command})\n            opts=\"");
            within(&script, &options, "$(_pgcertd_instances) ")
        });
    let fish = COMMANDS
        .map(|command| FISH_COMMAND.replace("COMMAND", command))
        .concat();
    let zsh = scripted(Shell::Zsh);
    let zsh = replaced_each(
        &zsh,
        COMMANDS.len() - 1,
        "all if none is named:_default'",
        "all if none is named:_pgcertd_instances'",
    );
    let zsh = replaced(
        &zsh,
        "instance -- The instance:_default'",
        "instance -- The instance:_pgcertd_instances'",
    );
    let start = "\nif [ \"$funcstack[1]\" = \"_pgcertd\" ]";
    let zsh = replaced(&zsh, start, &(added(ZSH, "") + start));
    vec![
        made("pgcertd", added(BASH, &bash)),
        made("_pgcertd", zsh),
        made("pgcertd.fish", scripted(Shell::Fish) + &added(FISH, &fish)),
    ]
}

fn made(name: &str, content: String) -> Made {
    Made {
        path: format!("completions/{name}"),
        content,
    }
}

fn scripted(shell: Shell) -> String {
    let mut script = Vec::new();
    // clap's scripts offer what its help hides.
    let full = command();
    let shown = full
        .get_subcommands()
        .filter(|command| !command.is_hide_set());
    let mut shown = clap::Command::new("pgcertd")
        .version(env!("CARGO_PKG_VERSION"))
        .args(full.get_arguments().cloned())
        .subcommands(shown.cloned());
    clap_complete::generate(shell, &mut shown, "pgcertd", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// An own part, before the rest of the script.
fn added(part: &str, rest: &str) -> String {
    let part = part.replace("CONFIG", DEFAULT_FILE).replace("NAMES", NAMES);
    format!("{part}{rest}")
}

fn within(script: &str, after: &str, insert: &str) -> String {
    replaced(script, after, &format!("{after}{insert}"))
}

/// The script with its one place of that text changed.
fn replaced(script: &str, what: &str, with: &str) -> String {
    replaced_each(script, 1, what, with)
}

/// The script with each of its places of that text changed.
fn replaced_each(script: &str, places: usize, what: &str, with: &str) -> String {
    assert_eq!(
        script.matches(what).count(),
        places,
        "{what} in clap's script"
    );
    script.replace(what, with)
}
