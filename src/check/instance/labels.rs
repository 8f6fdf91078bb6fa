//! SELinux: whether a confined server may read the installed files by their label.
//!
//! Only a label's type matters (`user:role:type:level`). A file gets it from the directory where it is created, and a
//! rename doesn't change it. Written from the policy's source, and untested under enforcing.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::look::InstanceLook;
use super::words::setup;
use crate::check::finding::Finding;
use crate::check::names::quoted;
use crate::config::Mode;
use crate::server::InstanceSnapshot;

/// The type of PostgreSQL's own files.
const DATABASE: &str = "postgresql_db_t";

/// What `postgresql_t` may read by the policy of Fedora and RHEL (`postgresql.te`: its own files,
/// `files_read_etc_files`, `files_read_usr_files`; certificates by `auth_use_pam`).
const READABLE: [&str; 5] = [DATABASE, "postgresql_etc_t", "cert_t", "etc_t", "usr_t"];

/// What SELinux does about what its policy forbids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Enforcement {
    Enforcing,
    /// It only logs it.
    Permissive,
}

impl Enforcement {
    /// That of this host, if it uses SELinux (selinux(8)).
    fn of_host() -> Option<Enforcement> {
        let enforce = fs::read("/sys/fs/selinux/enforce").ok()?;
        Some(match enforce.as_slice() {
            [b'0', ..] => Enforcement::Permissive,
            _ => Enforcement::Enforcing,
        })
    }
}

/// A path with its type.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Labelled {
    path: PathBuf,
    /// None if it has no visible label.
    of: Option<String>,
}

/// The labels that matter for one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Labels {
    enforcement: Enforcement,
    server: Option<String>,
    /// Of what lies in the data directory: what the server reads and writes.
    data: Option<String>,
    /// Of the installed files that are there.
    files: Vec<Labelled>,
    /// Of the directories in which pgcertd makes the files.
    directories: Vec<Labelled>,
}

#[derive(Debug, PartialEq, Eq)]
enum LabelVerdict<'l> {
    /// The server is not confined, and reads whatever its user may.
    Unconfined(&'l str),
    /// It may read the files, and what is made in their directories.
    Readable,
    /// It may not read this file.
    Unreadable(&'l Path, &'l str),
    /// It may not read what is made in this directory.
    Unfit(&'l Path, &'l str),
    /// This has no visible label.
    Unseen(&'l Path),
}

impl Labels {
    fn verdict(&self) -> LabelVerdict<'_> {
        let domain = self.server.as_deref();
        if let Some(domain) = domain.filter(|text| text.starts_with("unconfined_")) {
            return LabelVerdict::Unconfined(domain);
        }
        if let Some((path, of)) = self.unreadable(&self.files) {
            return LabelVerdict::Unreadable(path, of);
        }
        if let Some((path, of)) = self.unreadable(&self.directories) {
            return LabelVerdict::Unfit(path, of);
        }
        let mut all = self.files.iter().chain(&self.directories);
        match all.find(|labelled| labelled.of.is_none()) {
            Some(unseen) => LabelVerdict::Unseen(&unseen.path),
            None => LabelVerdict::Readable,
        }
    }

    /// The first of them with a label that the server may not read.
    fn unreadable<'l>(&self, all: &'l [Labelled]) -> Option<(&'l Path, &'l str)> {
        let readable = |of: &str| READABLE.contains(&of) || self.data.as_deref() == Some(of);
        all.iter().find_map(|labelled| {
            let of = labelled.of.as_deref().filter(|of| !readable(of))?;
            Some((labelled.path.as_path(), of))
        })
    }

    /// The type that the files should have.
    fn wanted(&self) -> &str {
        self.data.as_deref().unwrap_or(DATABASE)
    }
}

