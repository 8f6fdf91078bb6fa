//! When what a server shows after a reload is its last word: a pure function of looks and times.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::{self, Kind, Reload};

/// The least time between the signal and the second connection that shows the old leaf. A
/// postmaster handles a pending SIGHUP before it accepts (`ServerLoop`), so one connection
/// would do; PgBouncer may accept in the same turn of its loop. A second one, later, costs nothing when the answer is yes.
const SECOND_LOOK: Duration = Duration::from_millis(100);

/// The first pause between two looks while a verdict is awaited; each further one is longer.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// The longest pause between two looks while a verdict is awaited.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// The least time that is left to a look: one that is cut off sooner tells less than those before it.
const LEAST_LOOK: Duration = Duration::from_millis(500);

/// What one look at the wire showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Glimpse {
    New,
    /// The new leaf, and other CAs of clients than those of the bundle.
    NewLeaf,
    Old,
    Off,
    Third(String),
    /// The server itself ended the handshake by an alert.
    ShutOut(String),
    Unclear(String),
    /// Nothing that is the server's own: it could not be asked, or another one answered.
    Blind(String),
}

/// What repeated looks at the wire came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    New,
    /// The new leaf, and other CAs of clients than those of the bundle.
    NewLeaf,
    /// What was there before, as often and as late as counts for proof.
    Old,
    Off,
    /// A third leaf, as steadily.
    Third(String),
    /// No handshake comes to its end, as steadily.
    ShutOut(String),
    /// Another leaf, or none to be seen.
    Unclear(String),
    /// The server could not be asked, or another one answered.
    Blind(String),
    /// The server's process has ended.
    Ended,
}

/// When a server is taken at its word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Firm {
    AtOnce,
    /// By a second look that is late enough.
    Steady,
    /// By the last look alone.
    AtTheEnd,
}

/// What follows from a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// It is the last word.
    Word(Seen),
    /// Another look, after this pause.
    After(Duration),
}

/// Looks at one server after one reload, until `verify_timeout` has passed.
#[derive(Debug)]
pub(super) struct Watch {
    shown: Firm,
    off: Firm,
    began: Instant,
    deadline: Instant,
    pause: Duration,
    shown_old: u32,
    shown_third: u32,
    shown_off: u32,
    shut_out: u32,
}

impl Watch {
    /// Of the server of `config`, which was asked to reload when the watch `began`.
    pub(super) fn of(config: &config::Instance, began: Instant) -> Watch {
        let deadline = began + config.verify_timeout;
        Watch::by(&config.reload, config.kind(), began, deadline)
    }

    fn by(reload: &Reload, kind: Kind, began: Instant, deadline: Instant) -> Watch {
        // A command may let the reload happen later, and Patroni does it in its next loop: there,
        // only the last look counts.
        let shown = match (reload, kind) {
            (Reload::Signal, Kind::Postgres | Kind::PgBouncer) => Firm::Steady,
            _ => Firm::AtTheEnd,
        };
        // What accepts in the turn of its loop in which it also reloads may answer as before.
        let off = match kind {
            Kind::Postgres => Firm::AtOnce,
            Kind::PgBouncer => Firm::Steady,
            Kind::Patroni => Firm::AtTheEnd,
        };
        Watch {
            shown,
            off,
            began,
            deadline,
            pause: FIRST_PAUSE,
            shown_old: 0,
            shown_third: 0,
            shown_off: 0,
            shut_out: 0,
        }
    }

    /// How long the look that begins now may take.
    pub(super) fn patience(&self, now: Instant) -> Duration {
        let left = self.deadline.saturating_duration_since(now);
        left.max(Duration::from_millis(1))
    }

