//! Clients that verify, told as `docs/clients.md` tells them, against a real server: each takes the
//! right name and root, and refuses another name, another root, and where it can none at all.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use rcgen::{BasicConstraints, CertificateParams, IsCa};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::world::{
    SOON, World,
    ca::{Ca, Options},
    cluster::Cluster,
    command,
    postgres::{Programs, fetched},
    process::run,
    resolving,
    skipped::Skipped,
};

const HOST: &str = "pg.example.com";
const OTHER: &str = "db.example.com";

/// How the texts call the file of roots, and name it to a client.
const ROOT_FILE: &str = "/etc/ssl/our-root.pem";

/// A server with a database for the texts' user, and two roots.
struct Scene<'w> {
    world: &'w World,
    ours: Ca,
    theirs: Ca,
    cluster: Cluster,
}

impl<'w> Scene<'w> {
    fn new(world: &'w World) -> Self {
        Self::with(world, |_| {})
    }

    /// With another certificate than the usual one.
    fn with(world: &'w World, adjust: fn(&mut CertificateParams)) -> Self {
        let (ours, theirs) = (Ca::new(world, "Ours"), Ca::new(world, "Theirs"));
        let options = Options {
            adjust,
            ..Options::default()
        };
        let target = world.target("16-main");
        world.place(&ours.issue_with(&[HOST], &options), &target);
        let cluster = Cluster::build(world).tls(&target).start();
        cluster.sql("create role app login");
        cluster.sql("create database app");
        Self {
            world,
            ours,
            theirs,
            cluster,
        }
    }

    /// A program of PATH to which both names are this server.
    fn program(&self, name: &str) -> Command {
        let hosts = [("127.0.0.1", HOST), ("127.0.0.1", OTHER)];
        resolving(self.world, &hosts, name)
    }

    /// A block of the texts, as it is for this server.
    fn filled(&self, block: &str, host: &str, root: &Path) -> String {
        for part in [HOST, "5432", ROOT_FILE] {
            assert!(block.contains(part), "{part} is not in:\n{block}");
        }
        block
            .replace(HOST, host)
            .replace("5432", &self.cluster.port().to_string())
            .replace(ROOT_FILE, root.to_str().unwrap())
    }

    /// Has a client connect, by the block that it is given.
    #[track_caller]
    fn is_verified(
        &self,
        block: &str,
        misnamed: &str,
        unknown: &str,
        connect: impl Fn(&str) -> Result<String, String>,
    ) {
        let right = self.filled(block, HOST, self.ours.root());
        assert_eq!(connect(&right).err(), None, "{right}");
        let other_name = self.filled(block, OTHER, self.ours.root());
        refused(connect(&other_name), misnamed);
        let other_root = self.filled(block, HOST, self.theirs.root());
        refused(connect(&other_root), unknown);
    }

    /// Has a client connect that is told of no root.
    #[track_caller]
    fn needs_a_root(
        &self,
        block: &str,
        without: &str,
        connect: impl Fn(&str) -> Result<String, String>,
    ) {
        let block = self.filled(block, HOST, Path::new(ROOT_FILE));
        let parameter = ["&", " "].map(|mark| format!("{mark}sslrootcert={ROOT_FILE}"));
        let rootless = block.replace(&parameter[0], "").replace(&parameter[1], "");
        assert!(!rootless.contains("sslrootcert"), "{rootless}");
        refused(connect(&rootless), without);
    }
}

#[track_caller]
fn refused(outcome: Result<String, String>, part: &str) {
    let error = outcome.unwrap_err();
    println!("{}", error.trim());
    assert!(error.contains(part), "{part:?} is not in: {error}");
}

/// The first block of code below a heading of `docs/clients.md`.
fn documented(heading: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/clients.md");
    let text = fs::read_to_string(file).unwrap();
    let (_, section) = text.split_once(&format!("\n## {heading}\n")).unwrap();
    let (_, block) = section.split_once("\n```").unwrap();
    let (_language, block) = block.split_once('\n').unwrap();
    block.split("```").next().unwrap().to_owned()
}

