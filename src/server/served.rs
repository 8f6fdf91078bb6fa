//! Where an instance's server is looked at, and what it serves there.

use std::sync::Arc;
use std::time::Duration;

use super::instance::Instance;
use super::plain;
use super::probe::{self, AskedName, Opening, ProbeError, Prober, Served};
use super::process::Process;
use super::settings::{self, TlsSettings};
use super::unseen::Unseen;
use crate::bundle::Bundle;
use crate::config::Address;
use crate::problem::Problem;

impl Instance {
    /// Where to look at what `process` serves, best first; a sentence where nowhere.
    ///
    /// # Errors
    /// The server listens on Unix sockets alone, does not yet say where, or others answer for it.
    pub(crate) fn addresses(&self, process: &Process) -> Result<Vec<Address>, Problem> {
        if let Some(address) = &self.config.address {
            process.is_alone_at(address)?;
        }
        self.address_or(|| process.addresses())
    }

    /// The configured address, or else those at which the server says that it listens.
    ///
    /// # Errors
    /// As `listened` has it.
    pub(crate) fn address_or(
        &self,
        listened: impl FnOnce() -> Result<Vec<Address>, Problem>,
    ) -> Result<Vec<Address>, Problem> {
        match &self.config.address {
            Some(address) => Ok(vec![address.clone()]),
            None => listened(),
        }
    }

    /// How its clients ask for TLS.
    pub(crate) fn opening(&self) -> Opening {
        self.config.kind().profile().opening
    }

    /// Whether another server than `process` showed `served`: where the config names an
    /// address, `process` itself is looked at where it says that it listens, and shows another leaf,
    /// or hangs.
    pub(crate) async fn another(
        &self,
        process: &Process,
        served: &Served,
        limit: Duration,
    ) -> Option<Unseen> {
        self.config.address.as_ref()?;
        let own = process.addresses().ok()?;
        if own.contains(&served.address) {
            return None;
        }
        let names = [served.asked.clone()];
        let looked = first_served(&self.prober, &own, &names, None, self.opening(), limit);
        let own = match looked.await {
            Ok(own) => own,
            // It may show anything once it goes on, or can be asked.
            Err(unseen) if unseen.is_silence() || unseen.is_no_answer() => return Some(unseen),
            Err(_) => return None,
        };
        (own.leaf.fingerprint() != served.leaf.fingerprint()).then(|| Unseen::Another {
            address: served.address.clone(),
            leaf: served.leaf.fingerprint(),
            own: own.address,
            own_leaf: own.leaf.fingerprint(),
        })
    }

    /// Looks once at what the first reachable of `addresses` serves, to a client that asks for the first of the names.
    ///
    /// # Errors
    /// What the last address answered.
    pub(crate) async fn served(
        &self,
        addresses: &[Address],
        limit: Duration,
    ) -> Result<Served, Unseen> {
        let mut names = self.asked_names(None);
        names.truncate(1);
        first_served(&self.prober, addresses, &names, None, self.opening(), limit).await
    }

    /// The same for each of the names that count with `wanted`: what one of them gets in its place, if there is such a
    /// one.
    ///
    /// # Errors
    /// What the last address answered.
    pub(crate) async fn served_by_name(
        &self,
        addresses: &[Address],
        wanted: &Bundle,
        limit: Duration,
    ) -> Result<Served, Unseen> {
        let names = self.asked_names(Some(wanted));
        let (prober, opening) = (&self.prober, self.opening());
        first_served(prober, addresses, &names, Some(wanted), opening, limit).await
    }

    /// The same while the server is on its way to `wanted`: the other names are asked for once the first of them gets it,
    /// so that what the first gets in its place says nothing of theirs.
    ///
    /// # Errors
    /// What the last address answered.
    pub(crate) async fn served_in_turn(
        &self,
        addresses: &[Address],
        wanted: &Bundle,
        limit: Duration,
    ) -> Result<Served, Unseen> {
        let began = tokio::time::Instant::now();
        let (prober, opening) = (&self.prober, self.opening());
        let names = self.asked_names(Some(wanted));
        let (first, others) = names.split_at(names.len().min(1));
        let served = first_served(prober, addresses, first, None, opening, limit).await?;
        if others.is_empty() || !served.shown().is_of(wanted) {
            return Ok(served);
        }
        let address = [served.address];
        let left = limit.saturating_sub(began.elapsed());
        let other = first_served(prober, &address, others, Some(wanted), opening, left).await?;
        let is_divided = !other.shown().is_of(wanted);
        Ok(Served {
            is_divided,
            ..other
        })
    }

    /// What the first of the names that count with `bundle` gets, as a value that does not borrow the instance.
    pub(crate) fn glance(
        &self,
        addresses: Vec<Address>,
        bundle: Option<Arc<Bundle>>,
        limit: Duration,
    ) -> impl Future<Output = Option<Served>> + use<> {
        let (prober, opening) = (self.prober.clone(), self.opening());
        let mut names = self.asked_names(bundle.as_deref());
        names.truncate(1);
        async move {
            let served = first_served(&prober, &addresses, &names, None, opening, limit);
            served.await.ok()
        }
    }

    /// The names for which the server is to serve `bundle`: those that clients verify; where the config does not say,
    /// the first of the leaf itself, and none, unless the server's configuration gives those who ask for none
    /// something else. PostgreSQL 19 answers by name; where the server itself is asked and has one certificate for all
    /// names, the first of them stands for all.
    pub(crate) fn asked_names(&self, bundle: Option<&Bundle>) -> Vec<AskedName> {
        let mut names = settings::asked_names(&self.config, bundle);
        if self.has_one_context && self.config.address.is_none() {
            names.truncate(1);
        }
        if self.nameless_get_another {
            names.retain(|name| *name != AskedName::Absent);
        }
        names
    }

    /// What the configuration says, for the names that count with `bundle`.
    pub(crate) fn with_names(
        &mut self,
        settings: TlsSettings,
        bundle: Option<&Bundle>,
    ) -> TlsSettings {
        let settings = settings.for_instance(&self.config, bundle);
        let all = settings::asked_names(&self.config, bundle);
        self.nameless_get_another = settings.asked_names.len() < all.len();
        settings
    }
}

/// Looks at the first of `addresses` that takes connections, for each of `names` at once. Of several answers it is one
/// that is not `wanted`.
async fn first_served(
    prober: &Prober,
    addresses: &[Address],
    names: &[AskedName],
    wanted: Option<&Bundle>,
    opening: Opening,
    limit: Duration,
) -> Result<Served, Unseen> {
    let mut last = Unseen::Nowhere(Problem::new("there is no address to look at", ""));
    let patience = match opening {
        Opening::Https => limit.min(plain::SILENCE),
        Opening::Request | Opening::Direct => limit,
    };
    for address in addresses {
        let looking = prober.look_for_all(address, names, opening, patience);
        let looks = Box::pin(looking).await;
        match probe::least_wanted(looks, |served| {
            wanted.is_none_or(|bundle| served.shown().is_of(bundle))
        }) {
            Some(Ok(served)) => return Ok(served),
            None => {}
            Some(Err(error @ (ProbeError::Connect { .. } | ProbeError::Closed { .. }))) => {
                last = Unseen::Probe(error);
            }
            Some(Err(error))
                if opening == Opening::Https
                    && plain::is_likely(&error)
                    && plain::speaks_http(address).await =>
            {
                return Err(Unseen::Plain(address.clone()));
            }
            Some(Err(error)) => return Err(Unseen::Probe(error)),
        }
    }
    Err(last)
}
