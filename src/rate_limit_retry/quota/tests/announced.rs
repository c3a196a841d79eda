//! What counts of several responses about one window.

use super::*;
use crate::rate_limit_retry::quota::{
    announced::{AnnouncedWindow, Need},
    refill::Refill,
};

/// 50 of 100 remain until 60 s from now: the answer to request 5, which came before request 10 went.
fn announced_window(now: Instant) -> AnnouncedWindow {
    AnnouncedWindow::new(&limit_with_reset(secs(60)), 50, 5, 10, now)
}

/// Whether one more request may be sent, with this share of the quota.
fn admit(
    announced: &AnnouncedWindow,
    in_flight: u32,
    share: f64,
    over: Option<Instant>,
) -> Option<SendTime> {
    // What others have in flight is about as much as their part of our requests.
    let amount = (2.0 - share) / share;
    let need = Need {
        reserved: f64::from(in_flight) * amount,
        amount,
        min_remaining: 1.0,
    };
    announced.admit(&need, in_flight, Refill::default(), over, origin())
}

/// What is known after one more answer, to request `by`: what remains, and how long until the reset.
fn after_observe(remaining: u64, by: u64, reset: Duration) -> (u64, Duration) {
    let now = origin();
    let mut announced = announced_window(now);
    announced.observe(&limit_with_reset(reset), remaining, by, 20, now);
    (announced.remaining, announced.reset_at.unwrap() - now)
}

#[test]
fn of_reordered_responses_the_lowest_remaining_is_used() {
    for (remaining, by, believed) in [
        (49, 4, 49),
        (50, 4, 50),
        (51, 4, 50),
        (49, 6, 49),
        (51, 6, 50),
        (51, 9, 50),
        // It was sent after the last answer had come.
        (51, 10, 51),
        (49, 10, 49),
    ] {
        let (least, _) = after_observe(remaining, by, secs(60));
        assert_eq!(least, believed, "{remaining} in the response to {by}");
    }
}

#[test]
fn responses_of_an_earlier_window_are_ignored() {
    assert_eq!(after_observe(40, 6, ms(58_499)), (50, secs(60)));
    assert_eq!(after_observe(40, 4, secs(1)), (50, secs(60)));
    // That is the same window yet.
    assert_eq!(after_observe(40, 6, ms(58_500)), (40, ms(58_500)));
}

#[test]
fn a_newer_request_reveals_the_next_window() {
    assert_eq!(after_observe(60, 6, ms(61_501)), (60, ms(61_501)));
    // That is the same window yet.
    assert_eq!(after_observe(60, 6, ms(61_500)), (50, ms(61_500)));
    // Those that went before, or at the same time, may have been counted in any.
    assert_eq!(after_observe(60, 5, secs(120)), (50, secs(60)));
    assert_eq!(after_observe(60, 4, secs(120)), (50, secs(60)));
    assert_eq!(after_observe(40, 4, secs(120)), (40, secs(120)));
}

#[test]
fn the_reset_comes_from_the_newest_request() {
    assert_eq!(after_observe(55, 4, secs(61)), (50, secs(60)));
    assert_eq!(after_observe(55, 5, secs(61)), (50, secs(60)));
    assert_eq!(after_observe(55, 6, secs(61)), (50, secs(61)));
}

#[test]
fn an_overtaken_response_counts_once_its_window_has_started() {
    for (reset, believed) in [
        (ms(118_500), 8),
        (ms(121_500), 8),
        // Another window than that.
        (ms(118_499), 20),
        (ms(121_501), 20),
    ] {
        let now = origin();
        let mut announced = AnnouncedWindow::new(&limit_with_reset(secs(60)), 5, 5, 10, now);
        announced.observe(&limit_with_reset(secs(120)), 9, 3, 10, now);
        announced.observe(&limit_with_reset(secs(120)), 8, 4, 10, now);
        announced.observe(&limit_with_reset(secs(120)), 9, 2, 10, now);
        assert_eq!(announced.remaining, 5);

        announced.observe(&limit_with_reset(reset), 20, 6, 11, now);

        assert_eq!(announced.remaining, believed, "{reset:?}");
    }
}

