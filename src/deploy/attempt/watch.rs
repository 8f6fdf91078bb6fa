//! When what a server shows after a reload is its last word: a pure function of looks and times.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::{self, Reload, ServerKind};
use crate::problem::Problem;
use crate::server::profile::Promptness;

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
pub(super) enum WireLook {
    New,
    /// The new leaf, and other CAs of clients than those of the bundle.
    NewLeaf,
    Old,
    Off,
    Third(Problem),
    /// The server itself ended the handshake by an alert.
    ShutOut(Problem),
    Unclear(Problem),
    /// Nothing that is the server's own: it could not be asked, or another one answered.
    Blind(Problem),
}

/// What repeated looks at the wire came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum WireVerdict {
    New,
    /// The new leaf, and other CAs of clients than those of the bundle.
    NewLeaf,
    /// What was there before, as often and as late as counts for proof.
    Old,
    Off,
    /// A third leaf, as steadily.
    Third(Problem),
    /// No handshake comes to its end, as steadily.
    ShutOut(Problem),
    /// Another leaf, or none to be seen.
    Unclear(Problem),
    /// The server could not be asked, or another one answered.
    Blind(Problem),
    /// The server's process has ended.
    Ended,
}

/// What follows from a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// It is the last word.
    Word(WireVerdict),
    /// Another look, after this pause.
    After(Duration),
}

/// Looks at one server after one reload, until `verify_timeout` has passed.
#[derive(Debug)]
pub(super) struct WireWatch {
    shown: Promptness,
    off: Promptness,
    began: Instant,
    deadline: Instant,
    pause: Duration,
    shown_old: u32,
    shown_third: u32,
    shown_off: u32,
    shut_out: u32,
}

impl WireWatch {
    /// Of the server of `config`, which was asked to reload when the watch `began`.
    pub(super) fn for_instance(config: &config::InstanceConfig, began: Instant) -> WireWatch {
        let deadline = began + config.verify_timeout;
        WireWatch::by(&config.reload, config.kind(), began, deadline)
    }

