//! Parts that token stores and quota stores have in common: errors, cache keys and encryption keys.
//!
//! The stores themselves are where their layers are: [`TokenStore`](crate::client_credentials::TokenStore) and
//! [`QuotaStore`](crate::rate_limit_retry::QuotaStore). Implement one of them to share tokens or quotas through another
//! database; both use [`CacheKey`] as the key, and [`StoreError`] for failures.
//!
//! Nothing here knows what is stored. The token store seals tokens and takes leases with these parts; the quota store
//! shares limits and subscribes to messages with them.

mod cache_key;
mod error;
mod health;
#[cfg(feature = "redis")]
mod keyring;
#[cfg(feature = "redis")]
mod redis;

pub(crate) use self::health::{Access, Health, HealthChange};
#[cfg(feature = "redis")]
pub use self::keyring::StoreKeyring;
pub use self::{
    cache_key::CacheKey,
    error::{StoreError, StoreErrorKind},
};
#[cfg(feature = "redis")]
pub(crate) use self::{
    keyring::{Entry, Key},
    redis::{Call, Connection, Script},
};
