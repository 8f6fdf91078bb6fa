//! A place of its own for each machine among the control groups: systemd-nspawn uses the place that
//! it is started in, and two systemd in one place would kill each other's processes.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use procfs::process::Process;

/// A group in each hierarchy that systemd uses.
pub struct Cgroup {
    groups: Vec<PathBuf>,
}

impl Cgroup {
    /// Makes the groups; or says why that cannot be.
    pub fn new(name: &str) -> Result<Self, String> {
        let groups: Vec<PathBuf> = own_places()
            .ok_or("the control groups of this process cannot be seen")?
            .into_iter()
            .map(|place| place.join(name))
            .collect();
        if groups.is_empty() {
            return Err("systemd-nspawn needs cgroup2, which is not mounted here".into());
        }
        let cgroup = Self { groups };
        for group in &cgroup.groups {
            if let Err(error) = fs::create_dir(group) {
                let why = format!("systemd-nspawn needs {}: {error}", group.display());
                cgroup.remove();
                return Err(why);
            }
        }
        Ok(cgroup)
    }

    /// The groups that a killed run left under this name.
    pub fn left_behind(name: &str) -> Self {
        let places = own_places().unwrap_or_default();
        Self {
            groups: places.into_iter().map(|place| place.join(name)).collect(),
        }
    }

    /// The files to which a process writes its number to join.
    pub fn doors(&self) -> impl Iterator<Item = PathBuf> {
        self.groups.iter().map(|group| group.join("cgroup.procs"))
    }

    /// Removes the groups once the processes in them have gone.
    pub fn remove(&self) {
        for group in &self.groups {
            for _ in 0..100 {
                if remove(group) {
                    break;
                }
                thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// Where this process stands in cgroup2 and, on a host that has both, in systemd's own hierarchy.
fn own_places() -> Option<Vec<PathBuf>> {
    let own = Process::myself().ok()?;
    let mounts = own.mountinfo().ok()?;
    let mut places = Vec::new();
    for group in own.cgroups().ok()? {
        let mount = mounts.iter().find(|mount| match group.hierarchy {
            0 => mount.fs_type == "cgroup2",
            _ => group.controllers == ["name=systemd"] && mount.super_options.contains_key("name"),
        });
        let Some(mount) = mount else { continue };
        // In a namespace both begin at its own top.
        let below = group.pathname.strip_prefix(&mount.root)?;
        places.push(mount.mount_point.join(below.trim_start_matches('/')));
    }
    Some(places)
}

/// Removes a group and those below; whether it is gone.
fn remove(group: &Path) -> bool {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    fs::remove_dir(group).is_ok() || !group.exists()
}
