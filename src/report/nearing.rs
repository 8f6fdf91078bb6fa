//! How near to its end a certificate of an instance is, and what of that is to be said: each
//! crossing at once, the same again once a day while it lasts, and when it is over.
//!
//! A pure function of what was said and what was seen; time is passed in. That a certificate
//! does not get to where it belongs is a state, which [`super::told`] says.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::event::Event;
use super::field::Field;
use super::headline::span;
use super::kind::Kind;
use super::told::rounded;
use super::view::{CertificateView, InstanceView};
use crate::bundle::Expiry;
use crate::config;
use crate::reconcile::state::{Problem, State};

/// What lasts is said again after this.
pub const AGAIN: Duration = Duration::from_secs(24 * 60 * 60);

/// Where a certificate is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the lineage.
    Source,
    /// In the instance's files.
    Installed,
    /// On the wire.
    Served,
}

impl Place {
    /// All of them; the first is the cause where several are near their end.
    pub const ALL: [Place; 3] = [Place::Source, Place::Installed, Place::Served];

    /// As in the journal and in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Place::Source => "source",
            Place::Installed => "installed",
            Place::Served => "served",
        }
    }

    /// What is seen there.
    #[must_use]
    pub fn of(self, view: &InstanceView) -> Option<&CertificateView> {
        match self {
            Place::Source => view.source.as_ref(),
            Place::Installed => view.installed.as_ref(),
            Place::Served => view.served.as_ref(),
        }
    }
}

/// The certificate of an instance that is nearest to its end, where one is too near.
#[derive(Debug, Clone, Copy)]
pub struct Nearing<'a> {
    /// Where it is.
    pub place: Place,
    /// Which it is.
    pub certificate: &'a CertificateView,
    /// How near; never [`Expiry::Fine`].
    pub expiry: Expiry,
    lineage: &'a str,
    now: Timestamp,
}

impl<'a> Nearing<'a> {
    /// The worst of source, installed and served; none where all that is seen has its time.
    #[must_use]
    pub fn of(view: &'a InstanceView, now: Timestamp) -> Option<Nearing<'a>> {
        let mut worst: Option<Nearing<'a>> = None;
        for place in Place::ALL {
            let Some(certificate) = place.of(view) else {
                continue;
            };
            let expiry = certificate.expiry_at(now);
            if expiry > worst.map_or(Expiry::Fine, |it| it.expiry) {
                worst = Some(Nearing {
                    place,
                    certificate,
                    expiry,
                    lineage: &view.lineage,
                    now,
                });
            }
        }
        worst
    }

    /// Whether it is too late to wait for the next renewal by itself.
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        self.expiry >= Expiry::Critical
    }

    /// `expires in 6 days`, `expired 2 days ago`.
    #[must_use]
    pub fn end(&self) -> String {
        let left = self.certificate.not_after.duration_since(self.now);
        let long = span(left.abs());
        match self.expiry {
            Expiry::Expired => format!("expired {long} ago"),
            Expiry::Fine | Expiry::Warning | Expiry::Critical => format!("expires in {long}"),
        }
    }

    /// What is wrong, and what mends it.
    #[must_use]
    pub fn problem(&self) -> Problem {
        let short = self.certificate.fingerprint.short();
        let end = self.end();
        let (which, mend) = match self.place {
            Place::Source => (
                format!("lineage {} is not renewed: its certificate", self.lineage),
                "see why the ACME client does not renew it: its timer (systemctl list-timers), and for certbot `certbot renew --dry-run`",
            ),
            Place::Installed => ("the installed certificate".to_owned(), ELSEWHERE),
            Place::Served => ("the certificate that clients get".to_owned(), ELSEWHERE),
        };
        Problem::new(format!("{which}, {short}, {end}"), mend)
    }

    fn kind(&self) -> Kind {
        match self.expiry {
            Expiry::Fine | Expiry::Warning => Kind::ExpiryNear,
            Expiry::Critical => Kind::ExpiryCritical,
            Expiry::Expired => Kind::Expired,
        }
    }
}

/// The remedy where the lineage has a better one, or cannot be read.
const ELSEWHERE: &str =
    "`pgcertd status` says what keeps the lineage's certificate from being used";

/// What was last said of one instance.
#[derive(Debug, Default)]
pub struct Warned(Option<Said>);

#[derive(Debug, Clone, Copy)]
struct Said {
    expiry: Expiry,
    place: Place,
    /// When it was said.
    at: Instant,
    /// When the first of what is not over was said.
    since: Instant,
}

impl Said {
    /// Whether what it was about cannot be seen for the moment, which ends nothing.
    fn is_hidden(&self, view: &InstanceView) -> bool {
        let settled = matches!(
            view.state,
            State::InSync | State::NotRunning | State::NotUsed
        );
        !settled && self.place.of(view).is_none()
    }
}

impl Warned {
    /// What is to be said of an instance that was just compared: `wall` tells what is left,
    /// `now` when it was said last, whatever becomes of the clock.
    pub fn hear(
        &mut self,
        config: &config::Instance,
        view: &InstanceView,
        wall: Timestamp,
        now: Instant,
    ) -> Option<Event> {
        let nearing = Nearing::of(view, wall);
        let expiry = nearing.map_or(Expiry::Fine, |it| it.expiry);
        if let Some(said) = self.0 {
            let lessened = expiry < said.expiry;
            let repeated = expiry == said.expiry && now.saturating_duration_since(said.at) < AGAIN;
            if repeated || lessened && said.is_hidden(view) {
                return None;
            }
        }
        let before = self.0.take();
        let since = before.map_or(now, |it| it.since);
        let Some(nearing) = nearing else {
            return before.map(|_| over(config, view, now.saturating_duration_since(since)));
        };
        self.0 = Some(Said {
            expiry,
            place: nearing.place,
            at: now,
            since,
        });
        Some(near(config, view, &nearing))
    }
}

fn near(config: &config::Instance, view: &InstanceView, nearing: &Nearing<'_>) -> Event {
    let problem = nearing.problem();
    let message = format!("{}: {}", view.name, problem.sentence());
    let event = about(nearing.kind(), message, config, view);
    of(event, nearing.certificate)
        .with(Field::Place, nearing.place.as_str())
        .with(Field::Problem, &problem.why)
        .with(Field::Remedy, problem.remedy())
}

fn over(config: &config::Instance, view: &InstanceView, lasted: Duration) -> Event {
    let message = format!(
        "{}: no certificate is near its end any more, after {}",
        view.name,
        rounded(lasted)
    );
    let event = about(Kind::ExpiryOver, message, config, view)
        .with(Field::Milliseconds, lasted.as_millis());
    let mut places = Place::ALL.iter().rev();
    match places.find_map(|place| place.of(view)) {
        Some(certificate) => of(event, certificate),
        None => event,
    }
}

fn about(kind: Kind, message: String, config: &config::Instance, view: &InstanceView) -> Event {
    Event::new(kind, message)
        .with(Field::Instance, &view.name)
        .with(Field::Lineage, &view.lineage)
        .with(Field::File, config.cert_file.display())
        .with(Field::State, view.state.as_str())
}

fn of(event: Event, certificate: &CertificateView) -> Event {
    event
        .with(Field::Fingerprint, certificate.fingerprint)
        .with(Field::NotAfter, certificate.not_after)
}

#[cfg(test)]
mod tests;
