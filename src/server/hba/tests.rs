#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::exposure::{LineChange, Rewrite};
use super::*;

const FIFTEEN: Dialect = Dialect(150_000);
const SIXTEEN: Dialect = Dialect(160_000);

struct InMemory(HashMap<PathBuf, Vec<u8>>);

impl HbaFiles for InMemory {
    fn read(&self, file: &Path) -> io::Result<Vec<u8>> {
        let text = self.0.get(file).cloned();
        text.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn names(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        let below = self
            .0
            .keys()
            .filter(|path| path.parent() == Some(directory));
        Ok(below
            .filter_map(|file| file.file_name())
            .map(PathBuf::from)
            .collect())
    }
}

fn of_files(files: &[(&str, &str)], dialect: Dialect) -> Rules {
    let all = files
        .iter()
        .map(|(path, text)| (path.into(), text.as_bytes().to_vec()));
    Rules::read(Path::new(files[0].0), dialect, &InMemory(all.collect())).unwrap()
}

fn rules_in(text: &str) -> Rules {
    of_files(&[("/etc/pg_hba.conf", text)], FIFTEEN)
}

/// The numbers of the exposed lines.
fn exposed(text: &str) -> Vec<usize> {
    rules_in(text)
        .exposed()
        .iter()
        .map(|exposed| exposed.rule.line)
        .collect()
}

/// The one file as it would be.
fn rewritten(text: &str) -> String {
    let proposal = rules_in(text).proposal();
    match proposal.texts.values().next() {
        Some((_, new)) => String::from_utf8(new.clone()).unwrap(),
        None => text.to_owned(),
    }
}

/// What Debian ships, with a line that an administrator added at the end.
const DEBIAN: &str = "\
# TYPE  DATABASE        USER            ADDRESS                 METHOD
local   all             postgres                                peer
local   all             all                                     peer
host    all             all             127.0.0.1/32            scram-sha-256
host    all             all             ::1/128                 scram-sha-256
local   replication     all                                     peer
host    replication     all             127.0.0.1/32            scram-sha-256
host\tall             all             0.0.0.0/0               scram-sha-256\t# the world
";

#[test]
fn one_word_changes_and_local_and_loopback_lines_stay() {
    assert_eq!(exposed(DEBIAN), [8]);
    let new = rewritten(DEBIAN);
    assert_eq!(new, DEBIAN.replace("host\tall", "hostssl\tall"));
    let proposal = rules_in(DEBIAN).proposal();
    assert_eq!(
        proposal.changes,
        [LineChange {
            file: "/etc/pg_hba.conf".into(),
            line: 8,
            before: RuleKind::Host,
            rewrite: Rewrite::HostSsl,
            // The lines above it take those of this host.
            notes: Vec::new(),
        }]
    );
    let diff = proposal.diff();
    assert!(
        diff.starts_with("--- /etc/pg_hba.conf\n+++ /etc/pg_hba.conf (new)\n@@ "),
        "{diff}"
    );
    assert!(
        diff.contains("\n-host\tall ") && diff.contains("\n+hostssl\tall "),
        "{diff}"
    );
    assert_eq!(exposed(&new), [0; 0]);
}

#[test]
fn a_difference_reads_as_that_of_diff_u() {
    let difference = |old: &str, new: &str| {
        super::exposure::difference(Path::new("/a"), old.as_bytes(), new.as_bytes())
    };
    assert_eq!(difference("1\n", "1\n"), "");
    assert_eq!(
        difference("1\n\n3\n4\n5\n6\n7", "1\n\nthree\n4\n5\n6\n7\n"),
        "--- /a\n+++ /a (new)\n@@ -1,7 +1,7 @@\n 1\n \n-3\n+three\n 4\n 5\n 6\n\
         -7\n\\ No newline at end of file\n+7\n"
    );
    assert_eq!(
        difference("", "new\n"),
        "--- /a\n+++ /a (new)\n@@ -0,0 +1 @@\n+new\n"
    );
}

#[test]
fn lines_that_are_only_for_this_host_or_only_for_tls_are_not_exposed() {
    for rule in [
        "local all all trust",
        "host all all 127.0.0.0/8 trust",
        "host all all 127.0.0.1 255.255.255.255 trust",
        "host all all ::1/128 trust",
        "host all all samehost trust",
        "host all all localhost trust",
        "hostssl all all all trust",
        "hostgssenc all all all gss",
        "host all all all reject",
        "hostnossl all all 0.0.0.0/0 reject",
        "# host all all all trust",
    ] {
        assert_eq!(exposed(rule), [0; 0], "{rule}");
    }
}

#[test]
fn lines_that_let_another_host_in_unencrypted_are_exposed() {
    for rule in [
        "host all all all trust",
        "host all all 126.0.0.0/7 md5",
        "host all all 10.0.0.1 255.255.255.255 trust",
        "host all all ::/0 trust",
        "host all all samenet trust",
        "host all all .example.com trust",
        "host all all db.example.com trust",
        "hostnossl all all 192.0.2.0/24 trust",
        "hostnogssenc all all 192.0.2.0/24 trust",
        "host replication standby 192.0.2.0/24 trust",
        "host all all \"samehost\" trust",
        // A mask with holes lets more through than its leading bits.
        "host all all 127.0.0.1 127.255.255.255 trust",
    ] {
        assert_eq!(exposed(rule), [1], "{rule}");
    }
}

#[test]
fn what_is_rejected_before_is_safe_and_what_is_let_in_before_is_not() {
    for (before, last) in [
        ("hostnossl all all all reject", "host all all all trust"),
        (
            "hostnossl all all 0.0.0.0/0 reject\nhostnossl all all ::/0 reject",
            "host all all all trust",
        ),
        (
            "hostnossl all all 0.0.0.0/1 reject\nhost all all 128.0.0.0/1 reject",
            "host shop gitea 0.0.0.0/0 trust",
        ),
        (
            "hostnogssenc all all all reject",
            "host all all .example.com trust",
        ),
        (
            "hostnossl all all samenet reject",
            "host all all samenet trust",
        ),
        (
            "hostnossl shop,wiki +staff all reject",
            "host shop +staff all trust",
        ),
        (
            "hostnossl all,replication all all reject",
            "host replication all all trust",
        ),
    ] {
        assert_eq!(exposed(&format!("{before}\n{last}")), [0; 0], "{before}");
    }
    for before in [
        // Those with TLS alone, another database, others, from elsewhere.
        "hostssl all all all reject",
        "hostgssenc all all all reject",
        "hostnossl wiki all all reject",
        "hostnossl all +staff all reject",
        "hostnossl all all 0.0.0.0/0 reject",
        "hostnossl all all .example.com reject",
        // `all` is not physical replication.
        "hostnossl \"all\" all all reject",
        // With holes, it keeps fewer out.
        "hostnossl all all 0.0.0.0 0.0.0.255 reject",
        // It takes the same clients first, and is changed itself.
        "hostssl all all all scram-sha-256",
    ] {
        let text = format!("{before}\nhost all all all trust");
        assert_eq!(exposed(&text), [2], "{before}");
    }
    let replication = "hostnossl all all all reject\nhost replication all all trust";
    assert_eq!(exposed(replication), [2]);
    let both = "host all all all scram-sha-256\nhost all all 10.0.0.0/8 trust";
    assert_eq!(
        exposed(both),
        [1, 2],
        "the first is changed, and the second met then"
    );
    let file = "hostnossl all all all reject\nhost @names all all trust";
    assert_eq!(exposed(file), [2], "the file may name replication");
}

/// As `hostssl` it would let in by `trust` those who had to show a password so far.
#[test]
fn a_line_for_plaintext_alone_becomes_a_comment_with_all_that_continues_it() {
    let text = "hostnossl all all 10.0.0.0/8 \\\n  trust\nhostssl all all all scram-sha-256\n";
    assert_eq!(rewritten(text), format!("#{text}"));
    let changed = rules_in(&rewritten(text));
    assert_eq!(changed.rules.len(), 1);
    assert!(changed.faults.is_empty(), "{:?}", changed.faults);
}

/// The line for every address was for this host as well, over TCP.
#[test]
fn clients_of_this_host_keep_a_line_of_their_own() {
    let text = "\
host    all,\"my db\"  +\"a b\"  0.0.0.0/0  ldap ldapserver=x \"ldapprefix=a b\" # old\r
host @n\\
ames all all scram-sha-256
host all all 127.0.0.1/32 md5
  hostnossl all all samenet md5";
    let remark = "# clients of this host, as before (pgcertd)";
    let expected = format!(
        "\
host\tall,\"my db\"\t+\"a b\"\t127.0.0.1/32\tldap\tldapserver=x\t\"ldapprefix=a b\"\t{remark}\r
hostssl    all,\"my db\"  +\"a b\"  0.0.0.0/0  ldap ldapserver=x \"ldapprefix=a b\" # old\r
host\t@names\tall\t127.0.0.1/32\tscram-sha-256\t{remark}
host\t@names\tall\t::1/128\tscram-sha-256\t{remark}
hostssl @n\\
ames all all scram-sha-256
host all all 127.0.0.1/32 md5
hostnossl\tall\tall\t::1/128\tmd5\t{remark}
  #hostnossl all all samenet md5"
    );
    let new = rewritten(text);
    assert_eq!(new, expected);
    let after = rules_in(&new);
    assert!(after.faults.is_empty() && after.exposed().is_empty());
    assert_eq!(rewritten(&new), new);
    // Whether a text came of another by such changes alone.
    let tightened = |old: &str, new: &str| tightens(old.as_bytes(), new.as_bytes(), FIFTEEN);
    assert!(tightened(text, &new) && tightened(&new, &new) && tightened(text, text));
    let again = format!("host all gitea 10.0.0.0/8 trust\n{new}");
    assert!(tightened(&again, &rewritten(&again)));
    let some = new.replace("#hostnossl", "hostnossl");
    assert!(tightened(text, &some));
    assert!(!tightened(&new, text), "loosened");
    assert!(!tightened(&format!("host all all all trust\n{text}"), &new));
    assert!(!tightened(
        &format!("host all all all trust {remark}\n{text}"),
        &new
    ));
    assert!(!tightened(text, &new.replace("ldap", "trust")));
    assert!(!tightened(text, &format!("{new}x")));
    assert!(!tightened(
        "host all all all trust",
        "hostssl all all all trust x"
    ));
}

#[test]
fn what_a_change_means_besides_is_noted() {
    let notes = |text: &str| rules_in(text).exposed()[0].notes.clone();
    assert_eq!(notes("host all all all md5"), [Note::LoopbackKept]);
    assert_eq!(notes("hostnossl all all all md5"), [Note::LoopbackKept]);
    assert_eq!(notes("host all all samenet md5"), [Note::LoopbackKept]);
    assert_eq!(
        notes("host all all .example.com md5"),
        [Note::LoopbackToo],
        "who has such a name is not known here"
    );
    assert_eq!(notes("host all all 10.0.0.0/8 md5"), []);
    assert_eq!(notes("host all all 10.0.0.0/8 gss"), [Note::GssapiToo]);
    let part = "host all all 127.0.0.1/32 md5\nhost all all all md5";
    assert_eq!(notes(part), [Note::LoopbackKept], "::1 is left");
    let whole = format!("host all all ::1/128 md5\n{part}");
    assert_eq!(notes(&whole), []);
}

#[test]
fn words_are_read_with_quotes_commas_comments_and_continuations() {
    let text = "ho\\\r\nst \"my db\" , shop,\"a\"\"b\" all\\\r\n trust a=1 \"b=2 3\"#c\n\n\"local\" all all peer";
    let rules = rules_in(text);
    assert!(rules.faults.is_empty(), "{:?}", rules.faults);
    let (_, rule) = &rules.rules[0];
    let texts = |words: &[HbaWord]| words.iter().map(HbaWord::text).collect::<Vec<_>>();
    // A comma that stands alone leads nowhere: the field ends before it.
    assert_eq!(texts(&rule.databases), ["my db"]);
    assert_eq!(texts(&rule.users), ["shop", "a\"b"]);
    assert_eq!((rule.line, rules.rules[1].1.line), (1, 5));
    assert_eq!(rules.rules[1].1.kind, RuleKind::Local);
}

#[test]
fn before_fourteen_a_backslash_is_a_word_and_before_sixteen_an_include_is_a_fault() {
    let text = b"local all all \\\npeer\ninclude other.conf\n";
    let of = |version| entries(text, Dialect(version));
    assert!(matches!(
        of(130_000)[..],
        [
            Entry::Fault { .. },
            Entry::Fault { .. },
            Entry::Fault { .. }
        ]
    ));
    assert!(matches!(
        of(150_000)[..],
        [Entry::Rule(_), Entry::Fault { .. }]
    ));
    assert!(matches!(
        of(160_000)[..],
        [
            Entry::Rule(_),
            Entry::Include {
                line: 3,
                how: Inclusion::File,
                ..
            }
        ]
    ));
}

#[test]
fn included_files_count_in_their_place_and_are_changed_in_theirs() {
    let files = [
        (
            "/etc/pg_hba.conf",
            "include_if_exists none.conf\ninclude_dir \"hba.d\"\ninclude ./hba.d/../../srv/last.conf\n",
        ),
        ("/etc/hba.d/b.conf", "host all all 10.0.0.0/8 trust\n"),
        (
            "/etc/hba.d/a.conf",
            "hostnossl all all 10.1.0.0/16 reject\n",
        ),
        ("/etc/hba.d/.c.conf", "host all all all trust\n"),
        ("/etc/hba.d/d.conf~", "host all all all trust\n"),
        ("/srv/last.conf", "host all all 10.1.2.0/24 trust\n"),
    ];
    let rules = of_files(&files, SIXTEEN);
    assert!(rules.faults.is_empty(), "{:?}", rules.faults);
    let proposal = rules.proposal();
    let changed: Vec<_> = proposal.texts.keys().collect();
    assert_eq!(changed, [Path::new("/etc/hba.d/b.conf")]);
    let named: Vec<_> = rules.rules.iter().map(|(file, _)| file.as_path()).collect();
    let order = ["/etc/hba.d/a.conf", "/etc/hba.d/b.conf", "/srv/last.conf"];
    assert_eq!(named, order.map(Path::new));
    let circle = [("/etc/pg_hba.conf", "include pg_hba.conf\n")];
    let faults = of_files(&circle, SIXTEEN).faults;
    assert!(
        faults.iter().any(|pair| pair.2.contains("nesting depth")),
        "{faults:?}"
    );
    let missing = of_files(&[("/etc/pg_hba.conf", "\ninclude gone.conf\n")], SIXTEEN);
    assert_eq!((missing.faults.len(), missing.faults[0].1), (1, 2));
}

#[test]
fn bytes_that_are_no_text_stay_what_they_are() {
    let text = b"# K\xe4se\nhost \xe4 all 10.0.0.0/8 trust # \xff\r\n";
    let files = InMemory([("/hba".into(), text.to_vec())].into());
    let rules = Rules::read(Path::new("/hba"), FIFTEEN, &files).unwrap();
    let proposal = rules.proposal();
    let (_, new) = proposal.texts.values().next().unwrap();
    assert_eq!(
        new,
        b"# K\xe4se\nhostssl \xe4 all 10.0.0.0/8 trust # \xff\r\n"
    );
}

/// A line of a file, sometimes a wrong one.
fn line() -> impl Strategy<Value = String> {
    let word = |words: &'static [&'static str]| prop::sample::select(words);
    let kind = word(&[
        "local",
        "host",
        "host",
        "hostssl",
        "hostnossl",
        "hostgssenc",
        "hostnogssenc",
    ]);
    let database = word(&[
        "all",
        "replication",
        "shop",
        "\"all\"",
        "shop,wiki",
        "@names",
        "all,replication",
    ]);
    let user = word(&["all", "gitea", "+staff", "\"all\"", "gitea,+staff"]);
    let address = word(&[
        "all",
        "samehost",
        "samenet",
        "0.0.0.0/0",
        "::/0",
        "127.0.0.1/32",
        "::1/128",
        "10.0.0.0/8",
        "10.0.0.0 255.0.0.0",
        "0.0.0.0/1",
        "128.0.0.0/1",
        "localhost",
        ".example.com",
        "127.0.0.0/7",
    ]);
    let method = word(&["trust", "reject", "reject", "scram-sha-256", "gss"]);
    let gap = word(&[" ", "\t", "  ", " \\\n "]);
    (kind, database, user, address, method, gap).prop_map(
        |(kind, database, user, address, method, gap)| {
            let address = if kind == "local" { "" } else { address };
            [kind, database, user, address, method].join(gap) + "\n"
        },
    )
}