/// Runs a line with psql in it, with the libpq of this version.
fn psql(scene: &Scene<'_>, libpq: u32, roots: &Path, line: &str) -> Result<String, String> {
    let mut shell = scene.program("sh");
    let psql = Programs::debian().path("psql");
    let path = psql.parent().unwrap().to_str().unwrap();
    shell.env("PATH", format!("{path}:/usr/bin:/bin"));
    // What stands for the system's roots.
    shell.env("SSL_CERT_FILE", roots);
    if libpq != 15 {
        shell.env("LD_LIBRARY_PATH", fetched(libpq).join("lib"));
    }
    let line = format!("{} -XAtqwc 'select 1'", line.trim_end());
    run(shell.arg("-c").arg(line), SOON).result()
}

#[test]
fn psql_verifies_with_libpq_14_to_18() {
    let world = or_skip!(World::new());
    let scene = Scene::new(&world);
    let block = documented("psql, and all that uses libpq");
    let ours = scene.ours.root();
    for libpq in [14, 15, 16, 17, 18] {
        println!("libpq {libpq}");
        let connect = |line: &str| psql(&scene, libpq, ours, line);
        scene.is_verified(
            &block,
            "does not match host name",
            "certificate verify failed",
            connect,
        );
        scene.needs_a_root(&block, "root.crt\" does not exist", connect);

        let system = block.replace(ROOT_FILE, "system");
        let system = system
            .replace(HOST, "HOST")
            .replace("5432", &scene.cluster.port().to_string());
        let right = system.replace("HOST", HOST);
        if libpq < 16 {
            refused(connect(&right), "\"system\" does not exist");
            continue;
        }
        assert_eq!(connect(&right).as_deref(), Ok("1"));
        let other_name = system.replace("HOST", OTHER);
        refused(connect(&other_name), "does not match host name");
        let other_root = psql(&scene, libpq, scene.theirs.root(), &right);
        refused(other_root, "certificate verify failed");
        let weak = right.replace("verify-full", "require");
        refused(connect(&weak), "weak sslmode");
    }
}

#[test]
fn psycopg_verifies() {
    let world = or_skip!(World::new());
    let scene = Scene::new(&world);
    let block = documented("psycopg");
    for block in [block.replace("psycopg", "psycopg2"), block] {
        let connect = |code: &str| {
            let code = format!("{code}connection.cursor().execute('select 1')\n");
            run(scene.program("/usr/bin/python3").arg("-c").arg(code), SOON).result()
        };
        scene.is_verified(
            &block,
            "does not match host name",
            "certificate verify failed",
            connect,
        );
        scene.needs_a_root(&block, "root.crt\" does not exist", connect);
    }
}

/// Where Node.js finds node-postgres.
fn node_modules() -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/fetch-node-postgres");
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients");
    // With the caller's environment: what reaches a registry from here is set there.
    let mut fetch = std::process::Command::new(script);
    fetch.arg(cache);
    match run(&mut fetch, SOON * 10).result() {
        Ok(path) => path,
        Err(error) => panic!("node-postgres cannot be fetched: {error}"),
    }
}

#[test]
fn node_postgres_verifies() {
    let world = or_skip!(World::new());
    let scene = Scene::new(&world);
    let block = documented("node-postgres");
    let modules = node_modules();
    let with = |roots: &Path, code: &str| {
        let code = format!(
            "{code}
            client.connect().then(() => client.query('select 1')).then(() => client.end(), (e) => {{
                console.error(e.message);
                process.exit(1);
            }});"
        );
        let mut node = scene.program("node");
        node.env("NODE_PATH", &modules)
            .env("NODE_EXTRA_CA_CERTS", roots);
        run(node.arg("-e").arg(code), SOON).result()
    };
    let connect = |code: &str| with(scene.theirs.root(), code);
    let unknown = "unable to get local issuer certificate";
    let misnamed = "does not match certificate's altnames";
    scene.is_verified(&block, misnamed, unknown, connect);
    scene.needs_a_root(&block, unknown, connect);
    let block = scene.filled(&block, HOST, Path::new(ROOT_FILE));
    let rootless = block.replace(&format!("&sslrootcert={ROOT_FILE}"), "");
    assert_eq!(with(scene.ours.root(), &rootless).err(), None);
}

