//! `pg_hba.conf` as the server itself reads it (`pg_hba_file_rules`), faults included.

use super::{Sql, SqlError};

const WHAT: &str = "how it reads pg_hba.conf";

/// From 16 on a rule says which file it is in, since there may be several.
const NAMES_FILES: i32 = 160_000;

/// A line of `pg_hba.conf`, as the server reads the file now; a reload makes it count, if no line
/// has a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HbaRule {
    /// The file; none before 16, where there is one alone.
    pub(crate) file: Option<String>,
    /// The line, from 1.
    pub line: i32,
    /// `host`, `local`, …; none where the line could not be read.
    pub kind: Option<String>,
    /// The databases, each as it is written without its quotes.
    pub databases: Vec<String>,
    pub users: Vec<String>,
    /// An address, a host's name or a keyword.
    pub address: Option<String>,
    /// The mask, where `address` is an address.
    pub netmask: Option<String>,
    /// `reject`, `scram-sha-256`, …
    pub method: Option<String>,
    /// Its options, `name=value`.
    pub options: Vec<String>,
    /// Why the server refuses the line, and with it the whole file.
    pub fault: Option<String>,
}

impl Sql {
    /// The lines of `pg_hba.conf` as the server reads them from the file now.
    ///
    /// # Errors
    /// The role is no superuser, or the file cannot be read.
    pub async fn hba_rules(&self) -> Result<Vec<HbaRule>, SqlError> {
        let (file, order) = if self.version >= NAMES_FILES {
            // A line that cannot be read has no number, and comes last.
            (
                "file_name",
                "rule_number nulls last, file_name, line_number",
            )
        } else {
            ("null::text", "line_number")
        };
        let query = format!(
            "select {file}, line_number, type, coalesce(database, '{{}}'), \
             coalesce(user_name, '{{}}'), address, netmask, auth_method, \
             coalesce(options, '{{}}'), error from pg_hba_file_rules order by {order}"
        );
        let rows = self.rows(WHAT, &query, &[]).await?;
        rows.iter()
            .map(|row| {
                Ok(HbaRule {
                    file: self.column(WHAT, row, 0)?,
                    line: self.column(WHAT, row, 1)?,
                    kind: self.column(WHAT, row, 2)?,
                    databases: self.column(WHAT, row, 3)?,
                    users: self.column(WHAT, row, 4)?,
                    address: self.column(WHAT, row, 5)?,
                    netmask: self.column(WHAT, row, 6)?,
                    method: self.column(WHAT, row, 7)?,
                    options: self.column(WHAT, row, 8)?,
                    fault: self.column(WHAT, row, 9)?,
                })
            })
            .collect()
    }
}
