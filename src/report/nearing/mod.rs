//! How close the certificates, CA files and CRL files of an instance are to expiry, and what to report: each threshold when
//! it is crossed, a reminder every day, and when it is over.
//!
//! A pure function of what was reported and what was seen; time is passed in. A certificate that doesn't get where it belongs
//! is a state, which [`super::told`] reports.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::event::Event;
use super::field::Field;
use super::kind::EventKind;
use super::view::{CertificateView, CompanionPlaces, CompanionView, InstanceView};
use crate::bundle::{Expiry, Fingerprint, Piece, Thresholds};
use crate::config;
use crate::deploy::state::State;
use crate::problem::Problem;
use crate::text::{rounded, span};

/// The time between reminders.
pub(crate) const AGAIN: Duration = Duration::from_secs(24 * 60 * 60);

/// Where a piece of a bundle is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    Source,
    Installed,
    Served,
}

impl Holder {
    /// All of them; if several are about to expire, the first is the cause.
    pub const ALL: [Holder; 3] = [Holder::Source, Holder::Installed, Holder::Served];

    /// As in the journal and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Holder::Source => "source",
            Holder::Installed => "installed",
            Holder::Served => "served",
        }
    }

    /// The certificate seen there.
    pub(crate) fn certificate_in(self, view: &InstanceView) -> Option<&CertificateView> {
        match self {
            Holder::Source => view.source.as_ref(),
            Holder::Installed => view.installed.as_ref(),
            Holder::Served => view.served.as_ref(),
        }
    }

    /// The first expiry of a piece there; what is served doesn't show that of CA and CRL files.
    pub(crate) fn end(self, piece: Piece, view: &InstanceView) -> Option<NearingEnd<'_>> {
        match view.trust_files.get(piece) {
            Some(places) => NearingEnd::from_companion(self.beside(places)?, piece),
            None => Some(NearingEnd::of_chain(
                self.certificate_in(view)?,
                view.thresholds,
            )),
        }
    }

    fn beside(self, places: &CompanionPlaces) -> Option<&CompanionView> {
        match self {
            Holder::Source => places.source.as_ref(),
            Holder::Installed => places.installed.as_ref(),
            Holder::Served => None,
        }
    }
}

impl InstanceView {
    /// Whether no action is needed now: the state is well, and no expiry is urgent ([`Nearing::is_urgent`]).
    pub(crate) fn is_well(&self, now: Timestamp) -> bool {
        self.state.is_well()
            && !Nearing::from_view(self, now).is_some_and(|nearing| nearing.is_urgent())
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct NearingEnd<'a> {
    piece: Piece,
    /// For a CA or a CRL, the CA's name; for a chain, the name of an intermediate that expires before the leaf.
    name: Option<&'a str>,
    /// SHA-256 of its DER; for a chain, of the leaf's.
    pub(crate) fingerprint: Fingerprint,
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
    thresholds: Thresholds,
}

impl<'a> NearingEnd<'a> {
    fn of_chain(certificate: &'a CertificateView, thresholds: Thresholds) -> NearingEnd<'a> {
        let (not_before, not_after) = certificate.term();
        NearingEnd {
            piece: Piece::Certificate,
            name: certificate
                .chain_end
                .as_ref()
                .map(|view| view.name.as_str()),
            fingerprint: certificate.fingerprint,
            not_before,
            not_after,
            thresholds,
        }
    }

    fn from_companion(file: &'a CompanionView, piece: Piece) -> Option<NearingEnd<'a>> {
        let first = file.first_end.as_ref()?;
        Some(NearingEnd {
            piece,
            name: Some(&first.name),
            fingerprint: first.fingerprint,
            not_before: first.not_before,
            not_after: first.not_after,
            thresholds: Thresholds::default(),
        })
    }

    /// How close it is at `now`.
    pub(crate) fn expiry(&self, now: Timestamp) -> Expiry {
        let (begin, end) = (self.not_before, self.not_after);
        self.piece.expiry(begin, end, now, self.thresholds)
    }
}

/// Something in an instance that is about to expire, or has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Nearing<'a> {
    pub(crate) piece: Piece,
    pub(crate) place: Holder,
    pub(crate) end: NearingEnd<'a>,
    /// Never [`Expiry::Fine`].
    pub(crate) expiry: Expiry,
    lineage: &'a str,
    now: Timestamp,
}

impl<'a> Nearing<'a> {
    /// The worst of all, the certificate first; none if nothing is about to expire.
    pub(crate) fn from_view(view: &'a InstanceView, now: Timestamp) -> Option<Nearing<'a>> {
        // `max_by_key` takes the last of several maximums.
        Nearing::all(view, now)
            .rev()
            .max_by_key(|nearing| nearing.expiry)
    }

    /// The worst of each piece that is about to expire.
    pub(crate) fn all(
        view: &'a InstanceView,
        now: Timestamp,
    ) -> impl DoubleEndedIterator<Item = Nearing<'a>> {
        let pieces = Piece::RENEWED.into_iter();
        pieces.filter_map(move |piece| Nearing::of_piece(view, piece, now))
    }

