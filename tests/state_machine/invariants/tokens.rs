//! Promises about tokens.

use std::{collections::HashMap, time::Duration};

use super::broken;
use crate::{
    log::{Entry, Known, Outcome, What},
    steps::Setup,
};

pub(super) fn without_a_token_nothing_is_sent(_: &Setup, log: &[Entry]) -> Result<(), String> {
    for Entry { at, what } in log {
        if let What::Arrived { token: 0, .. } = what {
            return broken(*at, what, "no token of ours");
        }
    }
    Ok(())
}

/// No request carries a token that was replaced or dropped.
pub(super) fn only_the_current_token_is_sent(_: &Setup, log: &[Entry]) -> Result<(), String> {
    let (mut events, mut current) = (0, None);
    for Entry { at, what } in log {
        match what {
            What::TokenIssued { token, .. } => events = *token,
            What::Fetched => current = Some(events),
            What::Invalidated => current = None,
            What::Arrived { token, .. } if current != Some(*token) => {
                return broken(*at, what, format!("the current one: {current:?}"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// After a fetch has failed, those that waited for it use the token that there was before.
pub(super) fn no_request_fails_for_a_missing_token_while_one_is_valid(
    _: &Setup,
    log: &[Entry],
) -> Result<(), String> {
    let (mut asked, mut events) = (Duration::ZERO, Duration::ZERO);
    let (mut valid, mut failed) = (None, None);
    for Entry { at, what } in log {
        match what {
            What::TokenRequested => asked = *at,
            What::TokenIssued { lifetime, .. } => events = asked + *lifetime,
            What::Fetched => (valid, failed) = (Some(events), None),
            What::FetchFailed { .. } => failed = valid,
            What::Invalidated => (valid, failed) = (None, None),
            What::Jumped(seconds) if *seconds > 0 => (valid, failed) = (None, None),
            What::Ended {
                outcome: Outcome::NoToken,
                ..
            } if failed.is_some_and(|end| *at < end) => {
                return broken(*at, what, "a token is valid");
            }
            _ => {}
        }
    }
    Ok(())
}

/// A token's lifetime starts when it is requested.
pub(super) fn no_expired_token_is_sent(_: &Setup, log: &[Entry]) -> Result<(), String> {
    let mut expires = HashMap::new();
    let mut asked = Duration::ZERO;
    for Entry { at, what } in log {
        match what {
            What::TokenRequested => asked = *at,
            What::TokenIssued { token, lifetime } => {
                expires.entry(*token).or_insert(asked + *lifetime);
            }
            What::Arrived { token, .. } if expires.get(token).is_some_and(|end| at >= end) => {
                return broken(*at, what, "has expired");
            }
            _ => {}
        }
    }
    Ok(())
}

/// Neither a failure nor a late rejection removes it.
pub(super) fn a_valid_token_stays_until_it_is_replaced(
    _: &Setup,
    log: &[Entry],
) -> Result<(), String> {
    let mut valid: Option<(Known, Duration)> = None;
    for Entry { at, what } in log {
        match what {
            What::Invalidated | What::Fetched => valid = None,
            What::Jumped(seconds) if *seconds > 0 => valid = None,
            What::Known(known) => {
                if let Some((before, until)) = valid
                    && *at < until
                    && known.version < before.version
                {
                    return broken(*at, what, format!("before: {before:?}"));
                }
                valid = known.left.map(|left| (*known, *at + left));
            }
            _ => {}
        }
    }
    Ok(())
}
