//! Everyday inputs from public reports, as a client, a writer or a server brings them.

mod clients;
