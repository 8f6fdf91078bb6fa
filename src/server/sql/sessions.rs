//! Who is connected, and how it is encrypted (`pg_stat_activity`, `pg_stat_ssl`, `pg_stat_gssapi`).

use std::net::IpAddr;

use jiff::Timestamp;
use tokio_postgres::Row;

use super::{Sql, SqlError};

const WHAT: &str = "who is connected";

/// Only sessions that somebody opened have a client's port: background workers have none. The
/// one that asks is left out.
const QUERY: &str = "\
    select a.pid, a.backend_type = 'walsender', a.usename::text, a.datname::text, \
           coalesce(a.application_name, ''), a.client_addr, a.client_port, a.backend_start, \
           coalesce(s.ssl, false), coalesce(s.version, ''), coalesce(s.cipher, ''), \
           coalesce(g.encrypted, false) \
    from pg_stat_activity a \
    left join pg_stat_ssl s on s.pid = a.pid \
    left join pg_stat_gssapi g on g.pid = a.pid \
    where a.client_port is not null and a.backend_start is not null \
      and a.pid <> pg_backend_pid() \
    order by a.backend_start, a.pid";

/// A session of a client or of a standby.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The number of its process, as the server counts.
    pub(crate) pid: i32,
    /// Whether it sends WAL to a standby, a backup or a subscriber.
    pub(crate) replication: bool,
    /// The role; none before it is authenticated.
    pub(crate) user: Option<String>,
    /// The database; none for physical replication.
    pub(crate) database: Option<String>,
    /// What the client calls itself; may be empty.
    pub(crate) application: String,
    pub(crate) origin: ClientOrigin,
    /// What hides it from the network.
    pub(crate) protection: Protection,
    pub(crate) since: Timestamp,
}

/// Where a session comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ClientOrigin {
    /// From this host, over a Unix socket: nothing of it is ever on a network.
    Socket,
    Address {
        ip: IpAddr,
        port: u16,
    },
}

/// What hides a session from the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Protection {
    Tls {
        /// `TLSv1.3`, as OpenSSL calls it.
        protocol: String,
        /// The cipher, as OpenSSL calls it.
        cipher: String,
    },
    /// GSSAPI, which needs no certificate.
    Gssapi,
    Nothing,
}

impl Session {
    /// Whether what it says can be read on the way: it comes over TCP, and nothing hides it.
    pub(crate) fn is_plaintext(&self) -> bool {
        self.origin != ClientOrigin::Socket && self.protection == Protection::Nothing
    }

    /// Whether it comes from another host, as far as its address tells.
    pub(crate) fn is_remote(&self) -> bool {
        match self.origin {
            ClientOrigin::Socket => false,
            ClientOrigin::Address { ip, .. } => !ip.to_canonical().is_loopback(),
        }
    }
}

impl Sql {
    /// The sessions of clients and standbys, the oldest first.
    ///
    /// # Errors
    /// The role may not see other users' sessions, or the server does not answer.
    pub async fn sessions(&self) -> Result<Vec<Session>, SqlError> {
        if !self.sees_sessions {
            return Err(SqlError::Hidden {
                role: self.role.clone(),
                what: "the sessions of other users",
                remedy: format!(
                    "ask as root or as the server's user, or grant it the right: GRANT pg_read_all_stats TO {}",
                    self.role
                ),
            });
        }
        let rows = self.rows(WHAT, QUERY, &[]).await?;
        rows.iter().map(|row| self.session(row)).collect()
    }

    fn session(&self, row: &Row) -> Result<Session, SqlError> {
        let origin = match self.column::<Option<IpAddr>>(WHAT, row, 5)? {
            None => ClientOrigin::Socket,
            Some(ip) => ClientOrigin::Address {
                ip,
                port: u16::try_from(self.column::<i32>(WHAT, row, 6)?).unwrap_or_default(),
            },
        };
        let protection = if self.column(WHAT, row, 8)? {
            Protection::Tls {
                protocol: self.column(WHAT, row, 9)?,
                cipher: self.column(WHAT, row, 10)?,
            }
        } else if self.column(WHAT, row, 11)? {
            Protection::Gssapi
        } else {
            Protection::Nothing
        };
        Ok(Session {
            pid: self.column(WHAT, row, 0)?,
            replication: self.column(WHAT, row, 1)?,
            user: self.column(WHAT, row, 2)?,
            database: self.column(WHAT, row, 3)?,
            application: self.column(WHAT, row, 4)?,
            origin,
            protection,
            since: self.column(WHAT, row, 7)?,
        })
    }
}