/// Who connects, as far as a line looks at it.
#[derive(Debug, Clone, Copy)]
struct Client {
    tls: bool,
    from: &'static str,
    database: &'static str,
    user: &'static str,
}

impl Client {
    fn all() -> Vec<Client> {
        let mut all = Vec::new();
        for tls in [false, true] {
            for from in ["127.0.0.1", "::1", "10.1.2.3", "192.0.2.1", "2001:db8::1"] {
                for database in ["replication", "shop", "wiki", "all", "other"] {
                    for user in ["gitea", "all", "other"] {
                        all.push(Client {
                            tls,
                            from,
                            database,
                            user,
                        });
                    }
                }
            }
        }
        all
    }

    /// The method of the line that decides. No client has a name, and no role a member.
    fn meets<'r>(&self, rules: &'r Rules) -> Option<&'r str> {
        let from: IpAddr = self.from.parse().unwrap();
        let decides = rules.rules.iter().map(|pair| &pair.1).find(|rule| {
            let kind = match rule.kind {
                RuleKind::Host | RuleKind::HostNoGssEnc => true,
                RuleKind::HostSsl => self.tls,
                RuleKind::HostNoSsl => !self.tls,
                RuleKind::Local | RuleKind::HostGssEnc => false,
            };
            let named = |words: &[HbaWord], name: &str, but: &str| {
                words.iter().any(|word| {
                    if word.is_keyword("replication") || but == name {
                        return word.is_keyword(name) && but == name;
                    }
                    word.is_keyword("all") || word.bytes == name.as_bytes()
                })
            };
            let address = match rule.address.as_ref() {
                Some(HbaAddress::Name(name)) => name == b"localhost" && from.is_loopback(),
                Some(HbaAddress::SameHost) => from.is_loopback(),
                // Of the others here, one is in the host's network.
                Some(HbaAddress::SameNet) => from.is_loopback() || self.from == "192.0.2.1",
                Some(net) => net.surely_takes(from),
                None => false,
            };
            kind && address
                && named(&rule.databases, self.database, "replication")
                && named(&rule.users, self.user, "")
        });
        decides.map(|rule| rule.method.as_str())
    }
}

