//! Which changes of an estimate are reported.

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
fn an_estimated_window_differs_by_limit_or_length() {
    let nothing = Estimate::default();
    assert!(window(10, 60).differs_from(&nothing));
    assert!(window(10, 60).differs_from(&window(11, 60)));
    assert!(window(10, 60).differs_from(&window(10, 61)));
    assert!(!window(10, 60).differs_from(&window(10, 60)));
    assert!(!nothing.differs_from(&window(10, 60)));
    assert!(!nothing.differs_from(&nothing));
}

#[test]
fn an_estimated_rate_differs_by_more_than_10_percent() {
    let nothing = Estimate::default();
    assert!(rate(10.0).differs_from(&nothing));
    for (now, news) in [
        (10.0, false),
        (11.0, false),
        (9.0, false),
        (11.2, true),
        (8.9, true),
    ] {
        assert_eq!(rate(now).differs_from(&rate(10.0)), news, "{now}");
    }
    assert!(!nothing.differs_from(&rate(10.0)));
    assert!(window(10, 60).differs_from(&rate(10.0)));
    assert!(rate(10.0).differs_from(&window(10, 60)));
}
