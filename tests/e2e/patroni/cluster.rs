//! A leader and a replica, whose servers are instances like any other.

use std::fs;

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    stage::{HOST, says},
    world::{
        SOON, World,
        ca::{Ca, Issued},
        config::Config,
        daemon::{Launch, Outcome, eventually_state, pgcertd},
        eventually,
        inventory::Inventory,
        lineage::Lineage,
        patroni::{Bed, Node, Settings},
        postgres::PATRONI,
    },
};

/// A bed without TLS between client and server, a lineage, and a config without an instance.
struct Stage<'w> {
    world: &'w World,
    bed: Bed,
    ca: Ca,
    lineage: Lineage,
    config: Config,
}

/// How the instance of a node is called when `setup` proposes it.
fn instance_of(node: &Node) -> String {
    format!("{}-data", node.name())
}

impl<'w> Stage<'w> {
    fn new(world: &'w World) -> Self {
        let ca = Ca::new(world, "Test Root");
        let mut lineage = Lineage::new(world, HOST);
        lineage.renew(&ca.issue(&[HOST]));
        let bed = Bed::start(world, |_| Settings::default());
        let config = Config::new(world)
            // Nothing here may wait for the timer, or be mended by it.
            .watch("resync", "1h")
            .write();
        Self {
            world,
            bed,
            ca,
            lineage,
            config,
        }
    }

    fn renew(&mut self) -> Issued {
        let issued = self.ca.issue(&[HOST]);
        self.lineage.renew(&issued);
        issued
    }

    /// `setup` for a node's server.
    #[track_caller]
    fn setup(&self, node: &Node, arguments: &[&str]) -> Outcome {
        let data = node.cluster.data_directory().to_str().unwrap();
        let which = ["setup", "--data-directory", data];
        pgcertd(self.world, &self.config, &[&which, arguments].concat())
    }

    /// Does by hand what `setup --print` says: the file in conf.d, a sync, and Patroni's own configuration.
    #[track_caller]
    fn set_up_as_printed(&mut self, index: usize) {
        let node = &self.bed.nodes[index];
        let printed = self.setup(node, &["--print", "--json"]).json();
        let text = self.setup(node, &["--print"]);
        let file = printed["fragment"]["path"].as_str().unwrap();
        fs::create_dir_all(self.config.path().with_file_name("conf.d")).unwrap();
        fs::write(file, printed["fragment"]["text"].as_str().unwrap()).unwrap();
        pgcertd(self.world, &self.config, &["sync", &instance_of(node)]);

        let (_, lines) = text
            .stdout()
            .split_once("postgresql:\n  parameters:\n")
            .unwrap();
        let (lines, _) = lines.split_once("\n\n").unwrap();
        node.edit("  parameters:\n", &format!("  parameters:\n{lines}\n"));
        self.patroni_reloads(index, "ssl", "on");
    }

    /// Has Patroni take in its file, and with that write the server's configuration anew.
    #[track_caller]
    fn patroni_reloads(&mut self, index: usize, guc: &str, value: &str) {
        let node = &mut self.bed.nodes[index];
        assert!(node.signal(Signal::HUP));
        eventually(SOON, "Patroni sets it", || {
            node.cluster.sql(&format!("show {guc}")) == value
        });
    }

    /// Sets `mode = "observe"` in every file that `setup` proposed.
    fn observe_all(&self) {
        for node in &self.bed.nodes {
            let conf = self.config.path().with_file_name("conf.d");
            let file = conf.join(format!("{}.toml", instance_of(node)));
            let text = fs::read_to_string(&file).unwrap();
            fs::write(&file, text + "mode = \"observe\"\n").unwrap();
        }
    }

    /// How often each node's PostgreSQL was asked to reload.
    fn reloads(&self) -> [usize; 2] {
        let reloads = |index: usize| {
            let log = self.bed.nodes[index].log();
            log.matches("received SIGHUP").count()
        };
        [0, 1].map(reloads)
    }

    /// Clients of every node get this, and `status` says that all is well.
    #[track_caller]
    fn all_serve(&self, issued: &Issued) {
        for node in &self.bed.nodes {
            eventually(SOON, "the certificate is served", || {
                let peer = node.cluster.peer();
                peer.is_ok_and(|peer| peer.fingerprint == issued.fingerprint)
            });
            eventually_state(self.world, &self.config, &instance_of(node), "in_sync");
        }
    }

