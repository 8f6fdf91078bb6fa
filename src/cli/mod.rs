//! The commands, a file each; what a person reads is made here.
