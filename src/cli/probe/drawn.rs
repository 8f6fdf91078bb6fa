//! What a person reads of a probe, in 80 columns.

use jiff::Timestamp;

use super::SYSTEM;
use super::document::{AddressView, Document, Sent, ServedView, Verdict};
use crate::cli::paint::{
    BAD, FAINT, GOOD, ODD, WIDTH, days_and_bar, hanging, labelled, span, styled,
};
use crate::report::day;

pub(super) fn drawn(document: &Document, now: Timestamp) -> String {
    let mut out = String::new();
    let mut drawn: Vec<&ServedView> = Vec::new();
    for address in &document.addresses {
        let Some(served) = &address.served else {
            continue;
        };
        if drawn.contains(&served) {
            continue;
        }
        if !drawn.is_empty() {
            out.push('\n');
        }
        drawn.push(served);
        out.push_str(&headline(document, served));
        out.push_str(&labelled("at", &places(document, served)));
        out.push_str(&leaf(served, now));
        out.push_str(&chain(served, now));
        out.push_str(&verdicts(served));
    }
    if document.accepted {
        out.push_str(&connection(document));
    }
    for address in &document.addresses {
        if let Some(error) = &address.error {
            out.push_str(&format!("\n{} {}", styled(ODD, "?"), hanging(error)));
        }
    }
    if drawn.len() > 1 {
        let text = "the addresses do not serve the same: a client gets one or the other";
        out.push_str(&format!("\n{} {text}\n", styled(ODD, "?")));
    }
    out
}

fn headline(document: &Document, served: &ServedView) -> String {
    let Document { host, port, .. } = document;
    let host = match host.contains(':') {
        true => format!("[{host}]"),
        false => host.clone(),
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
    match place.len() + 2 + tls.len() > WIDTH {
        true => format!("{place}\n  {tls}\n"),
        false => format!("{place}  {tls}\n"),
    }
}

/// The addresses that serve the same.
fn places(document: &Document, served: &ServedView) -> String {
    let same = |it: &&AddressView| it.served.as_ref() == Some(served);
    let places: Vec<_> = document
        .addresses
        .iter()
        .filter(same)
        .map(|it| it.address.as_str())
        .collect();
    let how = if document.direct { ", direct TLS" } else { "" };
    places.join(", ") + how
}

fn leaf(served: &ServedView, now: Timestamp) -> String {
    let Some(leaf) = served.leaf() else {
        return String::new();
    };
    let names = match leaf.names.as_slice() {
        [] => "none".to_owned(),
        names => names.join(", "),
    };
    let mut out = labelled("name", &names);
    out.push_str(&format!(
        "  left {} until {}\n",
        days_and_bar(leaf.not_before, leaf.not_after, now),
        day(leaf.not_after)
    ));
    out.push_str(&labelled("leaf", &format!("SHA-256 {}", leaf.fingerprint)));
    out.push_str(&labelled("", &format!("serial {}", leaf.serial)));
    out
}

fn chain(served: &ServedView, now: Timestamp) -> String {
    let mut out = format!("{}\n", styled(FAINT, "chain as sent"));
    for (position, sent) in served.chain.iter().enumerate() {
        let idle = if sent.used { "" } else { "; not needed" };
        out.push_str(&labelled(&position.to_string(), &sent.subject));
        out.push_str(&labelled("", &format!("by {}", sent.issuer)));
        out.push_str(&labelled("", &(terms(sent, now) + idle)));
    }
    if let Some(root) = &served.root {
        out.push_str(&labelled("root", &root.subject));
        out.push_str(&labelled("", &terms(root, now)));
    }
    out
}

/// How long it lasts, and how strong it is.
fn terms(sent: &Sent, now: Timestamp) -> String {
    let left = sent.not_after.duration_since(now);
    let left = match left.is_negative() {
        true => "gone".to_owned(),
        false => format!("{} left", span(left)),
    };
    let Sent { key, signature, .. } = sent;
    format!("{}, {left}; {key}; {signature}", day(sent.not_after))
}

fn verdicts(served: &ServedView) -> String {
    let mut out = String::new();
    out.push_str(&verdict("verify-full", &served.verify_full));
    let same = served.verify_ca.reasons == served.verify_full.reasons;
    // What holds for both is said once.
    match same && !served.verify_ca.accepted {
        true => out.push_str(&format!(
            "verify-ca    {}, likewise\n",
            styled(BAD, "refuses")
        )),
        false => out.push_str(&verdict("verify-ca", &served.verify_ca)),
    }
    for note in &served.notes {
        out.push_str(&labelled("note", note));
    }
    out
}

fn verdict(mode: &str, verdict: &Verdict) -> String {
    let said = match verdict.accepted {
        true => styled(GOOD, "accepts"),
        false => styled(BAD, "refuses"),
    };
    let mut out = format!("{mode:<11}  {said}\n");
    for fault in &verdict.reasons {
        out.push_str(&labelled("why", &fault.why));
        if !fault.mend.is_empty() {
            out.push_str(&labelled("mend", &fault.mend));
        }
    }
    out
}

/// How psql is told to verify it in the same way; the line can be pasted.
fn connection(document: &Document) -> String {
    let Document { host, port, .. } = document;
    let roots = &document.roots.from;
    let direct = match document.direct {
        true => " sslnegotiation=direct",
        false => "",
    };
    let at = match document.hostaddr {
        Some(address) => format!(" hostaddr={address}"),
        None => String::new(),
    };
    let psql =
        format!("\"host={host}{at} port={port} sslmode=verify-full sslrootcert={roots}{direct}\"");
    let mut out = labelled("psql", &psql);
    if roots == SYSTEM {
        out.push_str(&labelled(
            "",
            "(before PostgreSQL 16, sslrootcert names a file: see docs/clients.md)",
        ));
    }
    out
}
