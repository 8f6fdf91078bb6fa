//! CA and CRL files of a server that is only observed: what differs and what runs out is told, and
//! nothing is written.

use super::*;
use crate::{
    stage::HOST,
    world::{daemon::Outcome, inventory::Inventory},
};

const HOUR: std::time::Duration = std::time::Duration::from_secs(60 * 60);

/// A gate that somebody else keeps, and that pgcertd only looks at.
struct Observed<'w> {
    gate: Gate<'w>,
    before: Inventory,
    reloads: usize,
}

impl<'w> Observed<'w> {
    fn new(world: &'w World) -> Self {
        let mut gate = Gate::new(world);
        let instance = keyed(world, Instance::for_cluster(&gate.stage.cluster, HOST));
        gate.stage.config = Config::new(world)
            .watch("resync", "1s")
            .instance(instance.set("mode", "observe"))
            .write();
        let before = Self::inventory(&gate);
        let reloads = gate.stage.reloads();
        Self {
            gate,
            before,
            reloads,
        }
    }

    fn inventory(gate: &Gate<'_>) -> Inventory {
        let of_server = gate.stage.cluster.config_directory();
        let names = ["postgresql.conf", "postgresql.auto.conf", "pg_hba.conf"];
        let of_server = names.map(|name| of_server.join(name));
        let ours = gate.stage.config.state_directory().to_owned();
        Inventory::under(of_server.into_iter().chain([ours]))
    }

    fn runs(&self, arguments: &[&str]) -> Outcome {
        pgcertd(self.gate.world(), &self.gate.stage.config, arguments)
    }

    /// What every command says of this state of things, none of which changes any.
    #[track_caller]
    fn tells(&self, state: &str, well: bool, words: &[&str]) {
        self.gate.stage.becomes_and_says(state, words);
        for command in [&["sync"][..], &["sync", "--force"], &["status"]] {
            let done = self.runs(command);
            println!("{command:?}: {} {}", done.code(), done.stdout());
            assert_eq!(done.code(), i32::from(!well), "{command:?}: {done:?}");
        }
        self.is_untouched();
    }

    /// What `check` finds under this id: its weight, and its whole text.
    #[track_caller]
    fn checked(&self, id: &str) -> (String, String) {
        let done = self.runs(&["check", "--json"]);
        let seen = done.json();
        let findings = seen["instances"][0]["findings"].as_array().unwrap();
        let found = findings.iter().find(|finding| finding["id"] == id);
        let found = found.unwrap_or_else(|| panic!("no {id} in {seen}"));
        println!("check: {found}");
        (
            found["weight"].as_str().unwrap().to_owned(),
            found.to_string(),
        )
    }

    #[track_caller]
    fn is_untouched(&self) {
        self.before.is_untouched();
        assert_eq!(self.gate.stage.reloads(), self.reloads);
    }
}

#[test]
fn observed_ca_and_crl_files_that_differ_are_told_of_and_never_written() {
    let world = or_skip!(World::new());
    let mut observed = Observed::new(&world);
    let gate = &observed.gate;
    let daemon = gate.daemon();
    daemon.wait_for_log(": in_sync");
    observed.tells("in_sync", true, &[]);

    // The CRL alone, then the CA as well, then all three.
    let crl = gate.clients.crl(&[&gate.other.issued]);
    bring(&world, "crl.pem", &crl);
    observed.tells(
        "out_of_date",
        false,
        &["crl.pem does not match", "something else writes"],
    );
    daemon.wait_for_log(": out_of_date");
    let would = observed
        .runs(&["sync", "--dry-run", "--json"])
        .instance(NAME);
    println!("{would}");
    let next = Ca::new(&world, "Next clients");
    gate.admits(&next);
    observed.tells(
        "out_of_date",
        false,
        &[
            "ca.pem does not match",
            "crl.pem does not match",
            "something else writes",
        ],
    );
    let back = observed.runs(&["rollback", NAME]);
    assert_eq!(back.code(), 1, "{back:?}");
    observed.is_untouched();

    // What would keep clients out is no better for that nobody writes it.
    bring(&world, "crl.pem", &gate.clients.root_pem());
    observed.tells("source_invalid", false, &["crl.pem", "CA file"]);
    gate.admits(&next);
    observed.gate.stage.renew();
    let gate = &observed.gate;
    let all = ["server.pem", "ca.pem", "crl.pem"].map(|name| format!("{name} does not match "));
    observed.tells("out_of_date", false, &all.each_ref().map(String::as_str));
    gate.lets_in(&gate.one);
    gate.lets_in(&gate.other);
    assert_eq!(daemon.stop().code(), Some(0));
    observed.is_untouched();
}

