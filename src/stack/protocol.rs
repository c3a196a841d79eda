//! Both protocols on one request: which of them decides what follows an attempt.

use std::{sync::Arc, time::Duration};

use http::Response;
use http_body::Body;

use crate::{
    BoxError,
    client_credentials::{Exchange, Near, Refusal, Sent},
    kept::Resendable,
    rate_limit_retry::{Call, Limiter, Next, Passes, Ticket},
};

/// What both layers know.
#[derive(Debug)]
pub(super) struct Protocol {
    pub(super) limiter: Arc<Limiter>,
    pub(super) exchange: Arc<Exchange>,
}

/// What a thread's requests have at hand.
#[derive(Debug)]
pub(super) struct Spot {
    pub(super) protocol: Arc<Protocol>,
    pub(super) passes: Passes,
    pub(super) near: Near,
}

impl Spot {
    pub(super) fn new(protocol: &Arc<Protocol>) -> Self {
        Self {
            protocol: Arc::clone(protocol),
            passes: Passes::new(Arc::clone(&protocol.limiter)),
            near: Near::new(Arc::clone(&protocol.exchange)),
        }
    }
}

/// An attempt that is under way.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) ticket: Ticket,
    /// `None` without our token.
    pub(super) sent: Option<Sent>,
}

/// What to do after it. `K` is the copy that is sent again.
pub(super) enum Then<RB, K> {
    Return(Result<Response<RB>, BoxError>),
    /// Send again after this wait; the response, if there is one, is drained first.
    Again(Option<Response<RB>>, Duration, K),
    /// The token was refused: send again with another one, if that is to be had.
    Replace(Response<RB>, Refusal, K),
}

impl Protocol {
    /// Whether nothing follows from an attempt's answer, as from most.
    pub(super) fn is_over<RB>(
        &self,
        call: &Call,
        attempt: &Attempt,
        answer: &Response<RB>,
    ) -> bool {
        let over = self.limiter.is_over(call, &attempt.ticket, answer);
        if over && let Some(sent) = attempt.sent {
            self.exchange.accepted(sent);
        }
        over
    }

    /// Learns from the end of an attempt, and decides what follows. `kept` is the copy, if it can still be sent.
    pub(super) fn conclude<RB: Body, K: Resendable>(
        &self,
        call: &mut Call,
        attempt: Attempt,
        outcome: Result<Response<RB>, BoxError>,
        mut kept: Option<K>,
    ) -> Then<RB, K> {
        let replay = attempt.sent.is_some_and(|sent| sent.replay);
        let refusal = match (&outcome, attempt.sent) {
            (Ok(response), Some(sent)) => self.exchange.refusal(response, sent),
            _ => None,
        };
        // The limiter charges a 401 to the quota, never retries it, and leaves it to us.
        let next = self
            .limiter
            .conclude(call, attempt.ticket, outcome, &mut kept);
        let response = match next {
            Next::Again(response, wait, kept) => return Then::Again(response, wait, kept),
            Next::Return(Ok(response)) => response,
            Next::Return(Err(error)) => return Then::Return(Err(error)),
        };
        match (refusal, kept) {
            (None, _) => {}
            (Some(refusal), Some(kept)) if self.exchange.replay && !call.token_replaced => {
                call.token_replaced = true;
                return Then::Replace(response, refusal, kept);
            }
            (Some(refusal), _) if replay => self.exchange.refused_again(&refusal),
            (Some(refusal), _) => self.exchange.renew_beside(refusal),
        }
        Then::Return(Ok(response))
    }
}
