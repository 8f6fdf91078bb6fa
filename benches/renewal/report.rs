//! What was measured, as tables, as one JSON document and as pictures.

use std::fmt::{self, Display, Formatter};

use anyhow::Result;
use serde_json::{Map, Value, json};

use crate::{
    goals::{Comparison, goals},
    kind::{Kind, Milestone},
    measurements::Measurements,
    plot::{self, Captions, Delays, Whose, duration},
    sessions::{CLIENTS, SessionsKept},
};

/// Contenders that ran side by side.
pub struct Side {
    /// Where: its name in the JSON document.
    pub name: &'static str,
    /// Who took part, in the order of the rows.
    pub kinds: Vec<Kind>,
    /// What was measured.
    pub measured: Measurements,
}

/// The whole.
pub struct Report {
    /// How many rounds there were.
    pub rounds: u32,
    /// The machine.
    pub surroundings: Value,
    /// Those that ran on the host, and those in a machine with systemd or why there was none.
    pub here: Side,
    /// The second.
    pub in_machine: Result<Side, String>,
    /// What became of sessions.
    pub sessions: Vec<SessionsKept>,
}

impl Side {
    fn comparisons(&self) -> Vec<Comparison> {
        let goals = goals(&self.kinds);
        let compared = goals.iter().filter_map(|goal| goal.compare(&self.measured));
        // The limit's goals are for the host alone, where there is no journal in between.
        let is_asked =
            |compared: &Comparison| self.name == "here" || compared.other != Kind::LeastProgram;
        compared.filter(is_asked).collect()
    }

    /// Those of whom this was measured.
    fn rows(&self, milestone: Milestone) -> impl Iterator<Item = (Kind, &[f64])> {
        let delays = move |kind| (kind, self.measured.delays(milestone, kind));
        let rows = self.kinds.iter().copied().map(delays);
        rows.filter(|(_, delays)| !delays.is_empty())
    }

    fn json(&self) -> Value {
        let mut milestones = Map::new();
        for milestone in Milestone::ALL {
            let rows = self.rows(milestone).map(|(kind, delays)| {
                let percentile = |percent| self.milliseconds(milestone, kind, percent);
                let samples = delays.iter().map(|delay| (delay * 1e6).round() as u64);
                let row = json!({
                    "turns": delays.len(),
                    "p50_ms": percentile(50),
                    "p95_ms": percentile(95),
                    "p99_ms": percentile(99),
                    "samples_us": samples.collect::<Vec<_>>(),
                });
                (kind.word().to_owned(), row)
            });
            milestones.insert(
                milestone.word().to_owned(),
                rows.collect::<Map<_, _>>().into(),
            );
        }
        let comparisons = self.comparisons();
        json!({
            "delays": milestones,
            "goals": comparisons.iter().map(Comparison::json).collect::<Vec<_>>(),
            "connection_ms": self.measured.connection().map(|seconds| rounded(seconds * 1e3)),
        })
    }

    fn milliseconds(&self, milestone: Milestone, kind: Kind, percent: usize) -> Option<f64> {
        let percentile = self.measured.percentile(milestone, kind, percent);
        percentile.map(|seconds| rounded(seconds * 1e3))
    }

    fn write_table(&self, f: &mut Formatter<'_>, milestone: Milestone) -> fmt::Result {
        writeln!(f, "\nUntil {}", milestone.title())?;
        writeln!(
            f,
            "  {:<34}{:>5}{:>10}{:>10}{:>10}   RATIOS: {:>6}{:>7}{:>7}",
            "CONTENDER", "TURNS", "P50", "P95", "P99", "P50", "P95", "P99"
        )?;
        for (kind, delays) in self.rows(milestone) {
            write!(f, "  {:<34}{:>5}", kind.title(), delays.len())?;
            for percent in [50, 95, 99] {
                let value = self.measured.percentile(milestone, kind, percent);
                write!(f, "{:>10}", value.map(duration).unwrap_or_default())?;
            }
            write!(f, "{:10}", "")?;
            for percent in [50, 95, 99] {
                let ratio = self.measured.ratio(milestone, kind, percent);
                let ratio = ratio.filter(|_| kind != Kind::Pgcertd);
                let ratio = ratio.map(|ratio| format!("{ratio:.2}"));
                write!(f, "{:>7}", ratio.unwrap_or_default())?;
            }
            writeln!(f)?;
        }
        Ok(())
    }

