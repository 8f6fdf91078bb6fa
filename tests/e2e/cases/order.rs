//! Certificate files that are not as certbot writes them: what needs no guess is set right, the rest is told by what it
//! is and what makes PEM of it.

use std::{fs, process::Command};

use pgcertd::testing::bundle::KeyedBundle;

use crate::{
    stage::{HOST, NAME, Stage, says},
    world::{
        SOON, World,
        ca::{Ca, Issued, Options},
        eventually, give,
        in_place::InPlace,
        postgres,
        process::run,
    },
};

/// The certificates of a test: leaf, two intermediates, the root, one of another authority.
struct Pieces {
    next: Issued,
    root: String,
    stranger: String,
}

impl Pieces {
    fn issued_by(ca: &Ca, stranger: &Ca) -> Self {
        let options = Options {
            intermediates: 2,
            ..Options::default()
        };
        Self {
            next: ca.issue_with(&[HOST], &options),
            root: ca.root_pem(),
            stranger: stranger.intermediate_pem(),
        }
    }

    /// With line feeds alone: leaf, its issuer, that one's, the root, a stranger.
    fn unix(&self) -> [String; 5] {
        let next = &self.next;
        let [one, two] = &next.intermediates[..] else {
            panic!("two intermediates were asked for")
        };
        [&next.leaf_pem, one, two, &self.root, &self.stranger].map(|pem| pem.replace("\r\n", "\n"))
    }
}

/// One way to write a chain that could be better.
struct Way {
    name: &'static str,
    written: fn(&[String; 5]) -> String,
    /// How many certificates of it are good for anything.
    certificates: usize,
}

fn right(pems: &[String; 5]) -> String {
    pems[..3].concat()
}

/// Places in [`Pieces::unix`], in this order.
fn ordered(pems: &[String; 5], places: &[usize]) -> String {
    places.iter().map(|at| pems[*at].as_str()).collect()
}

const WAYS: [Way; 15] = [
    Way {
        name: "root before intermediates",
        written: |pems| ordered(pems, &[0, 3, 2, 1]),
        certificates: 4,
    },
    Way {
        name: "all the other way round",
        written: |pems| ordered(pems, &[3, 2, 1, 0]),
        certificates: 4,
    },
    Way {
        name: "the leaf in the midst",
        written: |pems| ordered(pems, &[2, 0, 1]),
        certificates: 3,
    },
    Way {
        name: "each twice",
        written: |pems| ordered(pems, &[0, 0, 1, 2, 1, 2]),
        certificates: 3,
    },
    Way {
        name: "a stranger behind the chain",
        written: |pems| ordered(pems, &[0, 1, 2, 4]),
        certificates: 3,
    },
    Way {
        name: "a stranger before the chain",
        written: |pems| ordered(pems, &[4, 0, 1, 2]),
        certificates: 3,
    },
    Way {
        name: "a byte order mark",
        written: |pems| format!("\u{feff}{}", right(pems)),
        certificates: 3,
    },
    Way {
        name: "files with byte order marks behind each other",
        written: |pems| format!("\u{feff}{}\u{feff}{}{}", pems[0], pems[1], pems[2]),
        certificates: 3,
    },
    Way {
        name: "no line feed between END and BEGIN",
        written: |pems| right(pems).replace("-----\n-----", "----------"),
        certificates: 3,
    },
    Way {
        name: "one line",
        written: |pems| right(pems).replace('\n', ""),
        certificates: 3,
    },
    Way {
        name: "an old Mac's line ends",
        written: |pems| right(pems).replace('\n', "\r"),
        certificates: 3,
    },
    Way {
        name: "indented",
        written: |pems| format!("    {}", right(pems).trim_end().replace('\n', "\n    ")),
        certificates: 3,
    },
    Way {
        name: "an empty line behind each",
        written: |pems| right(pems).replace('\n', "\n\n"),
        certificates: 3,
    },
    Way {
        name: "X509 CERTIFICATE",
        written: |pems| right(pems).replace("CERTIFICATE", "X509 CERTIFICATE"),
        certificates: 3,
    },
    Way {
        name: "Windows' line ends, with text before",
        written: |pems| format!("Bag Attributes\n{}", right(pems)).replace('\n', "\r\n"),
        certificates: 3,
    },
];