/// A program with Go's lib/pq, as Debian has both.
fn lib_pq(world: &World) -> PathBuf {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients/go");
    let program = world.path().join("lib-pq");
    let mut go = command("go");
    go.args(["build", "-o"]).arg(&program);
    go.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/lib-pq.go"));
    // Where Debian's packages of libraries are; no proxy is asked for modules.
    go.env("GO111MODULE", "off")
        .env("GOPATH", "/usr/share/gocode")
        .env("GOCACHE", cache)
        .env("CGO_ENABLED", "0");
    match run(&mut go, SOON * 10).result() {
        Ok(_) => program,
        Err(error) => panic!("`make deps` installs Go and lib/pq: {error}"),
    }
}

#[test]
fn lib_pq_verifies() {
    let world = or_skip!(World::new());
    let scene = Scene::new(&world);
    let block = documented("Go: lib/pq and pgx");
    let program = lib_pq(&world);
    let program = program.to_str().unwrap();
    let with = |scene: &Scene<'_>, roots: &Path, url: &str| {
        let mut client = scene.program(program);
        client.env("SSL_CERT_FILE", roots).arg(url.trim());
        run(&mut client, SOON).result()
    };
    let connect = |url: &str| with(&scene, scene.theirs.root(), url);
    let misnamed = format!("certificate is valid for {HOST}, not {OTHER}");
    let unknown = "certificate signed by unknown authority";
    scene.is_verified(&block, &misnamed, unknown, connect);
    // With no file named, the system's roots count.
    scene.needs_a_root(&block, unknown, connect);
    let rootless = scene.filled(&block, HOST, Path::new(ROOT_FILE));
    let rootless = rootless.replace(&format!("&sslrootcert={ROOT_FILE}"), "");
    assert_eq!(
        with(&scene, scene.ours.root(), &rootless).as_deref(),
        Ok("1")
    );

    // A common name alone is none to Go.
    let mut scene = scene;
    let options = Options {
        adjust: |params| params.subject_alt_names.clear(),
        ..Options::default()
    };
    let named = scene.ours.issue_with(&[HOST], &options);
    world.place(&named, &world.target("16-main"));
    scene.cluster.reload_by_hand();
    let taken = scene.cluster.verify_full(scene.ours.root(), HOST);
    assert!(taken.is_ok(), "{taken:?}");
    let url = scene.filled(&block, HOST, scene.ours.root());
    refused(with(&scene, scene.ours.root(), &url), "Common Name");
}