proptest! {
    /// The proposal is the fixed point: nobody is let in unencrypted by it, those with TLS meet
    /// the rules that they met, and all but first words, and the lines for this host, is as it was.
    #[test]
    fn a_proposal_exposes_nobody_and_changes_nothing_for_those_with_tls(lines in prop::collection::vec(line(), 0..8)) {
        let text = lines.concat();
        let rules = rules_in(&text);
        let whole = rewritten(&text);
        prop_assert_eq!(rules_in(&whole).exposed().len(), 0, "{}", whole);
        prop_assert!(tightens(text.as_bytes(), whole.as_bytes(), FIFTEEN), "{}", whole);
        let proposed: String = whole.split_inclusive('\n').filter(|name| !name.contains("as before")).collect();
        let after = rules_in(&proposed);
        prop_assert_eq!(after.faults.len(), rules.faults.len());
        let with_tls = |rules: &Rules| -> Vec<_> {
            let takes = |kind| !matches!(kind, RuleKind::Local | RuleKind::HostNoSsl | RuleKind::HostGssEnc);
            let all = rules.rules.iter().filter(|(_, rule)| takes(rule.kind));
            all.map(|(_, rule)| {
                let texts = |words: &[HbaWord]| words.iter().map(HbaWord::text).collect::<Vec<_>>();
                (rule.line, texts(&rule.databases), texts(&rule.users), rule.address.clone(), rule.method.clone())
            }).collect()
        };
        prop_assert_eq!(with_tls(&rules), with_tls(&after));
        let stays = |rules: &Rules| -> Vec<_> {
            let all = rules.rules.iter().filter(|(_, rule)| !rule.kind.takes_plaintext() && rule.kind != RuleKind::HostSsl);
            all.map(|(_, rule)| (rule.line, rule.kind)).collect()
        };
        prop_assert_eq!(stays(&rules), stays(&after));
        let back = proposed.replace("hostssl", "host").replace("#hostnossl", "hostnossl");
        prop_assert_eq!(back.replace("hostnogssenc", "host"), text.replace("hostssl", "host").replace("hostnogssenc", "host"));
    }

    /// For each client there is one line that decides: for those of this host and those with TLS
    /// it does what it did, and nobody else without TLS is let in.
    #[test]
    fn a_proposal_changes_what_is_decided_for_remote_plaintext_alone(lines in prop::collection::vec(line(), 0..8)) {
        let text = lines.concat();
        let (before, after) = (rules_in(&text), rules_in(&rewritten(&text)));
        for client in Client::all() {
            let (was, is) = (client.meets(&before), client.meets(&after));
            if client.tls || client.from.parse::<IpAddr>().unwrap().is_loopback() {
                prop_assert_eq!(was, is, "{:?}", client);
            } else {
                prop_assert!(is.is_none_or(|name| name == "reject"), "{:?}", client);
            }
        }
    }

    /// Whatever bytes a file holds, they are read without a panic.
    #[test]
    fn any_bytes_are_read(text in prop::collection::vec(any::<u8>(), 0..200)) {
        let _any = entries(&text, SIXTEEN);
    }

    /// The same, of what looks like such a file.
    #[test]
    fn any_punctuation_is_read(text in "[host\\\\\"#,@ \\t\\r\\n/0-9.:%]{0,120}") {
        let _any = entries(text.as_bytes(), SIXTEEN);
    }
}