/// Whether the server may read the files; nothing without SELinux. For other servers than PostgreSQL there are other
/// policies, or none.
pub(in crate::check) async fn label(look: &InstanceLook) -> Option<Finding> {
    let sight = look.sight()?;
    let reader = look.reader.as_ref()?.as_ref().ok()?;
    let (targets, mode) = (sight.targets.clone(), look.instance().mode);
    let server = sight.server.process().map(|process| process.pid());
    let looked = reader.call(move || {
        let enforcement = Enforcement::of_host()?;
        let of_process = |pid| fs::read(format!("/proc/{pid}/attr/current")).ok();
        let mut files = vec![targets.cert.clone(), targets.key.clone()];
        files.dedup();
        let directories = match mode {
            Mode::Manage => targets.directories_of_files().into_iter().collect(),
            // Others make the files, and label them.
            Mode::Reload | Mode::Observe => Vec::new(),
        };
        Some(Labels {
            enforcement,
            server: server
                .and_then(of_process)
                .and_then(|bytes| type_of(&bytes)),
            data: labelled(targets.data.join("PG_VERSION")).and_then(|labelled| labelled.of),
            files: files.into_iter().filter_map(labelled).collect(),
            directories: directories.into_iter().filter_map(labelled).collect(),
        })
    });
    let labels = match looked.await {
        Err(error) => return Some(Finding::notice(error.to_string())),
        Ok(labels) => labels?,
    };
    let (seen, directory) = match labels.verdict() {
        LabelVerdict::Unconfined(domain) => {
            let seen = format!("SELinux does not confine the server ({domain})");
            return Some(Finding::good(seen));
        }
        LabelVerdict::Readable => {
            return Some(Finding::good("SELinux lets the server read the files"));
        }
        LabelVerdict::Unseen(path) => {
            let seen = format!("the SELinux label of {} cannot be seen", path.display());
            return Some(Finding::notice(seen));
        }
        LabelVerdict::Unreadable(path, of) => {
            let file = path.display();
            let seen = format!("SELinux forbids the server to read {file}, labelled {of}");
            (seen, path.parent().unwrap_or(path))
        }
        LabelVerdict::Unfit(path, of) => {
            let seen = format!(
                "SELinux forbids the server to read the next file made in {}, which gets its label {of} from there",
                path.display()
            );
            (seen, path)
        }
    };
    let finding = match labels.enforcement {
        Enforcement::Enforcing => Finding::problem(seen),
        Enforcement::Permissive => {
            Finding::notice(format!("{seen}; it is permissive, and only logs that"))
        }
    };
    Some(relabelled(look, sight, finding, directory, labels.wanted()))
}

/// What fixes the label of a directory and of what lies in it.
fn relabelled(
    look: &InstanceLook,
    sight: &InstanceSnapshot,
    finding: Finding,
    directory: &Path,
    wanted: &str,
) -> Finding {
    let (spec, path) = (quoted(pattern(directory)), quoted(directory));
    let command = format!(
        "{{ semanage fcontext -a -t {wanted} {spec} || semanage fcontext -m -t {wanted} {spec}; }} && restorecon -Rv {path}"
    );
    if directory == sight.targets.state {
        return finding.command(command);
    }
    // It may be others' as well, /etc for one.
    let shown = directory.display();
    match look.instance().mode {
        Mode::Manage => finding.fix(format!(
            "leave cert_file and key_file at their default and run `{}`, or, if {shown} is the server's alone, run `{command}`",
            setup(look.instance(), &[])
        )),
        Mode::Reload | Mode::Observe => finding.fix(format!(
            "if {shown} is the server's alone, run `{command}`; whoever places the files there has to keep that label"
        )),
    }
}

