//! A person with an editor: vim as it comes, vim that writes in place, sed.

use std::path::Path;

use super::{AWAITED, Inbox, Scene, Source};
use crate::world::{SOON, World, command, process::run};

/// How a person replaces all that is in a file.
#[derive(Clone, Copy, Debug)]
enum Editor {
    /// vim renames the file away, writes a new one, and deletes the old.
    Vim,
    /// vim with `backupcopy=yes` writes over the file.
    VimInPlace,
    /// sed writes another file and renames it.
    Sed,
}

impl Editor {
    #[track_caller]
    fn save(self, new: &Path, file: &Path) {
        let vim = |way: &str| {
            let mut vim = command("vim.tiny");
            vim.args(["-u", "NONE", "-i", "NONE", "-n", "-e", "-s"])
                .args(["-c", &format!("set {way}")])
                .args(["-c", &format!("%d | 0r {} | x", new.display())])
                .arg(file);
            vim
        };
        let mut save = match self {
            Self::Vim => vim("writebackup backupcopy=no"),
            Self::VimInPlace => vim("writebackup backupcopy=yes"),
            Self::Sed => {
                let mut sed = command("sed");
                sed.arg("-i")
                    .args(["-e", &format!("1r {}", new.display()), "-e", "d"])
                    .arg(file);
                sed
            }
        };
        run(&mut save, SOON).result().unwrap();
    }
}

#[test]
fn files_that_a_person_edits_are_installed_when_both_are_saved() {
    let world = or_skip!(World::new());
    let inbox = Inbox::new(&world);
    let here = world.directory("edited");
    let names = ["fullchain.pem", "privkey.pem"];
    inbox.next();
    for name in names {
        std::fs::copy(inbox.path(name), here.join(name)).unwrap();
    }
    let mut scene = Scene::with_source(&world, Source::pems(&here));
    for editor in [Editor::Vim, Editor::VimInPlace, Editor::Sed] {
        let next = inbox.next();
        editor.save(&inbox.path(names[0]), &here.join(names[0]));
        scene.awaits(AWAITED);
        editor.save(&inbox.path(names[1]), &here.join(names[1]));
        scene.serves_what_was_left(&format!("{editor:?}"));
        assert_eq!(scene.servers[0].last(), next.fingerprint);
    }
    scene.ends();
}
