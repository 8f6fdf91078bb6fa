//! A place where scrapes are answered: opened, and closed again.

use std::net::SocketAddr;
use std::path::Path;

use tokio::task::JoinHandle;

use super::files::{self, FilesError, Inode};
use super::scrapes::{Door, answer};
use crate::config::Listen;
use crate::reconcile::state::Problem;
use crate::report::metrics::Metrics;

/// The key that names it.
const KEY: &str = "`listen` in [metrics]";

/// A place that is open.
pub(super) struct Listening {
    place: Listen,
    /// Of a socket, what the file system knows it by.
    inode: Option<Inode>,
    answering: JoinHandle<()>,
}

/// Opens a place.
pub(super) async fn open(place: &Listen, metrics: &Metrics) -> Result<Listening, Problem> {
    let (door, inode) = match place {
        Listen::Tcp(address) => (tcp(*address)?, None),
        Listen::Unix(path) => {
            let (door, inode) = unix(path).await?;
            (door, Some(inode))
        }
    };
    Ok(Listening {
        place: place.clone(),
        inode,
        answering: tokio::spawn(answer(door, metrics.clone())),
    })
}

fn tcp(address: SocketAddr) -> Result<Door, Problem> {
    let opened = std::net::TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        tokio::net::TcpListener::from_std(listener)
    });
    opened.map(Door::Tcp).map_err(|error| {
        let port = address.port();
        let mend = match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                format!("see who listens there (`ss -ltnp sport = :{port}`), or set another {KEY}")
            }
            _ => format!("set another {KEY}"),
        };
        Problem {
            why: format!("{address}: cannot listen there: {error}"),
            mend,
        }
    })
}

async fn unix(path: &Path) -> Result<(Door, Inode), Problem> {
    let opened = files::beside("listen", path, |place| place.listen()).await;
    let (listener, inode) = opened.map_err(|error| error.problem(KEY))?;
    let listener = tokio::net::UnixListener::from_std(listener).map_err(|error| Problem {
        why: format!("{}: cannot listen there: {error}", path.display()),
        mend: String::new(),
    })?;
    Ok((Door::Unix(listener), inode))
}

impl Listening {
    pub fn is_at(&self, place: &Listen) -> bool {
        self.place == *place
    }

    pub fn place(&self) -> &Listen {
        &self.place
    }

    /// Takes no more scrapes; those that are being answered are.
    pub async fn close(self) {
        self.answering.abort();
        if let (Listen::Unix(path), Some(inode)) = (&self.place, self.inode) {
            let closed = files::beside("listen", path, move |place| place.unlisten(inode));
            match closed.await {
                Ok(()) => {}
                // Whoever listens there next replaces it.
                Err(error @ (FilesError::Step { .. } | FilesError::Privilege(_))) => {
                    tracing::debug!("a socket was left behind: {error}");
                }
                Err(error) => tracing::debug!("{error}"),
            }
        }
    }
}
