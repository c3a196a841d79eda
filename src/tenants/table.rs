//! The table of tenants: building, finding and removing them.
//!
//! A request first reads the copies of its thread's shard, which other threads rarely lock. If the tenant is not there,
//! it uses the table, and copies what it finds. If the table lacks the tenant, `make_layer` builds its layer without a
//! lock, and the table keeps the first layer that is built.
//!
//! Two races need care:
//!
//! - A removal while another thread copies the tenant. Removals are counted in `changes` before the copies are emptied;
//!   a thread copies only if the count has not changed since before it read the table. Both happen under the shard's
//!   lock.
//! - A removal while `make_layer` runs. The call may have read the old secret, so its layer is discarded and
//!   `make_layer` called again.
//!
//! Idle tenants are found by a sweep when a tenant is added: it clears every `used` flag, and a tenant whose flag has
//! stayed clear for `idle_timeout` is removed unless it is busy.
//!
//! | operation | locks | foreign code |
//! |---|---|---|
//! | request of a known tenant | its shard, tried only | none |
//! | request of a new tenant | the table, several times; its shard | `make_layer`, without a lock |
//! | `forget` | the table, then each shard in turn | drop of the layer, without a lock |
//! | sweep | the table twice, then each shard in turn | clocks of the layers, without a lock |

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

/// The user's closure that builds a tenant's layer.
pub(super) type MakeLayer =
    dyn Fn(&CredentialId) -> Result<Option<M2mLayer>, BoxError> + Send + Sync;

/// The tenants of one layer.
///
/// No two of its locks are held at once, and no foreign code runs under any of them.
///
/// The map of the table decides whether a tenant exists; the copies only repeat it.
pub(super) struct Table {
    /// Builds a tenant's layer.
    make_layer: Box<MakeLayer>,
    /// The layer's settings.
    limits: Limits,
    /// The layer's clock.
    clock: SharedClock,
    /// Number of removals: a tenant that was found before a removal is not copied after it.
    removals: AtomicU64,
    /// The tenants. Locked when the copies lack one, and when one is added or removed.
    tenants: Mutex<TenantMap>,
    /// Copies of the tenants for each shard, so that a warm request locks only its own thread's.
    local: Sharded<Mutex<LocalTenants>>,
}

/// The settings of the table.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// Maximum number of tenants.
    pub(super) max_tenants: usize,
    /// Time without requests after which a tenant is idle.
    pub(super) idle_timeout: Duration,
}

/// What the main lock guards.
///
/// `pending` has an entry for a tenant only while calls for it run, so that it stays small.
#[derive(Default)]
struct TenantMap {
    /// The tenants by their id.
    by_id: HashMap<CredentialId, TenantEntry>,
    /// The running calls of `make_layer`.
    pending: HashMap<CredentialId, PendingCalls>,
    /// When idle tenants were last swept; `None` before the first sweep.
    last_sweep: Option<Instant>,
}

/// The running calls of `make_layer` for one tenant.
#[derive(Default)]
struct PendingCalls {
    /// Number of running calls.
    calls: usize,
    /// Number of calls of `forget` since the first of them began.
    forgotten: u64,
}

/// A tenant, and when it was last seen in use.
///
/// The time has the resolution of the sweeps, a quarter of `idle_timeout`.
struct TenantEntry {
    /// The tenant.
    tenant: Arc<Tenant>,
    /// Time of the sweep that last found it used, or of its creation.
    last_used: Instant,
}

/// Tenants by their id. Contains no tenant that was removed: a removal removes it from all copies.
type LocalTenants = HashMap<CredentialId, Arc<Tenant>>;

/// One tenant.
///
/// Dropped when it was removed and the last request with it has ended.
pub(super) struct Tenant {
    /// The tenant's layer, and with it its token and its quotas.
    pub(super) layer: M2mLayer,
    /// Set by requests, cleared by the sweep for idle tenants.
    used: AtomicBool,
}

impl Tenant {
    /// Creates a tenant that counts as used.
    fn new(layer: M2mLayer) -> Self {
        Self {
            layer,
            used: AtomicBool::new(true),
        }
    }

    /// Marks the tenant as used.
    ///
    /// Relaxed: a sweep that misses the flag removes the tenant only after a whole `idle_timeout` of such misses.
    fn mark_used(&self) {
        // Loaded first: the cache line stays shared between threads as long as the flag is set.
        if !self.used.load(Relaxed) {
            self.used.store(true, Relaxed);
        }
    }

