//! What was there before a deployment: what it replaces, and what it can go back to.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::order::{Proven, Replaced};
use crate::bundle::{Bundle, Fingerprint};
use crate::server::InstanceSnapshot;
use crate::server::files::Trial;
use crate::server::probe::{Served, Shown};

/// What goes in again in the place of a bundle that was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WayBack {
    /// The files that were found.
    Found,
    Previous,
}

/// What was, before anything was changed.
pub(super) struct Before {
    pub(super) sight: InstanceSnapshot,
    pub(super) served: Option<Served>,
    pub(super) proven: Option<Proven>,
    pub(super) replaced: Replaced,
    pub(super) forced: bool,
}

impl Before {
    pub(super) fn installed(&self) -> Option<&Bundle> {
        self.sight.look.installed.bundle().map(|bundle| &**bundle)
    }

    /// The leaf that a server which did not take the new one still shows.
    pub(super) fn leaf(&self) -> Option<Fingerprint> {
        let installed = self.installed().map(Bundle::fingerprint);
        self.served_leaf().or(installed)
    }

    /// What was served: as seen just now, or as this same server showed it when what is
    /// installed was proven.
    pub(super) fn served_leaf(&self) -> Option<Fingerprint> {
        match &self.served {
            Some(served) => Some(served.leaf.fingerprint()),
            None => self.proven_by_this_server().map(Bundle::fingerprint),
        }
    }

    /// The CAs of which clients were asked for certificates, in the same way.
    pub(super) fn authorities(&self) -> Option<BTreeSet<Vec<u8>>> {
        match &self.served {
            Some(served) => Some(served.authorities.clone()),
            None => self.proven_by_this_server()?.client_trust().names(),
        }
    }

    /// Whether what is served need not be looked at.
    pub(super) fn is_known(&self) -> bool {
        self.served.is_some() || self.proven_by_this_server().is_some()
    }

    pub(super) fn proven_by_this_server(&self) -> Option<&Bundle> {
        let process = self.sight.server.process()?;
        let proven = self.proven?;
        let same = proven.run == process.run();
        self.installed()
            .filter(|bundle| same && bundle.identity() == proven.bundle)
    }

    /// Whether what was installed was seen served; its CA and CRL files may not be used.
    pub(super) fn proven(&self) -> bool {
        let installed = self.installed().map(Bundle::fingerprint);
        installed.is_some() && self.served_leaf() == installed
    }

    /// Whether the CAs of which clients were asked for certificates were those installed.
    pub(super) fn proven_authorities(&self) -> bool {
        let names = self
            .installed()
            .and_then(|bundle| bundle.client_trust().names());
        names.is_some() && self.authorities() == names
    }

    /// Whether `shown` is what was there before `new`: by its leaf, or where that is the same, by
    /// the CAs of which it asks clients for certificates.
    pub(super) fn is_shown(&self, shown: &Shown, new: &Bundle) -> bool {
        if Some(shown.leaf) != self.leaf() || shown.is_of(new) {
            return false;
        }
        let names = || {
            self.installed()
                .and_then(|bundle| bundle.client_trust().names())
        };
        let before = || self.authorities().or_else(names).unwrap_or_default();
        shown.leaf != new.fingerprint() || shown.authorities == before()
    }

    /// Whether `new` has the same leaf as before, so that only its CAs can show that it was loaded.
    pub(super) fn has_leaf_of(&self, new: &Bundle) -> bool {
        self.leaf() == Some(new.fingerprint())
    }

    /// What goes in again in the place of `new`: the files that were found, or the previous
    /// bundle, where that is served and they are not, or where they are `new` already, or what a
    /// crash has left of two.
    pub(super) fn way_back(&self, new: &Bundle) -> Option<WayBack> {
        let found_is_new = self
            .installed()
            .is_some_and(|bundle| bundle.same_content(new));
        let previous = self.sight.look.previous.as_ref();
        let previous = previous.filter(|bundle| !bundle.same_content(new));
        if self.sight.look.is_torn() {
            return previous.map(|_| WayBack::Previous);
        }
        let previous_is_served =
            previous.is_some_and(|bundle| Some(bundle.fingerprint()) == self.served_leaf());
        if !self.proven() && previous_is_served || found_is_new && previous.is_some() {
            return Some(WayBack::Previous);
        }
        (!found_is_new).then_some(WayBack::Found)
    }

    /// The same, where clients were seen to get in with it: just now, or at the time when it
    /// became the previous bundle.
    pub(super) fn proven_way_back(&self, new: &Bundle) -> Option<WayBack> {
        self.way_back(new)
            .filter(|way| *way == WayBack::Previous || self.proven())
    }

    /// What is installed once that way was gone.
    pub(super) fn bundle_on(&self, way: WayBack) -> Option<&Bundle> {
        match way {
            WayBack::Found => self.installed(),
            WayBack::Previous => self.sight.look.previous.as_deref(),
        }
    }

    /// Whether what was installed is to be the previous bundle: it was seen served just now, or,
    /// where the server hangs, the last time, be it by another process. What a crash has left of
    /// two bundles is neither, whatever its leaf.
    pub(super) fn worth_keeping(&self) -> bool {
        if self.replaced == Replaced::NotKept || self.sight.look.is_torn() {
            return false;
        }
        match self.served {
            Some(_) => self.proven(),
            None => {
                let installed = self.installed().map(Bundle::identity);
                let seen = self.proven.map(|proven| proven.bundle);
                installed.is_some() && (seen == installed || self.sight.look.proven == installed)
            }
        }
    }

    /// Whether a server that is down may be given `back` to start on, should it not start on what
    /// goes in now.
    pub(super) fn may_start_on(&self, back: &Bundle) -> bool {
        let held = self.sight.look.held.as_ref();
        let held = held.is_some_and(|held| held.is_of(back.identity()));
        let expired = back.leaf().is_expired(Timestamp::now());
        !self.forced && !held && !expired
    }

    /// What is on trial while `new` goes in: that one, where there is another bundle to go back to.
    /// A server that is down gives its verdict by starting, or by not doing so. Where `new` is the
    /// one to go back to, it is what makes room for it, so that a crash between the renames is known
    /// for what it is.
    pub(super) fn trial(&self, new: &Bundle) -> Trial {
        let is_another = |bundle: &&Bundle| !bundle.same_content(new);
        match self.replaced {
            Replaced::KeptIfProven => {
                let installed = self.installed().filter(|_| self.worth_keeping());
                let back = installed.or(self.sight.look.previous.as_deref());
                let up = self.sight.server.is_up();
                let back = back.filter(is_another);
                if back.is_some_and(|back| up || self.may_start_on(back)) {
                    Trial::Begins(new.into())
                } else {
                    Trial::Unchanged
                }
            }
            Replaced::NotKept => {
                let leaves = self.installed().filter(is_another);
                match leaves.filter(|_| !self.sight.look.is_on_trial()) {
                    Some(installed) => Trial::Begins(installed.into()),
                    None => Trial::Unchanged,
                }
            }
        }
    }
}
