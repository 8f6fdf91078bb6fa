//! Everyday inputs from public reports, as a client, a writer or a server brings them.

mod auto_conf;
mod curves;
mod links;
mod restarts;
