//! The quotas of a server: which of them apply to a request, and their joint decision.

use std::{sync::Mutex, time::Duration};

use http::Method;

use super::{
    super::{meter::Meter, quota::Quota, script::lock},
    dialect::QuotaDecision,
};

/// Returns whether a quota applies to a request, by method and path.
pub(super) type Scope = Box<dyn Fn(&Method, &str) -> bool + Send + Sync>;

/// The quotas of a server.
pub(super) struct Quotas {
    /// Name and scope of each quota.
    scopes: Vec<(String, Scope)>,
    /// The meter of each quota, in the order of `scopes`.
    meters: Mutex<Vec<Meter>>,
}

impl Quotas {
    /// Creates a meter for each quota.
    pub(super) fn new(quotas: Vec<(String, Scope, Quota)>, count_refused: bool) -> Self {
        let mut scopes = Vec::new();
        let mut meters = Vec::new();
        for (name, scope, quota) in quotas {
            scopes.push((name, scope));
            meters.push(Meter::new(quota, count_refused));
        }
        Self {
            scopes,
            meters: Mutex::new(meters),
        }
    }

    /// Checks every quota that applies to the request. The request is charged to all of them, or, if one rejects, to none.
    pub(super) fn admit(
        &self,
        method: &Method,
        path: &str,
        now: Duration,
    ) -> Vec<QuotaDecision<'_>> {
        // The scopes are foreign code, so they are called before the lock is taken.
        let matching: Vec<bool> = self
            .scopes
            .iter()
            .map(|(_, scope)| scope(method, path))
            .collect();
        // One lock for both passes, so that no other request is charged in between.
        let mut meters = lock(&self.meters);
        let concerned = || matching.iter().copied();
        // First pass: does every quota allow it? Only then the second pass charges the request.
        let all_allow = meters
            .iter_mut()
            .zip(concerned())
            .all(|(meter, matches)| !matches || meter.peek(now).allowed);
        meters
            .iter_mut()
            .zip(&self.scopes)
            .zip(concerned())
            .filter(|(_, matches)| *matches)
            .map(|((meter, (name, _)), _)| {
                let current = meter.peek(now);
                // A quota that rejects the request counts it, if rejected requests are charged.
                let decision = if all_allow || !current.allowed {
                    meter.admit(now)
                } else {
                    current
                };
                QuotaDecision {
                    name,
                    quota: meter.quota(),
                    decision,
                }
            })
            .collect()
    }
}