    fn by(reload: &Reload, kind: ServerKind, began: Instant, deadline: Instant) -> WireWatch {
        let profile = kind.profile();
        // A command may let the reload happen later: then only the last look counts.
        let shown = match reload {
            Reload::Signal => profile.after_signal,
            _ => Promptness::AtTheEnd,
        };
        let off = profile.without_tls;
        WireWatch {
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
    pub(super) fn heard(&mut self, glimpse: WireLook, now: Instant) -> Next {
        let late = now.saturating_duration_since(self.began) >= SECOND_LOOK;
        let steady = |count: u32| count >= 2 && late;
        self.shut_out = match &glimpse {
            WireLook::ShutOut(_) => self.shut_out + 1,
            _ => 0,
        };
        let last = now + self.pause + LEAST_LOOK >= self.deadline;
        let shown = self.shown == Promptness::Steady;
        let word = match glimpse {
            WireLook::New => Some(WireVerdict::New),
            WireLook::NewLeaf => Some(WireVerdict::NewLeaf),
            WireLook::Old => {
                self.shown_old += 1;
                if self.shown_old >= 2 {
                    (shown && late || last).then_some(WireVerdict::Old)
                } else {
                    last.then(|| {
                        WireVerdict::Unclear(
                            "the server was seen only once after the reload".into(),
                        )
                    })
                }
            }
            WireLook::Off => {
                self.shown_off += 1;
                let firm = match self.off {
                    Promptness::AtOnce => true,
                    Promptness::Steady => steady(self.shown_off),
                    Promptness::AtTheEnd => false,
                };
                (firm || last).then_some(WireVerdict::Off)
            }
            WireLook::Third(why) => {
                self.shown_third += 1;
                if shown && steady(self.shown_third) {
                    Some(WireVerdict::Third(why))
                } else {
                    last.then_some(WireVerdict::Unclear(why))
                }
            }
            WireLook::ShutOut(why) => {
                if self.shut_out >= 2 {
                    (shown && late || last).then_some(WireVerdict::ShutOut(why))
                } else {
                    last.then_some(WireVerdict::Unclear(why))
                }
            }
            WireLook::Unclear(why) => last.then_some(WireVerdict::Unclear(why)),
            WireLook::Blind(why) => last.then_some(WireVerdict::Blind(why)),
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

    fn watch(reload: &Reload, kind: ServerKind) -> (WireWatch, Instant) {
        let began = Instant::now();
        (WireWatch::by(reload, kind, began, began + LIMIT), began)
    }

    /// What the watch says to these looks, each so many milliseconds after its beginning.
    fn said(kind: ServerKind, looks: &[(u64, WireLook)]) -> Vec<Option<WireVerdict>> {
        let (mut watch, began) = watch(&Reload::Signal, kind);
        let mut heard = |(after, glimpse): &(u64, WireLook)| {
            let now = began + Duration::from_millis(*after);
            match watch.heard(glimpse.clone(), now) {
                Next::Word(seen) => Some(seen),
                Next::After(_) => None,
            }
        };
        looks.iter().map(&mut heard).collect()
    }

    fn shut() -> WireLook {
        WireLook::ShutOut("alert".into())
    }

    #[test]
    fn a_handshake_that_fails_counts_when_it_does_so_twice_in_a_row_and_late() {
        let word = Some(WireVerdict::ShutOut("alert".into()));
        for kind in [ServerKind::Postgres, ServerKind::PgBouncer] {
            let early = said(kind, &[(1, shut()), (20, shut()), (120, shut())]);
            assert_eq!(early, [None, None, word.clone()]);
            let once = said(kind, &[(200, shut()), (210, WireLook::Old), (230, shut())]);
            assert_eq!(once, [None, None, None]);
            let unclear = WireLook::Unclear("silent".into());
            let broken = said(kind, &[(200, shut()), (210, unclear), (230, shut())]);
            assert_eq!(broken, [None, None, None]);
        }
    }

    #[test]
    fn at_the_end_of_its_time_a_single_failure_proves_nothing() {
        let end = 9_999;
        let once = said(ServerKind::Postgres, &[(end, shut())]);
        assert_eq!(once, [Some(WireVerdict::Unclear("alert".into()))]);
        let patroni = said(
            ServerKind::Patroni,
            &[(200, shut()), (400, shut()), (end, shut())],
        );
        assert_eq!(
            patroni,
            [None, None, Some(WireVerdict::ShutOut("alert".into()))]
        );
    }

    #[test]
    fn a_look_that_could_not_be_tried_is_told_apart_from_a_silent_server() {
        let blind = WireLook::Blind("no descriptor".into());
        let word = Some(WireVerdict::Blind("no descriptor".into()));
        for kind in [
            ServerKind::Postgres,
            ServerKind::PgBouncer,
            ServerKind::Patroni,
        ] {
            let looks = [(200, shut()), (300, blind.clone()), (9_999, blind.clone())];
            assert_eq!(said(kind, &looks), [None, None, word.clone()]);
        }
    }

    #[test]
    fn no_look_begins_that_would_be_cut_off_at_once() {
        let unclear = WireLook::Unclear("another's".into());
        let looks = [(9_400, unclear.clone()), (9_495, unclear)];
        let word = Some(WireVerdict::Unclear("another's".into()));
        assert_eq!(said(ServerKind::Postgres, &looks), [None, word]);
    }

    #[test]
    fn the_old_leaf_counts_when_it_is_shown_twice_and_late_or_at_the_end() {
        let looks = [
            (1, WireLook::Old),
            (20, WireLook::Old),
            (120, WireLook::Old),
        ];
        assert_eq!(
            said(ServerKind::Postgres, &looks),
            [None, None, Some(WireVerdict::Old)]
        );
        let (mut watch, began) = watch(&Reload::PgCtl, ServerKind::Postgres);
        let mut at = |after| watch.heard(WireLook::Old, began + Duration::from_millis(after));
        assert!(matches!(at(120), Next::After(_)));
        assert!(matches!(at(240), Next::After(_)));
        assert_eq!(at(9_999), Next::Word(WireVerdict::Old));
    }

    #[test]
    fn tls_that_is_off_counts_at_once_where_a_reload_comes_before_the_next_client() {
        let looks = [(1, WireLook::Off), (120, WireLook::Off)];
        assert_eq!(
            said(ServerKind::Postgres, &looks[..1]),
            [Some(WireVerdict::Off)]
        );
        assert_eq!(
            said(ServerKind::PgBouncer, &looks),
            [None, Some(WireVerdict::Off)]
        );
        assert_eq!(said(ServerKind::Patroni, &looks), [None, None]);
    }

    #[test]
    fn pauses_grow_and_no_look_outlasts_the_watch() {
        let (mut watch, began) = watch(&Reload::Signal, ServerKind::Postgres);
        let mut pauses = Vec::new();
        while pauses.len() < 8 {
            match watch.heard(WireLook::Unclear(Problem::default()), began) {
                Next::After(pause) => pauses.push(pause.as_millis()),
                Next::Word(seen) => panic!("{seen:?}"),
            }
        }
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 500, 500]);
        assert_eq!(watch.patience(began), LIMIT);
        assert_eq!(watch.patience(began + LIMIT * 2), Duration::from_millis(1));
    }
}
