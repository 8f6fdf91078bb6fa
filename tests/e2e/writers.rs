//! Who writes certificates, and how: the real programs, at full speed and in slow motion. What they
//! leave half is awaited, what they leave at the end is served, and nothing else was ever installed.
//!
//! A program that cannot be had from Debian, or needs a whole cluster around it, has a stand-in that
//! says so in its name.

mod acme_sh;
mod ansible;
mod caddy;
mod certbot;
mod combined;
mod consul_template;
mod copies;
mod dehydrated;
mod editors;
mod kubernetes;
mod lego;
mod silent;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    stage::{HOST, daemon_view_of},
    world::{
        SOON, World,
        ca::{Ca, Issued, describe},
        cluster::Cluster,
        config::{Config, Instance},
        daemon::{Daemon, Launch, eventually_state, pgcertd},
        eventually,
        record::{Record, leaf_in},
        throughout,
    },
};

/// Long enough for a half renewal to be taken by a program that would: several times the usual
/// `debounce`.
const A_WHILE: Duration = Duration::from_millis(700);

/// What the daemon says of files that do not belong together yet.
const AWAITED: &str = "waiting for the rest of the renewal";

/// A lineage that one server is to serve.
struct Source {
    /// As in the configuration: a name, or an absolute directory.
    lineage: PathBuf,
    /// The directory, absolute.
    directory: PathBuf,
    chain: String,
    key: String,
    is_usual: bool,
}

impl Source {
    /// A directory whose files have names that pgcertd knows.
    fn usual(directory: &Path, chain: &str, key: &str) -> Self {
        Self {
            lineage: directory.to_owned(),
            directory: directory.to_owned(),
            chain: chain.to_owned(),
            key: key.to_owned(),
            is_usual: true,
        }
    }

    /// `fullchain.pem` and `privkey.pem`.
    fn pems(directory: &Path) -> Self {
        Self::usual(directory, "fullchain.pem", "privkey.pem")
    }

    /// A subdirectory of a watched directory, which the configuration calls by its name.
    fn called(watched: &Path, name: &str) -> Self {
        Self {
            lineage: name.into(),
            ..Self::pems(&watched.join(name))
        }
    }

    /// Files that the configuration names in `files`.
    fn named(directory: &Path, chain: &str, key: &str) -> Self {
        Self {
            is_usual: false,
            ..Self::usual(directory, chain, key)
        }
    }

    fn instance(&self, cluster: &Cluster) -> Instance {
        let instance = Instance::for_cluster(cluster, &self.lineage);
        if self.is_usual {
            return instance;
        }
        let mut files = toml::Table::new();
        files.insert("chain".to_owned(), self.chain.as_str().into());
        files.insert("key".to_owned(), self.key.as_str().into());
        instance.set("files", files)
    }

    fn paths(&self) -> [PathBuf; 2] {
        [&self.chain, &self.key].map(|name| self.directory.join(name))
    }

    /// The fingerprint of the leaf that the writer left.
    fn leaf(&self) -> String {
        let chain = fs::read_to_string(self.directory.join(&self.chain)).unwrap();
        // A combined file may begin with the key.
        describe(&chain[chain.find("-----BEGIN CERTIFICATE").unwrap()..]).0
    }
}

/// A server that is kept up to date, and all that was done to its certificate since.
struct Server {
    cluster: Cluster,
    target: PathBuf,
    source: Source,
    record: Record,
    /// What it served at first, then each renewal: these, and in this order, may be installed.
    leaves: Vec<String>,
}

/// Servers and a daemon that runs as the packages have it, on what a writer left.
struct Scene<'w> {
    world: &'w World,
    servers: Vec<Server>,
    config: Config,
    daemon: Daemon,
}

impl<'w> Scene<'w> {
    /// One server.
    #[track_caller]
    fn with_source(world: &'w World, source: Source) -> Self {
        Self::with(world, vec![source], |config| config)
    }

    /// A server for each source, and a last change of the configuration. Servers are named `16-1`
    /// and so on.
    #[track_caller]
    fn with(world: &'w World, sources: Vec<Source>, change: impl FnOnce(Config) -> Config) -> Self {
        let mut config = change(Config::new(world));
        let mut made = Vec::new();
        for (number, source) in (1..).zip(sources) {
            let name = format!("16-{number}");
            let target = world.target(&name);
            let cluster = Cluster::build(world).name(&name).tls(&target).create();
            config = config.instance(source.instance(&cluster));
            made.push((cluster, target, source));
        }
        let config = config.write();
        let synced = pgcertd(world, &config, &["sync", "--json"]);
        assert_eq!(synced.code(), 0, "{synced:?}");
        let servers: Vec<_> = made
            .into_iter()
            .map(|(mut cluster, target, source)| {
                cluster.start().unwrap();
                let first = source.leaf();
                assert_eq!(cluster.served(), first);
                Server {
                    record: Record::watching(&target),
                    leaves: vec![first],
                    cluster,
                    target,
                    source,
                }
            })
            .collect();
        let mut daemon = Launch::new(world).like_the_unit().daemon(&config);
        daemon.ready();
        let scene = Self {
            world,
            servers,
            config,
            daemon,
        };
        scene.is_in_sync("at first");
        scene
    }

