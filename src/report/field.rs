//! The fields of an event in the journal.

/// A field that an event may carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Field {
    /// See [`Field::meaning`], as for all.
    Event,
    Topic,
    Instance,
    Lineage,
    File,
    /// How a deployment came out.
    Outcome,
    State,
    OldState,
    /// Where it was seen.
    Place,
    /// Which part of a bundle it is about.
    Piece,
    Changed,
    Fingerprint,
    OldFingerprint,
    ServedFingerprint,
    NotAfter,
    Milliseconds,
    Problem,
    Remedy,
}

impl Field {
    /// All of them, in the order of their documentation.
    pub const ALL: &'static [Field] = &[
        Field::Event,
        Field::Topic,
        Field::Instance,
        Field::Lineage,
        Field::File,
        Field::Outcome,
        Field::State,
        Field::OldState,
        Field::Place,
        Field::Piece,
        Field::Changed,
        Field::Fingerprint,
        Field::OldFingerprint,
        Field::ServedFingerprint,
        Field::NotAfter,
        Field::Milliseconds,
        Field::Problem,
        Field::Remedy,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Field::Event => "PGCERTD_EVENT",
            Field::Topic => "PGCERTD_TOPIC",
            Field::Instance => "PGCERTD_INSTANCE",
            Field::Lineage => "PGCERTD_LINEAGE",
            Field::File => "PGCERTD_FILE",
            Field::Outcome => "PGCERTD_OUTCOME",
            Field::State => "PGCERTD_STATE",
            Field::OldState => "PGCERTD_OLD_STATE",
            Field::Place => "PGCERTD_PLACE",
            Field::Piece => "PGCERTD_PIECE",
            Field::Changed => "PGCERTD_CHANGED",
            Field::Fingerprint => "PGCERTD_FINGERPRINT",
            Field::OldFingerprint => "PGCERTD_OLD_FINGERPRINT",
            Field::ServedFingerprint => "PGCERTD_SERVED_FINGERPRINT",
            Field::NotAfter => "PGCERTD_NOT_AFTER",
            Field::Milliseconds => "PGCERTD_MILLISECONDS",
            Field::Problem => "PGCERTD_PROBLEM",
            Field::Remedy => "PGCERTD_REMEDY",
        }
    }

    /// What it holds, in one sentence.
    pub fn meaning(self) -> &'static str {
        match self {
            Field::Event => "The event's name, as in the table above.",
            Field::Topic => "`deployment`, `state` or `daemon`.",
            Field::Instance => "The instance's name in the config.",
            Field::Lineage => "The name of its lineage.",
            Field::File => {
                "The file or directory that it is about; for an instance its `cert_file`, or the CA or CRL file that is about to expire."
            }
            Field::Outcome => {
                "How a deployment came out, as in `sync --json`: `deployed`, `installed`, `unverified`, `rolled_back`, `taken_back` or `failed`."
            }
            Field::State => "The instance's state afterwards, as in `status`.",
            Field::OldState => "The last bad state.",
            Field::Place => {
                "Where what is about to expire was seen, the worst of the three: `source`, `installed` or `served`."
            }
            Field::Piece => {
                "What is about to expire: `certificate`, `ca` (a CA of clients) or `crl`."
            }
            Field::Changed => {
                "What a deployment changed: `certificate`, `ca` and `crl`, separated by spaces."
            }
            Field::Fingerprint => {
                "SHA-256 of the leaf that it is about, in lower-case hex: the deployed one, the one in `PGCERTD_PLACE`, or the lineage's. For a CA or a CRL that is about to expire, SHA-256 of that."
            }
            Field::OldFingerprint => "The leaf that was installed before.",
            Field::ServedFingerprint => "The leaf that new clients get.",
            Field::NotAfter => "When what `PGCERTD_FINGERPRINT` identifies expires, RFC 3339, UTC.",
            Field::Milliseconds => {
                "How long a deployment took, from the decision to its proof; how long a problem lasted, as far as this process knows."
            }
            Field::Problem => "What is wrong.",
            Field::Remedy => "How to fix it.",
        }
    }
}
