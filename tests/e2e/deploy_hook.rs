//! The hook for hosts without the daemon, run by certbot itself.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use crate::{
    stage::says,
    world::{
        World,
        acme::{Certbot, Pebble},
        cluster::Cluster,
        config::{Config, Instance},
        daemon::pgcertd,
        on_one_line,
    },
};

const DOMAIN: &str = "pg.example.com";

/// A running cluster on what certbot got first, and the hook where certbot looks for it.
struct Host<'p> {
    certbot: Certbot<'p>,
    cluster: Cluster,
    /// A directory with a `pgcertd` that knows the world's configuration.
    programs: PathBuf,
    /// How each run of `pgcertd` by the hook ended, a line each.
    statuses: PathBuf,
}

impl<'p> Host<'p> {
    fn new(world: &World, pebble: &'p Pebble, server_names: &str) -> Self {
        let certbot = Certbot::new(world, pebble);
        certbot.issue(DOMAIN);
        let target = world.target("16-main");
        let mut cluster = Cluster::build(world).tls(&target).create();
        let config = |name: &str| {
            Config::new(world)
                .watch("directories", vec![certbot.live().to_str().unwrap()])
                .instance(Instance::for_cluster(&cluster, DOMAIN).set("server_names", vec![name]))
                .write()
        };
        let first = pgcertd(world, &config(DOMAIN), &["sync", "--json"]);
        assert_eq!(first.code(), 0, "{first:?}");
        let config = config(server_names);
        cluster.start().unwrap();
        let hook = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/certbot-deploy-hook");
        fs::create_dir_all(certbot.deploy_hooks()).unwrap();
        symlink(hook, certbot.deploy_hooks().join("pgcertd")).unwrap();
        let (programs, statuses) = (world.directory("programs"), world.path().join("statuses"));
        let program = format!(
            "#!/bin/sh\n{} --config {} \"$@\"\nstatus=$?\necho $status >>{}\nexit $status\n",
            env!("CARGO_BIN_EXE_pgcertd"),
            config.path().display(),
            statuses.display()
        );
        fs::write(programs.join("pgcertd"), program).unwrap();
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(programs.join("pgcertd"), executable).unwrap();
        Self {
            certbot,
            cluster,
            programs,
            statuses,
        }
    }

    /// Renews everything, which certbot must call a success; gives what it said, in one line, and
    /// the exit status of each of pgcertd's runs.
    #[track_caller]
    fn renewed(&self) -> (String, String) {
        let done = self.certbot.renew_reporting(&self.programs);
        let said = format!("{}{}", done.stdout, done.stderr);
        println!("{said}");
        assert_eq!(done.code(), 0);
        (
            on_one_line(&said),
            fs::read_to_string(&self.statuses).unwrap(),
        )
    }
}

#[test]
fn certbots_deploy_hook_brings_a_renewal_into_the_servers_that_use_it() {
    let world = or_skip!(World::new());
    let pebble = Pebble::start(&world);
    let host = Host::new(&world, &pebble, DOMAIN);
    let (before, _) = host.certbot.leaf(DOMAIN);

    let (said, statuses) = host.renewed();

    assert_eq!(statuses, "0\n");
    let (after, _) = host.certbot.leaf(DOMAIN);
    assert_ne!(before, after);
    assert_eq!(host.cluster.served(), after);
    says(&said, &["16-main: pg.example.com", "deployed and served"]);
}

#[test]
fn certbots_deploy_hook_leaves_a_lineage_that_no_server_uses_alone() {
    let world = or_skip!(World::new());
    let pebble = Pebble::start(&world);
    let host = Host::new(&world, &pebble, DOMAIN);
    host.certbot.issue("www.example.com");

    let (said, statuses) = host.renewed();

    assert_eq!(statuses, "0\n0\n");
    says(
        &said,
        &[
            "no instance uses lineage",
            "live/www.example.com: nothing to do",
        ],
    );
    assert_eq!(host.cluster.served(), host.certbot.leaf(DOMAIN).0);
}

/// certbot reports the hook's status, and succeeds all the same: it has renewed.
#[test]
fn certbot_reports_a_deploy_hook_that_refuses_and_succeeds_all_the_same() {
    let world = or_skip!(World::new());
    let pebble = Pebble::start(&world);
    let host = Host::new(&world, &pebble, "other.example.com");
    let (before, _) = host.certbot.leaf(DOMAIN);

    let (said, statuses) = host.renewed();

    assert_eq!(statuses, "1\n");
    says(
        &said,
        &[
            "Hook 'deploy-hook' reported error code 1",
            "refused",
            "other.example.com",
        ],
    );
    assert_eq!(host.cluster.served(), before);
}
