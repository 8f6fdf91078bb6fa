//! Looks at an instance: its files, its process, what it serves and, where something is amiss, why.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::attempt::Proven;
use super::plan::{self, Intent, Readiness};
use super::standards::{Clock, Standards, depends_on_roots, roots_where_they_matter};
use super::state::Observation;
use super::{Asking, Keeper};
use crate::bundle::Bundle;
use crate::config::{Address, Verify};
use crate::host::privilege::as_user;
use crate::lineage::Source;
use crate::problem::Problem;
use crate::server::probe::{AskedName, Served, Shown};
use crate::server::process::Process;
use crate::server::settings::{SettingsError, TlsSettings};
use crate::server::{InstanceError, InstanceSnapshot, Purpose, Server, Unseen};
use crate::trust::Needed;

impl Keeper {
    /// Looks at everything, and changes nothing.
    pub(crate) async fn observe(&mut self, source: &Source, settle: Duration) -> Observation {
        self.observe_after(source, settle, None).await
    }

    /// The same right after a deployment; `proof` is what the server showed then, and by which run of it.
    pub(super) async fn observe_after(
        &mut self,
        source: &Source,
        settle: Duration,
        proof: Option<(Served, i64)>,
    ) -> Observation {
        let looked = match self.instance.refresh(Purpose::Look).await {
            Ok(()) => self.instance.look().await,
            Err(error) => Err(error),
        };
        let sight = match looked {
            Ok(sight) => sight,
            Err(error) => return self.blind(source, error).await,
        };
        let clock = Clock {
            now: Timestamp::now(),
            settle_timeout: settle,
        };
        let intent = Intent::default();
        let standards = self.standards(source, &sight, intent, clock).await;
        let installed = &sight.look.installed;
        let readiness = plan::readiness(source, installed, &self.instance.config, &standards);
        let run = sight.server.process().map(Process::run);
        let served = match proof {
            Some((served, shown_by)) if run == Some(shown_by) => Ok(served),
            _ => self.served(&sight).await,
        };
        Box::pin(self.finish(source, readiness, sight, Some(served))).await
    }

    async fn blind(&mut self, source: &Source, error: InstanceError) -> Observation {
        let absent = crate::server::files::Installed::Absent;
        let clock = Clock {
            now: Timestamp::now(),
            settle_timeout: Duration::ZERO,
        };
        let they_matter = depends_on_roots(source.bundle(), clock.now);
        let standards = Standards {
            clock,
            roots: roots_where_they_matter(they_matter).await,
            forced: false,
            client_use: None,
        };
        Observation {
            source: source.clone(),
            readiness: plan::readiness(source, &absent, &self.instance.config, &standards),
            sight: Err(error),
            served: Err(Unseen::Down),
            settings: None,
            faults: Vec::new(),
            pinned: None,
            contended: false,
            failure: None,
            roots: standards.roots,
            at: clock.now,
        }
    }

