//! `pg_hosts.conf` as the server reads it, and as pgcertd does.

use pgcertd::testing::problem::Problem;

use super::*;

/// A line of words that mean something, and of some that do not.
fn line() -> impl Strategy<Value = String> {
    let names = prop::sample::select(vec![
        "a.example",
        "A.EXAMPLE",
        "b.example",
        "a.example,b.example",
        "b.example , c.example",
        "\"a.example\"",
        "*",
        "\"*\"",
        "/no_sni/",
        "\"/no_sni/\"",
        "/No_SNI/",
        "*,a.example",
        "*.example",
        "a.example.",
        "127.0.0.1",
        "@names",
        "\"@names\"",
        "@star",
        "@nowhere",
        "\"\"",
        "a.example a.example",
        "\"a.exam\"ple",
        "all",
    ]);
    let pair = prop::sample::select(vec![
        "ONE ONE",
        "TWO TWO",
        "ONE \\\n ONE",
        "one.pem one.pem",
        "TWO",
        "ONE,TWO ONE",
    ]);
    let rest = prop::sample::select(vec![
        "",
        "",
        "",
        "",
        "",
        "",
        " # note",
        " \"\"",
        " CA",
        " CA \"true\" on",
        " CA echo t",
        " CA echo o",
        " CA echo 0 more",
    ]);
    let whole = prop::sample::select(vec![
        "",
        "# a.example ONE ONE",
        "include more.conf",
        "include_if_exists nowhere.conf",
        "include nowhere.conf",
        "include_dir more.d",
        "include empty.conf",
    ]);
    let line = (names, pair, rest).prop_map(|(names, pair, rest)| format!("{names} {pair}{rest}"));
    prop_oneof![4 => line, 1 => whole.prop_map(str::to_owned)]
}

/// Judged by the library and by the server: which files are refused as a whole, and what each name gets by the others.
#[test]
fn the_library_reads_random_lines_as_the_server_does() {
    let world = or_skip!(World::with_postgres(BY_NAME));
    let mut named = Named::new(&world);
    let data = named.stage.cluster.data_directory().to_owned();
    let (one, _) = named.other("one");
    let (two, file_two) = named.other("two");
    let owner = world.postgres();
    let beside = |name: &str, text: &str| {
        let file = data.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
        give(&file, owner, 0o600);
        file
    };
    let file_one = beside("one.pem", &one.combined_pem());
    let ca = beside("ca.pem", &named.stage.ca.root_pem());
    beside("names", "# those\na.example c.example\n\nd.example\n");
    beside("star", "*\n");
    beside("empty.conf", "\n");
    beside("more.conf", &format!("b.example {file_two} {file_two}\n"));
    beside("more.d/1.conf", "d.example one.pem one.pem\n");
    beside("more.d/no.txt", "nonsense\n");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let prober = Prober::new().unwrap();
    let address = Address {
        host: "127.0.0.1".into(),
        port: named.stage.cluster.port(),
    };
    let server = Ids {
        uid: owner.uid,
        gid: owner.gid,
    };
    let hosts = [
        "a.example",
        "b.example",
        "c.example",
        "d.example",
        "z.example",
    ];
    let mut names: Vec<AskedName> = hosts.map(AskedName::by_host).into();
    names.push(AskedName::Absent);
    let pairs = [
        (file_one.as_path(), &one.fingerprint),
        (std::path::Path::new(&file_two), &two.fingerprint),
    ];
    let mut before: Vec<Option<String>> = Vec::new();
    let mut runner = TestRunner::new(Runs::default());
    let files = prop::collection::vec(line(), 1..5);
    let (mut refused, mut taken) = (0, 0);
    for round in 0..48 {
        let text = files.new_tree(&mut runner).unwrap().current().join("\n") + "\n";
        let text = text
            .replace("ONE", file_one.to_str().unwrap())
            .replace("TWO", &file_two)
            .replace("CA", ca.to_str().unwrap());
        named.write_hosts(&text);
        let hosts = Hosts::read(&named.hosts_file(), &data, server);
        let mut faults: Vec<Problem> = hosts.faults_of_file().collect();
        faults.extend(hosts.faults_of_pairs(|_| false));
        let begun = named.stage.cluster.log().len();
        named.stage.cluster.reload_by_hand();
        let got: Vec<Option<String>> = names
            .iter()
            .map(|name| {
                let looked =
                    prober.look_for(&address, name, Opening::Request, Duration::from_secs(5));
                match runtime.block_on(looked) {
                    Ok(served) => Some(served.leaf.fingerprint().to_string()),
                    Err(error) if error.is_alert() => None,
                    Err(error) => panic!("{error}: {text}"),
                }
            })
            .collect();
        let log = named.stage.cluster.log()[begun..].to_owned();
        let is_refused = log.contains("SSL configuration was not reloaded");
        assert_eq!(!faults.is_empty(), is_refused, "{text}\n{faults:?}\n{log}");
        if is_refused {
            refused += 1;
            assert!(before.is_empty() || got == before, "{text}");
            continue;
        }
        taken += 1;
        let expected: Vec<Option<String>> = names
            .iter()
            .map(|name| {
                if hosts.is_empty() {
                    return Some(named.stage.first.fingerprint.clone());
                }
                let given = pairs.iter().find(|(file, _)| hosts.gives(name, file, file));
                given.map(|(_, fingerprint)| (*fingerprint).clone())
            })
            .collect();
        assert_eq!(got, expected, "{round}: {text}\n{log}");
        before = got;
    }
    println!("{refused} refused, {taken} taken");
    assert!(refused > 5 && taken > 5, "{refused} refused, {taken} taken");
}
