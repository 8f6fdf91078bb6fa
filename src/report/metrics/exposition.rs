//! The tally as text: each metric with its series, at a given time.

use std::fmt;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::metric::Metric;
use super::tally::{InstanceCount, ServerCount, Tally, locked, outcomes};
use crate::bundle::{Expiry, Piece};
use crate::deploy::state::State;
use crate::report::EventKind;
use crate::report::nearing::{Holder, NearingEnd};
use crate::text::shown;

/// The text format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus's text format, version 0.0.4, which node_exporter's textfile collector reads.
    Prometheus,
}

impl Format {
    /// The best one that an `Accept` header asks for.
    pub(crate) fn accepted(accept: &str) -> Format {
        if accept.contains("application/openmetrics-text") {
            Format::OpenMetrics
        } else {
            Format::Prometheus
        }
    }

    /// As in the header `Content-Type`.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Prometheus => prometheus_client::encoding::prometheus_text::CONTENT_TYPE,
        }
    }
}

/// A series: its label values, in the order of the metric's labels, and its value.
type Series = (Vec<String>, Value);

#[derive(Clone)]
enum Value {
    Number(f64),
    Count(u64),
    Spread(Histogram),
    Info,
}

/// How often an event of each kind was logged.
pub(super) type Said = fn(EventKind) -> u64;

#[derive(Debug)]
struct SampleValue {
    tally: Arc<Mutex<Tally>>,
    said: Said,
    now: Timestamp,
}

/// All of it as text.
pub(super) fn text(
    tally: &Arc<Mutex<Tally>>,
    said: Said,
    now: Timestamp,
    format: Format,
) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(SampleValue {
        tally: Arc::clone(tally),
        said,
        now,
    }));
    let mut text = String::new();
    match format {
        Format::OpenMetrics => prometheus_client::encoding::text::encode(&mut text, &registry)?,
        Format::Prometheus => {
            prometheus_client::encoding::prometheus_text::encode(&mut text, &registry)?;
        }
    }
    Ok(text)
}

impl Collector for SampleValue {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let tally = locked(&self.tally);
        for metric in Metric::ALL {
            let unit = metric.counted().unit();
            let stem = metric.stem();
            let (help, of_type) = (metric.help(), metric.of_type().of_the_format());
            let mut encoder = encoder.encode_descriptor(&stem, help, unit.as_ref(), of_type)?;
            for (values, value) in self.series(*metric, &tally) {
                debug_assert_eq!(values.len(), metric.labels().len(), "{metric:?}");
                let values = values.iter().map(|value| shown(value).into_owned());
                let labels = metric.labels().iter().copied().zip(values);
                write(&mut encoder, &labels.collect(), &value)?;
            }
        }
        Ok(())
    }
}

