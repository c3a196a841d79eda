//! What stores have in common, whatever the processes of a fleet share through them.

#[cfg(feature = "redis")]
mod connection;
mod error;
mod health;
mod identity;
#[cfg(feature = "redis")]
mod key_ring;

pub(crate) use self::health::{Access, Change, Health};
#[cfg(feature = "redis")]
pub use self::key_ring::StoreKeys;
#[cfg(feature = "redis")]
pub(crate) use self::{
    connection::Connection,
    key_ring::{Entry, Key},
};
pub use self::{
    error::{StoreError, StoreErrorKind},
    identity::CacheIdentity,
};
