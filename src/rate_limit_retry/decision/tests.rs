//! The decision by hand.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

const POLICY: Policy = Policy {
    max_retries: 3,
    max_wait: Duration::from_secs(60),
    idempotent_only: false,
};

static NOTHING: Signals = Signals {
    retry_after: None,
    limits: Vec::new(),
    advice: None,
    global: false,
};

/// A first attempt that may be repeated, with a second of back-off.
fn facts(ended: Ended<'_>) -> Facts<'_> {
    Facts {
        ended,
        shed: false,
        attempt: 1,
        method: MethodClass::Idempotent,
        nested: false,
        given_up: None,
        permanent: false,
        replayable: true,
        has_runtime: true,
        held: None,
        backoff: SECOND,
        drained_for: Duration::ZERO,
        left: None,
    }
}

fn status(code: u16, signals: &Signals) -> Ended<'_> {
    Ended::Response(StatusCode::from_u16(code).unwrap(), signals)
}

#[test]
fn each_status_has_its_consequence() {
    use Decision::{AfterFault, AfterHold, GiveUp, Return};
    use GiveUpReason::NotIdempotent;

    let wait = Signals {
        retry_after: Some(5 * SECOND),
        ..Signals::default()
    };
    let retry = Signals {
        advice: Some(Advice::Retry),
        ..Signals::default()
    };
    let five = AfterFault(5 * SECOND);
    let one = AfterFault(SECOND);
    // Status, what it says besides, and what follows for a GET and for a POST.
    for (code, signals, get, post) in [
        (200, &NOTHING, Return, Return),
        (200, &retry, Return, Return),
        (301, &retry, Return, Return),
        (400, &NOTHING, Return, Return),
        (404, &wait, Return, Return),
        (409, &retry, one, one),
        (413, &NOTHING, Return, Return),
        (413, &wait, five, five),
        (429, &NOTHING, AfterHold, AfterHold),
        (500, &wait, Return, Return),
        (500, &retry, one, one),
        (502, &NOTHING, one, GiveUp(NotIdempotent)),
        (503, &NOTHING, one, GiveUp(NotIdempotent)),
        (503, &wait, AfterHold, GiveUp(NotIdempotent)),
        (503, &retry, one, one),
        (504, &NOTHING, one, GiveUp(NotIdempotent)),
    ] {
        let get_facts = facts(status(code, signals));
        let post_facts = Facts {
            method: MethodClass::Other,
            ..get_facts
        };

        assert_eq!(decide(&get_facts, &POLICY), get, "GET, {code} {signals:?}");
        assert_eq!(
            decide(&post_facts, &POLICY),
            post,
            "POST, {code} {signals:?}"
        );
    }
}

#[test]
fn only_idempotent_methods_are_retried_if_configured() {
    let policy = Policy {
        idempotent_only: true,
        ..POLICY
    };
    let wait = Signals {
        retry_after: Some(SECOND),
        ..Signals::default()
    };
    let retry = Signals {
        advice: Some(Advice::Retry),
        ..Signals::default()
    };
    for (code, signals) in [(413, &wait), (429, &NOTHING), (409, &retry), (503, &retry)] {
        let get = facts(status(code, signals));
        let post = Facts {
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
        let facts = Facts {
            method,
            ..facts(Ended::Error(class))
        };
        decide(&facts, &POLICY)
    };
    let again = Decision::AfterFault(SECOND);

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
    use GiveUpReason::{Body, Deadline, Nested, Permanent, Refused, Retries, Wait};

    let refused = Signals {
        advice: Some(Advice::DoNotRetry),
        ..Signals::default()
    };
    let fine = facts(status(429, &NOTHING));
    let held = |seconds| Facts {
        held: Some(seconds * SECOND),
        ..fine
    };
    let left = |seconds| Facts {
        left: Some(seconds * SECOND),
        ..held(5)
    };
    let below = |reason| Facts {
        given_up: Some(reason),
        ..fine
    };
    for (facts, expected) in [
        (Facts { attempt: 3, ..fine }, None),
        (Facts { attempt: 4, ..fine }, Some(Retries)),
        (held(60), None),
        (held(61), Some(Wait)),
        (left(6), None),
        (left(5), Some(Deadline)),
        (
            Facts {
                replayable: false,
                ..fine
            },
            Some(Body),
        ),
        (
            Facts {
                nested: true,
                ..fine
            },
            Some(Nested),
        ),
        (
            Facts {
                permanent: true,
                ..fine
            },
            Some(Permanent),
        ),
        (facts(status(429, &refused)), Some(Refused)),
        (below(Retries), Some(Retries)),
        (below(Wait), None),
    ] {
        let expected = expected.map_or(Decision::AfterHold, Decision::GiveUp);

        assert_eq!(decide(&facts, &POLICY), expected, "{facts:?}");
    }
}

#[test]
fn the_longer_wait_applies_up_to_a_day() {
    let asked = Signals {
        retry_after: Some(5 * SECOND),
        advice: Some(Advice::Retry),
        ..Signals::default()
    };
    let after = |backoff| {
        let facts = Facts {
            backoff,
            ..facts(status(500, &asked))
        };
        decide(&facts, &POLICY)
    };
    assert_eq!(after(SECOND), Decision::AfterFault(5 * SECOND));
    assert_eq!(after(9 * SECOND), Decision::AfterFault(9 * SECOND));

    let patient = Policy {
        max_wait: Duration::MAX,
        ..POLICY
    };
    let held = Facts {
        held: Some(Duration::from_secs(24 * 3600 + 1)),
        ..facts(status(429, &NOTHING))
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
        Body, Budget, Deadline, Nested, NotIdempotent, Permanent, Refused, Retries, Wait,
    };

    let names = [
        Body,
        Budget,
        Deadline,
        Nested,
        NotIdempotent,
        Permanent,
        Refused,
        Retries,
        Wait,
    ]
    .map(GiveUpReason::as_str);

    let expected = "body budget deadline nested not_idempotent permanent refused retries wait";
    assert_eq!(names.join(" "), expected);
}
