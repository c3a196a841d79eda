//! The decision, from hand-made inputs.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

const CONFIG: RetryConfig = RetryConfig {
    max_retries: 3,
    max_wait: Duration::from_secs(60),
    idempotent_only: false,
};

static NO_INFO: RateLimitInfo = RateLimitInfo {
    retry_after: None,
    is_requested: false,
    limits: Vec::new(),
    advice: None,
    global: false,
};

/// A first attempt that may be retried, with a backoff of one second.
fn context(ended: AttemptResult<'_>) -> RetryContext<'_> {
    RetryContext {
        result: ended,
        shed: false,
        attempt: 1,
        method: MethodClass::Idempotent,
        nested: false,
        inner_reason: None,
        permanent: false,
        replayable: true,
        has_runtime: true,
        held: None,
        backoff: SECOND,
        max_drain: Duration::ZERO,
        time_left: None,
    }
}

fn status(code: u16, info: &RateLimitInfo) -> AttemptResult<'_> {
    AttemptResult::Response(StatusCode::from_u16(code).unwrap(), info)
}

#[test]
fn each_status_has_its_consequence() {
    use Decision::{GiveUp, RetryAfterBackoff, RetryAfterHold, Return};
    use GiveUpReason::NotIdempotent;

    let wait = RateLimitInfo {
        retry_after: Some(5 * SECOND),
        ..RateLimitInfo::default()
    };
    let retry = RateLimitInfo {
        advice: Some(RetryAdvice::Retry),
        ..RateLimitInfo::default()
    };
    let five = RetryAfterBackoff(5 * SECOND);
    let one = RetryAfterBackoff(SECOND);
    // Status, further information, and the decision for a GET and for a POST.
    for (code, info, get, post) in [
        (200, &NO_INFO, Return, Return),
        (200, &retry, Return, Return),
        (301, &retry, Return, Return),
        (400, &NO_INFO, Return, Return),
        (404, &wait, Return, Return),
        (409, &retry, one, one),
        (413, &NO_INFO, Return, Return),
        (413, &wait, five, five),
        (429, &NO_INFO, RetryAfterHold, RetryAfterHold),
        (500, &wait, Return, Return),
        (500, &retry, one, one),
        (502, &NO_INFO, one, GiveUp(NotIdempotent)),
        (503, &NO_INFO, one, GiveUp(NotIdempotent)),
        (503, &wait, RetryAfterHold, GiveUp(NotIdempotent)),
        (503, &retry, one, one),
        (504, &NO_INFO, one, GiveUp(NotIdempotent)),
    ] {
        let get_facts = context(status(code, info));
        let post_facts = RetryContext {
            method: MethodClass::Other,
            ..get_facts
        };

        assert_eq!(decide(&get_facts, &CONFIG), get, "GET, {code} {info:?}");
        assert_eq!(decide(&post_facts, &CONFIG), post, "POST, {code} {info:?}");
    }
}

#[test]
fn only_idempotent_methods_are_retried_if_configured() {
    let policy = RetryConfig {
        idempotent_only: true,
        ..CONFIG
    };
    let wait = RateLimitInfo {
        retry_after: Some(SECOND),
        ..RateLimitInfo::default()
    };
    let retry = RateLimitInfo {
        advice: Some(RetryAdvice::Retry),
        ..RateLimitInfo::default()
    };
    for (code, info) in [(413, &wait), (429, &NO_INFO), (409, &retry), (503, &retry)] {
        let get = context(status(code, info));
        let post = RetryContext {
            method: MethodClass::Other,
            ..get
        };

        let given_up = Decision::GiveUp(GiveUpReason::NotIdempotent);
        assert_eq!(decide(&post, &policy), given_up, "{code}");
        assert_ne!(decide(&get, &policy), given_up, "{code}");
    }
}

#[test]
fn an_error_is_retried_if_nothing_was_processed() {
    let of = |class, method| {
        let facts = RetryContext {
            method,
            ..context(AttemptResult::Error(class))
        };
        decide(&facts, &CONFIG)
    };
    let again = Decision::RetryAfterBackoff(SECOND);

    for method in [MethodClass::Idempotent, MethodClass::Other] {
        assert_eq!(of(ErrorClass::Final, method), Decision::Return);
        assert_eq!(of(ErrorClass::NotSent, method), again);
    }
    assert_eq!(
        of(ErrorClass::MaybeProcessed, MethodClass::Idempotent),
        again
    );
    let given_up = Decision::GiveUp(GiveUpReason::NotIdempotent);
    assert_eq!(of(ErrorClass::MaybeProcessed, MethodClass::Other), given_up);
}

