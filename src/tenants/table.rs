//! The tenants there are. Which of them may be forgotten is decided here.

use std::{
    collections::{HashMap, hash_map::Entry},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{AcqRel, Acquire, Relaxed},
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
    /// Counts removals: a tenant found before a removal is not copied after it.
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
    /// The calls of `make` that are running.
    making: HashMap<CredentialId, Making>,
    swept: Option<Instant>,
}

/// The running calls of `make` for one tenant.
#[derive(Default)]
struct Making {
    calls: usize,
    /// Number of calls of `forget` since the first of them began.
    forgotten: u64,
}

struct Seen {
    tenant: Arc<Tenant>,
    /// When it was found to have been used.
    at: Instant,
}

/// Holds no tenant that was removed: a removal empties all copies.
type Copies = HashMap<CredentialId, Arc<Tenant>>;

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
        let near = self.near.here();
        // Taken only where threads outnumber places: nobody waits for it.
        if let Ok(copies) = near.try_lock()
            && let Some(tenant) = copies.get(id)
        {
            tenant.mark();
            return Ok(Arc::clone(tenant));
        }
        let changes = self.changes.load(Acquire);
        let tenant = self.look(id)?;
        // A removal counts first and empties the copies afterwards: either it is seen here, or it removes this copy.
        if let Ok(mut copies) = near.try_lock()
            && self.changes.load(Acquire) == changes
        {
            copies.insert(id.clone(), Arc::clone(&tenant));
        }
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
        let mut known = lock(&self.tenants);
        // What is being made may be made of what was read before.
        if let Some(making) = known.making.get_mut(id) {
            making.forgotten += 1;
        }
        let forgotten = known.by_id.remove(id);
        drop(known);
        self.drop_copies(std::slice::from_ref(id));
        forgotten.is_some()
    }

    /// Removes these tenants from all copies. What they own is dropped outside the locks.
    fn drop_copies(&self, ids: &[CredentialId]) {
        if ids.is_empty() {
            return;
        }
        self.changes.fetch_add(1, AcqRel);
        for near in self.near.all() {
            let removed: Vec<_> = {
                let mut copies = lock(near);
                ids.iter().filter_map(|id| copies.remove(id)).collect()
            };
            drop(removed);
        }
    }

    fn look(&self, id: &CredentialId) -> Result<Arc<Tenant>, TenantError> {
        loop {
            if let Some(tenant) = self.known(id) {
                tenant.mark();
                return Ok(tenant);
            }
            // Made under no lock: it is the user's code, and may read files.
            let call = MakeCall::begin(self, id);
            let made = catch_unwind(AssertUnwindSafe(|| (self.make)(id)));
            if call.is_outdated() {
                continue;
            }
            let layer = made
                .unwrap_or_else(|_| Err("the closure of `TenantsLayer` panicked".into()))
                .map_err(|error| TenantError::Unusable(id.clone(), Arc::from(error)))?
                .ok_or_else(|| TenantError::Unknown(id.clone()))?;
            if let Some(kept) = self.keep(&call, layer) {
                return kept;
            }
        }
    }

    /// Keeps the layer that `call` has made; `None` if the tenant was forgotten meanwhile.
    fn keep(
        &self,
        call: &MakeCall<'_>,
        layer: M2mLayer,
    ) -> Option<Result<Arc<Tenant>, TenantError>> {
        let id = call.id;
        let now = self.clock.now();
        self.make_room(now);
        let made = Arc::new(Tenant::new(layer));
        let mut known = lock(&self.tenants);
        if known.forgotten(id) != call.forgotten {
            return None;
        }
        // Another thread may have been quicker: there is never a second cell.
        if let Some(seen) = known.by_id.get(id) {
            return Some(Ok(Arc::clone(&seen.tenant)));
        }
        if known.by_id.len() >= self.limits.most {
            return Some(Err(TenantError::Full(id.clone())));
        }
        let tenant = Arc::clone(&made);
        known.by_id.insert(id.clone(), Seen { tenant, at: now });
        Some(Ok(made))
    }

    /// Removes tenants that were idle for long, if a check is due.
    fn make_room(&self, now: Instant) {
        let idle = lock(&self.tenants).idle(self.limits, now);
        // The check asks the layers' clocks, which may be the user's code: under no lock.
        let idle = idle.into_iter().filter(|(_, tenant)| !tenant.is_busy());
        let idle: Vec<_> = idle.collect();
        if idle.is_empty() {
            return;
        }
        let mut removed = Vec::new();
        let mut known = lock(&self.tenants);
        for (id, tenant) in &idle {
            let same = |seen: &Seen| Arc::ptr_eq(&seen.tenant, tenant);
            if known.by_id.get(id).is_some_and(same) && !tenant.used.load(Relaxed) {
                known.by_id.remove(id);
                removed.push(id.clone());
            }
        }
        drop(known);
        self.drop_copies(&removed);
    }
}

impl Known {
    /// Number of times that `id` was forgotten while it was being made.
    fn forgotten(&self, id: &CredentialId) -> u64 {
        self.making.get(id).map_or(0, |making| making.forgotten)
    }

    /// The tenants that were idle for long, if a check is due.
    fn idle(&mut self, limits: Limits, now: Instant) -> Vec<(CredentialId, Arc<Tenant>)> {
        let since = |at: Instant| now.saturating_duration_since(at);
        let due = self
            .swept
            .is_none_or(|swept| since(swept) >= limits.idle_after / 4);
        if !due && self.by_id.len() < limits.most {
            return Vec::new();
        }
        self.swept = Some(now);
        let mut idle = Vec::new();
        for (id, seen) in &mut self.by_id {
            if seen.tenant.used.swap(false, Relaxed) {
                seen.at = now;
            }
            if since(seen.at) >= limits.idle_after {
                idle.push((id.clone(), Arc::clone(&seen.tenant)));
            }
        }
        idle
    }
}

/// A running call of `make`: ends when it is dropped, after a panic as well.
struct MakeCall<'a> {
    table: &'a Table,
    id: &'a CredentialId,
    /// Number of times that the tenant had been forgotten when the call began.
    forgotten: u64,
}

impl<'a> MakeCall<'a> {
    fn begin(table: &'a Table, id: &'a CredentialId) -> Self {
        let mut known = lock(&table.tenants);
        let making = known.making.entry(id.clone()).or_default();
        making.calls += 1;
        let forgotten = making.forgotten;
        drop(known);
        Self {
            table,
            id,
            forgotten,
        }
    }

    /// Whether the tenant was forgotten since the call began: what it has made may be made of an old secret.
    fn is_outdated(&self) -> bool {
        lock(&self.table.tenants).forgotten(self.id) != self.forgotten
    }
}

impl Drop for MakeCall<'_> {
    fn drop(&mut self) {
        let mut known = lock(&self.table.tenants);
        if let Entry::Occupied(mut making) = known.making.entry(self.id.clone()) {
            making.get_mut().calls -= 1;
            if making.get().calls == 0 {
                making.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests;
