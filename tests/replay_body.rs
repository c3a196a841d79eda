//! What the copies of a request body yield, in turn, one after the other and beside each other.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::{Pin, pin},
    sync::{
        Arc, Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Either, Empty, Full};
use proptest::prelude::*;
use tokio::sync::mpsc;
use tower_layer::Layer;
use tower_m2m::replay::{Once, ReplayBody, ReplayableBody, RequestBodyReplayLayer};
use tower_service::Service;

const CAP: usize = 10;

#[test]
fn a_body_of_one_frame_is_sent_again() {
    let first = ReplayBody::new(Full::new(Bytes::from("hello")), CAP);
    let second = first.try_clone().unwrap();

    assert_eq!(read(first).unwrap(), "hello");
    assert!(second.is_intact());
    assert_eq!(read(second).unwrap(), "hello");
}

#[test]
fn frames_and_trailers_are_sent_again() {
    let first = ReplayBody::new(Frames::of(&["he", "", "llo"]).trailers("done"), CAP);
    let second = first.try_clone().unwrap();
    let third = second.try_clone().unwrap();

    for copy in [first, second, third] {
        let collected = now(pin!(copy.collect())).unwrap();

        assert_eq!(collected.trailers().unwrap()["x-end"], "done");
        assert_eq!(collected.to_bytes(), "hello");
    }
}

#[test]
fn a_copy_replays_what_was_read_and_reads_on() {
    let mut first = ReplayBody::new(Frames::of(&["he", "ll", "o"]), CAP);
    let second = first.try_clone().unwrap();
    assert_eq!(next(&mut first).unwrap().unwrap(), "he");

    drop(first);

    assert_eq!(read(second).unwrap(), "hello");
}

#[test]
fn a_copy_of_a_body_that_is_being_read_begins_at_its_first_byte() {
    let mut first = ReplayBody::new(Frames::of(&["he", "llo"]), CAP);
    let _second = first.try_clone().unwrap();
    assert_eq!(next(&mut first).unwrap().unwrap(), "he");

    let third = first.try_clone().unwrap();

    assert_eq!(read(third).unwrap(), "hello");
}

#[test]
fn a_body_that_passes_the_cap_is_sent_once() {
    let mut first = ReplayBody::new(Frames::of(&["01234", "56789", "!"]), CAP);
    let mut second = first.try_clone().unwrap();
    next(&mut first).unwrap().unwrap();
    next(&mut first).unwrap().unwrap();
    assert!(second.is_intact());

    assert_eq!(next(&mut first).unwrap().unwrap(), "!");

    assert!(!second.is_intact());
    assert!(first.try_clone().is_none() && second.try_clone().is_none());
    assert_eq!(error(&mut second), INCOMPLETE);
    assert_eq!(error(&mut second), INCOMPLETE);
    assert!(first.is_intact() && next(&mut first).is_none());
}

#[test]
fn a_body_of_exactly_the_cap_is_sent_again() {
    for frames in [
        &["0123456789"][..],
        &["01234", "56789"],
        &["0123456789", ""],
    ] {
        let first = ReplayBody::new(Frames::of(frames), CAP);
        let second = first.try_clone().unwrap();

        assert_eq!(read(first).unwrap(), "0123456789");
        assert_eq!(read(second).unwrap(), "0123456789");
    }
}

#[test]
fn what_is_over_the_cap_is_freed_at_once() {
    let large = Bytes::from(vec![b'a'; 8]);
    let mut first = ReplayBody::new(Frames::of_bytes([large.clone(), large.clone()]), CAP);
    let _second = first.try_clone().unwrap();
    next(&mut first).unwrap().unwrap();
    assert!(!large.is_unique());

    next(&mut first).unwrap().unwrap();

    assert!(large.is_unique());
}

#[test]
fn a_body_that_says_it_is_larger_than_the_cap_is_never_copied() {
    let exact = ReplayBody::new(Full::new(Bytes::from("0123456789")), CAP);
    let larger = ReplayBody::new(Full::new(Bytes::from("0123456789!")), CAP);

    assert!(exact.try_clone().is_some());
    assert!(larger.try_clone().is_none());
    assert!(larger.is_intact());
    assert_eq!(read(larger).unwrap(), "0123456789!");
}