#[test]
fn what_needs_no_guess_is_set_right_and_installed() {
    let world = or_skip!(World::new());
    let stranger = Ca::new(&world, "Stranger");
    let files = InPlace::new(&world, "files");
    let stage = Stage::build(&world).files(files.path()).start();
    files.renew(&stage.first);
    let hook = [
        "sync",
        "--json",
        "--lineage",
        files.path().to_str().unwrap(),
    ];
    for way in &WAYS {
        let pieces = Pieces::issued_by(&stage.ca, &stranger);
        files.put("privkey.pem", pieces.next.key_pem.as_bytes());
        let text = (way.written)(&pieces.unix());
        files.put("fullchain.pem", text.as_bytes());
        let done = stage.pgcertd(&hook);
        let row = done.instance(NAME);
        println!("{}: {row}", way.name);
        assert_eq!(row["outcome"], "deployed", "{}: {row}", way.name);
        assert_eq!(done.code(), 0);
        stage.keeps(&pieces.next);
        let peer = stage.cluster.peer().unwrap();
        assert_eq!(peer.certificates, way.certificates, "{}", way.name);
        let seen = stage.cluster.verify_full(stage.ca.root(), HOST);
        assert!(seen.is_ok(), "{}: {seen:?}", way.name);
    }
    // It is told, and nothing to worry about.
    let pieces = Pieces::issued_by(&stage.ca, &stranger);
    files.put("privkey.pem", pieces.next.key_pem.as_bytes());
    let text = format!("\u{feff}{}", ordered(&pieces.unix(), &[3, 2, 0, 1, 1, 4]));
    files.put("fullchain.pem", text.as_bytes());
    let seen = stage.pgcertd(&["check", "--json"]).instance(NAME);
    let findings = seen["findings"].as_array().unwrap();
    let found = findings
        .iter()
        .find(|finding| finding["id"] == "source")
        .unwrap();
    assert_eq!(found["weight"], "notice", "{found}");
    let words = [
        "leaf put first",
        "order",
        "twice",
        "another chain",
        "byte order mark",
    ];
    says(found["seen"].as_str().unwrap(), &words);
}

/// What others place is loaded as it is: what only pgcertd would set right does not count as a pair that loads.
#[test]
fn a_file_counts_as_loadable_where_postgres_loads_it_as_it_is() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let stranger = Ca::new(&world, "Stranger");
    let mut loadable = 0;
    // OpenSSL 1.1.1 stops at a byte order mark.
    let reads_marks = postgres::has_openssl_3();
    let ways = WAYS.iter();
    for way in ways.filter(|way| reads_marks || !way.name.contains("byte order mark")) {
        let pieces = Pieces::issued_by(&stage.ca, &stranger);
        let text = (way.written)(&pieces.unix());
        let text = format!("{}\n{}", text.trim_end(), pieces.next.key_pem);
        let begun = stage.cluster.log().len();
        fs::write(&stage.cert, &text).unwrap();
        give(&stage.cert, world.postgres(), 0o600);
        stage.cluster.reload_by_hand();
        let loads = eventually(SOON, "it was loaded or refused", || {
            let refused = stage.cluster.log()[begun..].contains("was not reloaded");
            let served = stage.cluster.peer().map(|peer| peer.fingerprint)?;
            match (served == pieces.next.fingerprint, refused) {
                (false, false) => Err("neither yet".to_owned()),
                (loads, _) => Ok(loads),
            }
        });
        let ours = KeyedBundle::loaded(text.as_bytes(), text.as_bytes());
        println!(
            "{}: Postgres {loads}, {:?}",
            way.name,
            ours.as_ref().map(drop)
        );
        assert_eq!(ours.is_ok(), loads, "{}", way.name);
        loadable += u32::from(loads);
    }
    assert!((5..12).contains(&loadable), "{loadable}");
}

/// One form that is no PEM, and the command that is advised.
struct Other {
    says: &'static str,
    /// A line for a shell, in a directory with `good.pem` and `good.key`.
    made: &'static str,
    /// The file that it is in place of.
    file: &'static str,
    /// What the remedy names, `FILE` being that file.
    command: &'static str,
    /// What a person types more, and where the result belongs.
    then: &'static str,
}