    /// Takes in what the look that ended `now` has shown.
    pub(super) fn heard(&mut self, glimpse: Glimpse, now: Instant) -> Next {
        let late = now.saturating_duration_since(self.began) >= SECOND_LOOK;
        let steady = |count: u32| count >= 2 && late;
        self.shut_out = match &glimpse {
            Glimpse::ShutOut(_) => self.shut_out + 1,
            _ => 0,
        };
        let last = now + self.pause + LEAST_LOOK >= self.deadline;
        let shown = self.shown == Firm::Steady;
        let word = match glimpse {
            Glimpse::New => Some(Seen::New),
            Glimpse::NewLeaf => Some(Seen::NewLeaf),
            Glimpse::Old => {
                self.shown_old += 1;
                match self.shown_old >= 2 {
                    true => (shown && late || last).then_some(Seen::Old),
                    false => last.then(|| {
                        Seen::Unclear("the server was seen only once after the reload".into())
                    }),
                }
            }
            Glimpse::Off => {
                self.shown_off += 1;
                let firm = match self.off {
                    Firm::AtOnce => true,
                    Firm::Steady => steady(self.shown_off),
                    Firm::AtTheEnd => false,
                };
                (firm || last).then_some(Seen::Off)
            }
            Glimpse::Third(why) => {
                self.shown_third += 1;
                match shown && steady(self.shown_third) {
                    true => Some(Seen::Third(why)),
                    false => last.then_some(Seen::Unclear(why)),
                }
            }
            Glimpse::ShutOut(why) => match self.shut_out >= 2 {
                true => (shown && late || last).then_some(Seen::ShutOut(why)),
                false => last.then_some(Seen::Unclear(why)),
            },
            Glimpse::Unclear(why) => last.then_some(Seen::Unclear(why)),
            Glimpse::Blind(why) => last.then_some(Seen::Blind(why)),
        };
        match word {
            Some(word) => Next::Word(word),
            None => {
                let pause = self.pause;
                self.pause = (pause * 2).min(LONGEST_PAUSE);
                Next::After(pause)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long the watches of these tests last.
    const LIMIT: Duration = Duration::from_secs(10);

    fn watch(reload: &Reload, kind: Kind) -> (Watch, Instant) {
        let began = Instant::now();
        (Watch::by(reload, kind, began, began + LIMIT), began)
    }

    /// What the watch says to these looks, each so many milliseconds after its beginning.
    fn said(kind: Kind, looks: &[(u64, Glimpse)]) -> Vec<Option<Seen>> {
        let (mut watch, began) = watch(&Reload::Signal, kind);
        let mut heard = |(after, glimpse): &(u64, Glimpse)| {
            let now = began + Duration::from_millis(*after);
            match watch.heard(glimpse.clone(), now) {
                Next::Word(seen) => Some(seen),
                Next::After(_) => None,
            }
        };
        looks.iter().map(&mut heard).collect()
    }

    fn shut() -> Glimpse {
        Glimpse::ShutOut("alert".into())
    }

    #[test]
    fn a_handshake_that_fails_counts_when_it_does_so_twice_in_a_row_and_late() {
        let word = Some(Seen::ShutOut("alert".into()));
        for kind in [Kind::Postgres, Kind::PgBouncer] {
            let early = said(kind, &[(1, shut()), (20, shut()), (120, shut())]);
            assert_eq!(early, [None, None, word.clone()]);
            let once = said(kind, &[(200, shut()), (210, Glimpse::Old), (230, shut())]);
            assert_eq!(once, [None, None, None]);
            let unclear = Glimpse::Unclear("silent".into());
            let broken = said(kind, &[(200, shut()), (210, unclear), (230, shut())]);
            assert_eq!(broken, [None, None, None]);
        }
    }

    #[test]
    fn at_the_end_of_its_time_a_single_failure_proves_nothing() {
        let end = 9_999;
        let once = said(Kind::Postgres, &[(end, shut())]);
        assert_eq!(once, [Some(Seen::Unclear("alert".into()))]);
        let patroni = said(
            Kind::Patroni,
            &[(200, shut()), (400, shut()), (end, shut())],
        );
        assert_eq!(patroni, [None, None, Some(Seen::ShutOut("alert".into()))]);
    }

    #[test]
    fn a_look_that_could_not_be_tried_is_told_apart_from_a_silent_server() {
        let blind = Glimpse::Blind("no descriptor".into());
        let word = Some(Seen::Blind("no descriptor".into()));
        for kind in [Kind::Postgres, Kind::PgBouncer, Kind::Patroni] {
            let looks = [(200, shut()), (300, blind.clone()), (9_999, blind.clone())];
            assert_eq!(said(kind, &looks), [None, None, word.clone()]);
        }
    }

    #[test]
    fn no_look_begins_that_would_be_cut_off_at_once() {
        let unclear = Glimpse::Unclear("another's".into());
        let looks = [(9_400, unclear.clone()), (9_495, unclear)];
        let word = Some(Seen::Unclear("another's".into()));
        assert_eq!(said(Kind::Postgres, &looks), [None, word]);
    }

    #[test]
    fn the_old_leaf_counts_when_it_is_shown_twice_and_late_or_at_the_end() {
        let looks = [(1, Glimpse::Old), (20, Glimpse::Old), (120, Glimpse::Old)];
        assert_eq!(said(Kind::Postgres, &looks), [None, None, Some(Seen::Old)]);
        let (mut watch, began) = watch(&Reload::PgCtl, Kind::Postgres);
        let mut at = |after| watch.heard(Glimpse::Old, began + Duration::from_millis(after));
        assert!(matches!(at(120), Next::After(_)));
        assert!(matches!(at(240), Next::After(_)));
        assert_eq!(at(9_999), Next::Word(Seen::Old));
    }

    #[test]
    fn tls_that_is_off_counts_at_once_where_a_reload_comes_before_the_next_client() {
        let looks = [(1, Glimpse::Off), (120, Glimpse::Off)];
        assert_eq!(said(Kind::Postgres, &looks[..1]), [Some(Seen::Off)]);
        assert_eq!(said(Kind::PgBouncer, &looks), [None, Some(Seen::Off)]);
        assert_eq!(said(Kind::Patroni, &looks), [None, None]);
    }

    #[test]
    fn pauses_grow_and_no_look_outlasts_the_watch() {
        let (mut watch, began) = watch(&Reload::Signal, Kind::Postgres);
        let mut pauses = Vec::new();
        while pauses.len() < 8 {
            match watch.heard(Glimpse::Unclear(String::new()), began) {
                Next::After(pause) => pauses.push(pause.as_millis()),
                Next::Word(seen) => panic!("{seen:?}"),
            }
        }
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 500, 500]);
        assert_eq!(watch.patience(began), LIMIT);
        assert_eq!(watch.patience(began + LIMIT * 2), Duration::from_millis(1));
    }
}
