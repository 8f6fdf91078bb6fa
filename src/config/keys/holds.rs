//! What each type of value holds, and how a default is written. Only compiled for tests.

use super::described::{DefaultValue, Described, Holds, Value, explained};
use crate::config::table::Table;
use crate::config::values::{
    AnyDuration, AnyPath, CompanionSource, FilePath, HostAndPort, HostName, InstanceName,
    LineageFile, LineageName, ListenAt, PositiveDuration, ProgramWords, TextfilePath,
};
use crate::config::{Account, Occasion};

macro_rules! hold {
    ($($value:ty: $holds:ident,)+) => {$(
        impl Value for $value {
            fn holds() -> Holds {
                Holds::$holds
            }
        }
    )+};
}

hold! {
    AnyPath: Path,
    Vec<AnyPath>: Paths,
    FilePath: Target,
    InstanceName: Name,
    LineageName: Lineage,
    AnyDuration: Duration,
    PositiveDuration: Longer,
    Vec<HostName>: Hosts,
    ProgramWords: Command,
    Account: Account,
    HostAndPort: Address,
    LineageFile: Inside,
    CompanionSource: Source,
    ListenAt: Listen,
    TextfilePath: Textfile,
}

impl<T: Described> Value for Table<T> {
    fn holds() -> Holds {
        Holds::Table(T::keys())
    }
}

impl Value for Vec<Occasion> {
    fn holds() -> Holds {
        Holds::Choices(explained::<Occasion>())
    }
}

impl DefaultValue for AnyDuration {
    fn written(&self) -> String {
        self.0.written()
    }
}

impl DefaultValue for PositiveDuration {
    fn written(&self) -> String {
        self.0.written()
    }
}

impl DefaultValue for AnyPath {
    fn written(&self) -> String {
        format!("\"{}\"", self.as_ref().display())
    }
}