/// A directory and all below it, as a pattern for semanage-fcontext(8).
fn pattern(directory: &Path) -> String {
    let mut pattern = String::new();
    for character in directory.to_string_lossy().chars() {
        if r".^$*+?()[]{}|\".contains(character) {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern + "(/.*)?"
}

/// The path with its type, not following a link, if there is something.
fn labelled(path: PathBuf) -> Option<Labelled> {
    let mut label = [0; 4096];
    let read = rustix::fs::lgetxattr(&path, "security.selinux", &mut label[..]);
    let of = match read {
        Ok(length) => type_of(&label[..length]),
        Err(Errno::NOENT | Errno::NOTDIR) => return None,
        Err(_) => None,
    };
    Some(Labelled { path, of })
}

/// The third part of `user:role:type:level`, if it is safe in a shell.
fn type_of(label: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(label).ok()?;
    let text = text.trim_end_matches(['\0', '\n']);
    let of = text.split(':').nth(2)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    (!of.is_empty() && of.chars().all(plain)).then(|| of.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: &str = "/var/lib/pgcertd/main/server.pem";

    /// An instance whose file and directory have these types.
    fn labels(file: Option<&str>, directory: &str) -> Labels {
        let labelled = |path: &str, of: Option<&str>| Labelled {
            path: path.into(),
            of: of.map(str::to_owned),
        };
        Labels {
            enforcement: Enforcement::Enforcing,
            server: Some("postgresql_t".into()),
            data: Some(DATABASE.into()),
            files: vec![labelled(TARGET, file)],
            directories: vec![labelled("/var/lib/pgcertd/main", Some(directory))],
        }
    }

    #[test]
    fn what_the_servers_own_files_are_labelled_with_and_certificates_are_readable() {
        for of in [DATABASE, "cert_t", "etc_t"] {
            assert_eq!(
                labels(Some(of), of).verdict(),
                LabelVerdict::Readable,
                "{of}"
            );
        }
        let mut contained = labels(Some("container_file_t"), "container_file_t");
        assert!(matches!(contained.verdict(), LabelVerdict::Unreadable(..)));
        contained.data = Some("container_file_t".into());
        assert_eq!(contained.verdict(), LabelVerdict::Readable);
    }

    #[test]
    fn a_file_that_was_born_elsewhere_is_unreadable_and_so_is_the_next_in_a_wrong_directory() {
        let (file, home) = (Path::new(TARGET), "user_home_t");
        let moved = labels(Some(home), DATABASE);
        assert_eq!(moved.verdict(), LabelVerdict::Unreadable(file, home));
        let next = labels(Some(DATABASE), "var_lib_t");
        let directory = file.parent().unwrap_or(file);
        assert_eq!(next.verdict(), LabelVerdict::Unfit(directory, "var_lib_t"));
    }

    #[test]
    fn a_server_that_is_not_confined_reads_all_and_one_in_a_domain_of_its_own_does_not() {
        let mut labels = labels(Some("var_lib_t"), "var_lib_t");
        labels.server = Some("unconfined_service_t".into());
        assert!(matches!(labels.verdict(), LabelVerdict::Unconfined(_)));
        labels.server = None;
        assert!(matches!(labels.verdict(), LabelVerdict::Unreadable(..)));
    }

    #[test]
    fn a_label_that_cannot_be_seen_is_not_judged() {
        let unseen = labels(None, DATABASE);
        assert_eq!(unseen.verdict(), LabelVerdict::Unseen(Path::new(TARGET)));
    }

    #[test]
    fn the_type_is_the_third_part_of_a_label() {
        let label = b"system_u:object_r:postgresql_db_t:s0:c1,c2\0";
        assert_eq!(type_of(label).as_deref(), Some(DATABASE));
        // AppArmor's word in /proc/PID/attr/current.
        assert_eq!(type_of(b"unconfined\n"), None);
        assert_eq!(type_of(b"u:r:$(reboot):s0"), None);
    }

    #[test]
    fn what_a_pattern_would_read_otherwise_is_escaped() {
        let name = Path::new("/var/lib/pgcertd/16.1+main");
        assert_eq!(pattern(name), r"/var/lib/pgcertd/16\.1\+main(/.*)?");
    }
}