    /// Returns whether removing the tenant now would lose a back-off, a hold or a place in a queue.
    ///
    /// Reads the state of the tenant's layers, and thereby their clocks. Never called with a lock held.
    fn is_busy(&self) -> bool {
        let handle = self.layer.handle();
        let quotas = handle.quotas().status();
        handle.tokens().status().failure().is_some()
            || quotas.iter().any(|quota| {
                quota.held_for().is_some() || quota.waiting() > 0 || quota.in_flight() > 0
            })
    }
}

impl Table {
    /// Creates an empty table.
    pub(super) fn new(make: Box<MakeLayer>, limits: Limits, clock: SharedClock) -> Self {
        Self {
            make_layer: make,
            limits,
            clock,
            removals: AtomicU64::new(0),
            tenants: Mutex::default(),
            local: Sharded::new(Mutex::default),
        }
    }

    /// Returns the tenant `id`, which is built if it is not in the table.
    ///
    /// # Errors
    ///
    /// The tenant is unknown, its layer could not be built, or the table is full.
    pub(super) fn tenant(&self, id: &CredentialId) -> Result<Arc<Tenant>, TenantError> {
        let copies = self.local.local();
        // Contended only if there are more threads than shards: the request then uses the table instead of waiting.
        if let Ok(copies) = copies.try_lock()
            && let Some(tenant) = copies.get(id)
        {
            tenant.mark_used();
            return Ok(Arc::clone(tenant));
        }
        // Read before the table: a removal in between is then noticed below. Acquire pairs with the AcqRel of
        // `remove_local`.
        let changes = self.removals.load(Acquire);
        let tenant = self.get_or_create(id)?;
        // A removal first increments the counter and then removes the copies: either it is seen here, or it removes
        // this copy.
        if let Ok(mut copies) = copies.try_lock()
            && self.removals.load(Acquire) == changes
        {
            copies.insert(id.clone(), Arc::clone(&tenant));
        }
        Ok(tenant)
    }

    /// Returns the tenant `id`, if it is in the table.
    pub(super) fn get(&self, id: &CredentialId) -> Option<Arc<Tenant>> {
        let known = lock(&self.tenants);
        known.by_id.get(id).map(|entry| Arc::clone(&entry.tenant))
    }

    /// Returns the ids of all tenants.
    pub(super) fn ids(&self) -> Vec<CredentialId> {
        lock(&self.tenants).by_id.keys().cloned().collect()
    }

    /// Removes the tenant `id`. Requests in flight continue with what they have.
    pub(super) fn forget(&self, id: &CredentialId) -> bool {
        let mut known = lock(&self.tenants);
        // A layer that is being built may be built from outdated data.
        if let Some(making) = known.pending.get_mut(id) {
            making.forgotten += 1;
        }
        // Removed from the table first: otherwise a request could copy the tenant again after its copies were removed.
        let forgotten = known.by_id.remove(id);
        drop(known);
        self.remove_local(std::slice::from_ref(id));
        forgotten.is_some()
    }

    /// Removes these tenants from all copies, and drops them without a lock held.
    fn remove_local(&self, ids: &[CredentialId]) {
        if ids.is_empty() {
            return;
        }
        self.removals.fetch_add(1, AcqRel);
        for copies in self.local.all() {
            let removed: Vec<_> = {
                let mut copies = lock(copies);
                ids.iter().filter_map(|id| copies.remove(id)).collect()
            };
            // Without the lock on the copies: a tenant's `Drop` may run foreign code.
            drop(removed);
        }
    }

    /// Returns the tenant from the table, or builds it and adds it.
    ///
    /// Loops only if the tenant was forgotten during the call of `make_layer`. Errors are not remembered: each request
    /// of an unknown tenant calls it.
    fn get_or_create(&self, id: &CredentialId) -> Result<Arc<Tenant>, TenantError> {
        loop {
            if let Some(tenant) = self.get(id) {
                tenant.mark_used();
                return Ok(tenant);
            }
            // Without a lock: it is the user's code, and may read files.
            let call = MakeCall::begin(self, id);
            // Caught, because a panic would otherwise unwind through the service and its caller.
            let made = catch_unwind(AssertUnwindSafe(|| (self.make_layer)(id)));
            if call.is_outdated() {
                continue;
            }
            let layer = made
                .unwrap_or_else(|_| Err("the closure of `TenantsLayer` panicked".into()))
                .map_err(|error| TenantError::LayerFailed(id.clone(), Arc::from(error)))?
                .ok_or_else(|| TenantError::Unknown(id.clone()))?;
            if let Some(inserted) = self.insert(&call, layer) {
                return inserted;
            }
        }
    }