fn write(
    metric: &mut MetricEncoder<'_>,
    labels: &Vec<(&'static str, String)>,
    value: &Value,
) -> fmt::Result {
    match value {
        Value::Info => metric.encode_info(labels),
        Value::Number(number) => metric.encode_family(labels)?.encode_gauge(number),
        Value::Count(count) => metric
            .encode_family(labels)?
            .encode_counter::<NoLabelSet, _, u64>(count, None),
        Value::Spread(histogram) => histogram.encode(metric.encode_family(labels)?),
    }
}

impl SampleValue {
    fn series(&self, metric: Metric, tally: &Tally) -> Vec<Series> {
        match metric {
            Metric::State => seen(tally, |seen| {
                State::ALL
                    .map(|state| labelled(state.as_str(), yes(seen.view.state == state)))
                    .to_vec()
            }),
            Metric::InSync => seen(tally, |seen| {
                vec![alone(yes(seen.view.state == State::InSync))]
            }),
            Metric::InstalledLoads => seen(tally, |seen| vec![alone(yes(seen.loads))]),
            Metric::NotAfter => places(tally, |end| moment(end.not_after)),
            Metric::NotBefore => places(tally, |end| moment(end.not_before)),
            Metric::ExpiryLevel => places(tally, |end| level(end.expiry(self.now))),
            Metric::ClientCaNotAfter => ends(tally, |end| moment(end.not_after)),
            Metric::ClientCaExpiryLevel => ends(tally, |end| level(end.expiry(self.now))),
            Metric::Deployments => servers(tally, |server| {
                let count = |outcome: &str| server.deployments.get(outcome).copied();
                outcomes()
                    .map(|outcome| outcome.as_str())
                    .map(|outcome| {
                        labelled(outcome, Value::Count(count(outcome).unwrap_or_default()))
                    })
                    .collect()
            }),
            Metric::DeploymentDuration => servers(tally, |server| {
                vec![alone(Value::Spread(server.took.clone()))]
            }),
            Metric::LastSuccess => servers(tally, |server| {
                let success = server.last_success.map(moment);
                success.map(alone).into_iter().collect()
            }),
            Metric::LastReconcile => {
                servers(tally, |server| vec![alone(moment(server.reconciled))])
            }
            Metric::OldestReconcile => vec![alone(moment(tally.oldest()))],
            Metric::Resync => vec![alone(Value::Number(tally.resync.as_secs_f64()))],
            Metric::Events => EventKind::ALL
                .iter()
                .map(|kind| labelled(kind.as_str(), Value::Count((self.said)(*kind))))
                .collect(),
            Metric::Uncovered => {
                let count = tally.uncovered.and_then(|count| u32::try_from(count).ok());
                let count = count.map(|count| alone(Value::Number(count.into())));
                count.into_iter().collect()
            }
            Metric::Build => vec![labelled(env!("CARGO_PKG_VERSION"), Value::Info)],
            Metric::Start => vec![alone(moment(tally.started))],
        }
    }
}

/// The series of each server.
fn servers(tally: &Tally, of: impl Fn(&ServerCount) -> Vec<Series>) -> Vec<Series> {
    let named = |name: &String, (labels, value): Series| {
        let labels = std::iter::once(name.clone()).chain(labels);
        (labels.collect(), value)
    };
    tally
        .servers
        .iter()
        .flat_map(|(name, server)| of(server).into_iter().map(move |pair| named(name, pair)))
        .collect()
}

/// The series of each server that was compared.
fn seen(tally: &Tally, of: impl Fn(&InstanceCount) -> Vec<Series>) -> Vec<Series> {
    servers(tally, |server| {
        server.seen.as_ref().map(&of).unwrap_or_default()
    })
}

/// A series for each place where a server's chain is seen.
fn places(tally: &Tally, of: impl Fn(&NearingEnd<'_>) -> Value) -> Vec<Series> {
    seen(tally, |seen| {
        let there = Holder::ALL.into_iter();
        let end = |place: Holder| Some((place, place.end(Piece::Certificate, &seen.view)?));
        there
            .filter_map(end)
            .map(|(place, end)| labelled(place.as_str(), of(&end)))
            .collect()
    })
}

/// A series for each CA and CRL file of a server and each place where it is seen.
fn ends(tally: &Tally, of: impl Fn(&NearingEnd<'_>) -> Value) -> Vec<Series> {
    seen(tally, |seen| {
        let files = [Piece::Ca, Piece::Crl].into_iter();
        let there = files.flat_map(|piece| Holder::ALL.map(|place| (piece, place)));
        let there = there.filter_map(|(piece, place)| {
            let end = place.end(piece, &seen.view)?;
            let labels = [piece.as_str(), place.as_str()].map(str::to_owned);
            Some((labels.to_vec(), of(&end)))
        });
        there.collect()
    })
}

fn alone(value: Value) -> Series {
    (Vec::new(), value)
}

fn labelled(label: &str, value: Value) -> Series {
    (vec![label.to_owned()], value)
}

fn yes(so: bool) -> Value {
    Value::Number(if so { 1.0 } else { 0.0 })
}

fn moment(time: Timestamp) -> Value {
    Value::Number(time.as_duration().as_secs_f64())
}

fn level(expiry: Expiry) -> Value {
    Value::Number(match expiry {
        Expiry::Fine => 0.0,
        Expiry::Warning => 1.0,
        Expiry::Critical => 2.0,
        Expiry::Expired => 3.0,
    })
}
