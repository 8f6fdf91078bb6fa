//! SQL on an instance, over its Unix socket: who is connected, what is set, what `pg_hba.conf` is
//! read as, and the few changes that a set-up makes.
//!
//! [`Sql::login`] needs no password and no address: the socket is the proven postmaster's own,
//! and peer authentication goes by the operating-system user. Postgres takes that user from the
//! socket, as the kernel noted it at the connect, so that a pgcertd that is root has a child process
//! connect that is the data directory's owner ([`caller`](crate::host::caller)); the stream is then used from here.
//!
//! Every question is bounded in time on both ends, and its answer in size; it names its objects in `pg_catalog`, and
//! gives a typed answer or a sentence with the remedy.
//!
//! This module decides nothing, and the daemon does not need it: deployments are proven on the
//! wire, without a login.

mod bounded;
mod edits;
mod error;
mod rules;
mod sessions;
mod settings;
mod socket;

use std::path::Path;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls, Row};

use crate::host::privilege::{Ids, is_root};
use crate::server::postmaster::Postmaster;

use bounded::{Bounded, Refusal};
pub(crate) use edits::PendingEdits;
pub use error::SqlCause;
pub use error::SqlError;

pub use rules::HbaRule;
pub(crate) use sessions::{ClientOrigin, Protection, Session};
pub(crate) use settings::ServerSettings;
pub use settings::Setting;

/// How long a login or one question may take. The server itself gives up on a statement a little
/// earlier, so that its word is heard where it has one.
const PATIENCE: Duration = Duration::from_secs(10);

/// The same for the server: no statement of ours lingers; names mean the system's own objects,
/// whatever is set for the role.
const OPTIONS: &str = "-c statement_timeout=9s -c lock_timeout=9s -c search_path=pg_catalog";

/// The name of a cluster's superuser where nobody chose another.
const USUAL_ROLE: &str = "postgres";

/// The databases to log in to: what is looked at is the same in each.
const DATABASES: [&str; 2] = ["postgres", "template1"];

/// Whom to log in as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// The role named as the operating-system user that connects; where there is none, `postgres`.
    OfUser,
    Named(String),
}

/// A login on one instance; [`Sql::close`] ends it as the server likes it.
#[derive(Debug)]
pub struct Sql {
    client: Client,
    connection: JoinHandle<()>,
    refusal: Refusal,
    /// `server_version_num`: 150010 for 15.10.
    pub version: i32,
    /// The role that was let in.
    pub role: String,
    /// Whether the role is shown other users' sessions whole.
    pub sees_sessions: bool,
    /// Whether the role is a superuser.
    pub is_superuser: bool,
}

impl Sql {
    /// Logs in to the server of `postmaster`, whose data directory `owner` owns.
    ///
    /// # Errors
    /// There is no socket, it is not this server's, or the server does not let the role in.
    pub async fn login(
        postmaster: &Postmaster,
        data_directory: &Path,
        owner: Ids,
        role: &Role,
    ) -> Result<Sql, SqlError> {
        within("the login", enter(postmaster, data_directory, owner, role)).await
    }

    /// Ends the session in order; a server that does not take leave is not waited for.
    pub async fn close(self) {
        let Sql {
            client, connection, ..
        } = self;
        drop(client);
        // Past that time the socket is closed all the same.
        let _late = tokio::time::timeout(Duration::from_secs(1), connection).await;
    }

    /// Runs one statement that gives rows.
    async fn rows(
        &self,
        what: &'static str,
        statement: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, SqlError> {
        within(what, async {
            let rows = self.client.query(statement, parameters).await;
            rows.map_err(|error| SqlError::asking(what, &self.role, &error, &self.refusal))
        })
        .await
    }

    /// Runs one statement that gives one row.
    async fn row(
        &self,
        what: &'static str,
        statement: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Row, SqlError> {
        within(what, async {
            let row = self.client.query_one(statement, parameters).await;
            row.map_err(|error| SqlError::asking(what, &self.role, &error, &self.refusal))
        })
        .await
    }

    /// A column, by its place.
    fn column<'row, T: tokio_postgres::types::FromSql<'row>>(
        &self,
        what: &'static str,
        row: &'row Row,
        place: usize,
    ) -> Result<T, SqlError> {
        row.try_get(place)
            .map_err(|error| SqlError::asking(what, &self.role, &error, &self.refusal))
    }
}

/// Bounds what the server may keep us waiting for.
async fn within<R>(
    what: &'static str,
    asked: impl Future<Output = Result<R, SqlError>>,
) -> Result<R, SqlError> {
    tokio::time::timeout(PATIENCE, asked)
        .await
        .unwrap_or(Err(SqlError::Silent {
            what,
            seconds: PATIENCE.as_secs(),
        }))
}

async fn enter(
    postmaster: &Postmaster,
    data_directory: &Path,
    owner: Ids,
    role: &Role,
) -> Result<Sql, SqlError> {
    let user = if is_root() { owner } else { Ids::own() };
    let own = user_name(user.uid);
    let roles: Vec<&str> = match (role, own.as_deref()) {
        (Role::Named(name), _) => vec![name],
        (Role::OfUser, Some(own)) if own != USUAL_ROLE => vec![own, USUAL_ROLE],
        (Role::OfUser, _) => vec![USUAL_ROLE],
    };
    let shown = own.clone().unwrap_or_else(|| user.uid.to_string());
    let mut refused = None;
    for role in roles {
        for database in DATABASES {
            let stream = socket::connect(postmaster, data_directory, owner).await?;
            match greet(stream, role, database, &shown).await {
                // What is said of the first role is told: the others were guesses.
                Err(error) if error.lacks_role() => {
                    refused.get_or_insert(error);
                    break;
                }
                Err(error) if refused.is_some() && error.is_refusal() => break,
                Err(error) if error.lacks_database() && database != DATABASES[1] => {}
                done => return done,
            }
        }
    }
    Err(refused.unwrap_or(SqlError::NoDatabase))
}

/// Logs in over a stream, and takes in what every later question depends on.
async fn greet(
    stream: UnixStream,
    role: &str,
    database: &str,
    user: &str,
) -> Result<Sql, SqlError> {
    let stream = Bounded::new(stream);
    let refusal = stream.refusal();
    let refused = |error: tokio_postgres::Error| SqlError::refused(role, user, &error, &refusal);
    let mut config = Config::new();
    config
        .user(role)
        .dbname(database)
        .application_name("pgcertd")
        .options(OPTIONS)
        // The server's socket answers no TLS.
        .ssl_mode(SslMode::Disable);
    let (client, connection) = config.connect_raw(stream, NoTls).await.map_err(refused)?;
    let connection = tokio::spawn(async move {
        // A broken connection is told by the question that it broke.
        if let Err(error) = connection.await {
            tracing::debug!("the login ended: {error}");
        }
    });
    let row = client
        .query_one(
            "select current_setting('server_version_num')::int4, \
             pg_has_role('pg_read_all_stats', 'usage'), \
             current_setting('is_superuser')::bool",
            &[],
        )
        .await
        .map_err(refused)?;
    let told = (|| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)))();
    let (version, sees_sessions, is_superuser) = told.map_err(refused)?;
    Ok(Sql {
        client,
        connection,
        refusal,
        version,
        role: role.to_owned(),
        sees_sessions,
        is_superuser,
    })
}

/// The name of a user of this host.
fn user_name(uid: u32) -> Option<String> {
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid));
    user.ok().flatten().map(|user| user.name)
}
