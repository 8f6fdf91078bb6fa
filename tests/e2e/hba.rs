//! `pg_hba.conf` as the library reads and rewrites it, against what a real server makes of it.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr},
    path::Path,
};

use pgcertd::testing::{
    host::look,
    host::privilege::Ids,
    server::{
        hba::{Dialect, HbaAddress, HbaWord, OnDisk, Rules},
        postmaster::{PidFile, Postmaster},
        sql::{HbaRule, Role, Sql},
    },
};
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};

use crate::{
    stage::Stage,
    world::{
        SOON, World,
        cluster::Cluster,
        eventually, give,
        network::{ADDRESS, in_own_network},
    },
};

/// A line as both tell it.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    kind: String,
    databases: Vec<String>,
    users: Vec<String>,
    address: Option<Place>,
    method: String,
    options: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
enum Place {
    Net(IpAddr, IpAddr),
    Word(String),
}

fn of_server(rule: &HbaRule) -> Told {
    let address = rule.address.clone().map(|address| match &rule.netmask {
        Some(mask) => Place::Net(address.parse().unwrap(), mask.parse().unwrap()),
        None => Place::Word(address),
    });
    Told {
        kind: rule.kind.clone().unwrap(),
        databases: rule.databases.clone(),
        users: rule.users.clone(),
        address,
        method: rule.method.clone().unwrap(),
        options: written(rule),
    }
}

/// The options without what the server adds to those of GSSAPI.
fn written(rule: &HbaRule) -> Vec<String> {
    let added = |option: &&String| option.as_str() != "include_realm=true";
    rule.options.iter().filter(added).cloned().collect()
}

fn of_library(rule: &pgcertd::testing::server::hba::Rule) -> Told {
    let texts = |words: &[HbaWord]| words.iter().map(HbaWord::text).collect();
    let address = rule.address.as_ref().map(|address| match address {
        HbaAddress::All => Place::Word("all".into()),
        HbaAddress::SameHost => Place::Word("samehost".into()),
        HbaAddress::SameNet => Place::Word("samenet".into()),
        HbaAddress::Name(name) => Place::Word(String::from_utf8(name.clone()).unwrap()),
        HbaAddress::Net { ip, mask } => Place::Net(*ip, *mask),
    });
    Told {
        kind: rule.kind.to_string(),
        databases: texts(&rule.databases),
        users: texts(&rule.users),
        address,
        method: rule.method.clone(),
        options: texts(&rule.options),
    }
}

/// A server, and a login on it that stays whatever its pg_hba.conf becomes.
struct Judge {
    runtime: tokio::runtime::Runtime,
    sql: Sql,
    file: std::path::PathBuf,
}

impl Judge {
    fn for_cluster(cluster: &Cluster) -> Judge {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let data = cluster.data_directory();
        let owner = Ids {
            uid: cluster.owner().uid,
            gid: cluster.owner().gid,
        };
        let text = fs::read_to_string(data.join("postmaster.pid")).unwrap();
        let file = PidFile::parse(&text).unwrap();
        let postmaster =
            Postmaster::identify(file, look::file_id(data).unwrap().unwrap(), owner.uid).unwrap();
        let login = Sql::login(&postmaster, data, owner, &Role::OfUser);
        let sql = runtime.block_on(login).unwrap();
        let file = cluster.config_directory().join("pg_hba.conf");
        Judge { runtime, sql, file }
    }

    fn rules(&self) -> Rules {
        Rules::read(&self.file, Dialect::from_version(self.sql.version), &OnDisk).unwrap()
    }

    /// The same rules, and the same lines refused for the same reason; what options a method has
    /// is the server's alone.
    #[track_caller]
    fn agrees_on(&self, text: &str) {
        fs::write(&self.file, text).unwrap();
        let theirs = self.runtime.block_on(self.sql.hba_rules()).unwrap();
        let ours = self.rules();
        let mut told = BTreeMap::new();
        for (_, rule) in &ours.rules {
            told.insert(rule.line, Ok(of_library(rule)));
        }
        for (_, line, why) in &ours.faults {
            told.insert(*line, Err(why.clone()));
        }
        let mut expected = BTreeMap::new();
        for rule in &theirs {
            let line = usize::try_from(rule.line).unwrap();
            match rule.fault.as_deref() {
                None => expected.insert(line, Ok(of_server(rule))),
                Some(why) if of_options(why) => {
                    let ours = told.remove(&line).unwrap();
                    let also = |text: &String| text.contains("not in name=value format");
                    assert!(ours.as_ref().err().is_none_or(also), "{ours:?}: {text}");
                    None
                }
                // What the C library adds is its own.
                Some(why) => {
                    let why = why.trim_end_matches(": Name or service not known");
                    expected.insert(line, Err(why.to_owned()))
                }
            };
        }
        assert_eq!(told, expected, "{text}");
    }
}