    pub(super) async fn finish(
        &mut self,
        source: &Source,
        readiness: Readiness,
        sight: InstanceSnapshot,
        served: Option<Result<Served, Unseen>>,
    ) -> Observation {
        let served = match served {
            Some(served) => served,
            None => self.served(&sight).await,
        };
        let installed = sight.look.installed.bundle();
        let amiss = match (&served, installed) {
            (Ok(served), Some(installed)) => !served.shown().is_of(installed),
            (seen, installed) => seen.is_ok() || installed.is_some(),
        };
        let identity = installed.map(|bundle| bundle.identity());
        if let (Some(bundle), false, Some(process)) = (identity, amiss, sight.server.process()) {
            let run = process.run();
            self.memory.proven = Some(Proven { bundle, run });
        }
        self.memory.loaded = self.memory.loaded.or(identity);
        self.pieces = self
            .pieces
            .or_else(|| installed.map(|bundle| bundle.pieces()));
        let config = &self.instance.config;
        let wanted = config.verify == Verify::Handshake;
        // Whether a CRL is used shows nowhere else, nor always whether a CA file is.
        let ask = amiss || config.ca.is_some();
        let about = source.bundle().map(|b| b.fingerprint());
        let pinned = if amiss || about != installed.map(|found| found.fingerprint()) {
            // It only explains what is amiss, and is not needed to say that something is.
            sight.pinned().await.unwrap_or(None)
        } else {
            None
        };
        let settings = match (&sight.server, ask, installed) {
            // What the server has under the name that they give may be an older file.
            _ if pinned.is_some() => None,
            (Server::Up(process), true, _) if wanted => Some(self.settings(process, &sight).await),
            // The right leaf may be read from another file, which no renewal reaches.
            (Server::Up(process), false, Some(found))
                if wanted && Some(found.fingerprint()) != self.vouched =>
            {
                self.settings_at_leisure(process, &sight).await
            }
            _ => None,
        };
        let at = Timestamp::now();
        let sent_depends = served.as_ref().is_ok_and(|candidate| {
            Needed::depends_on_roots(&candidate.leaf, &candidate.rest(), at)
        });
        let they_matter = sent_depends
            || depends_on_roots([source.bundle(), installed].into_iter().flatten(), at);
        let roots = roots_where_they_matter(they_matter).await;
        let faults = match &settings {
            Some(Ok(settings)) if amiss && served.is_ok() => {
                self.faults_elsewhere(settings.clone(), &sight).await
            }
            _ => Vec::new(),
        };
        Observation {
            source: source.clone(),
            readiness,
            sight: Ok(sight),
            served,
            settings,
            faults,
            pinned,
            contended: self.memory.contended(),
            failure: self
                .failure
                .as_ref()
                .filter(|(of, _)| *of == about)
                .map(|(_, problem)| problem.clone()),
            roots,
            at,
        }
    }

    /// What the lineage's bundle is judged by.
    pub(super) async fn standards(
        &mut self,
        source: &Source,
        sight: &InstanceSnapshot,
        intent: Intent,
        clock: Clock,
    ) -> Standards {
        let bundles = [source.bundle(), sight.look.installed.bundle()];
        let they_matter = depends_on_roots(bundles.into_iter().flatten(), clock.now);
        let roots = roots_where_they_matter(they_matter).await;
        let serves_alone =
            |bundle: &Arc<Bundle>| bundle.leaf().facts().may_authenticate == Some(false);
        let client_use = if source.bundle().is_some_and(serves_alone) {
            self.instance.client_use(sight).await
        } else {
            None
        };
        Standards {
            clock,
            roots,
            forced: intent.force,
            client_use,
        }
    }

    /// What the server's configuration says; Postgres is asked where that may have changed.
    async fn settings(
        &mut self,
        process: &Process,
        sight: &InstanceSnapshot,
    ) -> Result<TlsSettings, SettingsError> {
        self.instance.known_tls_settings(process, sight).await
    }

    /// The settings for the names that count with what is installed.
    fn by_name(&mut self, settings: TlsSettings, sight: &InstanceSnapshot) -> TlsSettings {
        let installed = sight.look.installed.bundle();
        self.instance
            .with_names(settings, installed.map(|bundle| &**bundle))
    }

    /// What keeps the server from loading anything new beside the files of the instance, as far as that shows.
    async fn faults_elsewhere(
        &self,
        settings: TlsSettings,
        sight: &InstanceSnapshot,
    ) -> Vec<Problem> {
        let config = self.instance.config.clone();
        let looked = as_user(sight.targets.server, move || {
            settings.faults_elsewhere(&config)
        });
        looked.await.unwrap_or_default()
    }

    /// The same where nothing seems amiss.
    async fn settings_at_leisure(
        &mut self,
        process: &Process,
        sight: &InstanceSnapshot,
    ) -> Option<Result<TlsSettings, SettingsError>> {
        let Some(postmaster) = process.postmaster() else {
            return Some(self.instance.tls_settings(process, sight).await);
        };
        let (data, server) = (&sight.targets.data, sight.targets.server);
        let configuration = &mut self.instance.configuration;
        let settings = if self.asking == Asking::AtOnce {
            let asked = configuration.tls_settings_at_leisure(postmaster, data, server);
            asked.await?
        } else {
            let remembered = configuration.remembered(postmaster, data).await;
            let is_due = match remembered {
                Some(_) => configuration.is_old(),
                None => !configuration.has_failed(postmaster),
            };
            if is_due {
                self.asking = Asking::Owed;
            }
            Ok(remembered?)
        };
        Some(settings.map(|settings| self.by_name(settings, sight)))
    }