#[test]
fn nothing_is_remembered_without_another_copy() {
    let data = Bytes::from(vec![b'a'; 8]);
    let mut only = ReplayBody::new(Frames::of_bytes([data.clone()]), CAP);

    next(&mut only).unwrap().unwrap();

    assert!(data.is_unique());
    assert!(only.try_clone().is_none());
    assert!(next(&mut only).is_none());
}

#[test]
fn what_is_remembered_is_freed_when_the_other_copy_is_gone() {
    let data = Bytes::from(vec![b'a'; 4]);
    let mut first = ReplayBody::new(Frames::of_bytes([data.clone(), Bytes::from("b")]), CAP);
    let second = first.try_clone().unwrap();
    next(&mut first).unwrap().unwrap();
    assert!(!data.is_unique());

    drop(second);
    next(&mut first).unwrap().unwrap();

    assert!(data.is_unique());
    assert!(next(&mut first).is_none());
}

#[test]
fn a_later_copy_takes_over_while_the_first_is_waiting() {
    let (feed, body) = Feed::new();
    let mut first = ReplayBody::new(body, CAP);
    let mut second = first.try_clone().unwrap();
    let (waiting, wakes) = counting();
    feed.send(Ok("he".into())).unwrap();
    assert!(poll(&mut first, &waiting).is_ready());
    assert!(poll(&mut first, &waiting).is_pending());

    assert_eq!(next(&mut second).unwrap().unwrap(), "he");
    assert_eq!(wakes.count(), 1, "the first must not wait for ever");
    assert_eq!(error(&mut first), SUPERSEDED);
    assert_eq!(error(&mut first), SUPERSEDED);
    assert!(!first.is_intact() && !first.is_end_stream());
    assert!(first.try_clone().is_none());

    let (later, later_wakes) = counting();
    assert!(poll(&mut second, &later).is_pending());
    feed.send(Ok("llo".into())).unwrap();
    drop(feed);
    assert_eq!((wakes.count(), later_wakes.count()), (1, 1));
    assert_eq!(read(second).unwrap(), "llo");
}

#[test]
fn an_attempt_that_was_given_up_cannot_take_the_body_back() {
    let mut first = ReplayBody::new(Frames::of(&["he", "llo"]), CAP);
    let mut second = first.try_clone().unwrap();
    assert_eq!(next(&mut second).unwrap().unwrap(), "he");

    assert_eq!(error(&mut first), SUPERSEDED);

    assert_eq!(read(second).unwrap(), "llo");
}

#[test]
fn two_layers_can_both_keep_copies() {
    let mut sent = ReplayBody::new(Frames::of(&["he", "llo"]), CAP);
    let outer = sent.try_clone().unwrap();
    let mut inner = sent.try_clone().unwrap();

    assert_eq!(next(&mut sent).unwrap().unwrap(), "he");
    assert_eq!(next(&mut inner).unwrap().unwrap(), "he");
    let outer_again = outer.try_clone().unwrap();
    let inner_again = outer.try_clone().unwrap();
    assert!(outer.is_intact());
    assert_eq!(read(outer).unwrap(), "hello");

    assert_eq!(error(&mut inner), SUPERSEDED);
    assert_eq!(read(inner_again).unwrap(), "hello");
    assert_eq!(read(outer_again).unwrap(), "hello");
}

#[test]
fn a_body_can_be_kept_as_the_template_of_all_attempts() {
    let template = ReplayBody::new(Frames::of(&["he", "llo"]), CAP);
    let mut held = Vec::new();

    for _ in 0..3 {
        let mut copy = template.try_clone().unwrap();
        assert_eq!(next(&mut copy).unwrap().unwrap(), "he");
        held.push(copy);
    }
    drop(held);

    assert_eq!(read(template).unwrap(), "hello");
}

