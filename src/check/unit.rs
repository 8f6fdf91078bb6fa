//! What the installed unit says, and whether that suits this host and its servers.
//!
//! The unit's files are read as systemd does (systemd.unit(5)), since `systemctl` says nothing
//! where systemd isn't running: assignments of the section `[Service]`, in their order.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Group, Uid, User};

use crate::host::file;
use crate::text::is_shown;

pub(crate) const UNIT: &str = "pgcertd.service";

/// Where an administrator's drop-ins for it lie.
pub(crate) const DROP_INS: &str = "/etc/systemd/system/pgcertd.service.d";

/// Whether systemd is process 1 of this host (sd_booted(3)). Where it is not, as in a chroot, `systemctl` may
/// do nothing and succeed.
pub(crate) fn systemd_runs() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// The most bytes that a file of a unit may have.
const LARGEST: u64 = 1 << 20;

/// Where units lie, the first before the second (systemd.unit(5), "Unit File Load Path").
const UNIT_DIRECTORIES: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// Where the packages and `make install` put the drop-ins.
const EXAMPLES: [&str; 2] = [
    "/usr/share/doc/pgcertd/examples",
    "/usr/local/share/doc/pgcertd/examples",
];

/// The service as its unit and the drop-ins have it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Unit {
    assignments: Vec<(String, String)>,
}

impl Unit {
    /// The installed unit, if there is one.
    pub(crate) fn of_this_host() -> Option<Unit> {
        Unit::in_directories(&UNIT_DIRECTORIES.map(Path::new), None)
    }

    /// The same as it would be with a drop-in of this name and text in [`DROP_INS`].
    pub(crate) fn of_this_host_with(name: &str, text: &str) -> Option<Unit> {
        Unit::in_directories(&UNIT_DIRECTORIES.map(Path::new), Some((name, text)))
    }

    /// As the files in these directories have it, and one more drop-in in the first of them.
    pub(crate) fn in_directories(
        directories: &[&Path],
        more: Option<(&str, &str)>,
    ) -> Option<Unit> {
        let unit = directories
            .iter()
            .map(|directory| directory.join(UNIT))
            .find(|unit| unit.exists())?;
        // A file that only root may read is as good as none to another user.
        let text = |file: &Path| file::read(file, LARGEST).unwrap_or_default();
        let mut drop_ins: BTreeMap<OsString, Vec<u8>> = drop_ins(directories)
            .into_iter()
            .map(|(name, file)| (name, text(&file)))
            .collect();
        drop_ins.extend(more.map(|(name, text)| (name.into(), text.as_bytes().to_vec())));
        let mut assignments = Vec::new();
        for text in [text(&unit)].iter().chain(drop_ins.values()) {
            assignments.extend(assigned(&String::from_utf8_lossy(text)));
        }
        Some(Unit { assignments })
    }

