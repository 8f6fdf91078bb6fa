//! `pgcertd sessions`: who is connected, how it is encrypted, and with which certificate.
//!
//! The server itself is asked, over its Unix socket. Which sessions are older than the certificate follows from the time of
//! the installed file.

use std::net::IpAddr;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use tokio::task::JoinSet;

use super::exit::{Exit, Failure, named, print, print_json, prober};
use super::manual::{Chapter, Manual};
use super::page::Page;
use super::paint::{BAD, FAINT, GOOD, ODD, WIDTH, span};
use crate::config::{self, Config, ServerKind};
use crate::report::view::VERSION;
use crate::server::postmaster::Absence;
use crate::server::sql::{ClientOrigin, Protection, Role, Session, Sql};
use crate::server::{Instance, Server};
use crate::text::shown;

pub(super) const MANUAL: Manual = Manual {
    command: "sessions",
    description: &[
        "Asks each server who is connected: process, age, user, database and address of each session, and below that \
         its TLS version, cipher and the client's own name. Standbys and backups are included, background processes \
         are not. A line with `!` is a TCP session without encryption.",
        "A session keeps the certificate that it began with until it ends. One that began before the last deployment is \
         marked as such; its client gets the new certificate when it reconnects. The time of that deployment is that of \
         the installed file, if the server serves what is in it; a `sync --force` of the same certificate counts as a \
         deployment.",
        "It logs in over the server's Unix socket, without a password: root becomes the data directory's owner for that, \
         any other user stays itself. The role is the one with that user's name, or else postgres; pg_hba.conf must let \
         it in (`local all postgres peer`). It must be a superuser, or have been granted pg_read_all_stats.",
    ],
    exit: &[
        (
            Exit::Well,
            "every running server was asked, and with `--plaintext` there is no such session; a server that is down \
             has no sessions",
        ),
        (
            Exit::Problem,
            "a server could not be asked, or with `--plaintext` there is such a session",
        ),
        (
            Exit::Usage,
            "wrong usage or config, such as an unknown instance",
        ),
    ],
    chapters: document,
    examples: &[
        ("pgcertd sessions 16-main", "Who is connected, and how?"),
        (
            "pgcertd sessions --plaintext --remote",
            "For a script: is anybody connected from another host without encryption?",
        ),
    ],
};

fn document() -> Vec<Chapter> {
    vec![
        Chapter::new(
            "Sessions in JSON",
            "For each session, with `--json`; what doesn't apply is null:",
        )
        .term("pid", "the number of its process, as the server sees it")
        .term(
            "user, database, application",
            "as the server has them; physical replication has no database",
        )
        .term("replication", "whether it sends WAL to a standby or a backup")
        .term("local", "whether it uses a Unix socket")
        .term("address, port", "of the client, for TCP")
        .term("encrypted", "whether it is encrypted, with TLS or GSSAPI")
        .term("protocol, cipher", "`TLSv1.3` and the like, or `GSSAPI`")
        .term("since", "when it began")
        .term(
            "before_deployment",
            "for TLS: whether it began before the instance's `deployed`; null if `deployed_unknown` says why that is not known",
        ),
    ]
}

#[derive(Debug, Args)]
pub(super) struct SessionsArguments {
    /// The instances; all if none is named.
    #[arg(value_name = "INSTANCE")]
    instances: Vec<String>,
    /// Only unencrypted sessions over TCP, including loopback; exit status 1 if there are any.
    #[arg(long)]
    plaintext: bool,
    /// Only sessions from other hosts: none over a Unix socket or loopback.
    #[arg(long)]
    remote: bool,
    /// Log in as this role, instead of the one named like the server's operating-system user or postgres.
    #[arg(long, value_name = "ROLE")]
    user: Option<String>,
}

impl SessionsArguments {
    fn shows(&self, session: &Session) -> bool {
        (!self.plaintext || session.is_plaintext()) && (!self.remote || session.is_remote())
    }
}

#[derive(Serialize)]
struct SessionsJson {
    version: u32,
    instances: Vec<SessionsView>,
}

#[derive(Serialize)]
struct SessionsView {
    name: String,
    running: bool,
    /// When the certificate that is served was installed.
    deployed: Option<Timestamp>,
    /// Why that is not known.
    deployed_unknown: Option<String>,
    /// Why nobody could be asked.
    problem: Option<String>,
    sessions: Vec<SessionRow>,
}

