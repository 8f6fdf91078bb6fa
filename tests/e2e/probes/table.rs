//! A table of certificates, each served by a real server: psql says what `verify-full` and
//! `verify-ca` make of it, and `probe` says the same.

use std::{fs, path::PathBuf};

use super::{Desk, document};
use crate::world::{World, ca::describe};

/// The name that clients ask for where a row has no other.
pub const HOST: &str = "pg.example.com";

/// What psql says, in the order full, ca.
type Psql = (bool, bool);

/// One certificate, and what is said of it.
pub struct Row {
    what: &'static str,
    pem: String,
    root: PathBuf,
    host: String,
    psql: Psql,
    /// The kinds of probe's reasons.
    kinds: &'static [&'static str],
    /// A word of each of its notes.
    notes: &'static [&'static str],
}

impl Row {
    /// Has probe note these as well.
    pub fn noting(&mut self, words: &'static [&'static str]) {
        self.notes = words;
    }
}

/// Rows, and the roots that the next one is to be verified with.
pub struct Table<'w> {
    world: &'w World,
    rows: Vec<Row>,
    root: PathBuf,
}

impl<'w> Table<'w> {
    /// Without a row.
    pub fn new(world: &'w World) -> Self {
        Self {
            world,
            rows: Vec::new(),
            root: PathBuf::new(),
        }
    }

    /// From here on these are trusted.
    pub fn trust(&mut self, roots: &str) {
        let number = self.rows.len();
        let roots_directory = self.world.directory("roots");
        self.root = roots_directory.join(format!("from-row-{number}.pem"));
        fs::write(&self.root, roots).unwrap();
    }

    /// Both modes take it.
    pub fn takes(&mut self, what: &'static str, pem: &str, host: &str) -> &mut Row {
        self.row(what, pem, host, (true, true), &[])
    }

    /// It is for other names.
    pub fn misnames(&mut self, what: &'static str, pem: &str, host: &str) {
        self.row(what, pem, host, (false, true), &["name_mismatch"]);
    }

    /// Neither takes it.
    pub fn refuses(&mut self, what: &'static str, pem: &str, kinds: &'static [&'static str]) {
        self.row(what, pem, HOST, (false, false), kinds);
    }

    /// Any other.
    pub fn row(
        &mut self,
        what: &'static str,
        pem: &str,
        host: &str,
        psql: Psql,
        kinds: &'static [&'static str],
    ) -> &mut Row {
        let number = self.rows.len();
        self.rows.push(Row {
            what,
            pem: pem.to_owned(),
            root: self.root.clone(),
            host: host.to_owned(),
            psql,
            kinds,
            notes: &[],
        });
        &mut self.rows[number]
    }

    /// Serves each row, and asks psql and probe.
    pub fn check(self) {
        let desk = Desk::new(self.world);
        self.check_on(desk);
    }

    /// The same on a server of the test's own.
    pub fn check_on(self, mut desk: Desk) {
        assert!(!self.rows.is_empty());
        let mut wrong = Vec::new();
        for row in &self.rows {
            desk.serve(&row.pem);
            wrong.extend(differs(&desk, row).err());
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    /// Serves each row, which psql takes and of which pgcertd says that it cannot tell.
    pub fn check_not_judged(self) {
        let mut desk = Desk::new(self.world);
        for row in &self.rows {
            desk.serve(&row.pem);
            let root = Some(row.root.as_path());
            let full = desk
                .cluster
                .psql("verify-full", root, &row.host, "select 1");
            assert_eq!(full.as_deref(), Ok("1"), "{}", row.what);
            let done = desk.probe(&row.host, &row.root, &["--json"]);
            assert_eq!(done.code(), 1, "{}", row.what);
            let reason = &document(&done)["addresses"][0]["verify_full"]["reasons"][0];
            assert_eq!(reason["kind"], "not_judged", "{reason}");
            let mend = reason["mend"].as_str().unwrap();
            assert!(mend.contains("libpq itself"), "{reason}");
        }
    }
}

/// Whether psql says what the row has, and probe what psql says.
fn differs(desk: &Desk, row: &Row) -> Result<(), String> {
    let root = Some(row.root.as_path());
    let psql = |mode| desk.cluster.psql(mode, root, &row.host, "select 1");
    let (full, ca) = (psql("verify-full"), psql("verify-ca"));
    let done = desk.probe(&row.host, &row.root, &["--json"]);
    let said = document(&done);
    let served = &said["addresses"][0];
    let told = format!(
        "{}: psql: {full:?}, {ca:?}; probe: {}, {} {:?}",
        row.what, served["verify_full"], served["verify_ca"], served["notes"]
    );
    println!("{told}");
    if served["chain"][0]["fingerprint"] != describe(&row.pem).0 {
        return Err(format!("{}: the server did not load it", row.what));
    }
    let kinds: Vec<_> = served["verify_full"]["reasons"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|reason| reason["kind"].as_str())
        .collect();
    let notes: Vec<_> = served["notes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|note| note.as_str())
        .collect();
    let noted = notes.len() == row.notes.len()
        && notes
            .iter()
            .zip(row.notes)
            .all(|(note, word)| note.contains(word));
    let right = (full.is_ok(), ca.is_ok()) == row.psql
        && served["verify_full"]["accepted"] == row.psql.0
        && served["verify_ca"]["accepted"] == row.psql.1
        && said["accepted"] == row.psql.0
        && done.code() == i32::from(!row.psql.0)
        && kinds == row.kinds
        && noted;
    if right { Ok(()) } else { Err(told) }
}
