//! What pgcertd starts has no terminal, no privileges to gain, and no endless voice.
