//! Everyday inputs from public reports, as a client, a writer or a server brings them.

mod clients;
mod hooks;
mod one_shot;
mod order;
mod auto_conf;
mod curves;
mod links;
mod restarts;
