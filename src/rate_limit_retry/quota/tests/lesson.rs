//! What of the lessons is news for those who watch.

use super::*;

fn window(allowance: u64, seconds: u64) -> Estimate {
    Estimate {
        limit: Some(allowance),
        window: Some(secs(seconds)),
        ..Estimate::default()
    }
}

fn rate(rate: f64) -> Estimate {
    Estimate {
        rate: Some(rate),
        ..Estimate::default()
    }
}

#[test]
fn a_window_is_news_when_its_size_or_its_length_is_another() {
    let nothing = Estimate::default();
    assert!(window(10, 60).differs_from(&nothing));
    assert!(window(10, 60).differs_from(&window(11, 60)));
    assert!(window(10, 60).differs_from(&window(10, 61)));
    assert!(!window(10, 60).differs_from(&window(10, 60)));
    assert!(!nothing.differs_from(&window(10, 60)));
    assert!(!nothing.differs_from(&nothing));
}

#[test]
fn a_rate_is_news_when_it_differs_by_more_than_a_tenth() {
    let nothing = Estimate::default();
    assert!(rate(10.0).differs_from(&nothing));
    for (now, news) in [
        (10.0, false),
        (11.0, false),
        (9.0, false),
        (11.1, true),
        (8.9, true),
    ] {
        assert_eq!(rate(now).differs_from(&rate(10.0)), news, "{now}");
    }
    assert!(!nothing.differs_from(&rate(10.0)));
    assert!(window(10, 60).differs_from(&rate(10.0)));
    assert!(rate(10.0).differs_from(&window(10, 60)));
}