#[derive(Serialize)]
struct SessionRow {
    pid: i32,
    user: Option<String>,
    database: Option<String>,
    application: String,
    replication: bool,
    /// Whether it uses a Unix socket; it then has no address.
    local: bool,
    address: Option<IpAddr>,
    port: Option<u16>,
    encrypted: bool,
    protocol: Option<String>,
    cipher: Option<String>,
    since: Timestamp,
    /// For TLS only: whether it began before the last deployment, if that is known.
    before_deployment: Option<bool>,
}

impl SessionRow {
    fn from_session(session: Session, deployed: Option<Timestamp>) -> SessionRow {
        let (address, port) = match session.origin {
            ClientOrigin::Socket => (None, None),
            ClientOrigin::Address { ip, port } => (Some(ip), Some(port)),
        };
        let (protocol, cipher) = match session.protection {
            Protection::Tls { protocol, cipher } => (Some(protocol), Some(cipher)),
            Protection::Gssapi => (Some("GSSAPI".to_owned()), None),
            Protection::Nothing => (None, None),
        };
        SessionRow {
            pid: session.pid,
            user: session.user,
            database: session.database,
            application: session.application,
            replication: session.replication,
            local: address.is_none(),
            address,
            port,
            encrypted: protocol.is_some(),
            since: session.since,
            before_deployment: deployed
                .filter(|_| cipher.is_some())
                .map(|deployed| session.since < deployed),
            protocol,
            cipher,
        }
    }
}

pub(super) async fn sessions(
    config: &Config,
    wanted: &SessionsArguments,
    json: bool,
) -> Result<Exit, Failure> {
    let chosen = asked_for(config, wanted)?;
    let prober = prober()?;
    let role = match &wanted.user {
        Some(name) => Role::Named(name.clone()),
        None => Role::OfUser,
    };
    let mut asking = JoinSet::new();
    for (index, instance) in chosen.iter().enumerate() {
        let instance = Instance::new(config, instance, prober.clone());
        let role = role.clone();
        asking.spawn(async move { (index, SessionsAnswer::ask(instance, &role).await) });
    }
    let mut views = Vec::new();
    while let Some(asked) = asking.join_next().await {
        let (index, asked) = asked.map_err(|e| Failure::problem(&e))?;
        views.push((index, asked.view(chosen[index].name.clone(), wanted)));
    }
    prober.drain().await;
    views.sort_by_key(|(index, _)| *index);
    let document = SessionsJson {
        version: VERSION,
        instances: views.into_iter().map(|(_, view)| view).collect(),
    };
    if json {
        print_json(&document)?;
    } else {
        print(&drawn(&document, wanted, Timestamp::now()))?;
    }
    let ill = |view: &SessionsView| {
        view.problem.is_some() || wanted.plaintext && !view.sessions.is_empty()
    };
    Ok(if document.instances.iter().any(ill) {
        Exit::Problem
    } else {
        Exit::Well
    })
}

/// The instances whose sessions are wanted: only those of Postgres, which lists its sessions in SQL.
fn asked_for<'a>(
    config: &'a Config,
    wanted: &SessionsArguments,
) -> Result<Vec<&'a config::InstanceConfig>, Failure> {
    let mut chosen = named(config, &wanted.instances)?;
    let is_other = |instance: &&config::InstanceConfig| instance.kind() != ServerKind::Postgres;
    if let (Some(other), false) = (
        chosen.iter().copied().find(is_other),
        wanted.instances.is_empty(),
    ) {
        return Err(Failure::usage(&format!(
            "{} is a {}, and only PostgreSQL servers list their sessions; name the instance of the server behind it",
            other.name,
            other.kind().name()
        )));
    }
    chosen.retain(|instance| !is_other(instance));
    Ok(chosen)
}

/// The result of asking one instance.
enum SessionsAnswer {
    Down(Absence),
    Failed(String),
    Told {
        sessions: Vec<Session>,
        deployed: Result<Timestamp, String>,
    },
}

