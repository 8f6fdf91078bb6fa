//! The page pgcertd.toml(5).

use roff::{bold, italic, roman};

use super::Made;
use super::files::files;
use super::page::{Page, sentences};
use crate::config::keys::described::{Described, Holds, Key, Unless};
use crate::config::keys::{
    WrittenConfig, WrittenInstance, WrittenMetrics, WrittenNotify, WrittenWatch,
};

/// Where a package puts the schemas.
const SCHEMAS: &str = "/usr/share/pgcertd";

/// Whole configurations, and what they are for. The tests load them.
pub(super) const EXAMPLES: &[(&str, &str)] = &[
    (
        "One server, one file for chain and key. In postgresql.conf, `ssl_cert_file` and `ssl_key_file` name \
         /var/lib/pgcertd/16-main/server.pem.",
        "[[instance]]\n\
         name = \"16-main\"\n\
         lineage = \"postgres.example.com\"\n\
         data_directory = \"/var/lib/postgresql/16/main\"\n\
         server_names = [\"postgres.example.com\"]\n",
    ),
    (
        "Two servers that share a lineage of acme.sh; one of them, a container, is reloaded by a command.",
        "[watch]\n\
         directories = [\"/srv/acme\"]\n\
         \n\
         [defaults]\n\
         files = { chain = \"fullchain.cer\", key = \"example.com.key\" }\n\
         \n\
         [[instance]]\n\
         name = \"15-billing\"\n\
         lineage = \"example.com_ecc\"\n\
         data_directory = \"/var/lib/postgresql/15/billing\"\n\
         delay = \"2h\"\n\
         \n\
         [[instance]]\n\
         name = \"reports\"\n\
         lineage = \"example.com_ecc\"\n\
         data_directory = \"/srv/reports/data\"\n\
         cert_file = \"/srv/reports/tls/server.crt\"\n\
         key_file = \"/srv/reports/tls/server.key\"\n\
         reload = \"command\"\n\
         reload_command = [\"podman\", \"kill\", \"--signal\", \"HUP\", \"reports\"]\n\
         address = \"127.0.0.1:5433\"\n",
    ),
    (
        "A server, and a PgBouncer in front of it that shows its clients the same certificate.",
        "[[instance]]\n\
         name = \"16-main\"\n\
         lineage = \"postgres.example.com\"\n\
         data_directory = \"/var/lib/postgresql/16/main\"\n\
         \n\
         [[instance]]\n\
         name = \"pooler\"\n\
         lineage = \"postgres.example.com\"\n\
         kind = \"pgbouncer\"\n\
         config_file = \"/etc/pgbouncer/pgbouncer.ini\"\n",
    ),
    (
        "A server whose files another program installs; pgcertd only reports whether it serves them.",
        "[[instance]]\n\
         name = \"legacy\"\n\
         lineage = \"/etc/ssl/legacy\"\n\
         data_directory = \"/var/lib/pgsql/13/data\"\n\
         mode = \"observe\"\n\
         cert_file = \"/etc/ssl/legacy/tls.crt\"\n\
         key_file = \"/etc/ssl/legacy/tls.key\"\n",
    ),
];

