//! What differs between the kinds of servers: how the process is found, and where its configuration
//! says which files it uses.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::ciphers::Ciphers;
use super::error::InstanceError;
use super::files::{FilesSnapshot, Targets};
use super::instance::Instance;
use super::patroni::{self, Patroni};
use super::pgbouncer::{self, PgBouncer};
use super::postmaster::{Absence, Phase, Postmaster};
use super::process::Process;
use super::program::{self, Program};
use super::settings::{SettingsError, TlsSettings};
use super::snapshot::{InstanceSnapshot, Server};
use crate::config::ServerKind;
use crate::host::look::CannotLook;
use crate::host::namespaces;
use crate::host::privilege::apart;

/// The first major version of PostgreSQL that gives clients a certificate by the name they ask for (`ssl_sni`).
const FIRST_BY_NAME: u32 = 19;

impl Instance {
    /// The look at the files, with the server that uses them.
    ///
    /// # Errors
    /// What the server's own files say cannot be read.
    pub(crate) async fn with_server(
        &mut self,
        mut look: FilesSnapshot,
    ) -> Result<InstanceSnapshot, InstanceError> {
        let server = match self.config.kind() {
            ServerKind::Postgres => self.postgres(&mut look).await?,
            ServerKind::PgBouncer => self.pgbouncer().await?,
            ServerKind::Patroni => self.patroni().await?,
        };
        if let Server::Up(process) = &server {
            self.last = Some(Arc::clone(process));
        }
        self.bundles = [look.installed.bundle().cloned(), look.previous.clone()];
        let (targets, _) = self.writer().await?;
        Ok(InstanceSnapshot {
            look: Arc::new(look),
            server,
            targets,
            pinned: None,
        })
    }

    /// The Postgres that runs on the data directory.
    async fn postgres(&mut self, look: &mut FilesSnapshot) -> Result<Server, InstanceError> {
        if self.lodger.is_some() {
            look.pid_file = self.on_data(|targets| Ok(targets.pid_file())).await?;
        }
        let (targets, _) = self.writer().await?;
        Ok(match look.pid_file.clone() {
            Err(absence) => Server::Down(absence),
            Ok(file) if file.phase == Some(Phase::Stopping) => Server::Down(Absence::Stopping),
            Ok(file) => {
                let identified =
                    apart(move || Postmaster::identify(file, targets.data_id, targets.server.uid));
                match identified.await? {
                    Ok(postmaster) => {
                        self.notice_run(postmaster.file.start_time).await;
                        Server::Up(Arc::new(Process::Postmaster(postmaster)))
                    }
                    Err(absence) => Server::Down(absence),
                }
            }
        })
    }

    /// Finds out, once a run, whether the server may answer by name. A server before PostgreSQL 19 has one TLS context.
    async fn notice_run(&mut self, start_time: i64) {
        if self.noticed_run == Some(start_time) {
            return;
        }
        self.noticed_run = Some(start_time);
        let version = self.server_version().await.ok().flatten();
        // An unknown version may.
        let major = version.and_then(|version| version.parse::<u32>().ok());
        self.has_one_context = major.is_some_and(|major| major < FIRST_BY_NAME);
    }

    /// The Patroni that was started with the configuration file.
    async fn patroni(&mut self) -> Result<Server, InstanceError> {
        let (targets, _) = self.writer().await?;
        let found = apart(move || Patroni::find(&targets.data, targets.server.uid)).await?;
        let mut patroni = match found {
            Ok(patroni) => patroni,
            Err(missing) => return Ok(Server::Down(missing.absence(self.config.home()))),
        };
        // With the rights of the server's user, since the configuration may be any file of its.
        let read = patroni.reading();
        patroni.api = self.on_data(move |targets| Ok(read(&targets.data))).await?;
        if let (Some(root), Ok(api)) = (patroni.root.clone(), patroni.api.clone()) {
            let known = [self.config.cert_file.clone(), self.config.key_file.clone()];
            let seen = apart(move || api.through(&root, &known.each_ref().map(PathBuf::as_path)));
            patroni.api = seen.await?.map_err(|cannot| cannot.problem());
        }
        Ok(Server::Up(Arc::new(Process::Patroni(Box::new(patroni)))))
    }