const OTHERS: [Other; 8] = [
    Other {
        says: "PKCS#7",
        made: "openssl crl2pkcs7 -nocrl -certfile good.pem -out fullchain.pem",
        file: "fullchain.pem",
        command: "openssl pkcs7 -print_certs -in FILE -out fullchain.pem",
        then: "",
    },
    Other {
        says: "PKCS#7",
        made: "openssl crl2pkcs7 -nocrl -certfile good.pem -outform DER -out fullchain.pem",
        file: "fullchain.pem",
        command: "openssl pkcs7 -inform DER -print_certs -in FILE -out fullchain.pem",
        then: "",
    },
    Other {
        says: "PKCS#12",
        made: "openssl pkcs12 -export -in good.pem -inkey good.key -passout pass: -out fullchain.pem",
        file: "fullchain.pem",
        command: "openssl pkcs12 -in FILE -nodes -out both.pem",
        then: " -passin pass: && mv both.pem fullchain.pem",
    },
    Other {
        says: "DER",
        made: "openssl x509 -in good.pem -outform DER -out fullchain.pem",
        file: "fullchain.pem",
        command: "openssl x509 -inform DER -in FILE -out cert.pem",
        then: " && mv cert.pem fullchain.pem",
    },
    Other {
        says: "UTF-16",
        made: "iconv -f UTF-8 -t UTF-16 good.pem >fullchain.pem",
        file: "fullchain.pem",
        command: "iconv -f UTF-16 -t UTF-8 FILE >fullchain.pem",
        then: "",
    },
    Other {
        says: r"written as \n",
        made: r"awk 1 ORS='\\n' good.pem >fullchain.pem",
        file: "fullchain.pem",
        command: r#"printf '%b\n' "$(cat FILE)" >fullchain.pem"#,
        then: "",
    },
    Other {
        says: "DER",
        made: "openssl pkey -in good.key -outform DER -out privkey.pem",
        file: "privkey.pem",
        command: "openssl pkey -inform DER -in FILE -out privkey.pem",
        then: "",
    },
    Other {
        says: "encrypted",
        made: "openssl pkey -in good.key -aes256 -passout pass:x -out privkey.pem",
        file: "privkey.pem",
        command: "openssl pkey -in FILE -out privkey.pem",
        then: " -passin pass:x",
    },
];

#[test]
fn what_is_no_pem_is_told_with_the_command_that_makes_it_so() {
    let world = or_skip!(World::new());
    let files = InPlace::new(&world, "files");
    let stage = Stage::build(&world).files(files.path()).start();
    let hook = [
        "sync",
        "--json",
        "--lineage",
        files.path().to_str().unwrap(),
    ];
    let mut served = stage.first.clone();
    let shell = |line: &str| {
        let mut shell = Command::new("sh");
        let shell = shell.args(["-ec", line]).current_dir(files.path());
        run(shell, SOON).result().unwrap();
    };
    for other in &OTHERS {
        // The leaf alone is a chain: DER holds no more. The signature of its CA counts for clients that know that.
        let next = stage.ca.issue(&[HOST]);
        files.put("good.pem", next.fullchain_pem().as_bytes());
        files.put("good.key", next.key_pem.as_bytes());
        files.put("fullchain.pem", next.fullchain_pem().as_bytes());
        files.put("privkey.pem", next.key_pem.as_bytes());
        shell(other.made);
        let done = stage.pgcertd(&hook);
        let row = done.instance(NAME);
        println!("{}: {row}", other.made);
        assert_eq!(row["outcome"], "refused", "{row}");
        assert_eq!(done.code(), 1);
        let problem = row["problem"].as_str().unwrap();
        says(problem, &[other.says, other.command]);
        stage.keeps(&served);

        let moved = format!("mv {0} given.{0}", other.file);
        let given = format!("given.{}", other.file);
        shell(&format!(
            "{moved}; {}{}",
            other.command.replace("FILE", &given),
            other.then
        ));
        let done = stage.pgcertd(&hook);
        let row = done.instance(NAME);
        assert_eq!(row["outcome"], "deployed", "{}: {row}", other.command);
        stage.keeps(&next);
        served = next;
    }

    // What no command mends is told all the same.
    let next = stage.ca.issue(&[HOST]);
    let page = "<!DOCTYPE html>\n<title>502 Bad Gateway</title>\n";
    let swapped = (next.key_pem.clone(), next.fullchain_pem());
    for (chain, key, words) in [
        (page, &*next.key_pem, ["web page", "curl"]),
        (
            &*swapped.0,
            &*swapped.1,
            ["the key file the certificate", "swap"],
        ),
    ] {
        files.put("fullchain.pem", chain.as_bytes());
        files.put("privkey.pem", key.as_bytes());
        let done = stage.pgcertd(&hook);
        let row = done.instance(NAME);
        says(row["problem"].as_str().unwrap(), &words);
        assert_eq!(done.code(), 1, "{row}");
    }
    stage.keeps(&served);
}
