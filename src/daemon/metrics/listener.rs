//! A place where scrapes are answered: opened, and closed again.

use std::net::SocketAddr;
use std::path::Path;

use tokio::task::JoinHandle;

use super::files;
use super::scrapes::{Door, answer};
use crate::config::Listen;
use crate::host::look::FileId;
use crate::problem::Problem;
use crate::report::metrics::Metrics;

/// The key that names it.
const KEY: &str = "`listen` in [metrics]";

/// A place that is open.
pub(super) struct Listening {
    place: Listen,
    /// Of a socket, what the file system knows it by.
    inode: Option<FileId>,
    answering: JoinHandle<()>,
}

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
        let why = format!("{address}: cannot listen there: {error}");
        match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                let fix =
                    format!("set another {KEY}, or stop the process listening there, shown by");
                let command = format!("ss -ltnp sport = :{}", address.port());
                Problem::new(why, fix).with(command)
            }
            _ => Problem::new(why, format!("set another {KEY}")),
        }
    })
}

async fn unix(path: &Path) -> Result<(Door, FileId), Problem> {
    let opened = files::beside("listen", path, |place| place.listen()).await;
    let (listener, inode) = opened.map_err(|error| error.problem(KEY))?;
    let listener = tokio::net::UnixListener::from_std(listener).map_err(|error| {
        let why = format!("{}: cannot listen there: {error}", path.display());
        Problem::new(why, "")
    })?;
    Ok((Door::Unix(listener), inode))
}

impl Listening {
    pub(crate) fn is_at(&self, place: &Listen) -> bool {
        self.place == *place
    }

    pub(crate) fn place(&self) -> &Listen {
        &self.place
    }

    /// Takes no more scrapes; those that are being answered are.
    pub(crate) async fn close(self) {
        self.answering.abort();
        if let (Listen::Unix(path), Some(inode)) = (&self.place, self.inode) {
            let closed = files::beside("listen", path, move |place| place.unlisten(inode));
            // Whoever listens there next replaces it.
            if let Err(error) = closed.await {
                tracing::debug!("a socket was left behind: {error}");
            }
        }
    }
}