fn of_options(fault: &str) -> bool {
    fault.starts_with("unrecognized authentication option name")
        || fault.contains("is only valid for authentication methods")
}

const FILES: &[&str] = &[
    "local all all peer\nlocal all all ident map=x\nhost all all 127.0.0.1/32 ident map=x\n",
    "# nothing\n\n   \t \n#host all all all trust\\\nhost all all all trust\nlocal all all trust\n",
    "host a,b , c d all trust\nhost \"all\",\"a b\",\"x\"\"y\" +g,\"+h\" 10.1.2.3/8 md5\n",
    "host all all 10.0.0.1 255.0.255.0 trust\nhost all all ::1 ffff:: trust\nhost all all 0/0 trust\n",
    "host all all 10.1/16 trust\nhost all all 0x7f000001/32 trust\nhost all all 010.0.0.1/8 trust\n",
    "host all all 10.0.0.0/33 trust\nhost all all ::/129 trust\nhost all all 10.0.0.0/ trust\nhost all all 10.0.0.0/-1 trust\n",
    "host all all example.com/8 trust\nhost all all 10.0.0.1 trust\nhost all all 10.0.0.1 ffff:: trust\nhost all all 10.0.0.1 x trust\n",
    "host all all \"samehost\" trust\nhost all all samehost trust\nhost all all samenet trust\nhost all all \"all\" trust\n",
    "host all all .example.com trust\nhost all all example.com scram-sha-256\nhost all all 1.2.3.4.5 trust\n",
    "host\nhost all\nhost all all\nhost all all all\nhost all all all nothing\nlocal all all\nhostx all all all trust\n",
    "host,local all all all trust\nhost all all all,samenet trust\nhost all all all trust,reject\nhost all all 10.0.0.1 255.0.0.0,255.0.0.0 trust\n",
    "local all all gss\nhost all all all peer\nhost all all all cert\nhost all all all trust option\n",
    "\"host\" all all all trust\nh\"ost\" all all all trust\nhost all all all \"trust\"\n\"host all all all trust\n",
    "hostnossl all all all reject\nhostnogssenc all all all trust\nhostgssenc all all all gss\nhostssl all all all trust\n",
    "host all all all \\\ntrust\nho\\\nst all all all trust\\\n\nlocal all all trust\\",
    "host all all all trust\r\nlocal all all trust \\\r\n\r\nhost\tall\tall\tall\ttrust#c\n",
    "host all all all trust # \"x\nhost all \"#x\" all trust\nhost all x# all trust\nhost @x all all trust\n",
    "include other\ninclude_dir x\ninclude_if_exists x\n",
    "host all all all ident map=a,b=c d=\"e f\"\n",
];

#[test]
fn the_library_reads_a_file_as_the_server_does() {
    let world = or_skip!(World::with_debians("GSSAPI, LDAP and the like"));
    let stage = Stage::new(&world);
    let judge = Judge::for_cluster(&stage.cluster);
    // What a word with @ stands for is read from a file by the server alone.
    for text in FILES.iter().filter(|file| !file.contains('@')) {
        println!("{text}");
        judge.agrees_on(text);
    }
}