#[test]
fn pgjdbc_verifies() {
    const JAR: &str = "/usr/share/java/postgresql.jar";
    let world = or_skip!(World::new());
    let modules = Command::new("java").arg("--list-modules").output();
    let can_compile =
        modules.is_ok_and(|done| String::from_utf8_lossy(&done.stdout).contains("jdk.compiler@"));
    if !can_compile {
        return Skipped::because("javac is missing: `make deps` installs it").count();
    }
    let scene = Scene::new(&world);
    let block = documented("pgjdbc");
    let connect = |code: &str| {
        let file = world.path().join("Connect.java");
        let code = format!(
            "import java.sql.*;
            class Connect {{
                public static void main(String[] none) throws Exception {{
                    {code}
                    connection.createStatement().execute(\"select 1\");
                }}
            }}"
        );
        fs::write(&file, code).unwrap();
        let mut java = scene.program("java");
        run(java.args(["-cp", JAR]).arg(file), SOON * 2).result()
    };
    let unknown = "unable to find valid certification path";
    scene.is_verified(&block, "could not be verified", unknown, connect);
    scene.needs_a_root(&block, "Could not open SSL root certificate file", connect);

    // Java's own store, in which the system's roots are.
    let store = world.path().join("store");
    let mut keytool = command("keytool");
    keytool
        .args(["-importcert", "-noprompt", "-storepass", "changeit"])
        .args(["-alias", "ours", "-file"])
        .arg(scene.ours.root())
        .arg("-keystore")
        .arg(&store);
    run(&mut keytool, SOON).result().unwrap();
    let block = scene.filled(&block, HOST, Path::new(ROOT_FILE));
    let by_store = block.replace(
        &format!("sslrootcert={ROOT_FILE}"),
        "sslfactory=org.postgresql.ssl.DefaultJavaSSLFactory",
    );
    refused(connect(&by_store), unknown);
    let properties = format!(
        "System.setProperty(\"javax.net.ssl.trustStore\", \"{}\");
        System.setProperty(\"javax.net.ssl.trustStorePassword\", \"changeit\");\n",
        store.display()
    );
    assert_eq!(connect(&(properties.clone() + &by_store)).err(), None);
    let other_name = properties + &by_store.replace(HOST, OTHER);
    refused(connect(&other_name), "could not be verified");
}

/// Connects with tokio-postgres over rustls, as the line says.
fn tokio_postgres(root: &Path, line: &str) -> Result<String, String> {
    let roots = CertificateDer::pem_file_iter(root)
        .unwrap()
        .collect::<Result<Vec<_>, _>>();
    let mut trusted = RootCertStore::empty();
    trusted.add_parsable_certificates(roots.unwrap());
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(trusted)
        .with_no_client_auth();
    let tls = MakeRustlsConnect::new(config);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let connecting = async {
        let (client, connection) = tokio_postgres::connect(line, tls).await?;
        let driver = tokio::spawn(connection);
        client.simple_query("select 1").await?;
        drop(client);
        drop(driver.await);
        Ok("1".to_owned())
    };
    runtime
        .block_on(connecting)
        .map_err(|error: tokio_postgres::Error| {
            let source = std::error::Error::source(&error);
            format!(
                "{error}: {}",
                source.map_or_else(String::new, ToString::to_string)
            )
        })
}

/// The line that the block of the texts gives tokio-postgres.
fn line_of(block: &str) -> String {
    let (_, rest) = block.split_once("let line = \"").unwrap();
    rest.split('"').next().unwrap().to_owned()
}

/// The same for this server, which the test's own process does not find by its name.
fn line_for(scene: &Scene<'_>, host: &str) -> String {
    let line = line_of(&documented("tokio-postgres"));
    let port = scene.cluster.port().to_string();
    line.replace(HOST, host).replace("5432", &port) + " hostaddr=127.0.0.1"
}

#[test]
fn tokio_postgres_verifies() {
    let world = or_skip!(World::new());
    let scene = Scene::new(&world);
    let (ours, theirs) = (scene.ours.root(), scene.theirs.root());
    let (right, other) = (line_for(&scene, HOST), line_for(&scene, OTHER));
    assert_eq!(tokio_postgres(ours, &right).as_deref(), Ok("1"));
    refused(tokio_postgres(ours, &other), "not valid for name");
    refused(tokio_postgres(theirs, &right), "UnknownIssuer");
    let full = right.replace("sslmode=require", "sslmode=verify-full");
    refused(tokio_postgres(ours, &full), "sslmode");
}

/// What `probe` notes of certificates that libpq takes.
#[test]
fn rustls_refuses_what_probe_says_it_does() {
    let forms: [fn(&mut CertificateParams); 2] = [
        |params| params.subject_alt_names.clear(),
        |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
    ];
    for form in forms {
        let world = or_skip!(World::new());
        let scene = Scene::with(&world, form);
        let taken = scene.cluster.verify_full(scene.ours.root(), HOST);
        assert!(taken.is_ok(), "{taken:?}");
        let line = line_for(&scene, HOST);
        refused(
            tokio_postgres(scene.ours.root(), &line),
            "invalid peer certificate",
        );
    }
}
