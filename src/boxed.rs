//! Type-erased futures.
//!
//! A trait with `async fn` is not dyn-compatible. The public traits of this crate (token sources, stores, signers) use
//! `async fn` nevertheless, because users implement them; inside, a private twin of each trait returns [`BoxFuture`].

use std::{future::Future, pin::Pin};

/// A boxed future, for traits whose methods return `impl Future`: an erased twin of such a trait returns this type.
pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
