//! What a response says about limits: a status, then lines of `name: value`.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use tower_m2m::rate_limit_retry::headers::{ClockSkew, HeaderProfile, Vendor, read, read_with};
use tower_m2m_fuzz::{headers, now, status};

fuzz_target!(|data: &[u8]| {
    let Some((first, lines)) = data.split_first() else {
        return;
    };
    let (status, headers) = (status(*first), headers(lines));
    let skew = {
        let mut skew = ClockSkew::default();
        skew.observe(&headers, now());
        skew.server_time(now())
    };
    let profiles: [&dyn HeaderProfile; 3] = [&Vendor::GITHUB, &Vendor::SHOPIFY, &Vendor::PRISJAKT];
    let with = profiles.map(|profile| read_with(profile, status, &headers, skew));
    let without = read(status, &headers, now());
    for signals in with.into_iter().chain([without]) {
        let resets = signals.limits.iter().filter_map(|limit| limit.reset);
        assert!(
            resets
                .chain(signals.retry_after)
                .all(|wait| wait <= TEN_YEARS)
        );
        // What a server can make a client keep is bounded.
        assert!(signals.limits.len() <= 64);
        let names = signals
            .limits
            .iter()
            .filter_map(|limit| limit.name.as_ref());
        assert!(names.into_iter().all(|name| name.len() <= 128));
        // A success asks nobody to come back.
        assert!(!status.is_success() || !signals.is_throttle(status));
        assert!(!signals.is_empty() || signals.exhausted_reset().is_none());
        let refills = signals.limits.iter().filter_map(|limit| limit.refill);
        assert!(
            refills
                .into_iter()
                .all(|rate| rate.is_finite() && rate >= 0.0)
        );
    }
});

const TEN_YEARS: Duration = Duration::from_secs(10 * 366 * 24 * 3600);