    /// What a failover, a restart or a broken connection would change: who leads, which timeline it
    /// is, since when which processes run, who sends to whom.
    #[track_caller]
    fn identity(&self) -> Vec<String> {
        let [leader, replica] = &self.bed.nodes;
        let started = "select pg_postmaster_start_time()";
        let timeline = "select timeline_id from pg_control_checkpoint()";
        let sender = "select pid, backend_start from pg_stat_replication";
        let receiver = "select pid from pg_stat_wal_receiver";
        let told =
            |member: &Value| format!("{} {} {}", member["Member"], member["Role"], member["TL"]);
        let mut seen: Vec<String> = leader.members().iter().map(told).collect();
        for node in &self.bed.nodes {
            let pid_file = node.cluster.data_directory().join("postmaster.pid");
            let pid = fs::read_to_string(pid_file).unwrap();
            seen.push(pid.lines().next().unwrap().to_owned());
            seen.push(node.pid().to_string());
            seen.push(node.cluster.sql(started));
            seen.push(node.cluster.sql(timeline));
        }
        seen.push(leader.cluster.sql(sender));
        seen.push(replica.cluster.sql(receiver));
        seen
    }
}

#[test]
fn a_renewal_reaches_both_nodes_of_a_patroni_cluster_without_a_failover_or_a_restart() {
    let world = or_skip!(World::with_debians(PATRONI));
    let mut stage = Stage::new(&world);
    let before = stage.identity();
    assert!(
        before[0].contains("Leader") || before[1].contains("Leader"),
        "{before:?}"
    );

    // `setup` leaves Patroni's configuration to Patroni, and says what to write into it.
    let refused = stage.setup(&stage.bed.nodes[0], &["--yes", "--lineage", HOST]);
    assert_eq!(refused.code(), 1, "{refused:?}");
    says(
        refused.stderr(),
        &["Patroni keeps", "ssl_cert_file", "setup --print"],
    );
    for index in [0, 1] {
        stage.set_up_as_printed(index);
    }
    assert_eq!(stage.identity(), before);

    let mut daemon = Launch::new(&world).like_the_unit().daemon(&stage.config);
    daemon.ready();
    let mut sessions = [0, 1].map(|index| stage.bed.nodes[index].cluster.session());
    let second = stage.renew();
    stage.all_serve(&second);

    // Patroni writes postgresql.conf anew, with what was changed in its own file and in etcd.
    let [leader, _] = &stage.bed.nodes;
    leader.edit("statement: -1", "statement: 60000");
    stage.patroni_reloads(0, "log_min_duration_statement", "1min");
    stage.bed.nodes[1].set_for_all("work_mem", "5MB");
    for node in &stage.bed.nodes {
        eventually(SOON, "every node has it", || {
            node.cluster.sql("show work_mem") == "5MB"
        });
    }
    let third = stage.renew();
    stage.all_serve(&third);
    for node in &stage.bed.nodes {
        let verified = node.cluster.verify_full(stage.ca.root(), HOST);
        assert_eq!(verified.as_deref(), Ok("TLSv1.3"), "{}", node.name());
    }

    assert_eq!(stage.identity(), before);
    for session in &mut sessions {
        assert_eq!(session.lives(), Ok(()));
    }
    let [leader, replica] = &stage.bed.nodes;
    leader.cluster.sql("create table seen (at timestamptz)");
    replica.cluster.catches_up_with(&leader.cluster);
    drop(sessions);
    assert_eq!(daemon.stop().code(), Some(0));

    // A first week of looking.
    stage.observe_all();
    let targets = [0, 1].map(|index| world.target(&instance_of(&stage.bed.nodes[index])));
    let homes = targets.map(|target| target.parent().unwrap().to_owned());
    let inventory = Inventory::under(&homes);
    let reloads = stage.reloads();
    let daemon = Launch::new(&world).like_the_unit().daemon(&stage.config);
    let fourth = stage.renew();
    for node in &stage.bed.nodes {
        let name = instance_of(node);
        let seen = eventually_state(&world, &stage.config, &name, "out_of_date");
        assert_eq!(seen["source"]["fingerprint"], *fourth.fingerprint);
        daemon.wait_for_log(&format!("{name}: out_of_date"));
        assert_eq!(node.cluster.served(), third.fingerprint);
    }
    inventory.is_untouched();
    assert_eq!(stage.reloads(), reloads);
    assert_eq!(daemon.stop().code(), Some(0));
}
