//! What happens when steps come in another order than they were meant to, or one of them is refused: a
//! lineage that moves on while somebody waits for a lock, a server that is down, a rename that fails, a
//! stranger who holds what is to be locked; and what is left in memory once all of it is over.

mod lock;
mod memory;
mod renames;
mod storm;
mod while_down;
