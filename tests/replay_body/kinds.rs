//! Other bodies than the one that is replayed, and the layer that makes it.

use std::{convert::Infallible, pin::Pin};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::{Either, Full};
use tower_layer::Layer;
use tower_m2m::replay::{Once, ReplayBody, ReplayableBody, RequestBodyReplayLayer};
use tower_service::Service;

use crate::{
    CAP,
    bodies::Frames,
    reading::{next, read},
};

#[test]
fn once_is_never_cloned() {
    let once = Once::new(Full::new(Bytes::from("hello")));

    assert!(once.try_clone().is_none() && once.is_intact());
    assert_eq!(once.size_hint().exact(), Some(5));
    assert_eq!(read(once).unwrap(), "hello");
}

/// What the documentation of the module says.
#[test]
fn a_body_costs_three_allocations_and_its_first_copy_one() {
    let body = Full::new(Bytes::from("hello"));
    let made = allocation_counter::measure(|| drop(ReplayBody::new(body, CAP)));
    let body = ReplayBody::new(Full::new(Bytes::from("hello")), CAP);
    let copied = allocation_counter::measure(|| drop(body.try_clone()));

    assert_eq!((made.count_total, copied.count_total), (3, 1));
}

#[test]
fn either_delegates_to_its_variant() {
    type Body = Either<Full<Bytes>, Once<Full<Bytes>>>;

    assert!(Body::Left(Full::default()).try_clone().is_some());
    assert!(
        Body::Right(Once::new(Full::default()))
            .try_clone()
            .is_none()
    );
}

#[test]
fn debug_output_hides_the_contents() {
    let body = ReplayBody::new(Full::new(Bytes::from("canary")), CAP);

    assert!(!format!("{body:?}{:?}", Once::new("canary")).contains("canary"));
}

#[test]
fn a_replay_body_is_sync_if_the_original_is_send() {
    fn check<T: Send + Sync + Unpin + 'static>() {}

    check::<ReplayBody<Full<Bytes>>>();
    check::<ReplayBody<Pin<Box<dyn Body<Data = Bytes, Error = Infallible> + Send>>>>();
}

#[tokio::test]
async fn the_layer_wraps_the_body_and_keeps_the_head() {
    let (inner, mut handle) = tower_test::mock::pair::<Request<ReplayBody<Frames>>, Response<()>>();
    let mut service = RequestBodyReplayLayer::new().max_body_bytes(4).layer(inner);
    handle.allow(1);
    std::future::poll_fn(|cx| service.poll_ready(cx))
        .await
        .unwrap();

    let _response = service.call(Request::put("/a").body(Frames::of(&["01234"])).unwrap());

    let (mut request, _respond) = handle.next_request().await.unwrap();
    assert_eq!(
        (request.method().as_str(), request.uri().path()),
        ("PUT", "/a")
    );
    let copy = request.body().try_clone().unwrap();
    assert_eq!(next(request.body_mut()).unwrap().unwrap(), "01234");
    assert!(!copy.is_intact(), "the cap is the layer's");
}
