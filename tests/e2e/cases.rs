//! Everyday inputs from public reports, as a client, a writer or a server brings them.

mod clients;
mod hooks;
mod one_shot;
mod order;
