//! Type-erased futures.

use std::{future::Future, pin::Pin};

/// A boxed future, for traits whose methods return `impl Future`: an erased twin of such a trait returns this type.
pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
