//! `BoxService` is not `Clone`.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Empty;
use tower::{ServiceBuilder, ServiceExt, util::BoxService};
use tower_m2m::{BoxError, RateLimitRetryLayer};

type Client = BoxService<Request<Empty<Bytes>>, Response<Empty<Bytes>>, BoxError>;

pub async fn send(client: Client) -> Result<(), BoxError> {
    let stack = ServiceBuilder::new()
        .layer(RateLimitRetryLayer::new())
        .service(client);
    let request = Request::get("/").body(Empty::new())?;
    stack.oneshot(request).await.map(drop)
}

fn main() {}