/// A line of words that mean something, and of some that do not.
fn line() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "host",
        "local",
        "hostssl",
        "hostnossl",
        "hostgssenc",
        "all",
        "samenet",
        "replication",
        "a,b",
        "a, b",
        "\"a b\"",
        "\"all\"",
        "+g",
        "10.0.0.0/8",
        "10.0.0.1",
        "255.255.0.0",
        "::1/128",
        "::1",
        "example.com",
        "trust",
        "reject",
        "md5",
        "scram-sha-256",
        "peer",
        "#",
        "\\\n",
        ",",
        "\"\"",
        "\"x\"\"y\"",
        "x=y",
    ]);
    let sound = prop::sample::select(vec![
        "host all all all trust",
        "host a,b +g 10.0.0.0/8 md5",
        "local all \"x y\" peer",
        "hostnossl replication all ::/0 reject",
        "host all all 10.0.0.1 255.0.0.0 trust",
    ]);
    let gap = prop::sample::select(vec![" ", "\t", " \\\n", ""]);
    let words = prop::collection::vec((word, gap.clone()), 0..4).prop_map(|words| {
        words
            .iter()
            .map(|(word, gap)| format!("{word}{gap}"))
            .collect::<String>()
    });
    (
        prop::option::of(sound),
        gap,
        words,
        prop::sample::select(vec!["\n", "\r\n", "\n\n"]),
    )
        .prop_map(|(sound, gap, words, end)| {
            format!("{}{gap}{words}{end}", sound.unwrap_or_default())
        })
}

#[test]
fn the_library_reads_random_files_as_the_server_does() {
    let world = or_skip!(World::new());
    let stage = Stage::new(&world);
    let judge = Judge::for_cluster(&stage.cluster);
    let mut runner = TestRunner::new(Config::default());
    let files = prop::collection::vec(line(), 1..8);
    for _ in 0..400 {
        let file = files.new_tree(&mut runner).unwrap().current();
        judge.agrees_on(&file.concat());
    }
}

/// With the server's own word on the new file before, and a real client before and after.
#[test]
fn who_was_let_in_without_tls_is_refused_by_the_new_text_and_nobody_else_is() {
    in_own_network(|| {
        let world = or_skip!(World::new());
        let mut stage = Stage::new(&world);
        let addresses = format!("{},{ADDRESS}", Ipv4Addr::LOCALHOST);
        stage.cluster.set("listen_addresses", &addresses);
        let hba = stage.cluster.config_directory().join("pg_hba.conf");
        let text = "\
local all all trust
host all all 127.0.0.1/32 trust
hostnossl all gitea 192.0.2.0/24 trust  # an old client
host  all  all  0.0.0.0/0  trust
host  all  all  ::/0       reject
";
        write(&hba, &stage.cluster, text);
        stage.cluster.restart().unwrap();
        for role in ["gitea", "website"] {
            stage.cluster.sql(&format!("create role {role} login"));
        }
        let cluster = &stage.cluster;
        let far = |user: &str, sslmode: &str| {
            let conninfo = format!("host={ADDRESS} user={user} sslmode={sslmode}");
            cluster.try_by(&conninfo, "select 1")
        };
        let bare = |cluster: &Cluster| cluster.try_by("host=127.0.0.1 sslmode=disable", "select 1");
        for user in ["gitea", "website"] {
            assert_eq!(far(user, "disable").as_deref(), Ok("1"));
            assert_eq!(far(user, "require").as_deref(), Ok("1"));
        }
        assert_eq!(bare(cluster).as_deref(), Ok("1"));

        let judge = Judge::for_cluster(cluster);
        let proposal = judge.rules().proposal();
        println!("{}", proposal.diff());
        assert_eq!(proposal.texts.len(), 1);
        let (old, new) = &proposal.texts[&hba];
        assert_eq!(old, text.as_bytes());
        let expected = text
            .replace("hostnossl", "#hostnossl")
            .replace("host  all  all  0", "hostssl  all  all  0");
        assert_eq!(String::from_utf8_lossy(new), expected);
        write(&hba, cluster, &expected);
        let rules = judge.runtime.block_on(judge.sql.hba_rules()).unwrap();
        assert!(rules.iter().all(|rule| rule.fault.is_none()), "{rules:?}");
        judge.runtime.block_on(judge.sql.reload()).unwrap();

        for user in ["gitea", "website"] {
            eventually(SOON, "plaintext is refused", || {
                far(user, "disable").is_err_and(|error| error.contains("no pg_hba.conf entry"))
            });
            assert_eq!(far(user, "require").as_deref(), Ok("1"));
        }
        assert_eq!(bare(cluster).as_deref(), Ok("1"), "loopback is as it was");
        assert!(judge.rules().exposed().is_empty());
    });
}

fn write(hba: &Path, cluster: &Cluster, text: &str) {
    fs::write(hba, text).unwrap();
    give(hba, cluster.owner(), 0o600);
}