    /// The PgBouncer that was started with the configuration file.
    async fn pgbouncer(&mut self) -> Result<Server, InstanceError> {
        // Relative paths in it begin where the process works, which is known once it is found.
        let root = PathBuf::from("/");
        let config_file = self.config.home().to_owned();
        let read = self.on_data(move |targets| {
            let settings = pgbouncer::Settings::read(&targets.data, &root);
            Ok(settings.map(|settings| (pgbouncer::PgBouncerPidFile::read(&settings), settings)))
        });
        let (pid_file, settings) = match read.await? {
            Ok(read) => read,
            Err(error) => return Ok(Server::Down(Absence::Unreadable(error.to_string()))),
        };
        self.pid_file.clone_from(&settings.pid_file);
        let (targets, _) = self.writer().await?;
        let wanted = pgbouncer::Wanted {
            config_file,
            user: targets.server.uid,
        };
        let found = apart(move || PgBouncer::find(&wanted, &pid_file, settings));
        let mut found = match found.await? {
            Ok(found) => found,
            Err(absence) => return Ok(Server::Down(absence)),
        };
        if found.directory != Path::new("/") {
            match self.settings_of(&found).await? {
                Ok(settings) => {
                    self.pid_file.clone_from(&settings.pid_file);
                    found.settings = settings;
                }
                Err(why) => return Ok(Server::Down(Absence::Unreadable(why))),
            }
        }
        Ok(Server::Up(Arc::new(Process::PgBouncer(Box::new(found)))))
    }

    /// Where the server leaves its number, as its own configuration said at the last look; nothing
    /// where that is known from the config.
    pub(crate) fn pid_file(&self) -> Option<&Path> {
        self.pid_file.as_deref()
    }

    /// What a PgBouncer's configuration says now, or why it does not.
    async fn settings_of(
        &mut self,
        found: &PgBouncer,
    ) -> Result<Result<pgbouncer::Settings, String>, InstanceError> {
        let directory = found.directory.clone();
        let read =
            move |targets: &Targets| Ok(pgbouncer::Settings::read(&targets.data, &directory));
        let read = self.on_data(read).await?;
        let (root, mut settings) = match (found.root.clone(), read) {
            (_, Err(error)) => return Ok(Err(error.to_string())),
            (None, Ok(settings)) => return Ok(Ok(settings)),
            (Some(root), Ok(settings)) => (root, settings),
        };
        let known = [self.config.cert_file.clone(), self.config.key_file.clone()];
        let seen = apart(move || {
            let known = known.each_ref().map(PathBuf::as_path);
            let as_here = |path| namespaces::as_here(&root, path, &known);
            settings.client_cert = settings.client_cert.map(as_here).transpose()?;
            settings.tls = settings.tls.through(&root, &known)?;
            Ok(settings)
        });
        Ok(seen
            .await?
            .map_err(|cannot: CannotLook| cannot.problem().to_string()))
    }

    /// What makes the certificate one of a client as well, in words; none where nothing does, or where
    /// that cannot be told. What is down is known by its file alone.
    pub(crate) async fn client_use(&mut self, sight: &InstanceSnapshot) -> Option<String> {
        match (self.config.kind(), sight.server.process()) {
            (ServerKind::Postgres, _) => None,
            (_, Some(Process::PgBouncer(pgbouncer))) => {
                let settings = self.settings_of(pgbouncer).await.ok()?.ok()?;
                settings.client_use()
            }
            (ServerKind::PgBouncer, _) => {
                let read = |targets: &Targets| {
                    Ok(pgbouncer::Settings::read(&targets.data, Path::new("/")))
                };
                self.on_data(read).await.ok()?.ok()?.client_use()
            }
            (_, Some(Process::Patroni(patroni))) => {
                let api = patroni.api.as_ref().ok()?;
                let client_use = api.client_use(true)?;
                if api.client_is_said {
                    return Some(client_use);
                }
                // Patroni is run for that, so it is asked last.
                let version = patroni.version(sight.targets.server).await?;
                (version < (3, 2, 0)).then_some(client_use)
            }
            (ServerKind::Patroni, _) => {
                let read = |targets: &Targets| Ok(patroni::read(&targets.data, &[]));
                self.on_data(read).await.ok()?.ok()?.client_use(false)
            }
        }
    }