    /// The value of a setting that has one: the last, unless that is empty.
    pub(crate) fn value(&self, key: &str) -> Option<&str> {
        let last = self.assignments.iter().rev().find(|(it, _)| it == key);
        last.map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// The words of a setting that is a list: each assignment adds to it, and an empty one clears it.
    pub(crate) fn words(&self, key: &str) -> Vec<String> {
        let mut words = Vec::new();
        for (_, value) in self.assignments.iter().filter(|(it, _)| it == key) {
            match value.as_str() {
                "" => words.clear(),
                value => words.extend(split(value)),
            }
        }
        words
    }

    /// `User=`, or root.
    pub(crate) fn user(&self) -> &str {
        self.value("User").unwrap_or("root")
    }

    /// The user's number, if the user exists.
    pub(crate) fn uid(&self) -> Option<u32> {
        let by_name = User::from_name(self.user()).ok().flatten();
        by_name
            .map(|user| user.uid.as_raw())
            .or(self.user().parse().ok())
    }

    /// The groups that the service has, its own first: `Group=`, else the user's; then the user's
    /// others and `SupplementaryGroups=`.
    pub(crate) fn groups(&self) -> Vec<u32> {
        let number = |name: &str| {
            let by_name = Group::from_name(name).ok().flatten();
            by_name
                .map(|group| group.gid.as_raw())
                .or(name.parse().ok())
        };
        let user = self.uid().and_then(|uid| {
            let user = User::from_uid(Uid::from_raw(uid));
            user.ok().flatten()
        });
        let own = self.value("Group").and_then(number);
        let mut groups: Vec<u32> = own
            .or(user.as_ref().map(|user| user.gid.as_raw()))
            .into_iter()
            .collect();
        let others = user.and_then(|user| {
            let name = std::ffi::CString::new(user.name).ok()?;
            nix::unistd::getgrouplist(&name, user.gid).ok()
        });
        groups.extend(others.into_iter().flatten().map(|gid| gid.as_raw()));
        groups.extend(
            self.words("SupplementaryGroups")
                .iter()
                .filter_map(|name| number(name)),
        );
        groups
    }

    /// The name of its first group, if that exists.
    pub(crate) fn group_name(&self) -> Option<String> {
        let group = Group::from_gid(Gid::from_raw(*self.groups().first()?));
        Some(group.ok().flatten()?.name)
    }

    /// Whether it may read every file of the host: root with the capability in its bounding set,
    /// others with it among the ambient ones as well.
    pub(crate) fn reads_everything(&self) -> bool {
        let bounded = self.has_capability("CapabilityBoundingSet").unwrap_or(true);
        let ambient = self.has_capability("AmbientCapabilities").unwrap_or(false);
        bounded && (self.uid() == Some(0) || ambient)
    }

    /// Whether a set of capabilities has CAP_DAC_READ_SEARCH; none if the set isn't mentioned. Assignments add, with a
    /// tilde they remove, and an empty one removes all.
    fn has_capability(&self, set: &str) -> Option<bool> {
        let said = self.assignments.iter().filter(|(key, _)| key == set);
        said.fold(None, |before, (_, value)| {
            let (inverted, list) = match value.strip_prefix('~') {
                Some(list) => (true, list),
                None => (false, value.as_str()),
            };
            let named = |text: &str| text.eq_ignore_ascii_case("CAP_DAC_READ_SEARCH");
            if list.split_whitespace().any(named) {
                Some(!inverted)
            } else if list.is_empty() {
                Some(inverted)
            } else {
                Some(before.unwrap_or(inverted))
            }
        })
    }

    /// Why systemd won't start it.
    pub(crate) fn missing(&self) -> Option<String> {
        self.uid().is_none().then(|| {
            format!(
                "{UNIT} runs as user {}, who doesn't exist on this host: it cannot start",
                self.user()
            )
        })
    }

    /// Why it can't deploy to a server whose files and process belong to these users.
    pub(crate) fn foreign_to(&self, owners: [u32; 2]) -> Option<String> {
        let uid = self.uid().filter(|uid| *uid != 0)?;
        let other = owners.into_iter().find(|owner| *owner != uid)?;
        Some(format!(
            "{UNIT} runs as user {}, who can't write the files of {} or signal their server",
            self.user(),
            super::names::user_name(other)
        ))
    }
}

/// The command that makes the unit run as root.
pub(crate) fn root_operation() -> String {
    let here = |directory: &&&str| Path::new(directory).join("root.conf").exists();
    let examples = EXAMPLES.iter().find(here).unwrap_or(&EXAMPLES[0]);
    format!(
        "install -D -m 0644 {examples}/root.conf /etc/systemd/system/{UNIT}.d/root.conf && \
         systemctl daemon-reload"
    )
}

/// The words of a list of paths: quotes keep blanks together, a backslash is what it is, and `%%` is a percent sign
/// (systemd.syntax(7), systemd.unit(5), "Specifiers").
fn split(value: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = value.chars().peekable();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (Some(mark), c) if c == mark => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => {
                if c == '%' {
                    characters.next_if_eq(&'%');
                }
                word.get_or_insert_default().push(c);
            }
        }
    }
    words.extend(word);
    words
}

/// A word of such a list as it is written, if it can be.
pub(crate) fn word(text: &str) -> Option<String> {
    let quote = match (text.contains('"'), text.contains('\'')) {
        (false, false) if !text.contains(' ') => "",
        (false, _) => "\"",
        (true, false) => "'",
        (true, true) => return None,
    };
    // At the end of a line a backslash would join the next one to it.
    let can_be_written = |c: char| is_shown(c) && c != '\\';
    let all = text.chars().all(can_be_written);
    all.then(|| format!("{quote}{}{quote}", text.replace('%', "%%")))
}

/// The drop-ins in the order in which they apply: by name, wherever they are; of two with one name, the first
/// directory's.
fn drop_ins(directories: &[&Path]) -> BTreeMap<OsString, PathBuf> {
    let mut found = BTreeMap::new();
    for directory in directories.iter().rev() {
        let entries = std::fs::read_dir(directory.join(format!("{UNIT}.d")));
        for entry in entries.into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|name| name == "conf") {
                found.insert(entry.file_name(), entry.path());
            }
        }
    }
    found
}