#[test]
fn an_identical_response_is_ambiguous() {
    let now = origin();
    let mut announced = announced_window(now);
    announced.observe(&limit_with_reset(secs(60)), 50, 6, 20, now);

    announced.observe(&limit_with_reset(secs(60)), 70, 10, 20, now);

    assert_eq!(announced.remaining, 70);

    let mut announced = announced_window(now);
    announced.observe(&limit_with_reset(secs(60)), 49, 6, 20, now);

    announced.observe(&limit_with_reset(secs(60)), 70, 19, 20, now);
    assert_eq!(announced.remaining, 49);
    announced.observe(&limit_with_reset(secs(60)), 70, 20, 21, now);
    assert_eq!(announced.remaining, 70);
}

#[test]
fn missing_fields_keep_their_values() {
    let now = origin();
    let mut announced = announced_window(now);

    announced.observe(&Limit::default(), 40, 10, 20, now);

    assert_eq!((announced.limit, announced.remaining), (Some(100), 40));
    assert_eq!(announced.reset_at, Some(now + secs(60)));

    announced.observe(&Limit::default(), 30, 11, 20, now);
    assert_eq!((announced.limit, announced.remaining), (Some(100), 30));
    assert_eq!(announced.reset_at, Some(now + secs(60)));
}

#[test]
fn the_latest_reset_is_kept_for_the_window() {
    let now = origin();
    let mut announced = announced_window(now);
    announced.observe(&limit_with_reset(secs(120)), 60, 4, 20, now);
    assert_eq!(announced.latest_reset, Some(now + secs(120)));

    announced.observe(&limit_with_reset(secs(60)), 40, 20, 21, now);

    assert_eq!(announced.latest_reset, Some(now + secs(120)));

    announced.observe(&limit_with_reset(secs(300)), 60, 21, 22, now);
    assert_eq!(announced.latest_reset, Some(now + secs(300)));
}

#[test]
fn our_share_is_our_part_of_the_used_quota() {
    let now = origin();
    let mut announced = announced_window(now);
    assert_eq!(announced.estimate_share(0.75, 0), 0.75);
    for _ in 0..4 {
        announced.on_success();
    }
    announced.observe(&limit_with_reset(secs(60)), 38, 10, 11, now);

    // (0.5 * 3 + 4 + 2) of (3 + 12).
    assert_eq!(announced.estimate_share(0.5, 2), 0.5);
    // (0.25 * 3 + 4 + 0) of (3 + 12).
    assert_eq!(announced.estimate_share(0.25, 0), 4.75 / 15.0);
    assert_eq!(announced.estimate_share(1.0, 100), 1.0);
}

#[test]
fn our_count_restarts_per_window_but_not_when_only_the_reset_moves() {
    for (remaining, share) in [
        // A new window: what was before it is the best guess.
        (51, 0.5),
        // The window may be one that slides: (0.5 * 3 + 12) of (3 + 0), or of (3 + 12).
        (50, 1.0),
        (38, 0.9),
    ] {
        let now = origin();
        let mut announced = announced_window(now);
        for _ in 0..12 {
            announced.on_success();
        }

        announced.observe(&limit_with_reset(secs(120)), remaining, 6, 20, now);

        assert_eq!(announced.estimate_share(0.5, 0), share, "{remaining}");
    }
}

#[test]
fn higher_remaining_raises_the_initial_remaining() {
    let now = origin();
    let mut announced = announced_window(now);
    announced.observe(&limit_with_reset(secs(60)), 62, 10, 11, now);
    assert_eq!(announced.estimate_share(0.5, 0), 0.5);

    announced.observe(&limit_with_reset(secs(60)), 50, 11, 12, now);

    // (0.5 * 3 + 2) of (3 + 12).
    assert_eq!(announced.estimate_share(0.5, 2), 3.5 / 15.0);
}

