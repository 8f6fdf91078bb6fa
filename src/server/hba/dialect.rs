//! What the versions of PostgreSQL differ in where they read `pg_hba.conf`.

/// What a server's version understands, by its `server_version_num`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialect(pub(super) i32);

impl Dialect {
    /// The one of the server that says this of itself: 150010 for 15.10.
    pub fn from_version(server_version_num: i32) -> Dialect {
        Dialect(server_version_num)
    }

    /// From 14 on a backslash at the end of a line continues it.
    pub(super) fn continues_lines(self) -> bool {
        self.0 >= 140_000
    }

    /// From 16 on a file may include others.
    pub(super) fn includes(self) -> bool {
        self.0 >= 160_000
    }

    /// From 18 on there is OAuth.
    pub(super) fn knows_oauth(self) -> bool {
        self.0 >= 180_000
    }
}