impl SessionsAnswer {
    async fn ask(mut instance: Instance, role: &Role) -> SessionsAnswer {
        let sight = match instance.look().await {
            Ok(sight) => sight,
            Err(error) if error.is_denied() => {
                return SessionsAnswer::Failed(denied(&error.problem().what));
            }
            Err(error) => return SessionsAnswer::Failed(error.to_string()),
        };
        let postmaster = match (&sight.server, sight.server.postmaster()) {
            (Server::Down(Absence::Unreadable(reason)), _) => {
                return SessionsAnswer::Failed(denied(reason));
            }
            (Server::Down(Absence::NotKnown(cannot)), _) => {
                let why = format!(
                    "can't tell whether the server is running: {}",
                    cannot.problem()
                );
                return SessionsAnswer::Failed(why);
            }
            (Server::Down(absence), _) => return SessionsAnswer::Down(absence.clone()),
            (Server::Up(_), Some(postmaster)) => postmaster,
            (Server::Up(_), None) => {
                return SessionsAnswer::Failed("it is not a PostgreSQL server".into());
            }
        };
        // Sessions first: a deployment that happens meanwhile must not make newer sessions look older than it.
        let targets = &sight.targets;
        let asked = async {
            let sql = Sql::login(postmaster, &targets.data, targets.server, role).await?;
            let sessions = sql.sessions().await;
            sql.close().await;
            sessions
        };
        match asked.await {
            Err(error) => SessionsAnswer::Failed(error.to_string()),
            Ok(sessions) => SessionsAnswer::Told {
                sessions,
                deployed: instance.last_deployment(&sight).await,
            },
        }
    }

    fn view(self, name: String, wanted: &SessionsArguments) -> SessionsView {
        let mut view = SessionsView {
            name,
            running: true,
            deployed: None,
            deployed_unknown: None,
            problem: None,
            sessions: Vec::new(),
        };
        match self {
            SessionsAnswer::Down(absence) => {
                view.running = false;
                view.deployed_unknown = Some(format!("the server is not running: {absence}"));
            }
            SessionsAnswer::Failed(problem) => view.problem = Some(problem),
            SessionsAnswer::Told { sessions, deployed } => {
                match deployed {
                    Ok(deployed) => view.deployed = Some(deployed),
                    Err(why) => view.deployed_unknown = Some(why),
                }
                view.sessions = sessions
                    .into_iter()
                    .filter(|session| wanted.shows(session))
                    .map(|session| SessionRow::from_session(session, view.deployed))
                    .collect();
            }
        }
        view
    }
}

fn denied(why: &str) -> String {
    format!("no permission to look: {why}; run it as root or as the server's user")
}

fn drawn(document: &SessionsJson, wanted: &SessionsArguments, now: Timestamp) -> Page {
    let mut out = Page::default();
    for (number, view) in document.instances.iter().enumerate() {
        if number > 0 {
            out.end();
        }
        out.add(section(view, wanted, now));
    }
    if document.instances.is_empty() {
        out.line("no instance is configured; see the example config");
    }
    out
}

fn section(view: &SessionsView, wanted: &SessionsArguments, now: Timestamp) -> Page {
    let mut out = Page::default();
    if let Some(problem) = &view.problem {
        out.styled(BAD, "!").put(" ").line(&view.name);
        out.labelled("why", problem);
        return out;
    }
    out.hanging(format_args!("{}: {}", view.name, summary(view, wanted)));
    out.add(table(&view.sessions, now));
    if let Some(why) = view.deployed_unknown.as_ref().filter(|_| view.running) {
        let note = format!("can't tell which sessions began before the last deployment: {why}");
        out.labelled("note", note);
    }
    out
}

/// How many there are, and of which kind.
fn summary(view: &SessionsView, wanted: &SessionsArguments) -> String {
    if !view.running {
        return "not running, nobody is connected".to_owned();
    }
    let count = |wanted: &dyn Fn(&&SessionRow) -> bool| view.sessions.iter().filter(wanted).count();
    let mut kinds = match (wanted.plaintext, wanted.remote) {
        (true, true) => "unencrypted sessions from other hosts",
        (true, false) => "unencrypted sessions",
        (false, true) => "sessions from other hosts",
        (false, false) => "sessions",
    }
    .to_owned();
    if view.sessions.len() == 1 {
        kinds = kinds.replacen("sessions", "session", 1);
    }
    let mut text = match view.sessions.len() {
        0 => format!("no {kinds}"),
        n => format!("{n} {kinds}"),
    };
    let bare = count(&|row| is_bare(row));
    if bare > 0 && !wanted.plaintext {
        text.push_str(&format!(", {bare} not encrypted"));
    }
    let older = count(&|row| row.before_deployment == Some(true));
    if older > 0 {
        text.push_str(&format!(", {older} from before the last deployment"));
    }
    if let Some(deployed) = view.deployed {
        let day = deployed.strftime("%Y-%m-%d %H:%M UTC");
        text.push_str(&format!("; certificate of {day}"));
    }
    text
}

/// Whether it deserves a mark: it uses TCP without encryption.
fn is_bare(row: &SessionRow) -> bool {
    !row.local && !row.encrypted
}

