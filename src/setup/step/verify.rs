//! What new clients get.

use tokio::time::Instant;

use crate::config::Verify;
use crate::problem::Problem;
use crate::server::Unseen;
use crate::server::program::tls_settings;
use crate::setup::error::SetupError;
use crate::setup::scene::{PAUSE, Scene, Site};

/// Looks until new clients get the installed leaf.
pub(super) async fn apply(scene: &mut Scene<'_>) -> Result<(), SetupError> {
    let Some(wanted) = scene.wanted else {
        return Ok(());
    };
    if scene.site.instance.verify == Verify::None {
        return Ok(());
    }
    let addresses = scene.addresses().map_err(Unseen::Nowhere)?;
    let instance = &scene.keeper.instance;
    let limit = instance.config.verify_timeout;
    let deadline = Instant::now() + limit;
    let seen = loop {
        let seen = match &scene.bundle {
            Some(bundle) => instance.served_by_name(&addresses, bundle, limit).await,
            None => instance.served(&addresses, limit).await,
        };
        let seen = match seen {
            Ok(served) if served.leaf.fingerprint() == wanted => {
                scene.done(format!(
                    "{} shows {} to new clients",
                    served.address,
                    wanted.short()
                ));
                scene.served = Some(served);
                return Ok(());
            }
            Ok(other) => format!(
                "{} shows {}",
                other.address,
                other.leaf.fingerprint().short()
            ),
            Err(unseen) => unseen.to_string(),
        };
        if Instant::now() >= deadline {
            break seen;
        }
        tokio::time::sleep(PAUSE).await;
    };
    let problem = Problem::from(format!("new clients do not get {}: {seen}", wanted.short()));
    Err(match faults(scene).await {
        faults if faults.is_empty() => Problem {
            fix: "see why in the server's log".into(),
            ..problem
        },
        faults => problem.and(faults.join("; ")),
    }
    .into())
}

/// What else keeps a server from loading its files.
async fn faults(scene: &Scene<'_>) -> Vec<String> {
    let Site {
        server, instance, ..
    } = scene.site;
    let settings = tls_settings(&server.postmaster, &server.data_directory, server.owner).await;
    let faults = settings.map_or_else(|_| Vec::new(), |tls| tls.faults_elsewhere(instance));
    let mut faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
    faults.extend(scene.sql.file_faults().await.unwrap_or_default());
    faults
}