#[test]
fn each_limit_is_inclusive() {
    use GiveUpReason::{Body, Deadline, DoNotRetry, Nested, Permanent, Retries, Wait};

    let do_not_retry = RateLimitInfo {
        advice: Some(RetryAdvice::DoNotRetry),
        ..RateLimitInfo::default()
    };
    let fine = context(status(429, &NO_INFO));
    let held = |seconds| RetryContext {
        held: Some(seconds * SECOND),
        ..fine
    };
    let left = |seconds| RetryContext {
        time_left: Some(seconds * SECOND),
        ..held(5)
    };
    let below = |reason| RetryContext {
        inner_reason: Some(reason),
        ..fine
    };
    for (facts, expected) in [
        (RetryContext { attempt: 3, ..fine }, None),
        (RetryContext { attempt: 4, ..fine }, Some(Retries)),
        (held(60), None),
        (held(61), Some(Wait)),
        (left(6), None),
        (left(5), Some(Deadline)),
        (
            RetryContext {
                replayable: false,
                ..fine
            },
            Some(Body),
        ),
        (
            RetryContext {
                nested: true,
                ..fine
            },
            Some(Nested),
        ),
        (
            RetryContext {
                permanent: true,
                ..fine
            },
            Some(Permanent),
        ),
        (context(status(429, &do_not_retry)), Some(DoNotRetry)),
        (below(Retries), Some(Retries)),
        (below(Wait), None),
    ] {
        let expected = expected.map_or(Decision::RetryAfterHold, Decision::GiveUp);

        assert_eq!(decide(&facts, &CONFIG), expected, "{facts:?}");
    }
}

#[test]
fn the_longer_wait_applies_up_to_a_day() {
    let delay = RateLimitInfo {
        retry_after: Some(5 * SECOND),
        advice: Some(RetryAdvice::Retry),
        ..RateLimitInfo::default()
    };
    let after = |backoff| {
        let facts = RetryContext {
            backoff,
            ..context(status(500, &delay))
        };
        decide(&facts, &CONFIG)
    };
    assert_eq!(after(SECOND), Decision::RetryAfterBackoff(5 * SECOND));
    assert_eq!(after(9 * SECOND), Decision::RetryAfterBackoff(9 * SECOND));

    let patient = RetryConfig {
        max_wait: Duration::MAX,
        ..CONFIG
    };
    let held = RetryContext {
        held: Some(Duration::from_secs(24 * 3600 + 1)),
        ..context(status(429, &NO_INFO))
    };
    let given_up = Decision::GiveUp(GiveUpReason::Wait);
    assert_eq!(decide(&held, &patient), given_up);
}

#[test]
fn an_idempotency_key_counts_only_if_honored() {
    let mut keyed = HeaderMap::new();
    keyed.insert("idempotency-key", "1".parse().unwrap());
    let none = HeaderMap::new();
    for (method, headers, honoured, expected) in [
        (Method::PUT, &none, false, MethodClass::Idempotent),
        (Method::POST, &none, true, MethodClass::Other),
        (Method::POST, &keyed, false, MethodClass::Other),
        (Method::POST, &keyed, true, MethodClass::Idempotent),
    ] {
        assert_eq!(MethodClass::of(&method, headers, honoured), expected);
    }
}

#[test]
fn every_reason_has_a_unique_name() {
    use GiveUpReason::{
        Body, Budget, Deadline, DoNotRetry, Nested, NotIdempotent, Permanent, Retries, Wait,
    };

    let names = [
        Body,
        Budget,
        Deadline,
        DoNotRetry,
        Nested,
        NotIdempotent,
        Permanent,
        Retries,
        Wait,
    ]
    .map(GiveUpReason::as_str);

    let expected = "body budget deadline do_not_retry nested not_idempotent permanent retries wait";
    assert_eq!(names.join(" "), expected);
}
