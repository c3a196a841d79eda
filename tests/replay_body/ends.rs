//! How a body ends, and what it says of its end before.

use std::thread;

use bytes::Bytes;
use http_body::Body;
use http_body_util::{Empty, Full};
use tower_m2m::replay::{ReplayBody, ReplayableBody};

use crate::{
    CAP, INCOMPLETE,
    bodies::{Feed, Frames, Panics},
    reading::{error, next, read},
};

#[test]
fn a_body_error_fails_all_copies() {
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
fn a_body_panic_fails_all_copies() {
    let mut first = ReplayBody::new(Panics, CAP);
    let mut second = first.try_clone().unwrap();

    let polled = thread::spawn(move || drop(next(&mut first))).join();

    assert!(polled.is_err());
    assert_eq!(error(&mut second), INCOMPLETE);
    assert!(!second.is_intact());
}

#[test]
fn a_copy_has_the_size_hint_of_the_original() {
    let mut first = ReplayBody::new(Frames::of(&["he", "llo"]).exact(), CAP);
    let second = first.try_clone().unwrap();
    next(&mut first).unwrap().unwrap();

    let third = first.try_clone().unwrap();

    assert_eq!(first.size_hint().exact(), Some(3));
    assert_eq!(second.size_hint().exact(), Some(5));
    assert_eq!(third.size_hint().exact(), Some(5));
}

#[test]
fn is_end_stream_is_tracked_per_copy() {
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
