//! Growth over N, drawn.

use anyhow::Result;

use crate::{
    growth::Size,
    plot::{self, Axis, Captions, Curve, Whose, count, duration},
    rows::median,
};

/// The pictures by their files' names.
pub fn pictures(sizes: &[Size]) -> Result<Vec<(String, String)>> {
    let over_n = |of: fn(&Size) -> f64| -> Vec<(f64, f64)> {
        sizes
            .iter()
            .map(|size| (size.count as f64, of(size)))
            .collect()
    };
    let n = Axis {
        title: "instances of one lineage",
        label: count,
    };
    let time = plot::growth(
        &Captions {
            title: "One certificate for N servers: until all are verified",
            subtitle: "From certbot's last link, medians; the limit only writes, syncs, signals and shakes hands",
        },
        &n,
        &Axis {
            title: "until all N are verified",
            label: duration,
        },
        &[
            Curve {
                name: "pgcertd",
                whose: Whose::Pgcertd,
                points: &over_n(|size| median(&size.pgcertd)),
            },
            Curve {
                name: "the limit",
                whose: Whose::Limit,
                points: &over_n(|size| median(&size.limit)),
            },
        ],
    )?;
    let calls = plot::growth(
        &Captions {
            title: "What one deployment asks of the kernel",
            subtitle: "System calls of pgcertd and its children in one renewal, by the number of instances",
        },
        &n,
        &Axis {
            title: "system calls a deployment",
            label: count,
        },
        &[Curve {
            name: "pgcertd",
            whose: Whose::Pgcertd,
            points: &over_n(Size::calls_each),
        }],
    )?;
    let memory = plot::growth(
        &Captions {
            title: "Memory of pgcertd at rest, after renewals",
            subtitle: "Resident: with the pages of the program itself; anonymous: heap and stacks",
        },
        &n,
        &Axis {
            title: "MiB",
            label: count,
        },
        &[
            Curve {
                name: "resident",
                whose: Whose::Pgcertd,
                points: &over_n(|size| size.memory.resident as f64 / 1024.0),
            },
            Curve {
                name: "anonymous",
                whose: Whose::Pgcertd,
                points: &over_n(|size| size.memory.anonymous as f64 / 1024.0),
            },
        ],
    )?;
    Ok(vec![
        ("scale-time.svg".to_owned(), time),
        ("scale-system-calls.svg".to_owned(), calls),
        ("scale-memory.svg".to_owned(), memory),
    ])
}