#[test]
fn observed_files_that_others_place_are_compared_with_the_sources_and_with_what_clients_are_asked_for()
 {
    let world = or_skip!(World::new());
    let mut observed = Observed::new(&world);
    let daemon = observed.gate.daemon();
    let next = Ca::new(&world, "Next clients");
    observed.gate.admits(&next);
    observed.gate.stage.becomes("out_of_date");
    for name in ["ca.pem", "crl.pem"] {
        let new = fs::read(source(&world, name)).unwrap();
        fs::write(observed.gate.stage.kept(name), new).unwrap();
    }
    observed.before = Observed::inventory(&observed.gate);
    observed.tells("not_served", false, &["reload"]);
    let newcomer = Client::new(&world, &next, "newcomer");
    observed.gate.keeps_out(&newcomer, "unknown ca");

    observed.gate.stage.cluster.reload_by_hand();
    eventually(SOON, "the newcomer gets in", || {
        observed.gate.enters(&newcomer)
    });
    observed.reloads += 1;
    observed.tells("in_sync", true, &[]);
    assert_eq!(daemon.stop().code(), Some(0));
    observed.is_untouched();
}

#[test]
fn observed_files_that_run_out_are_told_of_where_they_are() {
    let world = or_skip!(World::new());
    let observed = Observed::new(&world);
    let gate = &observed.gate;
    let daemon = gate.daemon();
    daemon.wait_for_log(": in_sync");
    let until = SystemTime::now() + 20 * HOUR;
    let short = gate.clients.crl_of(&[], until - 10 * DAY, until);
    let until = SystemTime::now() + 60 * HOUR;
    let near = gate.clients.crl_of(&[], until - 10 * DAY, until);
    // In the source alone.
    bring(&world, "crl.pem", &near);
    gate.stage.becomes("out_of_date");
    let seen = observed.runs(&["status", "--json"]).instance(NAME);
    let expiries = |seen: &serde_json::Value| {
        ["source", "installed"].map(|place| seen["crl"][place]["first_end"]["expiry"].clone())
    };
    assert_eq!(expiries(&seen), ["warning", "fine"]);
    observed.is_untouched();

    // In both, nearer to its end: nothing differs, and it is a problem all the same.
    bring(&world, "crl.pem", &short);
    fs::write(gate.stage.kept("crl.pem"), &short).unwrap();
    gate.stage.becomes("in_sync");
    let before = Observed::inventory(gate);
    daemon.wait_for_log("the CRL of CN=Clients expires in 19 hours");
    let seen = observed.runs(&["status", "--json"]).instance(NAME);
    assert_eq!(expiries(&seen), ["critical"; 2]);
    let drawn = observed.runs(&["status"]);
    says(drawn.stdout(), &["! 16-main", "needs a new CRL before "]);
    assert_eq!(drawn.code(), 1);
    let (weight, text) = observed.checked("client_ca_expiry");
    assert_ne!(weight, "good");
    says(&text, &["CRL of CN=Clients"]);
    observed.runs(&["sync", "--force"]);
    before.is_untouched();
    assert_eq!(gate.stage.reloads(), observed.reloads);

    // Past its end no client gets in.
    let end = SystemTime::now();
    let past = gate.clients.crl_of(&[], end - 10 * DAY, end - HOUR);
    bring(&world, "crl.pem", &past);
    fs::write(gate.stage.kept("crl.pem"), &past).unwrap();
    let before = Observed::inventory(gate);
    gate.stage
        .becomes_and_says("source_invalid", &["CRL of CN=Clients", "was due"]);
    assert_eq!(observed.runs(&["sync"]).code(), 1);
    assert_eq!(observed.runs(&["status"]).code(), 1);
    before.is_untouched();
    assert_eq!(daemon.stop().code(), Some(0));
}
