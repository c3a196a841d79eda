//! Maps gRPC rejections to HTTP statuses, for the layers that read HTTP statuses.
//!
//! A gRPC server returns HTTP 200 and reports a rejection in `grpc-status`: in the head if there is nothing else
//! ("trailers-only"), otherwise in the trailers. [`GrpcStatusLayer`], right above the channel, turns such a response into
//! a 401 or a 429, so that the layers above it fetch another token, or wait. [`restore`] turns it back into a gRPC response.
//!
//! ```text
//! client ─▶ restore ─▶ RateLimitRetryLayer ─▶ ClientCredentialsLayer
//!        ─▶ GrpcStatusLayer ─▶ channel
//! ```
//!
//! | `grpc-status` | becomes |
//! |---|---|
//! | 16, `UNAUTHENTICATED` | 401: another token, and the call is retried |
//! | 8, `RESOURCE_EXHAUSTED`, with `grpc-retry-pushback-ms` or a `google.rpc.RetryInfo` | 429 with that wait |
//! | 8 without either | 429 only with [`any_exhaustion`](GrpcStatusLayer::any_exhaustion): it may be about the size of a message |
//! | any other | unchanged |
//!
//! A call whose response has begun with a message is never changed and never retried: its status arrives in its trailers as
//! usual. A request that is a stream is retried only if its body can be sent again, see [`replay`](crate::replay).
//!
//! Sources: gRPC over HTTP/2 (trailers-only, status codes), gRFC A6 (pushback), `google/rpc/error_details.proto`.
//!
//! # Examples
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response, StatusCode};
//! use http_body_util::Empty;
//! use tower::{Layer, ServiceExt, service_fn};
//! use tower_m2m::{BoxError, grpc};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let channel = service_fn(async |_: Request<()>| {
//!     let answer = Response::builder()
//!         .header("content-type", "application/grpc")
//!         .header("grpc-status", 16);
//!     Ok::<_, BoxError>(answer.body(Empty::<Bytes>::new())?)
//! });
//!
//! let response = grpc::GrpcStatusLayer::new().layer(channel).oneshot(Request::new(())).await?;
//!
//! assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
//! assert_eq!(grpc::restore(response).status(), StatusCode::OK);
//! # Ok(())
//! # }
//! ```
//!
//! With tonic: [`composing`](crate::docs::composing#tonic).

mod layer;
mod service;
mod status;

use http::{Response, StatusCode};

pub use self::{
    layer::GrpcStatusLayer,
    service::{GrpcStatus, GrpcStatusFuture},
};

/// Restores the status that a response had before a [`GrpcStatusLayer`] changed it. For `.map_response(restore)` above the
/// layers of this crate. Other responses are returned unchanged.
///
/// tonic's clients read `grpc-status` first and do not need it; a proxy that forwards responses does.
///
/// # Examples
///
/// ```
/// use http::{Request, Response, StatusCode};
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
/// use tower_m2m::{BoxError, grpc};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// # let channel = service_fn(async |_: Request<()>| {
/// #     let answer = Response::builder().header("content-type", "application/grpc").header("grpc-status", 16);
/// #     Ok::<_, BoxError>(answer.body(String::new())?)
/// # });
/// let client = ServiceBuilder::new()
///     .map_response(grpc::restore)
///     // .layer(RateLimitRetryLayer::new()).layer(credentials)
///     .layer(grpc::GrpcStatusLayer::new())
///     .service(channel);
///
/// let response = client.oneshot(Request::new(())).await?;
///
/// assert_eq!(response.status(), StatusCode::OK);
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn restore<B>(mut response: Response<B>) -> Response<B> {
    if let Some(changed) = response.extensions_mut().remove::<Changed>() {
        *response.status_mut() = StatusCode::OK;
        if changed.pushback_added {
            response.headers_mut().remove(status::PUSHBACK);
        }
    }
    response
}

/// Marks a response whose status was changed, in its extensions.
#[derive(Clone, Copy, Debug)]
struct Changed {
    /// Whether the wait from the trailers or the details was added to the head.
    pushback_added: bool,
}
