//! What of the lessons is news for those who watch.

use super::*;

fn window(allowance: u64, seconds: u64) -> Lesson {
    Lesson {
        allowance: Some(allowance),
        period: Some(secs(seconds)),
        ..Lesson::default()
    }
}

fn rate(rate: f64) -> Lesson {
    Lesson {
        rate: Some(rate),
        ..Lesson::default()
    }
}

#[test]
fn an_estimated_window_differs_by_limit_or_length() {
    let nothing = Lesson::default();
    assert!(window(10, 60).is_news(&nothing));
    assert!(window(10, 60).is_news(&window(11, 60)));
    assert!(window(10, 60).is_news(&window(10, 61)));
    assert!(!window(10, 60).is_news(&window(10, 60)));
    assert!(!nothing.is_news(&window(10, 60)));
    assert!(!nothing.is_news(&nothing));
}

#[test]
fn an_estimated_rate_differs_by_more_than_10_percent() {
    let nothing = Lesson::default();
    assert!(rate(10.0).is_news(&nothing));
    for (now, news) in [
        (10.0, false),
        (11.0, false),
        (9.0, false),
        (11.1, true),
        (8.9, true),
    ] {
        assert_eq!(rate(now).is_news(&rate(10.0)), news, "{now}");
    }
    assert!(!nothing.is_news(&rate(10.0)));
    assert!(window(10, 60).is_news(&rate(10.0)));
    assert!(rate(10.0).is_news(&window(10, 60)));
}