#[test]
fn an_error_of_the_body_ends_all_copies() {
    let (feed, body) = Feed::new();
    let mut first = ReplayBody::new(body, CAP);
    let mut second = first.try_clone().unwrap();
    feed.send(Ok("he".into())).unwrap();
    feed.send(Err("disk")).unwrap();
    next(&mut first).unwrap().unwrap();

    assert_eq!(error(&mut first), "disk");

    assert!(!first.is_intact() && !second.is_intact());
    assert!(first.try_clone().is_none() && second.try_clone().is_none());
    assert_eq!(error(&mut first), INCOMPLETE);
    assert_eq!(error(&mut second), INCOMPLETE);
}

#[test]
fn a_body_that_panics_ends_all_copies() {
    let mut first = ReplayBody::new(Panics, CAP);
    let mut second = first.try_clone().unwrap();

    let polled = thread::spawn(move || drop(next(&mut first))).join();

    assert!(polled.is_err());
    assert_eq!(error(&mut second), INCOMPLETE);
    assert!(!second.is_intact());
}

#[test]
fn a_copy_announces_the_length_of_the_original() {
    let mut first = ReplayBody::new(Frames::of(&["he", "llo"]).exact(), CAP);
    let second = first.try_clone().unwrap();
    next(&mut first).unwrap().unwrap();

    let third = first.try_clone().unwrap();

    assert_eq!(first.size_hint().exact(), Some(3));
    assert_eq!(second.size_hint().exact(), Some(5));
    assert_eq!(third.size_hint().exact(), Some(5));
}

#[test]
fn the_end_of_the_stream_is_told_for_each_copy() {
    let mut first = ReplayBody::new(Full::new(Bytes::from("hello")), CAP);
    let mut second = first.try_clone().unwrap();

    assert!(!first.is_end_stream());
    next(&mut first).unwrap().unwrap();
    assert!(first.is_end_stream() && !second.is_end_stream());

    next(&mut second).unwrap().unwrap();
    assert!(second.is_end_stream() && !first.is_end_stream());
}

#[test]
fn an_empty_body_stays_empty() {
    let first = ReplayBody::new(Empty::<Bytes>::new(), 0);
    let second = first.try_clone().unwrap();

    for copy in [first, second] {
        assert!(copy.is_end_stream());
        assert_eq!(copy.size_hint().exact(), Some(0));
        assert_eq!(read(copy).unwrap(), "");
    }
}

#[test]
fn copies_on_two_threads_never_share_frames() {
    for _ in 0..500 {
        let letters: Vec<String> = ('a'..='z').map(String::from).collect();
        let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
        let first = ReplayBody::new(Frames::of(&letters), 26);
        let second = first.try_clone().unwrap();
        let start = Arc::new(Barrier::new(2));

        let older = thread::spawn({
            let start = Arc::clone(&start);
            move || {
                start.wait();
                read(first)
            }
        });
        start.wait();
        let newer = read(second);

        assert_eq!(newer.unwrap(), letters.concat());
        match older.join().unwrap() {
            Ok(bytes) => assert_eq!(bytes, letters.concat()),
            Err(error) => assert_eq!(error, SUPERSEDED),
        }
    }
}

#[test]
fn a_once_is_never_copied() {
    let once = Once::new(Full::new(Bytes::from("hello")));

    assert!(once.try_clone().is_none() && once.is_intact());
    assert_eq!(once.size_hint().exact(), Some(5));
    assert_eq!(read(once).unwrap(), "hello");
}

#[test]
fn either_side_is_asked() {
    type Body = Either<Full<Bytes>, Once<Full<Bytes>>>;

    assert!(Body::Left(Full::default()).try_clone().is_some());
    assert!(
        Body::Right(Once::new(Full::default()))
            .try_clone()
            .is_none()
    );
}

#[test]
fn nothing_of_the_contents_is_printed() {
    let body = ReplayBody::new(Full::new(Bytes::from("canary")), CAP);

    assert!(!format!("{body:?}{:?}", Once::new("canary")).contains("canary"));
}

#[test]
fn a_body_can_be_shared_between_threads_if_the_original_can_be_sent() {
    fn check<T: Send + Sync + Unpin + 'static>() {}

    check::<ReplayBody<Full<Bytes>>>();
    check::<ReplayBody<Pin<Box<dyn Body<Data = Bytes, Error = Infallible> + Send>>>>();
}

