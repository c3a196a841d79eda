//! State and settings with which a layer shares its tokens with other processes.
//!
//! One value for each layer. It is shared by all fetches of the layer and outlives them.

use std::time::Duration;

use super::BoxTokenStore;
use crate::{Origin, store::Health, sync::Mutex};

/// A layer's connection to the shared store. It sits between the token cache and the token source.
///
/// Shared by reference; the store decides how many connections it needs.
pub(crate) struct TokenSharing {
    /// The store.
    pub(super) store: BoxTokenStore,
    /// Settings of the layer.
    pub(super) settings: SharingSettings,
    /// The layer's origins. Each origin has a cooldown of its own.
    pub(super) origins: Box<[Origin]>,
    /// Health of the store, updated by each call. Locked only for the update, never across an `await`.
    pub(super) health: Mutex<Health>,
}

/// How a layer uses its store.
///
/// Set through the layer's builder.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SharingSettings {
    /// Length of a lease. Default: 5 s.
    pub(super) lease: Duration,
    /// Time limit of each store call. Default: 500 ms.
    pub(crate) timeout: Duration,
    /// Maximum lifetime of a token that is shared. Default: 24 h.
    pub(crate) max_lifetime: Duration,
}

impl SharingSettings {
    /// Sets the length of a lease, limited to the range that stores accept: 10 ms to 24 h.
    ///
    /// Too short a lease costs renewals and, if one is late, a second token request. Too long a lease blocks the others
    /// after a crash.
    pub(crate) fn set_lease(&mut self, length: Duration) {
        self.lease = length.clamp(MIN_LEASE, MAX_LEASE);
    }
}

impl Default for SharingSettings {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(5),
            timeout: Duration::from_millis(500),
            max_lifetime: Duration::from_secs(24 * 3600),
        }
    }
}

impl TokenSharing {
    /// Creates the connection for a layer with the given origins. Does not access the store.
    pub(crate) fn new(store: BoxTokenStore, settings: SharingSettings, origins: &[Origin]) -> Self {
        Self {
            store,
            settings,
            origins: origins.into(),
            health: Mutex::default(),
        }
    }
}

/// Minimum length of a lease. The holder renews it after a third of its length.
const MIN_LEASE: Duration = Duration::from_millis(10);
/// Maximum length of a lease and of a cooldown in a store. A store treats an entry that expires later as foreign.
pub(super) const MAX_LEASE: Duration = Duration::from_secs(24 * 3600);
