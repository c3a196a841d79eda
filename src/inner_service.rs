//! The bound of the layers on what they wrap, which exists for the compiler's message.

/// A type that the layers of this crate can wrap: any type that is `Clone`.
///
/// A request may be sent again, on a clone of the service, while the next one is sent. This trait is implemented for all
/// types that are `Clone`, and is not meant to be implemented otherwise: it exists so that the compiler says what to do
/// about a service that is not.
///
/// # Examples
///
/// Code that is generic over the service names this bound, or `Clone`:
///
/// ```
/// use tower::Layer;
/// use tower_m2m::{InnerService, RateLimitRetryLayer, rate_limit_retry::RateLimitRetry};
///
/// fn limited<S: InnerService>(client: S) -> RateLimitRetry<S> {
///     RateLimitRetryLayer::new().layer(client)
/// }
/// # drop(limited(()));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not `Clone`, so the layers of tower-m2m cannot send a request on it again",
    label = "this service is not `Clone`",
    note = "instead of `BoxService`, use `BoxCloneSyncService` or `BoxCloneService`",
    note = "for other services, add `tower::buffer::BufferLayer` directly below the layers of tower-m2m"
)]
pub trait InnerService: Clone {}

#[diagnostic::do_not_recommend]
impl<S: Clone> InnerService for S {}
