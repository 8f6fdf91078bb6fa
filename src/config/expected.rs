//! What a value must be, in the words of both the errors and the manual.

/// The name of an instance.
pub(super) const NAME: &str =
    "letters, digits, `.`, `_` and `-`, with neither `.` nor `-` at the start";

pub(super) const LINEAGE: &str =
    "the name of a subdirectory of a watched directory, or an absolute path";

pub(super) const PATH: &str = "a path";

/// The path of a file that is written.
pub(super) const TARGET: &str = "the path of a file";

/// The names that clients verify.
pub(super) const HOSTS: &str = "the host names that clients connect to, such as \"db.example.com\"";

pub(super) const ACCOUNT: &str = "a name such as \"postgres\", or an ID from 0 to 4294967294";

pub(super) const ADDRESS: &str = "HOST or HOST:PORT, such as \"127.0.0.1:5432\" or \"[::1]:5432\"";

/// Where the metrics are served.
pub(super) const LISTEN: &str = "a loopback address with a port, such as \"127.0.0.1:19187\" or \"[::1]:19187\", or the path of a Unix socket, \
     such as \"unix:/run/pgcertd/metrics.sock\"";

/// The file that node_exporter's collector reads.
pub(super) const TEXTFILE: &str = "the path of a file whose name ends in `.prom`";

/// A file of a lineage.
pub(super) const INSIDE: &str = "a file name, or a path without `..` relative to the lineage";

/// Where a CA or CRL file comes from.
pub(super) const SOURCE: &str = "a file name, or a path without `..` relative to the lineage, or the absolute path of a file elsewhere";

pub(super) const COMMAND: &str = "[\"program\", \"argument\"]";

pub(super) const DURATION: &str = "a duration with a unit, such as \"10s\"";

pub(super) const LONGER: &str = "a duration with a unit, such as \"10s\", longer than zero";
