//! Postgres in a container, pgcertd on the host or in a container beside it.
//!
//! The host is a pid namespace of the test's own, whose first process notes each SIGHUP.

mod composed;
mod found;
mod networks;
mod sidecar;
mod single_files;
mod verdicts;

use std::path::{Path, PathBuf};

use crate::stage::HOST;
use crate::world::{
    World,
    ca::{Ca, Issued},
    cluster::{Cluster, ClusterBuilder},
    config::{Config, Instance},
    container::{CERTIFICATES, Container, ContainerBuilder, Host, contained},
    daemon::{Launch, Outcome},
    lineage::Lineage,
};

/// A host, an authority and a lineage that servers in containers share.
struct Ground<'w> {
    world: &'w World,
    host: Host,
    ca: Ca,
    lineage: Lineage,
    first: Issued,
}

impl<'w> Ground<'w> {
    fn new(world: &'w World) -> Self {
        let ca = Ca::new(world, "Test Root");
        let first = ca.issue(&[HOST]);
        let mut lineage = Lineage::new(world, HOST);
        lineage.renew(&first);
        Self {
            world,
            host: Host::new(world),
            ca,
            lineage,
            first,
        }
    }

    /// A cluster of this name, whose target holds the first certificate.
    fn cluster(&self, name: &str) -> Cluster {
        self.cluster_with(name, |instance| instance)
    }

    fn cluster_with(
        &self,
        name: &str,
        more: impl FnOnce(ClusterBuilder<'w>) -> ClusterBuilder<'w>,
    ) -> Cluster {
        self.world.place(&self.first, &self.world.target(name));
        more(contained(Cluster::build(self.world).name(name))).create()
    }

    /// The directory of the cluster's target.
    fn certificates(&self, cluster: &Cluster) -> PathBuf {
        let target = self.world.target(cluster.name());
        target.parent().unwrap().to_owned()
    }

    /// A container for the cluster, with the directory of its target.
    fn container(&self, cluster: &Cluster) -> ContainerBuilder<'_> {
        ContainerBuilder::new(&self.host).volume(&self.certificates(cluster), CERTIFICATES)
    }

    fn started(&self, cluster: &Cluster) -> Container {
        self.container(cluster).postgres(cluster)
    }

    fn config(&self, instances: impl IntoIterator<Item = Instance>) -> Config {
        let config = Config::new(self.world);
        instances
            .into_iter()
            .fold(config, |config, instance| config.instance(instance))
            .write()
    }

    fn config_of(&self, cluster: &Cluster) -> Config {
        self.config([Instance::for_cluster(cluster, HOST)])
    }

    fn renew(&mut self) -> Issued {
        let issued = self.ca.issue(&[HOST]);
        self.lineage.renew(&issued);
        issued
    }

    /// Runs a command of pgcertd on the host.
    #[track_caller]
    fn pgcertd(&self, config: &Config, arguments: &[&str]) -> Outcome {
        Launch::new(self.world)
            .on(&self.host)
            .run(config, arguments)
    }

    /// What `sync` made of one instance: its outcome and the problem's sentence.
    #[track_caller]
    fn synced(&self, config: &Config, name: &str) -> (String, String) {
        let done = self.pgcertd(config, &["sync", "--json"]).instance(name);
        told(&done, "outcome")
    }

    /// The state that `status` shows, and the problem's sentence.
    #[track_caller]
    fn state(&self, config: &Config, name: &str) -> (String, String) {
        let seen = self.pgcertd(config, &["status", "--json"]).instance(name);
        told(&seen, "state")
    }

    /// What `check` finds of this kind: its weight, what it saw and what mends it.
    #[track_caller]
    fn found(&self, config: &Config, id: &str) -> (String, String) {
        let json = self.pgcertd(config, &["check", "--json"]).json();
        let findings = json["instances"][0]["findings"].as_array().unwrap();
        let Some(finding) = findings.iter().find(|finding| finding["id"] == id) else {
            panic!("{id} was not looked at: {json}");
        };
        let (weight, seen) = told(finding, "weight");
        assert_eq!(seen, "");
        (
            weight,
            format!("{}; {}", finding["seen"], finding["mend"]["sentence"]),
        )
    }
}

fn told(json: &serde_json::Value, word: &str) -> (String, String) {
    let text = |key: &str| json[key].as_str().unwrap_or_default().to_owned();
    (text(word), text("problem"))
}

/// Asserts an outcome or a state without a problem.
#[track_caller]
fn is_well((word, problem): (String, String), wanted: &str) {
    assert_eq!((word.as_str(), problem.as_str()), (wanted, ""));
}

/// Asserts a word, and that the sentence with it has all of these.
#[track_caller]
fn says((word, sentence): (String, String), wanted: &str, parts: &[&str]) {
    assert_eq!(word, wanted, "{sentence}");
    crate::stage::says(&sentence, parts);
}

/// The first certificate in a file.
#[track_caller]
fn holds(file: &Path, issued: &Issued) {
    assert_eq!(crate::stage::leaf_of(file), Ok(issued.leaf_pem.clone()));
}
