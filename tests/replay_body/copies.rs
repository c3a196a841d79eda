//! Copies that are read in turn, and concurrently.

use std::{
    pin::pin,
    sync::{Arc, Barrier},
    thread,
};

use bytes::Bytes;
use http_body::Body;
use http_body_util::{BodyExt, Full};
use proptest::prelude::*;
use tower_m2m::replay::{ReplayBody, ReplayableBody};

use crate::{
    CAP, SUPERSEDED,
    bodies::{Feed, Frames},
    reading::{counting, error, next, now, poll, read},
};

#[test]
fn a_body_of_one_frame_is_replayed() {
    let first = ReplayBody::new(Full::new(Bytes::from("hello")), CAP);
    let second = first.try_clone().unwrap();

    assert_eq!(read(first).unwrap(), "hello");
    assert!(second.is_intact());
    assert_eq!(read(second).unwrap(), "hello");
}

#[test]
fn frames_and_trailers_are_replayed() {
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
fn a_copy_replays_buffered_frames_and_continues() {
    let mut first = ReplayBody::new(Frames::of(&["he", "ll", "o"]), CAP);
    let second = first.try_clone().unwrap();
    assert_eq!(next(&mut first).unwrap().unwrap(), "he");

    drop(first);

    assert_eq!(read(second).unwrap(), "hello");
}

#[test]
fn a_copy_of_a_partly_read_body_starts_at_the_first_byte() {
    let mut first = ReplayBody::new(Frames::of(&["he", "llo"]), CAP);
    let _second = first.try_clone().unwrap();
    assert_eq!(next(&mut first).unwrap().unwrap(), "he");

    let third = first.try_clone().unwrap();

    assert_eq!(read(third).unwrap(), "hello");
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
fn a_superseded_copy_cannot_take_the_body_back() {
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
fn a_body_can_serve_as_the_template_of_all_attempts() {
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