    /// Whether the server's configuration is known to name other files, or no TLS. Where it
    /// serves the installed leaf as it is, the reload is for the CA and CRL files.
    pub(super) async fn uses_other_files(
        &mut self,
        sight: &InstanceSnapshot,
        shown: Option<Shown>,
    ) -> bool {
        let Server::Up(process) = &sight.server else {
            return false;
        };
        let settings = self.settings(process, sight).await;
        let config = &self.instance.config;
        let leaf = sight
            .look
            .installed
            .bundle()
            .map(|bundle| bundle.fingerprint());
        let serves_leaf = shown.is_some_and(|shown| Some(shown.leaf) == leaf);
        settings.is_ok_and(|tls_settings| {
            let is_known = |not_used| matches!(not_used, Ok(Some(_)));
            is_known(tls_settings.not_used(&config.cert_file, &config.key_file))
                || serves_leaf && is_known(tls_settings.companions_not_used(config))
        })
    }

    /// Whether the server was asked to load what is installed, and something else was known to keep it from that, which
    /// still does.
    pub(super) async fn is_blocked(&mut self, sight: &InstanceSnapshot) -> bool {
        let installed = sight
            .look
            .installed
            .bundle()
            .map(|bundle| bundle.identity());
        let run = sight.server.process().map(Process::run);
        let asked = self.memory.asked.filter(|asked| !asked.is_answered);
        if asked.is_none_or(|request| Some(request.bundle) != installed || Some(request.run) != run)
        {
            return false;
        }
        let Server::Up(process) = &sight.server else {
            return false;
        };
        match Box::pin(self.settings(process, sight)).await {
            Ok(settings) => !self.faults_elsewhere(settings, sight).await.is_empty(),
            Err(_) => false,
        }
    }

    pub(super) async fn served(&mut self, sight: &InstanceSnapshot) -> Result<Served, Unseen> {
        if self.instance.config.verify == Verify::None {
            return Err(Unseen::NotWanted);
        }
        let Server::Up(process) = &sight.server else {
            return Err(Unseen::Down);
        };
        let addresses = self.instance.addresses(process).map_err(Unseen::Nowhere)?;
        let limit = self.instance.config.verify_timeout;
        let served = match sight.look.installed.bundle() {
            Some(installed) => {
                let looked = self.served_by_name(process, sight, &addresses, installed);
                Box::pin(looked).await?
            }
            None => self.instance.served(&addresses, limit).await?,
        };
        let installed = sight.look.installed.bundle().map(|b| b.fingerprint());
        if Some(served.leaf.fingerprint()) != installed
            && let Some(another) = self.instance.another(process, &served, limit).await
        {
            return Err(another);
        }
        Ok(served)
    }

    /// What the names that count get. Where those who ask for none get something else, the configuration tells whether
    /// that is meant so.
    async fn served_by_name(
        &mut self,
        process: &Process,
        sight: &InstanceSnapshot,
        addresses: &[Address],
        installed: &Bundle,
    ) -> Result<Served, Unseen> {
        let limit = self.instance.config.verify_timeout;
        let looked = self.instance.served_by_name(addresses, installed, limit);
        let looked = looked.await;
        let is_odd = match &looked {
            Ok(served) => served.is_divided && served.asked == AskedName::Absent,
            Err(unseen) => unseen.is_alert(),
        };
        if !is_odd {
            return looked;
        }
        let names = self.instance.asked_names(Some(installed));
        let asked = self.settings(process, sight).await;
        if asked.is_err() || self.instance.asked_names(Some(installed)) == names {
            return looked;
        }
        let again = self.instance.served_by_name(addresses, installed, limit);
        again.await
    }
}
