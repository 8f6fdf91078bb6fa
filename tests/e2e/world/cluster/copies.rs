//! Clusters that began as a copy of another one.

use std::{os::unix::process::CommandExt, path::Path, process::Command};

use super::{Cluster, Port, World};
use crate::world::{SOON, command, process::run};

impl Cluster {
    /// A pg_basebackup of this cluster to a directory that is not there yet; add arguments to it.
    pub fn base_backup(&self, to: &Path) -> Command {
        let mut backup = self.as_owner("pg_basebackup");
        backup
            .args(["--checkpoint=fast", "--no-sync", "--no-password"])
            .args(["--dbname", &self.superuser()])
            .arg("--pgdata")
            .arg(to);
        backup
    }

    /// A cluster on a base backup of this one, which may still take more arguments. It has a port of
    /// its own, and the configuration that this one has now.
    #[track_caller]
    pub fn copied(
        &self,
        world: &World,
        name: &str,
        more: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Self {
        let home = world.postgres_directory(&format!("clusters/{name}"), 0o755);
        let data = home.join("data");
        run(more(&mut self.base_backup(&data)), SOON * 2)
            .result()
            .unwrap();
        self.at(name, &home)
    }

    /// A hot standby that streams from this cluster over TLS; it does not run yet.
    #[track_caller]
    pub fn standby(&self, world: &World, name: &str) -> Self {
        self.copied(world, name, |backup| backup.arg("--write-recovery-conf"))
    }

    /// A cluster on what was copied to `home`.
    pub fn at(&self, name: &str, home: &Path) -> Self {
        let config = self.config.as_ref().map(|ours| {
            let config = home.join("config");
            let mut copy = command("cp");
            copy.args(["-a", "--"]).args([ours, &config]);
            run(&mut copy, SOON).result().unwrap();
            config
        });
        let cluster = Self {
            log_to: None,
            name: name.to_owned(),
            programs: self.programs.clone(),
            owner: self.owner,
            data: home.join("data"),
            config,
            sockets: self.sockets.clone(),
            log: home.join("postgres.log"),
            port: Port::claim(),
            env: self.env.clone(),
            postmaster: None,
        };
        cluster.write_base();
        cluster
    }

    /// Makes this cluster, which is shut down, follow another one that went on without it.
    pub fn rewind(&self, to: &Self) -> Command {
        let mut rewind = self.as_owner("pg_rewind");
        rewind
            .args(["--no-sync", "--write-recovery-conf", "--source-server"])
            .arg(to.superuser())
            .arg("--target-pgdata")
            .arg(&self.data);
        rewind
    }

    /// Makes a standby a primary, and waits until it is one.
    #[track_caller]
    pub fn promote(&self) {
        assert_eq!(self.sql("select pg_promote()"), "t");
        // Else pg_rewind may take it for what it was.
        self.sql("checkpoint");
    }

    /// Waits until it has what the other one has now.
    #[track_caller]
    pub fn catches_up_with(&self, primary: &Self) {
        let here = primary.sql("select pg_current_wal_lsn()");
        let there = format!("select pg_last_wal_replay_lsn() >= '{here}'::pg_lsn");
        crate::world::eventually(SOON, "the standby has caught up", || {
            self.sql(&there) == "t"
        });
    }

    fn superuser(&self) -> String {
        let port = self.port();
        format!("host=127.0.0.1 port={port} user=postgres dbname=postgres sslmode=require")
    }

    fn as_owner(&self, program: &str) -> Command {
        let mut command = command(self.programs.path(program));
        command.uid(self.owner.uid).gid(self.owner.gid);
        command
    }
}