#[test]
fn a_shared_quota_resumes_slightly_after_the_reset() {
    for (window, share, over) in [
        (60, 1.0, ms(60_000)),
        (60, 0.901, ms(60_000)),
        (60, 0.9, ms(60_300)),
        (60, 0.1, ms(60_300)),
        (3600, 0.1, ms(3_601_000)),
    ] {
        let now = origin();
        let announced = AnnouncedWindow::new(&limit_with_reset(secs(window)), 50, 5, 10, now);
        let at = announced.resets_at(share, 1.0, secs(10)).unwrap();
        assert_eq!(at - now, over, "{share} of {window} s");
    }
}

#[test]
fn window_length_is_measured_from_its_first_response() {
    let now = origin();
    let mut announced = announced_window(now);

    announced.observe(&limit_with_reset(secs(30)), 40, 10, 11, now + secs(30));

    let over = announced.resets_at(0.5, 1.0, secs(10)).unwrap();
    assert_eq!(over - now, ms(60_300));
}

#[test]
fn an_exhausted_quota_is_trusted_for_max_hold_from_the_last_response() {
    let now = origin();
    let mut announced = announced_window(now);
    let over = |announced: &AnnouncedWindow| announced.resets_at(1.0, 1.0, secs(10)).unwrap() - now;
    assert_eq!(over(&announced), secs(60));
    announced.observe(&limit_with_reset(secs(60)), 0, 10, 20, now);
    assert_eq!(over(&announced), secs(10));
    // It is still so.
    announced.observe(&limit_with_reset(secs(57)), 0, 11, 20, now + secs(3));
    assert_eq!(over(&announced), secs(13));
    announced.observe(&limit_with_reset(secs(5)), 0, 21, 22, now + secs(4));
    assert_eq!(over(&announced), secs(9));
}

#[test]
fn a_window_without_a_reset_never_ends() {
    let announced = AnnouncedWindow::new(&Limit::default(), 0, 5, 10, origin());

    assert_eq!(announced.resets_at(1.0, 1.0, secs(10)), None);
}

#[test]
fn the_share_of_others_is_left_unused() {
    let now = origin();
    let over = Some(now + secs(60));
    for (remaining, share, most) in [
        // (most + 1) * (2 - share) is no more than ours.
        (24, 0.5, 8),
        (23, 0.5, 7),
        (100, 1.0, 100),
        (40, 0.25, 5),
        // The last ones are available to any client.
        (1, 0.5, 1),
        (2, 0.01, 1),
    ] {
        let announced = AnnouncedWindow::new(&limit_with_reset(secs(60)), remaining, 5, 10, now);
        let fits = |in_flight: u32| admit(&announced, in_flight, share, over);
        assert!(
            (0..most).all(|in_flight| fits(in_flight).is_none()),
            "{remaining}"
        );
        assert_eq!(
            fits(most),
            Some(SendTime::AfterResponse(over)),
            "{remaining}"
        );
    }
}

#[test]
fn an_exhausted_window_waits_for_its_reset_or_a_probe() {
    let now = origin();
    let announced = AnnouncedWindow::new(&limit_with_reset(secs(60)), 0, 5, 10, now);
    let over = now + secs(60);
    assert_eq!(
        admit(&announced, 0, 1.0, Some(over)),
        Some(SendTime::NotBefore(over))
    );
    assert_eq!(
        admit(&announced, 1, 1.0, Some(over)),
        Some(SendTime::AfterResponse(Some(over)))
    );
    assert_eq!(
        admit(&announced, 1, 1.0, None),
        Some(SendTime::AfterResponse(None))
    );
    assert_eq!(admit(&announced, 0, 1.0, None), None);

    // A debit is no announcement: one is sent.
    let mut announced = AnnouncedWindow::new(&limit_with_reset(secs(60)), 1, 5, 10, now);
    announced.debit(1);
    announced.debit(1);
    assert_eq!(announced.available(), 0);
    assert_eq!(admit(&announced, 0, 1.0, Some(over)), None);
    assert_eq!(
        admit(&announced, 1, 1.0, Some(over)),
        Some(SendTime::AfterResponse(Some(over)))
    );
}
