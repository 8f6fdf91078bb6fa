//! The files of a bundle are renamed one after the other: a crash in between leaves what nobody
//! has meant. Whoever comes next goes on with the new bundle or back to the one of before, whole.
#![cfg(feature = "failpoints")]

use super::*;

/// The server's files as a crash leaves them, a step at a time: the CRL, the CAs, the key and the
/// chain.
const STEPS: usize = 4;

/// A gate whose CA is replaced, not joined, by another one: with a file of the one and a file of
/// the other no client gets in.
struct Rotation<'w> {
    gate: Gate<'w>,
    before: [String; 4],
    next: Ca,
    newcomer: Client,
    second: Issued,
}

impl<'w> Rotation<'w> {
    /// The lineage and the sources hold the new bundle, and all is in place that was before.
    fn new(world: &'w World) -> Self {
        let [cert, key] = two_files(world);
        let mut gate = Gate::at(world, &cert, &key);
        let before = gate.installed();
        let next = Ca::new(world, "Next clients");
        bring(world, "crl.pem", &next.crl(&[]));
        bring(world, "ca.pem", &next.root_pem());
        let newcomer = Client::new(world, &next, "newcomer");
        let second = gate.stage.renew();
        Self {
            gate,
            before,
            next,
            newcomer,
            second,
        }
    }

    /// Runs pgcertd until it dies at the fail point, which it passes so often before.
    fn dies(&self, command: &[&str], point: &str, after: usize) {
        let action = match after {
            0 => "panic".to_owned(),
            count => format!("{count}*off->panic"),
        };
        let launch = Launch::new(self.gate.world()).env("FAILPOINTS", format!("{point}={action}"));
        let done = launch.run(&self.gate.stage.config, command);
        assert!(done.code() < 0, "{command:?} lives on: {done:?}");
    }

    /// Which of certificate, key, CA and CRL file are no more what they were.
    fn changed(&self) -> [bool; 4] {
        let mut before = self.before.iter();
        self.gate
            .installed()
            .map(|text| Some(&text) != before.next())
    }

    /// So many files of the new bundle are in place, in the order of an install.
    #[track_caller]
    fn is_torn_at(&self, renamed: usize) {
        assert_eq!(self.changed(), [3, 2, 1, 0].map(|left| renamed > left));
    }

    /// What was there before is there again, whole, and is still the one to go back to.
    #[track_caller]
    fn is_back(&self, point: &str) {
        assert_eq!(self.changed(), [false; 4], "{point}");
        let kept = |name: &str| fs::read_to_string(self.gate.stage.kept(name)).unwrap();
        let previous = [kept("previous-ca.pem"), kept("previous-crl.pem")];
        assert_eq!(previous, self.before[2..], "{point}");
    }

    /// The server starts on what is there, and whoever got in before gets in.
    #[track_caller]
    fn starts_as_before(&mut self, point: &str) {
        if let Err(log) = self.gate.stage.cluster.start() {
            panic!("{point}: {log}");
        }
        self.gate.lets_in(&self.gate.one);
    }

    /// Nothing is left to be mended, and the new bundle gets in after all.
    #[track_caller]
    fn ends_renewed(self) {
        let Rotation {
            gate,
            newcomer,
            second,
            ..
        } = self;
        gate.stage.synced(&["--force"], "deployed", 0);
        assert!(fs::symlink_metadata(gate.stage.kept("trial")).is_err());
        gate.lets_in(&newcomer);
        gate.keeps_out(&gate.one, "unknown ca");
        gate.stage.ends_serving(&second);
    }
}

#[test]
fn what_an_install_left_half_done_keeps_clients_out_and_goes_back_before_postgres_starts() {
    for renamed in 1..=STEPS {
        let world = or_skip!(World::new());
        let mut torn = Rotation::new(&world);
        let point = format!("{renamed} files renamed");
        torn.dies(&["sync"], "renamed", renamed - 1);
        torn.is_torn_at(renamed);
        torn.gate.stage.cluster.stop();
        if renamed == 1 {
            // A list of one CA beside the certificate of another.
            torn.gate.stage.cluster.start().unwrap();
            torn.gate.keeps_out(&torn.gate.one, "unknown ca");
            torn.gate.keeps_out(&torn.newcomer, "unknown ca");
            torn.gate.stage.cluster.stop();
        }
        let daemon = torn.gate.daemon();
        torn.is_back(&point);
        assert_eq!(daemon.stop().code(), Some(0));
        torn.starts_as_before(&point);
        torn.ends_renewed();
    }
}

