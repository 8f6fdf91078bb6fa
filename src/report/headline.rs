//! The one line that `systemctl status` shows.

use jiff::Timestamp;

use super::nearing::Nearing;
use super::view::InstanceView;
use crate::deploy::state::State;
use crate::text::span;

/// How many instances are listed one by one.
const NAMED: usize = 3;

/// A summary for people: `3 instances in sync; next expiry in 58 days (postgres.example.com)`. What has expired or is about
/// to comes first.
///
/// `views` has an entry for each instance, empty until it has been checked; `uncovered` counts the servers on this host that
/// no instance covers.
pub(crate) fn headline(views: &[Option<InstanceView>], uncovered: usize, now: Timestamp) -> String {
    if views.is_empty() {
        return "no instance is configured".into();
    }
    let seen: Vec<&InstanceView> = views.iter().flatten().collect();
    let mut parts = Vec::new();
    let unwell: Vec<&InstanceView> = those_in(&seen, |state| !state.is_well());
    parts.extend(unwell.iter().take(NAMED).map(|view| {
        let state = in_words(view.state);
        format!("{} {state}", view.name)
    }));
    if unwell.len() > NAMED {
        parts.push(format!("{} more with problems", unwell.len() - NAMED));
    }
    let in_sync = those_in(&seen, |state| state == State::InSync).len();
    if in_sync > 0 {
        parts.push(format!("{} in sync", instances(in_sync)));
    }
    for state in [State::Waiting, State::NotRunning] {
        let count = those_in(&seen, |actual| actual == state).len();
        if count > 0 {
            parts.push(format!("{} {}", instances(count), in_words(state)));
        }
    }
    let unseen = views.len() - seen.len();
    if unseen > 0 {
        parts.push(format!("{} not checked yet", instances(unseen)));
    }
    let urgent = urgent(&seen, now);
    let mut line = match &urgent {
        Some(urgent) => format!("{urgent}; {}", parts.join(", ")),
        None => parts.join(", "),
    };
    if uncovered > 0 {
        let servers = if uncovered == 1 { "server" } else { "servers" };
        line.push_str(&format!("; {uncovered} {servers} without an instance"));
    }
    if urgent.is_none()
        && let Some((end, lineage)) = next_expiry(&seen)
    {
        line.push_str(&format!("; {} ({lineage})", until(end, now)));
    }
    line
}

fn those_in<'a>(
    seen: &[&'a InstanceView],
    wanted: impl Fn(State) -> bool,
) -> Vec<&'a InstanceView> {
    let wanted = seen.iter().filter(|view| wanted(view.state));
    wanted.copied().collect()
}

fn instances(count: usize) -> String {
    match count {
        1 => "1 instance".into(),
        _ => format!("{count} instances"),
    }
}

fn in_words(state: State) -> String {
    state.as_str().replace('_', " ")
}

/// The most urgent expiry, and how many more instances have one.
fn urgent(seen: &[&InstanceView], now: Timestamp) -> Option<String> {
    let nearing = seen.iter().filter_map(|view| {
        let nearing = Nearing::from_view(view, now).filter(Nearing::is_urgent)?;
        Some((nearing, view.name.as_str()))
    });
    let urgent: Vec<(Nearing<'_>, &str)> = nearing.collect();
    let (first, name) = urgent.iter().min_by_key(|pair| pair.0.end.not_after)?;
    let first = format!("{name}: {} {}", first.what(), first.end());
    Some(match urgent.len() - 1 {
        0 => first,
        more => format!("{first}, {more} more about to expire"),
    })
}

/// The next expiry of what clients get, or would get.
fn next_expiry<'a>(seen: &[&'a InstanceView]) -> Option<(Timestamp, &'a str)> {
    let ends = seen.iter().filter_map(|view| {
        let shown = view.served.as_ref().or(view.installed.as_ref());
        let (_, end) = shown.or(view.source.as_ref())?.term();
        Some((end, view.lineage.as_str()))
    });
    ends.min()
}

