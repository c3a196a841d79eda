//! How much is remembered, and for how long.

use bytes::Bytes;
use http_body_util::Full;
use tower_m2m::replay::{ReplayBody, ReplayableBody};

use crate::{
    CAP, INCOMPLETE,
    bodies::Frames,
    reading::{error, next, read},
};

#[test]
fn a_body_beyond_the_limit_is_sent_once() {
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
fn a_body_of_exactly_the_limit_is_replayed() {
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
fn buffers_are_freed_when_a_body_exceeds_the_limit() {
    let large = Bytes::from(vec![b'a'; 8]);
    let mut first = ReplayBody::new(Frames::of_bytes([large.clone(), large.clone()]), CAP);
    let _second = first.try_clone().unwrap();
    next(&mut first).unwrap().unwrap();
    assert!(!large.is_unique());

    next(&mut first).unwrap().unwrap();

    assert!(large.is_unique());
}

#[test]
fn a_body_with_a_size_hint_beyond_the_limit_is_never_copied() {
    let exact = ReplayBody::new(Full::new(Bytes::from("0123456789")), CAP);
    let larger = ReplayBody::new(Full::new(Bytes::from("0123456789!")), CAP);

    assert!(exact.try_clone().is_some());
    assert!(larger.try_clone().is_none());
    assert!(larger.is_intact());
    assert_eq!(read(larger).unwrap(), "0123456789!");
}

#[test]
fn nothing_is_buffered_without_another_copy() {
    let data = Bytes::from(vec![b'a'; 8]);
    let mut only = ReplayBody::new(Frames::of_bytes([data.clone()]), CAP);

    next(&mut only).unwrap().unwrap();

    assert!(data.is_unique());
    assert!(only.try_clone().is_none());
    assert!(next(&mut only).is_none());
}

#[test]
fn buffers_are_freed_when_the_other_copy_is_dropped() {
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
