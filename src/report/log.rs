//! Where log lines go: the journal with fields under systemd, else standard error, plainly.
//!
//! `tracing` has three levels for what the journal tells apart by five priorities. So there are
//! two ways to the journal: what an [`Event`](super::event::Event) sends to [`RAISED`] arrives one
//! priority above its level's, as `crit` or `notice`; all else at `err`, `warning` or `info`.
//!
//! Either way every message and every field is one line that commands no terminal ([`crate::text::shown`]): whoever
//! may name a directory must not be able to forge a second line, whichever way the journal is read.

use std::fmt;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, Value};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{Targets, filter_fn};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use super::event::RAISED;
use crate::text::shown;

/// Starts logging. `PGCERTD_LOG` takes a filter such as `debug`; the default is `info`.
///
/// Called once, by the binary; a second call changes nothing. Returns whether it is the journal.
pub(crate) fn start() -> bool {
    let asked = std::env::var("PGCERTD_LOG").ok();
    let filter = asked
        .filter(|text| !text.is_empty())
        .and_then(|text| text.parse::<Targets>().ok())
        .unwrap_or_else(|| Targets::new().with_default(Level::INFO));
    let registry = tracing_subscriber::registry().with(filter);
    let journals = if is_journal(&std::io::stderr()) {
        journal(Priority::Error, Priority::Informational)
            .zip(journal(Priority::Critical, Priority::Notice))
    } else {
        None
    };
    let to_journal = journals.is_some();
    let started = match journals {
        Some((plain, raised)) => {
            let is_raised = |place: &Metadata<'_>| place.target() == RAISED;
            registry
                .with(plain.with_filter(filter_fn(move |place| !is_raised(place))))
                .with(raised.with_filter(filter_fn(is_raised)))
                .try_init()
        }
        None => registry
            .with(
                tracing_subscriber::fmt::layer()
                    .event_format(PlainLine)
                    .with_writer(std::io::stderr),
            )
            .try_init(),
    };
    // Only a second call fails, and the first one's choice stands.
    drop(started);
    to_journal
}

/// Whether this stream goes to the journal (systemd.exec(5), `JOURNAL_STREAM`).
pub(crate) fn is_journal(stream: &impl AsFd) -> bool {
    let Ok(expected) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    let file = stream.as_fd().try_clone_to_owned().map(std::fs::File::from);
    file.and_then(|file| file.metadata())
        .is_ok_and(|meta| expected == format!("{}:{}", meta.dev(), meta.ino()))
}

/// A way to the journal; none where nobody listens there.
fn journal(error: Priority, info: Priority) -> Option<OnOneLine<tracing_journald::Layer>> {
    let layer = tracing_journald::layer().ok()?;
    Some(OnOneLine(
        layer
            // The names are whole: MESSAGE_ID, PGCERTD_INSTANCE.
            .with_field_prefix(None)
            .with_syslog_identifier("pgcertd".into())
            .with_priority_mappings(PriorityMappings {
                error,
                warn: Priority::Warning,
                info,
                debug: Priority::Debug,
                trace: Priority::Debug,
            }),
    ))
}

/// A layer that is given every value on one line, in which every character is seen as what it is.
struct OnOneLine<L>(L);

impl<S: Subscriber, L: Layer<S>> Layer<S> for OnOneLine<L> {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let fields = event.metadata().fields();
        let mut texts = Texts(vec![None; fields.len()]);
        event.record(&mut texts);
        let texts: Vec<Option<&dyn Value>> = texts
            .0
            .iter()
            .map(|text| text.as_ref().map(|text| text as &dyn Value))
            .collect();
        let values = fields.value_set_all(&texts);
        self.0
            .on_event(&Event::new(event.metadata(), &values), context);
    }
}

/// The values of an event as text, in the order of its fields.
struct Texts(Vec<Option<String>>);

impl Visit for Texts {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if let Some(text) = self.0.get_mut(field.index()) {
            *text = Some(shown(value).into_owned());
        }
    }
}

/// `warning: message`: the message says it all, the fields are for the journal.
struct PlainLine;

impl<S, N> FormatEvent<S, N> for PlainLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = match *event.metadata().level() {
            Level::ERROR => "error: ",
            Level::WARN => "warning: ",
            Level::INFO => "",
            Level::DEBUG => "debug: ",
            Level::TRACE => "trace: ",
        };
        let mut message = LogMessage(String::new());
        event.record(&mut message);
        writeln!(writer, "{level}{}", shown(&message.0))
    }
}

struct LogMessage(String);

impl Visit for LogMessage {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}
