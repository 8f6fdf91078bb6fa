//! A lineage whose files are written over where they lie, as acme.sh and lego do.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use super::{World, ca::Issued};

/// A directory of plain files.
pub struct InPlace {
    directory: PathBuf,
}

impl InPlace {
    /// An empty directory of this name in the world.
    pub fn new(world: &World, name: &str) -> Self {
        Self {
            directory: world.directory(name),
        }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.directory
    }

    /// Installs as `acme.sh --install-cert` does, `cat >` for each: cert, CA, key, full chain.
    pub fn renew(&self, issued: &Issued) {
        self.put("cert.pem", issued.leaf_pem.as_bytes());
        self.put("chain.pem", issued.chain_pem().as_bytes());
        self.put("privkey.pem", issued.key_pem.as_bytes());
        self.put("fullchain.pem", issued.fullchain_pem().as_bytes());
    }

    /// Truncates a file, or makes it, writes these bytes and closes it.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        self.truncate(name).write_all(bytes).unwrap();
    }

    /// Truncates a file, or makes it, and leaves it open: what is written next is a torn write.
    pub fn truncate(&self, name: &str) -> File {
        File::create(self.directory.join(name)).unwrap()
    }

    /// Writes a file beside and renames it, as Caddy does.
    pub fn swap(&self, name: &str, bytes: &[u8]) {
        let beside = self.directory.join(format!(".{name}.new"));
        fs::write(&beside, bytes).unwrap();
        fs::rename(beside, self.directory.join(name)).unwrap();
    }

    /// Removes a file.
    pub fn remove(&self, name: &str) {
        fs::remove_file(self.directory.join(name)).unwrap();
    }
}