pub(super) fn page() -> Made {
    let mut page = Page::new(
        "pgcertd.toml",
        "5",
        "which certificates go to which PostgreSQL servers",
    );
    page.heading("Synopsis");
    let files = files("check");
    for (file, _) in &files {
        page.line([bold(file)]);
    }
    description(&mut page);
    table(
        &mut page,
        "Top-level keys",
        &["Where pgcertd keeps its own files."],
        &WrittenConfig::keys(),
    );
    table(
        &mut page,
        "[watch]",
        &["What is watched, and how often it is checked."],
        &WrittenWatch::keys(),
    );
    table(
        &mut page,
        "[metrics]",
        &["Where the daemon's metrics are available."],
        &WrittenMetrics::keys(),
    );
    table(
        &mut page,
        "[notify]",
        &["Who is notified of what, by `pgcertd-notify`(8). The daemon itself does not use it."],
        &WrittenNotify::keys(),
    );
    page.heading("[defaults]");
    page.paragraphs([
        "Any key of an instance except `name`, `lineage`, `data_directory` and `config_file`, for instances that do not \
         set it. Each key applies as a whole: an instance's own `files` or `server_names` replaces the default, and is \
         not merged with it.",
    ]);
    let every = "One table per server. There may be none.";
    table(
        &mut page,
        "[[instance]]",
        &[every],
        &WrittenInstance::keys(),
    );
    page.heading("Fragments");
    page.paragraphs([
        "Each file in `conf.d` next to the config whose name ends in `.toml` and does not start with a dot is read \
         after it, in alphabetical order. Such a fragment holds only `[[instance]]` tables, and the config's \
         `[defaults]` apply to its instances.",
    ]);
    page.heading("Examples");
    for (does, text) in EXAMPLES {
        page.example(text, does);
    }
    page.heading("Files");
    let schema = "The config as a JSON schema, for editors.";
    let fragment = "The same for a fragment.";
    for (file, says) in files {
        page.term([bold(file)], [says]);
    }
    page.term([bold(format!("{SCHEMAS}/pgcertd.schema.json"))], [schema]);
    page.term(
        [bold(format!("{SCHEMAS}/pgcertd-fragment.schema.json"))],
        [fragment],
    );
    page.see_also(&["pgcertd(8)", "pgcertd-check(8)", "pgcertd-run(8)"]);
    page.made()
}

fn description(page: &mut Page) {
    page.heading("Description");
    let schema = format!(
        "An editor that knows taplo (Even Better TOML and others) completes and checks the config by the schema that its \
         first line names. A fragment names its own by `#:schema file://{SCHEMAS}/pgcertd-fragment.schema.json`."
    );
    page.paragraphs([
        "The config of `pgcertd`(8), in TOML. Unknown keys and invalid values are refused; the error shows file, line \
         and column, and what was expected.",
        "`systemctl reload pgcertd` applies a changed config if `pgcertd check --config-only` accepts it; otherwise the \
         old one stays in force. `pgcertd check` also checks what the config names.",
        "A relative path is relative to the directory of the file that it is written in. A duration has a unit: `ms`, \
         `s`, `m`, `h`, `d` (24 hours) or `w`, as in \"200ms\" or \"1h 30m\".",
        &schema,
    ]);
}

fn table(page: &mut Page, title: &str, says: &[&str], keys: &[Key]) {
    page.heading(title);
    page.paragraphs(says.iter().copied());
    for key in keys {
        entry(page, key);
    }
}

fn entry(page: &mut Page, key: &Key) {
    let head = vec![bold(key.name), roman(" = "), italic(key.holds.kind())];
    let mut says = key.what.clone();
    let expected = match &key.holds {
        // Their kind says as much, or they are listed below.
        Holds::Path | Holds::Paths | Holds::Target | Holds::Duration | Holds::Longer => None,
        Holds::Choice(_) | Holds::Choices(_) | Holds::Command => None,
        holds => holds.expected(),
    };
    if let Some(expected) = expected {
        says.push(format!("Expected: {expected}."));
    }
    let default = match &key.unless {
        Unless::Required => "Required.".to_owned(),
        Unless::Is(value) => format!("Default: `{value}`"),
        Unless::Else(words) => format!("Default: {words}."),
    };
    says.push(format!(
        "{default}\nExample: `{} = {}`",
        key.name, key.example
    ));
    page.term(head, says.iter().map(String::as_str));
    match &key.holds {
        Holds::Choice(choices) | Holds::Choices(choices) => page.nested(|page| {
            for (name, says) in choices {
                page.term([bold(format!("\"{name}\""))], [sentences(says).as_str()]);
            }
        }),
        Holds::Table(keys) => page.nested(|page| {
            for key in keys {
                entry(page, key);
            }
        }),
        _ => {}
    }
}
