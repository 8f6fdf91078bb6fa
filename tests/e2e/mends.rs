//! The fix that `status` prints can be pasted, and works.

use std::{fs, path::Path};

use crate::{
    stage::{NAME, Stage},
    world::{SOON, World, command, process::run},
};

/// The command in the text of `status`: the last line of what is said to fix it.
#[track_caller]
fn pasted(stage: &Stage<'_>) -> String {
    let shown = stage.pgcertd(&["status"]);
    let text = shown.stdout();
    println!("{text}");
    let mut lines = text
        .lines()
        .skip_while(|line| !line.starts_with("  fix   "));
    let first = lines.next().unwrap_or_else(|| panic!("no fix in {text}"));
    let block = lines.take_while(|line| line.starts_with("        "));
    let last = std::iter::once(first).chain(block).last().unwrap();
    last[8..].to_owned()
}

/// Runs it in a shell that finds this pgcertd, as root.
#[track_caller]
fn typed(line: &str) {
    let program = Path::new(env!("CARGO_BIN_EXE_pgcertd"));
    let path = format!(
        "{}:{}",
        program.parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    let mut shell = command("sh");
    let done = run(shell.args(["-c", line]).env("PATH", path), SOON);
    assert_eq!(done.code(), 0, "{line}: {done:?}");
}

#[test]
fn the_command_for_what_is_out_of_date_brings_it_in_sync() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let second = stage.renew();
    stage.becomes("out_of_date");
    typed(&pasted(&stage));
    stage.becomes("in_sync");
    stage.serves(&second);

    fs::remove_file(&stage.cert).unwrap();
    stage.becomes("out_of_date");
    typed(&pasted(&stage));
    stage.becomes("in_sync");
}

#[test]
fn the_command_for_what_is_held_deploys_it() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let second = stage.renew();
    assert_eq!(stage.pgcertd(&["sync"]).code(), 0);
    let back = stage.pgcertd(&["rollback", NAME]);
    assert_eq!(back.code(), 0, "{back:?}");
    stage.becomes("held");
    typed(&pasted(&stage));
    stage.becomes("in_sync");
    stage.serves(&second);
}

#[test]
fn the_command_for_what_is_not_served_has_it_served() {
    let world = or_skip!(World::new());
    let mut stage = Stage::new(&world);
    let second = stage.renew();
    // Installed by another hand, and nobody told the server.
    crate::stage::place(&world, &second, &stage.cert, &stage.key);
    stage.becomes("not_served");
    typed(&pasted(&stage));
    stage.becomes("in_sync");
    stage.serves(&second);
}

#[test]
fn the_command_for_what_is_not_used_sets_the_server_up() {
    let world = or_skip!(World::new());
    let stage = Stage::build(&world)
        .cluster(|cluster| cluster.setting("ssl", "off"))
        .start();
    stage.becomes("not_used");
    // Here is no terminal to ask at.
    typed(&format!("{} --yes", pasted(&stage)));
    stage.becomes("in_sync");
    let first = stage.first.clone();
    stage.serves(&first);
}
