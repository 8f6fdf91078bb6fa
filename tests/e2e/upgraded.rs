//! What is said of a cluster that pg_upgradecluster has made: as its user, on the server as the upgrade leaves it.

use crate::world::{
    World,
    ca::Ca,
    cluster::Cluster,
    config::{Config, Instance},
    daemon::Launch,
    lineage::Lineage,
    on_one_line,
};

const HOST: &str = "pg.example.com";

#[test]
fn a_cluster_that_serves_a_stopped_ones_files_is_told_with_the_command_that_covers_it() {
    let world = or_skip!(World::new());
    let ca = Ca::new(&world, "Test Root");
    let issued = ca.issue(&[HOST]);
    Lineage::new(&world, HOST).renew(&issued);
    let target = world.target("15-main");
    world.place(&issued, &target);
    let mut old = Cluster::build(&world).name("old").tls(&target).start();
    old.stop();
    // As the upgrade copies the settings.
    let next = Cluster::build(&world).name("next").tls(&target).start();
    let other = Cluster::build(&world).name("other").start();
    let instance = Instance::new("15-main", HOST, old.data_directory());
    let instance = instance.set("server_names", vec![HOST.to_owned()]);
    let config = Config::new(&world).instance(instance).write();

    let as_postgres = [
        "setpriv",
        "--reuid=postgres",
        "--regid=postgres",
        "--clear-groups",
    ];
    let told = |cluster: &Cluster, config: &Config| {
        let data = cluster.data_directory().to_str().unwrap();
        let done = Launch::new(&world)
            .through(&as_postgres)
            .run(config, &["upgraded", data]);
        println!("{}{}", done.stdout(), done.stderr());
        assert_eq!(done.code(), 0);
        done.stdout().to_owned()
    };
    let said = told(&next, &config);
    let data = next.data_directory().display();
    let command = format!(" setup --data-directory {data} --lineage {HOST} --server-name {HOST}\n");
    assert!(said.contains(&command), "{said}");
    let words = on_one_line(&said);
    assert!(
        words.contains("serves the certificate of 15-main"),
        "{words}"
    );
    assert!(
        words.contains("remove the instance 15-main from"),
        "{words}"
    );

    let said = told(&other, &config);
    assert!(said.contains("no instance covers"), "{said}");
    assert!(said.contains(&format!(
        "setup --data-directory {}",
        other.data_directory().display()
    )));
    assert_eq!(told(&old, &config), "", "it is covered");
    let none = Config::new(&world).write();
    assert_eq!(told(&next, &none), "", "nobody uses pgcertd here");
}
