//! What was promised, each as a function of what happened.

mod calls;
mod fetches;
mod tokens;

use std::time::Duration;

use crate::{
    log::{Entry, What},
    steps::Setup,
};

type Invariant = fn(&Setup, &[Entry]) -> Result<(), String>;

/// The first promise that was not kept.
pub(crate) fn check(setup: &Setup, log: &[Entry]) -> Result<(), String> {
    let all: [(&str, Invariant); 16] = [
        (
            "every_caller_gets_one_outcome",
            calls::every_caller_gets_one_outcome,
        ),
        (
            "a_caller_gets_the_last_answer",
            calls::a_caller_gets_the_last_answer,
        ),
        (
            "no_caller_waits_beyond_the_deadline",
            calls::no_caller_waits_beyond_the_deadline,
        ),
        (
            "not_sent_errors_are_accurate",
            calls::not_sent_errors_are_accurate,
        ),
        (
            "possibly_processed_requests_are_not_retried",
            calls::possibly_processed_requests_are_not_retried,
        ),
        ("attempts_are_bounded", calls::attempts_are_bounded),
        (
            "no_request_is_sent_before_a_hold_ends",
            calls::no_request_is_sent_before_a_hold_ends,
        ),
        (
            "no_request_waits_while_holding_readiness",
            calls::no_request_waits_while_holding_readiness,
        ),
        (
            "afterwards_requests_succeed",
            calls::afterwards_requests_succeed,
        ),
        (
            "without_a_token_nothing_is_sent",
            tokens::without_a_token_nothing_is_sent,
        ),
        (
            "only_the_current_token_is_sent",
            tokens::only_the_current_token_is_sent,
        ),
        ("no_expired_token_is_sent", tokens::no_expired_token_is_sent),
        (
            "no_request_fails_for_a_missing_token_while_one_is_valid",
            tokens::no_request_fails_for_a_missing_token_while_one_is_valid,
        ),
        (
            "a_valid_token_stays_until_it_is_replaced",
            tokens::a_valid_token_stays_until_it_is_replaced,
        ),
        (
            "one_token_request_at_a_time",
            fetches::one_token_request_at_a_time,
        ),
        (
            "every_token_request_is_needed",
            fetches::every_token_request_is_needed,
        ),
    ];
    all.iter().try_for_each(|(name, invariant)| {
        invariant(setup, log).map_err(|what| format!("{name}: {what}"))
    })
}

/// Where something went wrong.
fn broken<T>(at: Duration, what: &What, why: impl std::fmt::Display) -> Result<T, String> {
    Err(format!("at {:.3} {what:?}: {why}", at.as_secs_f64()))
}
