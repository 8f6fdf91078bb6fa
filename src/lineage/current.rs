//! What a lineage holds right now, for whoever is about to act on it.
//!
//! A reading gets stale while its reader waits for an instance's lock: somebody else may have read and deployed a newer one
//! meanwhile. So the lineage is read again once the lock is held, through [`LineageReader`], and the private key comes with
//! it for that deployment only.

use super::tracked::PATIENCE_UNDER_LOCK;
use super::{Opened, Source, Tracked};
use crate::host::privilege::PrivilegeError;
use crate::problem::Problem;

/// Who can say what a lineage holds now.
pub(crate) trait LineageReader: Send {
    /// What it holds now. Files that look as they did when they were read are not opened again.
    fn current(&mut self) -> impl Future<Output = Source> + Send;

    /// The same, with the key if that is still at hand from the last reading.
    fn at_hand(&mut self) -> impl Future<Output = Opened> + Send {
        async { Opened::from(self.current().await) }
    }

    /// Reads it, and gives the key as well.
    fn opened(&mut self) -> impl Future<Output = Opened> + Send;
}

impl LineageReader for Tracked {
    async fn current(&mut self) -> Source {
        match self.unchanged().await {
            Ok(Some(source)) => source.clone(),
            Ok(None) => self.opened().await.source,
            Err(error) => unreadable(self.name(), &error),
        }
    }

    async fn opened(&mut self) -> Opened {
        let opened = self.opened_within(PATIENCE_UNDER_LOCK).await;
        opened.unwrap_or_else(|error| unreadable(self.name(), &error).into())
    }
}

fn unreadable(lineage: &str, error: &PrivilegeError) -> Source {
    Source::Invalid {
        problem: Problem::from(error.to_string()).about(format_args!("lineage {lineage}")),
        denied: false,
    }
}

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    reason = "a test fails where its world cannot be built"
)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::time::Duration;

    use std::sync::Arc;

    use super::*;
    use crate::bundle::{KeyedBundle, TrustFiles};
    use crate::lineage::Spec;

    /// A new pair of files, each put in its place by one rename.
    fn renew(directory: &Path, name: &str) -> Arc<KeyedBundle> {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        for (file, text) in [("privkey.pem", &key), ("fullchain.pem", &chain)] {
            fs::write(directory.join("new"), text).unwrap();
            fs::rename(directory.join("new"), directory.join(file)).unwrap();
        }
        Arc::new(KeyedBundle::parse(&[chain.as_bytes()], key.as_bytes()).unwrap())
    }

    #[tokio::test]
    async fn what_is_known_is_said_again_only_while_the_files_look_as_they_did() {
        let directory = tempfile::tempdir().unwrap();
        let first = renew(directory.path(), "first");
        let spec = Spec {
            name: "a".to_owned(),
            candidates: vec![directory.path().canonicalize().unwrap()],
            files: None,
            trust_files: TrustFiles::default(),
        };
        let mut tracked = Tracked::new(spec, Duration::from_millis(1), Duration::from_secs(600));
        assert!(tracked.unchanged().await.unwrap().is_none());
        let holds = |source: &Source, bundle: &KeyedBundle| {
            let held = source.bundle().unwrap();
            assert!(held.same_content(bundle));
        };
        holds(&tracked.current().await, &first);
        let known = tracked.unchanged().await.unwrap();
        holds(known.unwrap(), &first);

        let second = renew(directory.path(), "second");
        assert!(tracked.unchanged().await.unwrap().is_none());
        holds(&tracked.current().await, &second);
        let opened = tracked.opened().await;
        let keyed = opened.keyed.unwrap();
        assert_eq!(*keyed.combined_pem(), *second.combined_pem());

        fs::remove_file(directory.path().join("privkey.pem")).unwrap();
        assert!(tracked.unchanged().await.unwrap().is_none());
        let opened = tracked.opened().await;
        assert!(opened.keyed.is_none() && opened.source.bundle().is_none());
    }
}
