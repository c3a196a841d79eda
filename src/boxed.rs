//! Erased futures.

use std::{future::Future, pin::Pin};

/// A future whose type is not known: of a trait whose methods return `impl Future`.
pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
