//! What a configured `delay` holds back, and what does not wait.

use rcgen::date_time_ymd;

use super::*;
use crate::bundle::{ClientTrust, TrustFiles};

#[test]
fn a_delay_holds_a_bundle_unless_the_installed_one_is_near_its_end() {
    let ca = Ca::new();
    let (old, new) = (ca.bundle(), ca.issue(BEGIN, "2026-06-01T00:00:00Z", true));
    let delayed = |now: &str| {
        let mut moment = Moment::with_bundle(&old).with_source(Source::Ready {
            bundle: Arc::clone(&new),
            changed: at(now),
        });
        moment.config = instance("delay = \"1h\"");
        moment.now = at(now);
        moment
    };
    delayed(NOW).plan().is_nothing();
    assert_eq!(delayed(NOW).state(), State::Waiting);
    // Seven days before its end, and a second later.
    delayed("2026-03-25T00:00:00Z").plan().is_nothing();
    delayed("2026-03-25T00:00:01Z").plan().deploys(&new, true);
}

/// The same certificate with a CA file whose one CA lasts until then.
fn with_ca(bundle: &Arc<Bundle>, (year, month, day): (i32, u8, u8)) -> Arc<Bundle> {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_after = date_time_ymd(year, month, day);
    let pem = params.self_signed(&key).unwrap().pem();
    let companions = ClientTrust::parse(&TrustFiles {
        ca: Some(pem.as_bytes()),
        crl: None,
    })
    .unwrap();
    Arc::new(Bundle::clone(bundle).with(companions))
}

#[test]
fn a_delay_does_not_hold_the_successor_of_a_ca_that_is_near_its_end() {
    let bundle = Ca::new().bundle();
    let new = with_ca(&bundle, (2030, 1, 1));
    let delayed = |end: (i32, u8, u8)| {
        let mut moment = Moment::with_bundle(&with_ca(&bundle, end)).with_source(Source::Ready {
            bundle: Arc::clone(&new),
            changed: at(NOW),
        });
        moment.config = instance("delay = \"1h\"");
        moment.now = at(NOW);
        moment
    };
    delayed((2026, 2, 9)).plan().is_nothing();
    delayed((2026, 2, 7)).plan().deploys(&new, true);
}
