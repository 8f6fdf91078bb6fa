//! A server that is to be set up: proven to be the postmaster of its data directory, and on this host.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::SetupError;
use crate::bundle::TrustFiles;
use crate::config::{Address, ServerKind};
use crate::host::directory::Directory;
use crate::host::file::Links;
use crate::host::look::FileId;
use crate::host::privilege::{Ids, Rights, Worker, is_root};
use crate::problem::Problem;
use crate::server::files::Targets;
use crate::server::postmaster::{Absence, Apart, Phase, Postmaster};
use crate::server::running::Running;
use crate::server::sql::{Role, Sql};

#[derive(Debug, Clone)]
pub(crate) struct SetupServer {
    pub(crate) data_directory: PathBuf,
    /// Who owns that, and runs the server.
    pub(crate) owner: Ids,
    pub(crate) postmaster: Arc<Postmaster>,
}

impl SetupServer {
    /// The server of a postmaster that was come across.
    ///
    /// # Errors
    /// It has another root or network than this process, or this process may not act for its user.
    pub(crate) async fn from_running(running: &Running) -> Result<SetupServer, SetupError> {
        let data = running.data_directory.clone();
        let what = match running.apart {
            Some(Apart::Root) => "its own root directory",
            Some(Apart::Network) => "a network of its own",
            None => return SetupServer::at(&data).await,
        };
        let data = data.display();
        Err(SetupError::new(
            format!(
                "the server of {data} has {what}: paths and addresses there are not this host's"
            ),
            "add it to pgcertd's config by hand, data_directory, cert_file and address as this host sees them, and set \
             ssl_cert_file and ssl_key_file as the server sees them",
        ))
    }

    /// The server that runs on this data directory.
    ///
    /// # Errors
    /// None does, or this process may not act for its user.
    pub(crate) async fn at(data: &Path) -> Result<SetupServer, SetupError> {
        let shown = data.display();
        let down = |why: String| {
            let what = format!("no server runs on {shown}: {why}");
            SetupError::new(what, "start it, and set it up then")
        };
        let absent = |absence: Absence| {
            if absence.may_run() {
                absence.problem().about(data.display()).into()
            } else {
                down(absence.to_string())
            }
        };
        let opened = Directory::open(data, Links::Refused).map_err(|e| down(e.to_string()))?;
        let owner = opened.owner();
        if owner.uid == 0 {
            return Err(SetupError::new(
                format!(
                    "{shown} belongs to root: PostgreSQL does not run as root, and a key is given to no server that \
                     claims to"
                ),
                "give the data directory to the user who runs the server",
            ));
        }
        if !is_root() && Ids::own().uid != owner.uid {
            let owner = user_name(owner.uid);
            return Err(SetupError::new(
                format!("the server of {shown} belongs to user {owner}"),
                format!("run this as root, or as {owner} if that user may write pgcertd's config"),
            ));
        }
        let reader = reader(owner, [data.to_owned()].into_iter().collect()).await?;
        let targets = plain_targets(data, opened.id(), owner);
        let file = reader.call(move || targets.pid_file()).await?;
        let file = file.map_err(absent)?;
        if file.phase == Some(Phase::Stopping) {
            return Err(down("it is shutting down".into()));
        }
        let (id, uid) = (opened.id(), owner.uid);
        let identified = tokio::task::spawn_blocking(move || Postmaster::identify(file, id, uid));
        let postmaster = match identified.await {
            Ok(identified) => identified.map_err(absent)?,
            Err(error) => return Err(down(error.to_string())),
        };
        Ok(SetupServer {
            data_directory: data.to_owned(),
            owner,
            postmaster: Arc::new(postmaster),
        })
    }

    /// The name of its user.
    pub(crate) fn user(&self) -> String {
        user_name(self.owner.uid)
    }

    /// Logs in over its socket, as its superuser.
    ///
    /// # Errors
    /// It does not let the role in, or the role is no superuser.
    pub(crate) async fn login(&self) -> Result<Sql, SetupError> {
        let sql = Sql::login(
            &self.postmaster,
            &self.data_directory,
            self.owner,
            &Role::OfUser,
        )
        .await?;
        if sql.is_superuser {
            Ok(sql)
        } else {
            Err(SetupError::new(
                format!("role {} is not a superuser", sql.role),
                "run this as the user whose role is one",
            ))
        }
    }

    /// Where it listens for clients, as its pid file says.
    ///
    /// # Errors
    /// Nowhere.
    pub(crate) fn addresses(&self) -> Result<Vec<Address>, Problem> {
        self.postmaster.addresses()
    }

    /// The port, for what clients are told.
    pub(crate) fn port(&self) -> u16 {
        self.postmaster.file.port.unwrap_or(5432)
    }
}

/// A thread that reads below `directories` with the rights of `owner`.
pub(super) async fn reader(
    owner: Ids,
    directories: BTreeSet<PathBuf>,
) -> Result<Worker, SetupError> {
    let rights = Rights::Writer {
        owner,
        write: BTreeSet::new(),
        read: directories,
    };
    Ok(Worker::start("setup", move || rights).await?)
}

/// All of an instance's files in one directory.
pub(super) fn plain_targets(directory: &Path, data_id: FileId, owner: Ids) -> Targets {
    let target = directory.join(crate::config::DEFAULT_TARGET);
    Targets {
        cert: target.clone(),
        key: target,
        trust_files: TrustFiles::default(),
        state: directory.to_owned(),
        lock_directory: directory.to_owned(),
        kind: ServerKind::Postgres,
        data: directory.to_owned(),
        data_id,
        owner,
        server: owner,
        by_others: false,
    }
}

/// The user's name, or the number where there is none.
fn user_name(uid: u32) -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid));
    user.ok()
        .flatten()
        .map_or_else(|| uid.to_string(), |user| user.name)
}