    /// Every server is.
    #[track_caller]
    fn is_in_sync(&self, what: &str) {
        for server in &self.servers {
            let name = server.cluster.name();
            eventually(SOON, &format!("{what}: {name} is in sync"), || {
                let view = daemon_view_of(&self.config, name)?;
                if view["state"] == "in_sync" {
                    Ok(())
                } else {
                    Err(view.to_string())
                }
            });
        }
    }

    /// New clients of the first server get what its writer has just left.
    #[track_caller]
    fn serves_what_was_left(&mut self, what: &str) {
        self.serves(0, what);
    }

    /// The same of any server.
    #[track_caller]
    fn serves(&mut self, server: usize, what: &str) {
        let server = &mut self.servers[server];
        let new = server.source.leaf();
        assert_ne!(
            server.leaves.last(),
            Some(&new),
            "{what}: nothing new was written"
        );
        server.leaves.push(new);
        eventually(SOON, what, || server.still());
    }

    /// Nothing has changed for any server.
    fn still(&self) -> Result<(), String> {
        self.servers.iter().try_for_each(Server::still)
    }

    /// Nothing changes for any server in time enough to take what is half.
    #[track_caller]
    fn leaves_it(&self, what: &str) {
        throughout(A_WHILE, what, || {
            self.servers.iter().try_for_each(Server::holds_still)
        });
        assert_eq!(self.still(), Ok(()), "{what}");
    }

    /// The daemon sees that the first server's lineage is half, and says so with these words.
    #[track_caller]
    fn awaits(&self, words: &str) {
        let problem = eventually(SOON, &format!("the daemon waits: {words}"), || {
            let view = daemon_view_of(&self.config, self.servers[0].cluster.name())?;
            let problem = view["problem"].as_str().unwrap_or_default();
            if view["state"] == "waiting" && problem.contains(words) {
                Ok(problem.to_owned())
            } else {
                Err(view.to_string())
            }
        });
        println!("{problem}");
        assert_eq!(self.still(), Ok(()), "{problem}");
    }

    /// The daemon has seen half a renewal so many times as it went by, and said so.
    #[track_caller]
    fn has_awaited(&self, times: usize) {
        let log = self.daemon.log();
        assert!(log.matches(AWAITED).count() >= times, "{log}");
    }

    /// Ends the test: the daemon stops, each server has been made to load what it had to and nothing
    /// else, and comes up again with the last of it.
    #[track_caller]
    fn ends(self) {
        self.is_in_sync("at the end");
        for server in &self.servers {
            eventually_state(self.world, &self.config, server.cluster.name(), "in_sync");
        }
        println!("{}", self.daemon.log());
        assert_eq!(self.daemon.stop().code(), Some(0));
        for server in self.servers {
            server.ends();
        }
    }
}

impl Server {
    fn last(&self) -> &str {
        self.leaves.last().unwrap()
    }

    /// Its file is as it was; for a loop, since no process is needed to see it.
    fn holds_still(&self) -> Result<(), String> {
        match leaf_in(&self.target) {
            leaf if leaf == self.last() => Ok(()),
            other => Err(format!("{} holds {other}", self.target.display())),
        }
    }

    fn still(&self) -> Result<(), String> {
        match self.cluster.peer()?.fingerprint {
            served if served == self.last() => Ok(()),
            other => Err(format!("{} serves {other}", self.cluster.name())),
        }
    }

    #[track_caller]
    fn ends(mut self) {
        let name = self.cluster.name().to_owned();
        assert_eq!(self.record.end(), self.leaves[1..], "installed at {name}");
        let loaded = self.cluster.log().matches("received SIGHUP").count();
        assert_eq!(loaded, self.leaves.len() - 1, "loaded by {name}");
        self.cluster.restart().unwrap();
        assert_eq!(self.cluster.served(), *self.leaves.last().unwrap());
        assert!(self.target.is_file());
    }
}

/// An authority, and the directory in which a test leaves what it issued, for a program to bring it
/// to its place.
struct Inbox {
    ca: Ca,
    directory: PathBuf,
}

impl Inbox {
    fn new(world: &World) -> Self {
        Self {
            ca: Ca::new(world, "Test Root"),
            directory: world.directory("inbox"),
        }
    }

    /// Leaves a new certificate as `cert.pem`, `chain.pem`, `fullchain.pem` and `privkey.pem`.
    fn next(&self) -> Issued {
        let issued = self.ca.issue(&[HOST]);
        for (name, content) in [
            ("cert.pem", &issued.leaf_pem),
            ("chain.pem", &issued.chain_pem()),
            ("fullchain.pem", &issued.fullchain_pem()),
            ("privkey.pem", &issued.key_pem),
        ] {
            fs::write(self.directory.join(name), content).unwrap();
        }
        issued
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}