    /// Adds the layer that `call` has built; returns `None` if the tenant was removed in the meantime.
    ///
    /// A sweep comes first, so that a full table makes room if it can.
    fn insert(
        &self,
        call: &MakeCall<'_>,
        layer: M2mLayer,
    ) -> Option<Result<Arc<Tenant>, TenantError>> {
        let id = call.id;
        let now = self.clock.now();
        self.evict_idle(now);
        // Declared before the lock, so that it is dropped after it.
        let made = Arc::new(Tenant::new(layer));
        let mut known = lock(&self.tenants);
        if known.forget_count(id) != call.forgotten {
            return None;
        }
        // Another thread may have been faster: a tenant never has two token caches.
        if let Some(entry) = known.by_id.get(id) {
            return Some(Ok(Arc::clone(&entry.tenant)));
        }
        if known.by_id.len() >= self.limits.max_tenants {
            return Some(Err(TenantError::AtCapacity(id.clone())));
        }
        let tenant = Arc::clone(&made);
        known.by_id.insert(
            id.clone(),
            TenantEntry {
                tenant,
                last_used: now,
            },
        );
        Some(Ok(made))
    }

    /// Removes idle tenants, if a sweep is due.
    ///
    /// Three steps, because the check for busy tenants must not run under the lock: find candidates, check them, remove
    /// those that have not changed since.
    fn evict_idle(&self, now: Instant) {
        let idle = lock(&self.tenants).find_idle(self.limits, now);
        // `is_busy` reads the layers' clocks, which may be the user's code: without a lock.
        let idle = idle.into_iter().filter(|(_, tenant)| !tenant.is_busy());
        let idle: Vec<_> = idle.collect();
        if idle.is_empty() {
            return;
        }
        // Between the sweep and this lock the tenants may have changed.
        let mut removed = Vec::new();
        let mut known = lock(&self.tenants);
        for (id, tenant) in &idle {
            let same = |entry: &TenantEntry| Arc::ptr_eq(&entry.tenant, tenant);
            // It may have been used, or replaced, while no lock was held.
            if known.by_id.get(id).is_some_and(same) && !tenant.used.load(Relaxed) {
                known.by_id.remove(id);
                removed.push(id.clone());
            }
        }
        drop(known);
        self.remove_local(&removed);
    }
}

impl TenantMap {
    /// Returns how many times `id` was removed while it was being built.
    fn forget_count(&self, id: &CredentialId) -> u64 {
        self.pending.get(id).map_or(0, |making| making.forgotten)
    }

    /// Returns the idle tenants, if a sweep is due: every quarter of `idle_timeout`, and at once if the table is full.
    ///
    /// O(number of tenants) under the lock of the table, at most four times per `idle_timeout` unless the table is
    /// full.
    fn find_idle(&mut self, limits: Limits, now: Instant) -> Vec<(CredentialId, Arc<Tenant>)> {
        let since = |at: Instant| now.saturating_duration_since(at);
        let due = self
            .last_sweep
            .is_none_or(|swept| since(swept) >= limits.idle_timeout / 4);
        if !due && self.by_id.len() < limits.max_tenants {
            return Vec::new();
        }
        self.last_sweep = Some(now);
        let mut idle = Vec::new();
        for (id, entry) in &mut self.by_id {
            // Used since the last sweep: its idle time starts over.
            if entry.tenant.used.swap(false, Relaxed) {
                entry.last_used = now;
            }
            if since(entry.last_used) >= limits.idle_timeout {
                idle.push((id.clone(), Arc::clone(&entry.tenant)));
            }
        }
        idle
    }
}

/// A running call of `make_layer`. Ends on drop, also after a panic.
///
/// Several calls for one tenant may run at once. Each compares the count of removals with that at its own start.
struct MakeCall<'a> {
    /// The table.
    table: &'a Table,
    /// The tenant.
    id: &'a CredentialId,
    /// How many times the tenant had been removed when the call began.
    forgotten: u64,
}

impl<'a> MakeCall<'a> {
    /// Registers a call.
    fn begin(table: &'a Table, id: &'a CredentialId) -> Self {
        let mut known = lock(&table.tenants);
        let making = known.pending.entry(id.clone()).or_default();
        making.calls += 1;
        let forgotten = making.forgotten;
        drop(known);
        Self {
            table,
            id,
            forgotten,
        }
    }

    /// Returns whether the tenant was removed since the call began: its layer may be built from an outdated secret.
    fn is_outdated(&self) -> bool {
        lock(&self.table.tenants).forget_count(self.id) != self.forgotten
    }
}

impl Drop for MakeCall<'_> {
    fn drop(&mut self) {
        let mut known = lock(&self.table.tenants);
        if let Entry::Occupied(mut making) = known.pending.entry(self.id.clone()) {
            making.get_mut().calls -= 1;
            // The count of removals matters only to running calls.
            if making.get().calls == 0 {
                making.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests;
