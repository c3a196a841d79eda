//! Parts that token stores and quota stores have in common: errors, health, cache keys, encryption keys and the Redis
//! connection.
//!
//! Nothing here knows what is stored. The token store seals tokens and takes leases with these parts; the quota store
//! shares limits and subscribes to messages with them.

mod error;
mod health;
mod identity;
#[cfg(feature = "redis")]
mod key_ring;
#[cfg(feature = "redis")]
mod redis;

pub(crate) use self::health::{Access, Health, HealthChange};
#[cfg(feature = "redis")]
pub use self::key_ring::StoreKeyring;
pub use self::{
    error::{StoreError, StoreErrorKind},
    identity::CacheKey,
};
#[cfg(feature = "redis")]
pub(crate) use self::{
    key_ring::{Entry, Key},
    redis::{Call, Connection, Script},
};
