//! Everyday inputs from public reports, as a client, a writer or a server brings them.

mod auto_conf;
mod by_name;
mod clients;
mod curves;
mod hooks;
mod links;
mod one_shot;
mod order;
mod restarts;