    /// The worst of source, installed and served.
    pub(crate) fn of_piece(
        view: &'a InstanceView,
        piece: Piece,
        now: Timestamp,
    ) -> Option<Nearing<'a>> {
        let places = Holder::ALL.into_iter().rev();
        let seen = places.filter_map(|place| Some((place, place.end(piece, view)?)));
        let (expiry, place, end) = seen
            .map(|(place, end)| (end.expiry(now), place, end))
            .max_by_key(|(expiry, ..)| *expiry)?;
        (expiry > Expiry::Fine).then_some(Nearing {
            piece,
            place,
            end,
            expiry,
            lineage: &view.lineage,
            now,
        })
    }

    /// Whether it is too late to wait for the next automatic renewal.
    pub(crate) fn is_urgent(&self) -> bool {
        self.expiry >= Expiry::Critical
    }

    /// `expires in 6 days`, `expired 2 days ago`.
    pub(crate) fn end(&self) -> String {
        let left = self.end.not_after.duration_since(self.now);
        let long = span(left.abs());
        match self.expiry {
            Expiry::Expired => format!("expired {long} ago"),
            Expiry::Fine | Expiry::Warning | Expiry::Critical => format!("expires in {long}"),
        }
    }

    /// `source certificate`, `installed CRL`.
    pub(crate) fn what(&self) -> String {
        format!("{} {}", self.place.as_str(), self.piece)
    }

    pub(crate) fn problem(&self) -> Problem {
        let end = self.end();
        match (self.piece, self.end.name) {
            (Piece::Crl, Some(name)) => self.of_list(name, &end),
            (Piece::Ca, Some(name)) => self.of_authority(name, &end),
            _ => self.of_chain(&end),
        }
    }

    fn of_chain(&self, end: &str) -> Problem {
        let short = self.end.fingerprint.short();
        let end = match self.end.name {
            None => end.to_owned(),
            Some(name) => format!("{end} ({name}, above the leaf, expires first)"),
        };
        let (which, fix) = match self.place {
            Holder::Source if self.end.name.is_some() => (
                format!("lineage {} has not been renewed: its chain", self.lineage),
                "renew it now to get the CA's current chain (certbot renew --force-renewal)",
            ),
            Holder::Source => (
                format!(
                    "lineage {} has not been renewed: its certificate",
                    self.lineage
                ),
                "find out why the ACME client has not renewed it: check its timer (systemctl list-timers), and for certbot run `certbot renew --dry-run`",
            ),
            Holder::Installed => ("the installed certificate".to_owned(), ELSEWHERE),
            Holder::Served => ("the certificate that clients get".to_owned(), ELSEWHERE),
        };
        Problem::new(format!("{which}, {short}, {end}"), fix)
    }

    fn of_authority(&self, name: &str, end: &str) -> Problem {
        let refused = self.refused();
        match self.place {
            Holder::Source => Problem::new(
                format!(
                    "the CA file has not been renewed: in its source, the CA {name} {end}; {refused}"
                ),
                "have the CA reissued and put both into the source, or remove it if it is no longer used",
            ),
            Holder::Installed | Holder::Served => Problem::new(
                format!("in the installed CA file, the CA {name} {end}; {refused}"),
                ELSEWHERE,
            ),
        }
    }

    fn of_list(&self, name: &str, end: &str) -> Problem {
        let refused = self.refused();
        match self.place {
            Holder::Source => Problem::new(
                format!(
                    "the CRL file has not been renewed: in its source, the CRL of {name} {end}; {refused}"
                ),
                "find out why the program that makes or fetches it is not doing so: check its timer (systemctl list-timers) or crontab",
            ),
            Holder::Installed | Holder::Served => Problem::new(
                format!("in the installed CRL file, the CRL of {name} {end}; {refused}"),
                ELSEWHERE,
            ),
        }
    }

    /// What it means for the clients of a CA.
    fn refused(&self) -> &'static str {
        match self.expiry {
            Expiry::Expired => "every client of that CA is refused",
            Expiry::Fine | Expiry::Warning | Expiry::Critical => {
                "after that, every client of that CA is refused"
            }
        }
    }

