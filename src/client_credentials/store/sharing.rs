//! What a layer needs to share its tokens with other processes.

use std::time::Duration;

use super::SharedTokenStore;
use crate::{Origin, store::Health, sync::Mutex};

/// One layer's part in a fleet: asked between the layer and its source.
pub(crate) struct TokenSharing {
    pub(super) store: SharedTokenStore,
    pub(super) settings: SharingSettings,
    /// The layer's origins, which have cooldowns of their own.
    pub(super) origins: Box<[Origin]>,
    /// Written when the store begins to fail or to work again.
    pub(super) health: Mutex<Health>,
}

/// How a layer uses its store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SharingSettings {
    pub(super) lease: Duration,
    pub(crate) timeout: Duration,
    pub(crate) max_lifetime: Duration,
}

impl SharingSettings {
    /// The length is limited to what stores take for one of ours.
    pub(crate) fn set_lease(&mut self, length: Duration) {
        self.lease = length.clamp(SHORTEST_LEASE, LONGEST_LEASE);
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
    pub(crate) fn new(
        store: SharedTokenStore,
        settings: SharingSettings,
        origins: &[Origin],
    ) -> Self {
        Self {
            store,
            settings,
            origins: origins.into(),
            health: Mutex::default(),
        }
    }
}

/// Minimum length of a lease, which is renewed three times as often.
const SHORTEST_LEASE: Duration = Duration::from_millis(10);
/// Maximum length of a lease and of a cooldown in a store: one that ends later is none of ours.
pub(super) const LONGEST_LEASE: Duration = Duration::from_secs(24 * 3600);
