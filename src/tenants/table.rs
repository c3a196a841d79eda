//! The tenants there are. Which of them may be forgotten is decided here.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{CredentialId, TenantError};
use crate::{
    BoxError, M2mLayer,
    clock::SharedClock,
    sharded::Sharded,
    sync::{Mutex, lock},
};

pub(super) type Make = dyn Fn(&CredentialId) -> Result<Option<M2mLayer>, BoxError> + Send + Sync;

pub(super) struct Table {
    make: Box<Make>,
    limits: Limits,
    clock: SharedClock,
    /// Counts what was forgotten: copies of an older count are worth nothing.
    changes: AtomicU64,
    /// Written when a tenant comes or goes.
    tenants: Mutex<Known>,
    /// What a warm request reads: this place's copies.
    near: Sharded<Mutex<Copies>>,
}

#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub(super) most: usize,
    pub(super) idle_after: Duration,
}

#[derive(Default)]
struct Known {
    by_id: HashMap<CredentialId, Seen>,
    swept: Option<Instant>,
}

struct Seen {
    tenant: Arc<Tenant>,
    /// When it was found to have been used.
    at: Instant,
}

#[derive(Default)]
struct Copies {
    changes: u64,
    by_id: HashMap<CredentialId, Arc<Tenant>>,
}

pub(super) struct Tenant {
    pub(super) layer: M2mLayer,
    /// Set by requests, taken back by whoever looks for idle tenants.
    used: AtomicBool,
}

impl Tenant {
    fn new(layer: M2mLayer) -> Self {
        Self {
            layer,
            used: AtomicBool::new(true),
        }
    }

    fn mark(&self) {
        // Written once, so that the line is only read.
        if !self.used.load(Relaxed) {
            self.used.store(true, Relaxed);
        }
    }

    /// Whether forgetting it now would lose a back-off, a hold or a place in a queue.
    fn is_busy(&self) -> bool {
        let quotas = self.layer.quotas().status();
        self.layer.tokens().status().failure().is_some()
            || quotas
                .iter()
                .any(|quota| quota.held_for.is_some() || quota.waiting > 0 || quota.in_flight > 0)
    }
}

impl Table {
    pub(super) fn new(make: Box<Make>, limits: Limits, clock: SharedClock) -> Self {
        Self {
            make,
            limits,
            clock,
            changes: AtomicU64::new(0),
            tenants: Mutex::default(),
            near: Sharded::new(Mutex::default),
        }
    }

    /// The tenant `id`, made if it is not there.
    pub(super) fn tenant(&self, id: &CredentialId) -> Result<Arc<Tenant>, TenantError> {
        let changes = self.changes.load(Acquire);
        // Taken only where threads outnumber places: nobody waits for it.
        let Ok(mut copies) = self.near.here().try_lock() else {
            return self.look(id);
        };
        if copies.changes != changes {
            copies.by_id.clear();
            copies.changes = changes;
        }
        if let Some(tenant) = copies.by_id.get(id) {
            tenant.mark();
            return Ok(Arc::clone(tenant));
        }
        let tenant = self.look(id)?;
        copies.by_id.insert(id.clone(), Arc::clone(&tenant));
        Ok(tenant)
    }

    /// The tenant `id`, if it is there.
    pub(super) fn known(&self, id: &CredentialId) -> Option<Arc<Tenant>> {
        let known = lock(&self.tenants);
        known.by_id.get(id).map(|seen| Arc::clone(&seen.tenant))
    }

    pub(super) fn ids(&self) -> Vec<CredentialId> {
        lock(&self.tenants).by_id.keys().cloned().collect()
    }

    /// Forgets `id`. Requests under way go on with what they have.
    pub(super) fn forget(&self, id: &CredentialId) -> bool {
        let forgotten = lock(&self.tenants).by_id.remove(id);
        self.changes.fetch_add(1, Release);
        forgotten.is_some()
    }

    fn look(&self, id: &CredentialId) -> Result<Arc<Tenant>, TenantError> {
        if let Some(tenant) = self.known(id) {
            tenant.mark();
            return Ok(tenant);
        }
        // Made outside the lock: it may read files.
        let layer = (self.make)(id)
            .map_err(|error| TenantError::Unusable(id.clone(), Arc::from(error)))?
            .ok_or_else(|| TenantError::Unknown(id.clone()))?;
        let now = self.clock.now();
        let mut known = lock(&self.tenants);
        // Somebody else may have been quicker: there is never a second cell.
        if let Some(seen) = known.by_id.get(id) {
            return Ok(Arc::clone(&seen.tenant));
        }
        let forgotten = known.make_room(self.limits, now);
        let full = known.by_id.len() >= self.limits.most;
        let tenant = Arc::new(Tenant::new(layer));
        if !full {
            let seen = Seen {
                tenant: Arc::clone(&tenant),
                at: now,
            };
            known.by_id.insert(id.clone(), seen);
        }
        drop(known);
        if !forgotten.is_empty() {
            self.changes.fetch_add(1, Release);
        }
        match full {
            true => Err(TenantError::Full(id.clone())),
            false => Ok(tenant),
        }
    }
}

impl Known {
    /// Takes out those that were idle for long, if it is time to look for them.
    fn make_room(&mut self, limits: Limits, now: Instant) -> Vec<Arc<Tenant>> {
        let since = |at: Instant| now.saturating_duration_since(at);
        let due = self
            .swept
            .is_none_or(|swept| since(swept) >= limits.idle_after / 4);
        if !due && self.by_id.len() < limits.most {
            return Vec::new();
        }
        self.swept = Some(now);
        for seen in self.by_id.values_mut() {
            if seen.tenant.used.swap(false, Relaxed) {
                seen.at = now;
            }
        }
        let idle = |_: &CredentialId, seen: &mut Seen| {
            since(seen.at) >= limits.idle_after && !seen.tenant.is_busy()
        };
        self.by_id
            .extract_if(idle)
            .map(|(_, seen)| seen.tenant)
            .collect()
    }
}

#[cfg(test)]
mod tests;
