//! What it costs to hear of an event.

use std::collections::HashMap;

use super::*;
use crate::instructions::{Instructions, counted};

/// A burst of files beside the lineage's, as lego writes them into its one directory, each of them created, written
/// and closed; the lineage is read after it.
fn burst(world: &mut World, paths: &[PathBuf]) {
    let at = world.at(10);
    for path in paths {
        for change in [Change::Created, Change::Written, Change::Closed] {
            world.settler.event(path, change, at);
        }
    }
    assert_eq!(world.read(Fit::Fits, 20), Settled::Taken);
}

#[test]
fn an_event_costs_a_few_looks_into_a_map_however_many_there_are() {
    let counts = Instructions::under_callgrind(|| {
        let paths = (0..1000).map(|number| PathBuf::from(format!("certs/{number}.crt")));
        let paths: Vec<PathBuf> = paths.collect();
        let (mut one, mut other) = (World::settled(&CERTBOT), World::settled(&CERTBOT));
        counted!(burst_of_100, burst(&mut one, &paths[..100]));
        counted!(burst_of_1000, burst(&mut other, &paths));
        counted!(thousand_paths_in_a_map, {
            let paths = paths.iter().cloned();
            paths.map(|path| (path, ())).collect::<HashMap<_, _>>()
        });
    });
    let counts = match counts {
        Ok(counts) => counts,
        Err(skipped) => return skipped.count(),
    };
    counts.at_most("burst_of_1000", 14.0, "thousand_paths_in_a_map");
    counts.at_most("burst_of_1000", 11.0, "burst_of_100");
}
