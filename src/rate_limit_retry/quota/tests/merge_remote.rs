//! Windows reported by other processes, and responses that apply to one of several quotas.

use super::*;
use crate::rate_limit_retry::{
    headers::Unit,
    quota::{announced::AnnouncedWindow, windows::fewest_remaining},
};

#[test]
fn remote_windows_replace_the_local_one() {
    for (reset, then) in [
        (ms(60_000), ms(60_000)),
        (ms(61_500), ms(60_000)),
        (ms(58_500), ms(60_000)),
        // Another window than that which was known.
        (ms(61_501), ms(61_501)),
        (ms(58_499), ms(58_499)),
    ] {
        let now = origin();
        let mut announced = announced_window(50, now);

        announced.merge_remote(40, now + reset, 20);

        assert_eq!(announced.remaining, 40);
        assert_eq!(announced.reset_at, Some(now + then), "{reset:?}");
        assert_eq!(announced.latest_reset, Some(now + then.max(secs(60))));
    }
}

#[test]
fn remote_windows_are_newer_than_earlier_responses() {
    let now = origin();
    let mut announced = announced_window(50, now);
    announced.merge_remote(40, now + secs(60), 20);

    announced.observe(&limit_with_reset(secs(60)), 45, 19, 21, now);
    assert_eq!(announced.remaining, 40);
    announced.observe(&limit_with_reset(secs(60)), 45, 20, 21, now);
    assert_eq!(announced.remaining, 45);
}

#[test]
fn an_identical_remote_window_changes_nothing() {
    let now = origin();
    let mut announced = announced_window(50, now);
    announced.merge_remote(50, now + secs(60), 20);

    announced.observe(&limit_with_reset(secs(60)), 55, 10, 11, now);

    assert_eq!(announced.remaining, 55);
}

#[test]
fn a_window_known_only_remotely_starts_with_their_values() {
    let now = origin();
    let window = report::window("requests", 50, secs(60));
    let mut announced = AnnouncedWindow::from_shared(&window, now + secs(60), 10, now);
    assert_eq!((announced.limit, announced.remaining), (Some(100), 50));
    assert_eq!(announced.estimate_share(0.5, 0), 0.5);

    announced.observe(&limit_with_reset(secs(60)), 60, 9, 11, now);
    assert_eq!(announced.remaining, 50);
    announced.observe(&limit_with_reset(secs(60)), 60, 10, 11, now);
    assert_eq!(announced.remaining, 60);
}

#[test]
fn the_most_restrictive_of_several_quotas_applies() {
    let quota = |name: &str, unit, remaining, reset| Limit {
        name: Some(name.to_owned()),
        unit,
        remaining,
        reset: Some(secs(reset)),
        ..Limit::default()
    };
    let limits = [
        quota("tokens", Unit::Other, Some(0), 99),
        quota("silent", Unit::Requests, None, 99),
        quota("minute", Unit::Requests, Some(3), 60),
        quota("hour", Unit::Requests, Some(3), 3600),
        quota("second", Unit::Requests, Some(3), 1),
        quota("day", Unit::Requests, Some(4), 86_400),
    ];

    let limit = fewest_remaining(&limits).unwrap();

    assert_eq!(
        (limit.name.as_deref(), limit.remaining),
        (Some("hour"), Some(3))
    );
    assert_eq!(fewest_remaining(&limits[..2]), None);
}

fn announced_window(remaining: u64, now: Instant) -> AnnouncedWindow {
    AnnouncedWindow::new(&limit_with_reset(secs(60)), remaining, 5, 10, now)
}