    /// What the server's configuration says of its TLS files, as the next reload would read it.
    ///
    /// # Errors
    /// It cannot be asked or read.
    pub(crate) async fn tls_settings(
        &mut self,
        process: &Process,
        sight: &InstanceSnapshot,
    ) -> Result<TlsSettings, SettingsError> {
        match process {
            Process::Postmaster(postmaster) => {
                let (data, server) = (&sight.targets.data, sight.targets.server);
                let settings = program::tls_settings(postmaster, data, server).await?;
                let installed = sight.look.installed.bundle();
                Ok(self.with_names(settings, installed.map(|bundle| &**bundle)))
            }
            Process::PgBouncer(pgbouncer) => {
                let unreadable = |reason: String| SettingsError::Unreadable { reason };
                let read = self.settings_of(pgbouncer).await;
                let settings = read.map_err(|error| unreadable(error.to_string()))?;
                Ok(settings.map_err(unreadable)?.tls)
            }
            Process::Patroni(patroni) => {
                let settings = patroni.tls(&self.config);
                settings.map_err(|problem| SettingsError::Unreadable {
                    reason: problem.to_string(),
                })
            }
        }
    }

    /// The same; Postgres is asked where that may have changed.
    ///
    /// # Errors
    /// The same.
    pub(crate) async fn known_tls_settings(
        &mut self,
        process: &Process,
        sight: &InstanceSnapshot,
    ) -> Result<TlsSettings, SettingsError> {
        let Some(postmaster) = process.postmaster() else {
            return self.tls_settings(process, sight).await;
        };
        let (data, server) = (&sight.targets.data, sight.targets.server);
        let asked = self.configuration.tls_settings(postmaster, data, server);
        let settings = asked.await?;
        let installed = sight.look.installed.bundle();
        Ok(self.with_names(settings, installed.map(|bundle| &**bundle)))
    }

    /// What the server's configuration says of ciphers, as the next reload would read it; nothing
    /// where it cannot be asked, or says nothing of them.
    pub(crate) async fn ciphers(
        &mut self,
        process: &Process,
        sight: &InstanceSnapshot,
    ) -> Option<Ciphers> {
        match process {
            Process::Postmaster(postmaster) => {
                let (data, server) = (&sight.targets.data, sight.targets.server);
                let names = ["ssl_ciphers", "ssl_max_protocol_version"];
                let program = Program::from_postmaster(postmaster).ok()?;
                let [ciphers, newest] = program.ask(data, server, names).await.ok()?;
                Some(Ciphers::of_postgres(&ciphers, &newest))
            }
            Process::PgBouncer(pgbouncer) => {
                let settings = self.settings_of(pgbouncer).await.ok()?.ok()?;
                let ciphers = settings.ciphers?;
                let protocols = settings.protocols.unwrap_or_default();
                Some(Ciphers::of_pgbouncer(&ciphers, &protocols))
            }
            Process::Patroni(_) => None,
        }
    }

    /// Configuration files that changed after `loaded`, as a time of the wall clock: a reload
    /// applies what waits in them too. Empty where that cannot be told.
    pub(crate) async fn changed_since(
        &mut self,
        process: &Process,
        sight: &InstanceSnapshot,
        loaded: SystemTime,
    ) -> Vec<PathBuf> {
        match process {
            Process::Postmaster(postmaster) => {
                let (data, server) = (&sight.targets.data, sight.targets.server);
                let configuration = &mut self.configuration;
                let changed = configuration.changed_since(postmaster, data, server, loaded);
                changed.await
            }
            Process::PgBouncer(pgbouncer) => {
                let files = pgbouncer.settings.files.clone();
                let changed = self.on_data(move |_| {
                    let changed = |file: &PathBuf| {
                        let modified =
                            std::fs::metadata(file).and_then(|metadata| metadata.modified());
                        modified.is_ok_and(|time| time > loaded)
                    };
                    Ok(files.into_iter().filter(changed).collect())
                });
                changed.await.unwrap_or_default()
            }
            Process::Patroni(_) => {
                let config_file = self.config.home().to_owned();
                let changed = self.on_data(move |_| {
                    let changed = |file: &PathBuf| {
                        let modified =
                            std::fs::metadata(file).and_then(|metadata| metadata.modified());
                        modified.is_ok_and(|moment| moment > loaded)
                    };
                    let files = patroni::files(&config_file).unwrap_or_default();
                    Ok(files.into_iter().filter(changed).collect())
                });
                changed.await.unwrap_or_default()
            }
        }
    }
}