fn until(end: Timestamp, now: Timestamp) -> String {
    let left = end.duration_since(now);
    let long = span(left.abs());
    if left.is_negative() {
        format!("expired {long} ago")
    } else {
        format!("next expiry in {long}")
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::bundle::TrustFiles;
    use crate::bundle::{Expiry, Thresholds};
    use crate::report::view::CertificateView;

    fn now() -> Timestamp {
        "2026-11-25T00:00:00Z".parse().expect("a time")
    }

    fn hours(count: i64) -> SignedDuration {
        SignedDuration::from_hours(count)
    }

    fn view(name: &str, state: State, left: SignedDuration) -> Option<InstanceView> {
        let certificate = CertificateView {
            fingerprint: crate::bundle::Fingerprint::from_der(b"a leaf"),
            not_before: now(),
            not_after: now() + left,
            chain_end: None,
            names: Vec::new(),
            issuer: String::new(),
            serial: String::new(),
            expiry: Expiry::Fine,
        };
        Some(InstanceView {
            name: name.into(),
            lineage: format!("{name}.example.com"),
            state,
            problem: None,
            details: None,
            source: None,
            installed: None,
            served: Some(certificate),
            trust_files: TrustFiles::default(),
            thresholds: Thresholds::default(),
        })
    }

    fn said(views: &[Option<InstanceView>], uncovered: usize) -> String {
        headline(views, uncovered, now())
    }

    #[test]
    fn instances_in_sync_are_counted_and_the_next_expiry_is_named() {
        let views = [
            view("a", State::InSync, hours(24 * 80)),
            view("b", State::InSync, hours(24 * 58 + 3)),
            view("c", State::InSync, hours(24 * 60)),
        ];
        let all = "3 instances in sync; next expiry in 58 days (b.example.com)";
        assert_eq!(said(&views, 0), all);
        let one = "1 instance in sync; next expiry in 80 days (a.example.com)";
        assert_eq!(said(&views[..1], 0), one);
    }

    #[test]
    fn instances_with_problems_come_first_by_name() {
        let views = [
            view("a", State::InSync, hours(24 * 80)),
            view("b", State::NotUsed, hours(30)),
            view("c", State::NotRunning, hours(24 * 60)),
            None,
        ];
        assert_eq!(
            said(&views, 1),
            "b not used, 1 instance in sync, 1 instance not running, 1 instance not checked yet; \
             1 server without an instance; next expiry in 30 hours (b.example.com)"
        );
    }

    #[test]
    fn many_instances_with_problems_are_counted() {
        let views =
            ["a", "b", "c", "d", "e"].map(|name| view(name, State::Rejected, hours(24 * 9)));
        assert_eq!(
            said(&views, 0),
            "a rejected, b rejected, c rejected, 2 more with problems; next expiry in 9 days (a.example.com)"
        );
    }

    #[test]
    fn a_certificate_that_cannot_wait_comes_first() {
        let mut views = [
            view("a", State::InSync, hours(24 * 80)),
            view("b", State::NotUsed, hours(24 * 6)),
        ];
        let began = |view: &mut Option<InstanceView>, days: i64| {
            let served = view.as_mut().and_then(|view| view.served.as_mut());
            served.expect("it serves").not_before = now() - hours(24 * days);
        };
        // Six of thirty days: less than a quarter, more than a tenth.
        began(&mut views[1], 24);
        assert_eq!(
            said(&views, 0),
            "b not used, 1 instance in sync; next expiry in 6 days (b.example.com)"
        );
        began(&mut views[1], 84);
        assert_eq!(
            said(&views, 1),
            "b: served certificate expires in 6 days; b not used, 1 instance in sync; \
             1 server without an instance"
        );
        views[0] = view("a", State::InSync, hours(-49));
        assert_eq!(
            said(&views, 0),
            "a: served certificate expired 2 days ago, 1 more about to expire; \
             b not used, 1 instance in sync"
        );
    }

    #[test]
    fn without_an_instance_it_says_so() {
        assert_eq!(said(&[], 0), "no instance is configured");
        assert_eq!(said(&[None], 0), "1 instance not checked yet");
    }
}
