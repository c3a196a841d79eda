//! A hyper server whose one service is a stack of layers over a client: requests are forwarded to one upstream.

use std::{io, pin::pin, time::Duration};

use bytes::Bytes;
use http::{
    HeaderName, Request, Response, StatusCode,
    header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER},
};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::net::TcpListener;
use tower::{Service, ServiceBuilder};
use tower_m2m::{
    BoxError, M2mLayer, Origin,
    client_credentials::TokenError,
    rate_limit_retry::{GaveUp, RateLimited},
    replay::RequestBodyReplayLayer,
};

type Answer = Response<Either<Incoming, Full<Bytes>>>;

/// What hyper calls for each request, and axum could as well. Its clones, one for each connection, share everything.
pub(crate) fn stack(
    both: M2mLayer,
    upstream: &Origin,
) -> impl Service<Request<Incoming>, Response = Answer, Error = BoxError, Future: Send>
+ Clone
+ Send
+ 'static {
    let upstream = upstream.to_string();
    ServiceBuilder::new()
        .map_result(|outcome| Ok::<_, BoxError>(answer(outcome)))
        .map_request(move |request| onward(request, &upstream))
        .layer(RequestBodyReplayLayer::new())
        .layer(both)
        .service(Client::builder(TokioExecutor::new()).build_http())
}

/// Serves HTTP/1.1 and HTTP/2 until `stop` comes, and then lets requests under way end.
pub(crate) async fn serve<S>(
    listener: TcpListener,
    stack: S,
    stop: impl Future<Output = ()>,
) -> io::Result<()>
where
    S: Service<Request<Incoming>, Response = Answer, Error = BoxError, Future: Send>
        + Clone
        + Send
        + 'static,
{
    let server = auto::Builder::new(TokioExecutor::new());
    let (connections, mut stop) = (GracefulShutdown::new(), pin!(stop));
    loop {
        let (stream, _) = tokio::select! {
            accepted = listener.accept() => accepted?,
            () = &mut stop => break,
        };
        let service = TowerToHyperService::new(stack.clone());
        let connection = server.serve_connection(TokioIo::new(stream), service);
        // An error here is the caller's.
        tokio::spawn(connections.watch(connection.into_owned()));
    }
    drop(listener);
    connections.shutdown().await;
    Ok(())
}

/// The request for the upstream. Only these headers are forwarded: credentials are hop-by-hop here.
fn onward(request: Request<Incoming>, upstream: &str) -> Request<Incoming> {
    const PASSED_ON: [HeaderName; 2] = [ACCEPT, CONTENT_TYPE];
    let (head, body) = request.into_parts();
    let mut request = Request::new(body);
    *request.method_mut() = head.method;
    // A target that is not a path is rejected by the layers: its origin is not the upstream's.
    let target = head.uri.path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = format!("{upstream}{target}").parse().unwrap_or_default();
    for name in PASSED_ON {
        if let Some(value) = head.headers.get(&name) {
            request.headers_mut().insert(name, value.clone());
        }
    }
    request
}

/// The caller's answer. A 401 is about our credential and a 429 about our quota: neither is the caller's.
fn answer(outcome: Result<Response<Incoming>, BoxError>) -> Answer {
    match outcome {
        Ok(response) => match response.status() {
            StatusCode::UNAUTHORIZED => own(StatusCode::BAD_GATEWAY, None),
            StatusCode::TOO_MANY_REQUESTS => {
                let wait = GaveUp::of(&response).and_then(|gave_up| gave_up.retry_after());
                own(StatusCode::SERVICE_UNAVAILABLE, wait)
            }
            _ => response.map(Either::Left),
        },
        Err(error) => {
            if let Some(hold) = error.downcast_ref::<RateLimited>() {
                own(StatusCode::SERVICE_UNAVAILABLE, Some(hold.retry_after()))
            } else if let Some(error) = error.downcast_ref::<TokenError>()
                && error.is_transient()
            {
                own(StatusCode::SERVICE_UNAVAILABLE, error.retry_after())
            } else {
                own(StatusCode::BAD_GATEWAY, None)
            }
        }
    }
}

fn own(status: StatusCode, wait: Option<Duration>) -> Answer {
    let mut response = Response::new(Either::Right(Full::default()));
    *response.status_mut() = status;
    if let Some(wait) = wait {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}
