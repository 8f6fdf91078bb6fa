//! The text of a probe, in 80 columns.

use jiff::Timestamp;

use super::answer::SYSTEM;
use super::document::{AddressView, ProbeJson, ProbeVerdict, Sent, ServedView};
use crate::bundle::{Expiry, Thresholds};
use crate::cli::page::Page;
use crate::cli::paint::{BAD, FAINT, GOOD, ODD, WIDTH, span};
use crate::text::day;

pub(super) fn drawn(document: &ProbeJson, now: Timestamp) -> Page {
    let mut out = Page::default();
    let mut drawn: Vec<&ServedView> = Vec::new();
    for address in &document.addresses {
        let Some(served) = &address.served else {
            continue;
        };
        if drawn.contains(&served) {
            continue;
        }
        if !drawn.is_empty() {
            out.end();
        }
        drawn.push(served);
        out.add(headline(document, served));
        out.labelled("at", places(document, served));
        out.add(leaf(served, now));
        out.add(chain(served, now));
        out.add(verdicts(served));
    }
    if document.accepted {
        out.add(connection(document));
    }
    for address in &document.addresses {
        if let Some(error) = &address.error {
            out.end().styled(ODD, "?").put(" ").hanging(error);
        }
    }
    if drawn.len() > 1 {
        let text = "the addresses serve different things: a client gets one or the other";
        out.end().styled(ODD, "?").put(" ").line(text);
    }
    out
}

fn headline(document: &ProbeJson, served: &ServedView) -> Page {
    let ProbeJson { host, port, .. } = document;
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.clone()
    };
    let ServedView {
        protocol,
        cipher,
        key_exchange,
        ..
    } = served;
    let (place, tls) = (
        format!("{host}:{port}"),
        format!("{protocol}  {cipher}  {key_exchange}"),
    );
    let mut out = Page::default();
    if place.len() + 2 + tls.len() > WIDTH {
        out.line(place).line(format_args!("  {tls}"));
    } else {
        out.line(format_args!("{place}  {tls}"));
    }
    out
}

/// The addresses that serve this.
fn places(document: &ProbeJson, served: &ServedView) -> String {
    let same = |view: &&AddressView| view.served.as_ref() == Some(served);
    let places: Vec<_> = document
        .addresses
        .iter()
        .filter(same)
        .map(|view| view.address.as_str())
        .collect();
    let how = if document.direct { ", direct TLS" } else { "" };
    places.join(", ") + how
}

fn leaf(served: &ServedView, now: Timestamp) -> Page {
    let mut out = Page::default();
    let Some(leaf) = served.leaf() else {
        return out;
    };
    let names = match leaf.names.as_slice() {
        [] => "none".to_owned(),
        names => names.join(", "),
    };
    out.labelled("name", names);
    let own = (leaf.not_before, leaf.not_after);
    let chain_end = served.chain_end.as_ref();
    let (begin, end) = chain_end.map_or(own, |first| (first.not_before, first.not_after));
    let usual = Expiry::from_validity(begin, end, now, Thresholds::default());
    out.put("  left ")
        .days_and_bar(begin, end, usual, now)
        .line(format_args!(" until {}", day(end)));
    if let Some(first) = chain_end {
        out.labelled(
            "",
            format_args!("when {} expires, before the leaf", first.name),
        );
    }
    out.labelled("leaf", format_args!("SHA-256 {}", leaf.fingerprint));
    out.labelled("", format_args!("serial {}", leaf.serial));
    out
}

fn chain(served: &ServedView, now: Timestamp) -> Page {
    let mut out = Page::default();
    out.styled(FAINT, "chain as sent").end();
    for (position, sent) in served.chain.iter().enumerate() {
        let idle = if sent.used { "" } else { "; not needed" };
        out.labelled(&position.to_string(), &sent.subject);
        out.labelled("", format_args!("by {}", sent.issuer));
        out.labelled("", terms(sent, now) + idle);
    }
    if let Some(root) = &served.root {
        out.labelled("root", &root.subject);
        out.labelled("", terms(root, now));
    }
    out
}

/// When it expires, and its key and signature.
fn terms(sent: &Sent, now: Timestamp) -> String {
    let left = sent.not_after.duration_since(now);
    let left = if left.is_negative() {
        "gone".to_owned()
    } else {
        format!("{} left", span(left))
    };
    let Sent { key, signature, .. } = sent;
    format!("{}, {left}; {key}; {signature}", day(sent.not_after))
}

fn verdicts(served: &ServedView) -> Page {
    let mut out = verdict("verify-full", &served.verify_full);
    let same = served.verify_ca.reasons == served.verify_full.reasons;
    // Say once what applies to both.
    if same && !served.verify_ca.judged {
        out.put("verify-ca    ")
            .styled(ODD, "cannot be judged")
            .line(" either");
    } else if same && !served.verify_ca.accepted {
        out.put("verify-ca    ")
            .styled(BAD, "refuses")
            .line(", for the same reason");
    } else {
        out.add(verdict("verify-ca", &served.verify_ca));
    }
    for note in &served.notes {
        out.labelled("note", note);
    }
    out
}

fn verdict(mode: &str, verdict: &ProbeVerdict) -> Page {
    let mut out = Page::default();
    out.put(format_args!("{mode:<11}  "));
    if verdict.accepted {
        out.styled(GOOD, "accepts").end();
    } else if !verdict.judged {
        out.styled(ODD, "cannot be judged").end();
    } else {
        out.styled(BAD, "refuses").end();
    }
    for fault in &verdict.reasons {
        out.labelled("why", &fault.problem.what);
        if !fault.problem.fix.is_empty() {
            out.labelled("fix", &fault.problem.fix);
        }
    }
    out
}

/// How to make psql verify it in the same way; the line can be pasted.
fn connection(document: &ProbeJson) -> Page {
    let ProbeJson { host, port, .. } = document;
    let roots = &document.roots.from;
    let direct = if document.direct {
        " sslnegotiation=direct"
    } else {
        ""
    };
    let at = match document.hostaddr {
        Some(address) => format!(" hostaddr={address}"),
        None => String::new(),
    };
    let psql =
        format!("\"host={host}{at} port={port} sslmode=verify-full sslrootcert={roots}{direct}\"");
    let mut out = Page::default();
    out.labelled("psql", psql);
    if roots == SYSTEM {
        let note = "(before PostgreSQL 16, sslrootcert names a file: see docs/clients.md)";
        out.labelled("", note);
    }
    out
}
