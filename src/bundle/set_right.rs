//! What is set right in a lineage's files when they become a bundle, since it needs no guess.

use std::fmt;

/// A fault of the files that is not in what is installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SetRight {
    /// The leaf was not the first certificate.
    LeafFirst,
    /// Another certificate was not behind what it issued.
    Order,
    /// A certificate was there more than once.
    Once,
    /// Certificates that issued nothing in the chain were left out.
    StrangersOut,
    /// A byte order mark was taken off.
    ByteOrderMark,
    /// Blocks were not on lines of their own, or their lines began with blanks, were empty, or ended as on an old Mac.
    Lines,
    /// A block had a label that only OpenSSL uses.
    Label,
}

impl SetRight {
    /// Whether OpenSSL loads a file with this fault.
    pub(super) fn loads_as_it_is(self) -> bool {
        !matches!(self, Self::LeafFirst | Self::Lines)
    }
}

impl fmt::Display for SetRight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LeafFirst => "the leaf put first",
            Self::Order => "the intermediates put in order",
            Self::Once => "a certificate that is there twice put in once",
            Self::StrangersOut => "certificates that belong to another chain left out",
            Self::ByteOrderMark => "a byte order mark taken off",
            Self::Lines => "the line ends of its PEM set right",
            Self::Label => "a TRUSTED or X509 CERTIFICATE block written as CERTIFICATE",
        })
    }
}
