//! Everyday inputs from public reports, as a client, a writer or a server brings them.

mod auto_conf;
mod by_name;
mod curves;
mod hooks;
mod judged;
mod links;
mod one_shot;
mod order;
mod restarts;