#[test]
fn sync_takes_back_what_an_install_left_half_done_while_postgres_is_down() {
    for renamed in 1..STEPS {
        let world = or_skip!(World::new());
        let mut torn = Rotation::new(&world);
        let point = format!("{renamed} files renamed");
        torn.dies(&["sync"], "renamed", renamed - 1);
        torn.gate.stage.cluster.stop();
        let done = torn.gate.stage.sync(&[]);
        assert_eq!(done.code(), 0, "{point}: {done:?}");
        torn.is_back(&point);
        // However often it is run.
        torn.gate.stage.synced(&[], "unchanged", 0);
        torn.is_back(&point);
        torn.starts_as_before(&point);
        torn.ends_renewed();
    }
}

#[test]
fn what_an_install_left_half_done_goes_back_where_the_sources_have_nothing_to_give() {
    for renamed in 1..STEPS {
        let world = or_skip!(World::new());
        let mut torn = Rotation::new(&world);
        let point = format!("{renamed} files renamed");
        torn.dies(&["sync"], "renamed", renamed - 1);
        let ca = torn.next.root_pem();
        bring(&world, "ca.pem", &ca[..ca.len() / 2]);
        // The server runs, and is not to load what lies there, whenever it is restarted.
        let daemon = torn.gate.daemon();
        eventually(SOON, &format!("{point}: it is back"), || {
            torn.changed() == [false; 4]
        });
        torn.gate.stage.becomes("waiting");
        assert_eq!(daemon.stop().code(), Some(0));
        torn.gate.stage.cluster.stop();
        torn.starts_as_before(&point);
        bring(&world, "ca.pem", &ca);
        torn.ends_renewed();
    }
}

#[test]
fn what_postgres_refuses_after_a_crash_goes_back_to_what_was_proven_and_not_to_what_was_left() {
    for renamed in 1..STEPS {
        let world = or_skip!(World::new());
        let mut torn = Rotation::new(&world);
        let point = format!("{renamed} files renamed");
        torn.dies(&["sync"], "renamed", renamed - 1);
        torn.gate.breaks_reloads();
        torn.gate.stage.synced(&[], "rolled_back", 1);
        torn.is_back(&point);
        torn.gate.mends_reloads();
        torn.gate.stage.cluster.stop();
        torn.starts_as_before(&point);
        torn.gate.stage.becomes("rejected");
        torn.ends_renewed();
    }
}

#[test]
fn what_a_roll_back_left_half_done_is_finished_whether_postgres_runs_or_not() {
    for put_back in 1..STEPS {
        for down in [false, true] {
            let world = or_skip!(World::new());
            let mut torn = Rotation::new(&world);
            let point = format!("{put_back} files put back, down: {down}");
            torn.gate.breaks_reloads();
            torn.dies(&["sync"], "put_back", put_back - 1);
            assert_eq!(torn.changed(), [3, 2, 1, 0].map(|left| put_back <= left));
            torn.gate.mends_reloads();
            if down {
                torn.gate.stage.cluster.stop();
            }
            torn.gate.stage.sync(&[]);
            torn.is_back(&point);
            if !down {
                torn.gate.stage.cluster.stop();
            }
            torn.starts_as_before(&point);
            torn.ends_renewed();
        }
    }
}

#[test]
fn what_an_operators_roll_back_left_half_done_is_finished() {
    for renamed in 1..STEPS {
        for down in [false, true] {
            let world = or_skip!(World::new());
            let mut torn = Rotation::new(&world);
            let point = format!("{renamed} files renamed, down: {down}");
            torn.gate.stage.synced(&[], "deployed", 0);
            torn.dies(&["rollback", NAME], "renamed", renamed - 1);
            if down {
                torn.gate.stage.cluster.stop();
            }
            torn.gate.stage.sync(&[]);
            torn.is_back(&point);
            torn.gate.stage.becomes("held");
            if !down {
                torn.gate.stage.cluster.stop();
            }
            torn.starts_as_before(&point);
            torn.ends_renewed();
        }
    }
}