#[tokio::test]
async fn the_layer_wraps_the_body_and_keeps_the_head() {
    let (inner, mut handle) = tower_test::mock::pair::<Request<ReplayBody<Frames>>, Response<()>>();
    let mut service = RequestBodyReplayLayer::new().cap(4).layer(inner);
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

proptest! {
    #[test]
    fn any_copy_yields_the_same_bytes(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..8), 0..8),
        abandoned in prop::collection::vec(0_usize..10, 0..4),
    ) {
        let whole = frames.concat();
        let body = Frames::of_bytes(frames.into_iter().map(Bytes::from));
        let mut copy = ReplayBody::new(body, whole.len());

        for polls in abandoned {
            let later = copy.try_clone().unwrap();
            for _ in 0..polls {
                if next(&mut copy).is_none() {
                    break;
                }
            }
            copy = later;
        }

        prop_assert!(copy.is_intact());
        prop_assert_eq!(read(copy).unwrap(), whole);
    }
}

const SUPERSEDED: &str = "request body superseded by a later attempt";
const INCOMPLETE: &str = "request body is no longer complete and cannot be sent again";

/// Frames that are all there from the start, and then perhaps trailers.
#[derive(Default)]
struct Frames {
    frames: VecDeque<Frame<Bytes>>,
    exact: bool,
}

impl Frames {
    fn of(frames: &[&str]) -> Self {
        Self::of_bytes(
            frames
                .iter()
                .map(|frame| Bytes::copy_from_slice(frame.as_bytes())),
        )
    }

    fn of_bytes(frames: impl IntoIterator<Item = Bytes>) -> Self {
        let frames = frames.into_iter().map(Frame::data).collect();
        Self {
            frames,
            exact: false,
        }
    }

    fn trailers(mut self, value: &'static str) -> Self {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-end", value.parse().unwrap());
        self.frames.push_back(Frame::trailers(trailers));
        self
    }

    fn exact(mut self) -> Self {
        self.exact = true;
        self
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.frames.pop_front().map(Ok))
    }

    fn size_hint(&self) -> SizeHint {
        if !self.exact {
            return SizeHint::new();
        }
        let data = self.frames.iter().filter_map(Frame::data_ref);
        SizeHint::with_exact(data.map(|data| data.len() as u64).sum())
    }
}

/// A body that waits for what the test sends.
struct Feed(mpsc::UnboundedReceiver<Result<Bytes, &'static str>>);

impl Feed {
    fn new() -> (mpsc::UnboundedSender<Result<Bytes, &'static str>>, Self) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (sender, Self(receiver))
    }
}

impl Body for Feed {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        self.0
            .poll_recv(cx)
            .map(|item| item.map(|item| item.map(Frame::data)))
    }
}

struct Panics;

impl Body for Panics {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        panic!("a panic on purpose")
    }
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Count {
    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn counting() -> (Waker, Arc<Count>) {
    let count = Arc::new(Count::default());
    (Waker::from(Arc::clone(&count)), count)
}

fn poll<B: Body + Unpin>(
    body: &mut B,
    waker: &Waker,
) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
    Pin::new(body).poll_frame(&mut Context::from_waker(waker))
}

/// The data of the next frame, which must be there.
fn next<B>(body: &mut B) -> Option<Result<Bytes, B::Error>>
where
    B: Body<Data = Bytes> + Unpin,
{
    match poll(body, Waker::noop()) {
        Poll::Ready(item) => {
            item.map(|item| item.map(|frame| frame.into_data().unwrap_or_default()))
        }
        Poll::Pending => panic!("nothing is there"),
    }
}

fn error<B>(body: &mut B) -> String
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: ToString,
{
    next(body).unwrap().unwrap_err().to_string()
}

/// The whole rest of a body that never waits.
fn read<B>(body: B) -> Result<Bytes, String>
where
    B: Body<Data = Bytes>,
    B::Error: ToString,
{
    match now(pin!(body.collect())) {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) => Err(error.to_string()),
    }
}

fn now<F: Future>(future: Pin<&mut F>) -> F::Output {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits"),
    }
}
