//! Where the numbers come from: without that they say little.

use std::{fs, thread};

use serde_json::{Value, json};

use crate::world::{SOON, cluster::Cluster, command, process::run};

/// Processor, memory, kernel and PostgreSQL, with nothing that tells which machine it is.
pub fn surroundings(cluster: &Cluster) -> Value {
    let first = |file: &str, key: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let mut values = text.lines().filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            (name.trim() == key).then(|| value.trim().to_owned())
        });
        values.next()
    };
    let said = |program: &str, argument: &str| {
        let done = run(command(program).arg(argument), SOON).result();
        done.ok()
            .map(|text| text.lines().next().unwrap_or_default().to_owned())
    };
    let postgres = cluster.program("postgres");
    json!({
        "processor": first("/proc/cpuinfo", "model name"),
        "processors": thread::available_parallelism().map_or(0, usize::from),
        "memory": first("/proc/meminfo", "MemTotal"),
        "kernel": said("uname", "-sr"),
        "postgresql": said(&postgres.to_string_lossy(), "--version"),
        "openssl": said("openssl", "version"),
    })
}