    fn kind(&self) -> EventKind {
        match self.expiry {
            Expiry::Fine | Expiry::Warning => EventKind::ExpiryNear,
            Expiry::Critical => EventKind::ExpiryCritical,
            Expiry::Expired => EventKind::Expired,
        }
    }
}

/// The fix if the source has a newer one, or cannot be read.
const ELSEWHERE: &str = "`pgcertd status` says why the one in the source is not used";

/// What was last reported about one instance, for each piece.
#[derive(Debug, Default)]
pub(crate) struct Warned([Option<Said>; 3]);

#[derive(Debug, Clone, Copy)]
struct Said {
    expiry: Expiry,
    place: Holder,
    at: Instant,
    /// When the first of what is not over was reported.
    since: Instant,
}

impl Said {
    /// Whether it cannot be seen at the moment, which doesn't mean that it is over.
    fn is_hidden(&self, piece: Piece, view: &InstanceView) -> bool {
        let settled = matches!(
            view.state,
            State::InSync | State::NotRunning | State::NotUsed
        );
        !settled && self.place.end(piece, view).is_none()
    }
}

impl Warned {
    /// What to report about an instance that was just compared: `wall` is for how much time is left, `now` for the time
    /// between reminders, whatever happens to the clock.
    pub(crate) fn hear(
        &mut self,
        config: &config::InstanceConfig,
        view: &InstanceView,
        wall: Timestamp,
        now: Instant,
    ) -> Vec<Event> {
        let told = Piece::RENEWED.into_iter().zip(&mut self.0);
        told.filter_map(|(piece, said)| {
            let nearing = Nearing::of_piece(view, piece, wall);
            match heard(said, piece, view, nearing, now)? {
                Heard::Near(nearing) => Some(near(config, view, &nearing)),
                Heard::Over(lasted) => Some(over(config, view, piece, lasted)),
            }
        })
        .collect()
    }
}

/// What is new about a piece.
enum Heard<'a> {
    Near(Nearing<'a>),
    Over(Duration),
}

fn heard<'a>(
    told: &mut Option<Said>,
    piece: Piece,
    view: &InstanceView,
    nearing: Option<Nearing<'a>>,
    now: Instant,
) -> Option<Heard<'a>> {
    let expiry = nearing.map_or(Expiry::Fine, |nearing| nearing.expiry);
    if let Some(said) = told {
        let lessened = expiry < said.expiry;
        let repeated = expiry == said.expiry && now.saturating_duration_since(said.at) < AGAIN;
        if repeated || lessened && said.is_hidden(piece, view) {
            return None;
        }
    }
    let before = told.take();
    let since = before.map_or(now, |said| said.since);
    let Some(nearing) = nearing else {
        return before.map(|_| Heard::Over(now.saturating_duration_since(since)));
    };
    *told = Some(Said {
        expiry,
        place: nearing.place,
        at: now,
        since,
    });
    Some(Heard::Near(nearing))
}

fn near(config: &config::InstanceConfig, view: &InstanceView, nearing: &Nearing<'_>) -> Event {
    let problem = nearing.problem();
    let message = format!("{}: {}", view.name, problem);
    let event = about(nearing.kind(), message, config, view, nearing.piece);
    with_end(event, nearing.end)
        .with(Field::Place, nearing.place.as_str())
        .with(Field::Problem, &problem.what)
        .with(Field::Remedy, problem.remedy())
}

fn over(
    config: &config::InstanceConfig,
    view: &InstanceView,
    piece: Piece,
    lasted: Duration,
) -> Event {
    let message = format!(
        "{}: no {} is about to expire any more, after {}",
        view.name,
        piece,
        rounded(lasted)
    );
    let event = about(EventKind::ExpiryOver, message, config, view, piece)
        .with(Field::Milliseconds, lasted.as_millis());
    let mut places = Holder::ALL.iter().rev();
    match places.find_map(|place| place.end(piece, view)) {
        Some(end) => with_end(event, end),
        None => event,
    }
}

fn about(
    kind: EventKind,
    message: String,
    config: &config::InstanceConfig,
    view: &InstanceView,
    piece: Piece,
) -> Event {
    let beside = config.trust_files().get(piece).copied().flatten();
    let file = beside.map_or(&config.cert_file, |companion| &companion.file);
    Event::new(kind, message)
        .with(Field::Instance, &view.name)
        .with(Field::Lineage, &view.lineage)
        .with(Field::File, file.display())
        .with(Field::State, view.state.as_str())
        .with(Field::Piece, piece.as_str())
}

fn with_end(event: Event, end: NearingEnd<'_>) -> Event {
    event
        .with(Field::Fingerprint, end.fingerprint)
        .with(Field::NotAfter, end.not_after)
}

#[cfg(test)]
mod tests;
