//! Faults of the host: a full disk, a file that cannot be changed, a stranger on a port.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use super::{
    Owner, SOON, World, command, give,
    process::{Process, run},
    skipped::Skipped,
};

/// A mount, until it is dropped.
pub struct Mounted(pub PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = run(command("umount").arg("--lazy").arg(&self.0), SOON).result();
        if let Err(error) = unmounted {
            eprintln!("{} is still mounted: {error}", self.0.display());
        }
    }
}

/// A small file system in memory, mounted on a directory until it is dropped.
pub struct Tmpfs(Mounted);

impl Tmpfs {
    /// Mounts one of this size (`64k`) on the directory, which gets this owner, mode 0700.
    #[track_caller]
    pub fn mount(directory: &Path, size: &str, owner: Owner) -> Self {
        let options = format!("size={size},mode=0700");
        run(
            command("mount")
                .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
                .arg(directory),
            SOON,
        )
        .result()
        .unwrap();
        give(directory, owner, 0o700);
        Self(Mounted(directory.to_owned()))
    }

    /// Mounts it again, `ro` or `rw`.
    #[track_caller]
    pub fn remount(&self, option: &str) {
        let option = format!("remount,{option}");
        run(command("mount").args(["-o", &option]).arg(&self.0.0), SOON)
            .result()
            .unwrap();
    }

    /// Fills what is left of it with one file, and gives that file's path.
    pub fn fill(&self) -> PathBuf {
        let file = self.0.0.join("filler");
        // Ends with ENOSPC, which is what is wanted.
        let _ = std::fs::write(&file, vec![0; 64 << 20]);
        file
    }
}

/// Whether a directory can be shown by a program (`bindfs`).
pub fn has_fuse() -> Result<(), Skipped> {
    if Path::new("/dev/fuse").exists() {
        return Ok(());
    }
    Err(Skipped::because(
        "/dev/fuse is missing: the kernel has no FUSE, or a container hides it",
    ))
}

/// A file or directory with `chattr +i` until it is dropped.
pub struct Immutable {
    path: PathBuf,
}

impl Immutable {
    /// Sets the flag, if the file system has such a flag.
    pub fn set(path: &Path) -> Result<Self, Skipped> {
        let set = run(command("chattr").arg("+i").arg(path), SOON).result();
        set.map_err(|error| Skipped::because(format!("no immutable files here: {error}")))?;
        Ok(Self {
            path: path.to_owned(),
        })
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        if let Err(error) = run(command("chattr").arg("-i").arg(&self.path), SOON).result() {
            eprintln!("{}: {error}", self.path.display());
        }
    }
}

/// An OpenSSL that refuses RSA-2048, which pgcertd's own checks let pass.
pub struct StrictOpenssl {
    /// For the postmaster's `OPENSSL_CONF`.
    pub conf: PathBuf,
    /// For `ssl_dh_params_file`: PostgreSQL's own group is too small for such an OpenSSL.
    pub dh_params: PathBuf,
}

impl StrictOpenssl {
    /// Writes both files.
    pub fn new(world: &World) -> Self {
        let directory = world.directory("strict-openssl");
        let strict = Self {
            conf: directory.join("openssl.cnf"),
            dh_params: directory.join("dh.pem"),
        };
        let conf = "openssl_conf = main\n[main]\nssl_conf = ssl\n[ssl]\n\
                    system_default = all\n[all]\nCipherString = DEFAULT@SECLEVEL=3\n";
        std::fs::write(&strict.conf, conf).unwrap();
        let group = [
            "genpkey",
            "-genparam",
            "-algorithm",
            "DH",
            "-pkeyopt",
            "group:ffdhe3072",
        ];
        let params = run(command("openssl").args(group), SOON).result().unwrap();
        std::fs::write(&strict.dh_params, params + "\n").unwrap();
        strict
    }
}

/// An unrelated process of this user that dies of any signal but lives an hour without one.
pub fn bystander(owner: Owner) -> Process {
    use std::os::unix::process::CommandExt;
    Process::spawn(
        command("sleep")
            .arg("3600")
            .uid(owner.uid)
            .gid(owner.gid)
            .stdin(Stdio::null())
            .stdout(Stdio::null()),
    )
}