/// Each assignment in the section `[Service]`; a backslash at a line's end joins the next to it,
/// comments in between left out (systemd.syntax(7)).
fn assigned(text: &str) -> Vec<(String, String)> {
    let mut section = String::new();
    let mut found = Vec::new();
    let mut lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with(['#', ';']));
    while let Some(line) = lines.next() {
        let mut line = line.to_owned();
        while let Some(begun) = line.strip_suffix('\\') {
            let next = lines.next().unwrap_or_default();
            line = format!("{begun} {next}");
        }
        if line.starts_with('[') {
            section = line;
        } else if let (Some((key, value)), "[Service]") = (line.split_once('='), section.as_str()) {
            found.push((key.trim_end().to_owned(), value.trim_start().to_owned()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that panics has failed")]
    use std::fs;

    use super::*;

    struct Host(tempfile::TempDir);

    impl Host {
        fn new() -> Host {
            Host(tempfile::tempdir().unwrap())
        }

        fn with(self, file: &str, text: &str) -> Host {
            let file = self.0.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
            self
        }

        fn unit(&self) -> Option<Unit> {
            Unit::in_directories(
                &["etc", "run", "lib"]
                    .map(|text| self.0.path().join(text))
                    .each_ref()
                    .map(|file| file.as_path()),
                None,
            )
        }

        fn user(&self) -> Option<String> {
            Some(self.unit()?.user().to_owned())
        }
    }

    const UNIT_FILE: &str = "lib/pgcertd.service";
    const OF_THE_PACKAGE: &str = "[Unit]\nUser=no\n[Service]\n# User=nor this\nUser=postgres\n";

    #[test]
    fn without_a_unit_there_is_no_daemon() {
        let host = Host::new().with("etc/pgcertd.service.d/root.conf", "[Service]\nUser=root\n");
        assert_eq!(host.user(), None);
    }

    #[test]
    fn a_drop_in_changes_the_user_and_an_empty_one_is_root() {
        let packaged = || Host::new().with(UNIT_FILE, OF_THE_PACKAGE);
        assert_eq!(packaged().user().unwrap(), "postgres");
        let changed = packaged().with("etc/pgcertd.service.d/a.conf", "[Service]\nUser = db\n");
        assert_eq!(changed.user().unwrap(), "db");
        let emptied = packaged().with("run/pgcertd.service.d/a.conf", "[Service]\nUser=\n");
        assert_eq!(emptied.user().unwrap(), "root");
        let ignored = packaged().with("etc/pgcertd.service.d/a.conf.off", "[Service]\nUser=db\n");
        assert_eq!(ignored.user().unwrap(), "postgres");
    }

    #[test]
    fn drop_ins_count_by_name_and_the_administrators_before_the_packages() {
        let host = Host::new()
            .with(UNIT_FILE, OF_THE_PACKAGE)
            .with("lib/pgcertd.service.d/a.conf", "[Service]\nUser=vendor\n")
            .with("etc/pgcertd.service.d/a.conf", "[Service]\nUser=admin\n");
        assert_eq!(host.user().unwrap(), "admin");
        let host = host.with("lib/pgcertd.service.d/b.conf", "[Service]\nUser=last\n");
        assert_eq!(host.user().unwrap(), "last");
        let host = host.with("etc/pgcertd.service", "[Service]\nUser=own\n");
        assert_eq!(host.user().unwrap(), "last");
    }

    #[test]
    fn a_server_of_another_user_is_foreign_to_it_but_not_to_root() {
        let unit = |user: &str| {
            let text = format!("[Service]\nUser={user}\n");
            Host::new().with(UNIT_FILE, &text).unit().unwrap()
        };
        assert_eq!(unit("7").foreign_to([7, 7]), None);
        assert_eq!(unit("0").foreign_to([7, 8]), None);
        assert_eq!(unit("nobody here").foreign_to([7, 8]), None);
        assert!(unit("7").foreign_to([7, 8]).is_some());
        assert!(unit("7").foreign_to([8, 7]).is_some());
    }

    #[test]
    fn lists_grow_lines_go_on_and_an_empty_one_begins_anew() {
        let of = |text: &str| Unit {
            assignments: assigned(text),
        };
        let unit = of("[Service]\nA=one \\\n# no\n  two\nA=three\nB=x\n[Install]\nA=four\n");
        assert_eq!(unit.words("A"), ["one", "two", "three"]);
        assert_eq!(of("[Service]\nA=one\nA=\nA=two\n").words("A"), ["two"]);
        assert_eq!(of("[Service]\nA=one\nA=\n").value("A"), None);
    }

    #[test]
    fn the_shipped_unit_reads_everything_and_with_the_drop_in_for_a_group_it_does_not() {
        let shipped = Host::new().with(UNIT_FILE, include_str!("../../systemd/pgcertd.service"));
        assert!(shipped.unit().unwrap().reads_everything());
        let group = include_str!("../../systemd/examples/group.conf");
        let shipped = shipped.with("etc/pgcertd.service.d/group.conf", group);
        assert!(!shipped.unit().unwrap().reads_everything());
        let root = include_str!("../../systemd/examples/root.conf");
        let shipped = shipped.with("etc/pgcertd.service.d/root.conf", root);
        assert!(shipped.unit().unwrap().reads_everything());
        let never = "[Service]\nCapabilityBoundingSet=~CAP_DAC_READ_SEARCH\n";
        let shipped = shipped.with("etc/pgcertd.service.d/z.conf", never);
        assert!(!shipped.unit().unwrap().reads_everything());
    }
}
