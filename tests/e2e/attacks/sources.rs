//! What the writer of a lineage could not read never passes.