    fn write_goals(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for compared in self.comparisons() {
            writeln!(
                f,
                "  {:<10}{:<34}{:<36}{}",
                compared.milestone.word(),
                compared.other.title(),
                compared.text(),
                met(compared.is_met()),
            )?;
        }
        Ok(())
    }

    /// A picture of the delays until this.
    fn picture(&self, milestone: Milestone, subtitle: &str) -> Result<String> {
        let rows: Vec<Delays> = self
            .rows(milestone)
            .map(|(kind, seconds)| Delays {
                name: kind.title(),
                whose: match kind {
                    Kind::Pgcertd => Whose::Pgcertd,
                    Kind::LeastProgram => Whose::Limit,
                    _ => Whose::Peer,
                },
                seconds,
            })
            .collect();
        let title = format!("From certbot's last link until {}", milestone.title());
        let captions = Captions {
            title: title.split(" (").next().unwrap_or(&title),
            subtitle,
        };
        plot::delays(&captions, &rows)
    }
}

impl Report {
    /// The files by their names.
    pub fn files(&self) -> Result<Vec<(String, String)>> {
        let json = serde_json::to_string(&self.json())?;
        let mut files = vec![("renewal.json".to_owned(), json + "\n")];
        let rounds = self.rounds;
        let slow = self.here.measured.delays(Milestone::Served, Kind::PollLoop);
        let subtitle = format!(
            "{rounds} renewals, {} of the two slow ones, turn by turn; a dot is a renewal, the bar the median",
            slow.len()
        );
        for milestone in Milestone::ALL {
            let name = format!("renewal-{}.svg", milestone.word());
            files.push((name, self.here.picture(milestone, &subtitle)?));
        }
        if let Ok(side) = &self.in_machine {
            let subtitle =
                format!("The same in a Debian with systemd and journald; {rounds} renewals");
            let picture = side.picture(Milestone::Served, &subtitle)?;
            files.push(("renewal-in-machine.svg".to_owned(), picture));
        }
        Ok(files)
    }

    fn json(&self) -> Value {
        json!({
            "bench": "renewal",
            "rounds": self.rounds,
            "optimized": !cfg!(debug_assertions),
            "surroundings": self.surroundings,
            "here": self.here.json(),
            "in_machine": match &self.in_machine {
                Ok(side) => side.json(),
                Err(why) => json!({ "left_out": why }),
            },
            "sessions": self.sessions.iter().map(SessionsKept::json).collect::<Vec<_>>(),
        })
    }

    fn write_sessions(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\nSessions of a pgbench with {CLIENTS} clients\n  {:<34}{:<20}{:>8}{:>14}{:>6}",
            "CONTENDER", "CONNECTIONS", "RENEWALS", "TRANSACTIONS", "LOST"
        )?;
        for kept in &self.sessions {
            let connections = if kept.is_reconnecting {
                "one a transaction"
            } else {
                "kept open"
            };
            let goal = match kept.kind {
                Kind::Pgcertd => format!("   0 at most, {}", met(kept.lost == 0)),
                _ => String::new(),
            };
            writeln!(
                f,
                "  {:<34}{connections:<20}{:>8}{:>14}{:>6}{goal}",
                kept.kind.title(),
                kept.renewals,
                kept.transactions,
                kept.lost,
            )?;
        }
        Ok(())
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if cfg!(debug_assertions) {
            writeln!(f, "not an optimized build: its times say nothing")?;
        }
        let connection = self.here.measured.connection().map(duration);
        writeln!(
            f,
            "From the last link of a renewal: {} rounds, turn by turn; a connection of the probe takes {}.\n\
             RATIOS: pgcertd's time by this contender's.",
            self.rounds,
            connection.unwrap_or_default(),
        )?;
        for milestone in Milestone::ALL {
            self.here.write_table(f, milestone)?;
        }
        match &self.in_machine {
            Ok(side) => {
                writeln!(f, "\nIn a booted Debian, with systemd and journald:")?;
                for milestone in Milestone::ALL {
                    side.write_table(f, milestone)?;
                }
            }
            Err(why) => writeln!(f, "\nThe part in a booted Debian was left out: {why}")?,
        }
        self.write_sessions(f)?;
        writeln!(
            f,
            "\nGoals: pgcertd's percentile by the other's, and what it is to be at most (of 1: below)"
        )?;
        self.here.write_goals(f)?;
        if let Ok(side) = &self.in_machine {
            side.write_goals(f)?;
        }
        Ok(())
    }
}

fn met(is_met: bool) -> &'static str {
    if is_met { "met" } else { "not met" }
}

/// Three decimals.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}
