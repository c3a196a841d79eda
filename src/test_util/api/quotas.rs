//! All quotas of a server: which of them a request falls under, and what they say together.

use std::{sync::Mutex, time::Duration};

use http::Method;

use super::{
    super::{meter::Meter, quota::Quota, script::lock},
    dialect::Verdict,
};

pub(super) type Scope = Box<dyn Fn(&Method, &str) -> bool + Send + Sync>;

/// The quotas, each with the requests it is about.
pub(super) struct Quotas {
    scopes: Vec<(String, Scope)>,
    /// In the order of `scopes`.
    meters: Mutex<Vec<Meter>>,
}

impl Quotas {
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

    /// Asks every quota that the request falls under. It is charged to all of them, or, if one refuses, to none.
    pub(super) fn admit(&self, method: &Method, path: &str, now: Duration) -> Vec<Verdict<'_>> {
        // The closures are foreign code, so they are called before the lock is taken.
        let matching: Vec<bool> = self
            .scopes
            .iter()
            .map(|(_, scope)| scope(method, path))
            .collect();
        let mut meters = lock(&self.meters);
        let concerned = || matching.iter().copied();
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
                // One that refuses counts the refusal, if refusals count.
                let decision = if all_allow || !current.allowed {
                    meter.admit(now)
                } else {
                    current
                };
                Verdict {
                    name,
                    quota: meter.quota(),
                    decision,
                }
            })
            .collect()
    }
}