/// Two lines per session: who it is, and below that how it is encrypted.
fn table(rows: &[SessionRow], now: Timestamp) -> Page {
    if rows.is_empty() {
        return Page::default();
    }
    let user = |row: &SessionRow| shown(row.user.as_deref().unwrap_or("-")).into_owned();
    let database = |row: &SessionRow| match &row.database {
        Some(name) => shown(name).into_owned(),
        None if row.replication => "(replication)".to_owned(),
        None => "-".to_owned(),
    };
    let client = |row: &SessionRow| match row.address {
        Some(address) => address.to_string(),
        None => "local".to_owned(),
    };
    let widest = |title: &str, texts: &dyn Fn(&SessionRow) -> String| {
        let texts = rows.iter().map(|row| texts(row).chars().count());
        texts.max().unwrap_or(0).max(title.len())
    };
    // The two names share what mark, number, age and address leave.
    let clients = widest("CLIENT", &client);
    let room = WIDTH.saturating_sub(2 + 7 + 2 + 5 + 2 + 2 + 2 + clients) / 2;
    let users = widest("USER", &user).min(room.max(8));
    let databases = widest("DATABASE", &database).min(room.max(8));
    let mut out = Page::of_line(format_args!(
        "  {:<7}  {:>5}  {:<users$}  {:<databases$}  CLIENT",
        "PID", "AGE", "USER", "DATABASE"
    ));
    for row in rows {
        if is_bare(row) {
            out.styled(BAD, "!");
        } else {
            out.put(" ");
        }
        out.line(format_args!(
            " {:<7}  {:>5}  {:<users$}  {:<databases$}  {}",
            row.pid,
            span(now.duration_since(row.since)),
            clipped(&user(row), users),
            clipped(&database(row), databases),
            client(row),
        ));
        let (style, how) = how(row);
        let indent = 18;
        out.put(" ".repeat(indent)).indented(style, indent, how);
    }
    out
}

/// How it is encrypted, whether it is older than the certificate, and what the client is.
fn how(row: &SessionRow) -> (anstyle::Style, String) {
    let (mut style, mut text) = match (&row.protocol, &row.cipher) {
        (Some(protocol), Some(cipher)) => (GOOD, format!("{protocol} {cipher}")),
        (Some(protocol), None) => (GOOD, protocol.clone()),
        (None, _) if row.local => (FAINT, "Unix socket".to_owned()),
        (None, _) => (BAD, "not encrypted".to_owned()),
    };
    if row.before_deployment == Some(true) {
        style = ODD;
        text.push_str(", from before the last deployment");
    }
    if !row.application.is_empty() {
        text.push_str(&format!(", {}", row.application));
    }
    (style, text)
}

fn clipped(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}…")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that panics has failed")]
    use super::*;

    fn row(address: Option<&str>, cipher: Option<&str>) -> SessionRow {
        let ip = address.map(|address| address.parse().unwrap());
        let session = Session {
            pid: 4_194_304,
            replication: false,
            user: Some("u".repeat(63)),
            database: Some("d".repeat(63)),
            application: "psql\u{1b}[2J".into(),
            origin: ip.map_or(ClientOrigin::Socket, |ip| ClientOrigin::Address {
                ip,
                port: 4711,
            }),
            protection: cipher.map_or(Protection::Nothing, |cipher| Protection::Tls {
                protocol: "TLSv1.3".into(),
                cipher: cipher.into(),
            }),
            since: "2026-11-01T12:00:00Z".parse().unwrap(),
        };
        SessionRow::from_session(session, Some("2026-11-02T12:00:00Z".parse().unwrap()))
    }

    #[test]
    fn the_longest_names_and_addresses_fit_into_eighty_columns() {
        let longest = "2001:db8:1111:2222:3333:4444:5555:6666";
        let rows = [
            row(Some(longest), Some("ECDHE-RSA-CHACHA20-POLY1305")),
            row(None, None),
        ];
        let table = table(&rows, "2026-11-09T12:00:00Z".parse().unwrap());
        let shown = table.plain();
        for line in shown.lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
        assert!(shown.contains(longest), "{shown}");
        let words: Vec<&str> = shown.split_whitespace().collect();
        let words = words.join(" ");
        assert!(words.contains("from before the last deployment"), "{shown}");
        assert!(words.contains("psql\\u{1b}[2J"), "{shown}");
    }

    #[test]
    fn only_tls_is_older_than_a_certificate() {
        let cipher = Some("TLS_AES_256_GCM_SHA384");
        assert_eq!(row(Some("::1"), cipher).before_deployment, Some(true));
        assert_eq!(row(Some("::1"), None).before_deployment, None);
        assert_eq!(row(None, None).before_deployment, None);
    }
}
