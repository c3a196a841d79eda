//! One request of a tenant's, from its head to the end of its answer: what is counted and logged of it.

use std::{
    net::IpAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use axum::{body::Body, extract::Request};
use http::{Method, Response};
use tokio::time::Instant;

use crate::{
    answer::{Failure, Outcome},
    body::{AnswerBody, BodyWithGuard, End},
    limits::RequestPermit,
    now,
    server::Peer,
    strip,
    tenant::Tenant,
};

/// A request that has no answer yet. If it is dropped, the caller has left.
pub(crate) struct Call {
    tenant: Arc<Tenant>,
    method: Method,
    /// The path's template.
    path: String,
    peer: Option<IpAddr>,
    began: Instant,
    answered: bool,
}

impl Call {
    pub(crate) fn begin(tenant: &Arc<Tenant>, request: &Request) -> Self {
        Self {
            tenant: Arc::clone(tenant),
            method: request.method().clone(),
            path: tenant.templates.of(request.uri().path()).into_owned(),
            peer: request.extensions().get().map(|peer: &Peer| peer.address),
            began: now(),
            answered: false,
        }
    }

    /// The upstream's answer begins.
    pub(crate) fn pass(
        mut self,
        response: Response<hyper::body::Incoming>,
        place: RequestPermit,
    ) -> Response<Body> {
        self.count(Outcome::Passed);
        let response = strip::response(response, self.tenant.target());
        response.map(|body| {
            let ended = move |end| self.end(end);
            let body = AnswerBody::new(body, strip::response_trailers, ended);
            Body::new(BodyWithGuard::new(Body::new(body), place))
        })
    }

    /// The gateway answers itself, because it is the recipient.
    pub(crate) fn answer(mut self, response: Response<Body>) -> Response<Body> {
        self.count(Outcome::Answered);
        response
    }

    /// The gateway answers itself, because of a failure.
    pub(crate) fn fail(mut self, failure: Failure) -> Response<Body> {
        self.count(failure.outcome);
        let status = failure.status().as_u16();
        self.log(failure.outcome, Some(status), &failure.cause);
        failure.response()
    }

    fn count(&mut self, outcome: Outcome) {
        self.answered = true;
        self.tenant.metrics.request(outcome, now() - self.began);
    }

    /// The answer's body has ended.
    fn end(&self, end: End) {
        let (by, cause) = match end {
            End::Complete => return,
            End::Broke(cause) => ("upstream", cause),
            End::Left if self.tenant.gave_up() => ("gateway", "the gateway shut down".to_owned()),
            End::Left => ("caller", "the caller disconnected".to_owned()),
        };
        self.tenant.metrics.cut(by);
        let (tenant, method, path) = (&*self.tenant.name, self.method.as_str(), &*self.path);
        let elapsed = now() - self.began;
        tracing::warn!(
            tenant,
            method,
            path,
            by,
            ?elapsed,
            cause,
            "response truncated"
        );
    }

    fn log(&self, outcome: Outcome, status: Option<u16>, cause: &str) {
        let (tenant, method, path) = (&*self.tenant.name, self.method.as_str(), &*self.path);
        let (outcome, elapsed) = (outcome.as_str(), now() - self.began);
        let peer = self.peer.map(tracing::field::display);
        tracing::warn!(
            tenant,
            outcome,
            status,
            method,
            path,
            ?elapsed,
            peer,
            cause,
            "request failed"
        );
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        let (outcome, cause) = match self.tenant.gave_up() {
            true => (
                Outcome::Shutdown,
                "the gateway shut down before it sent a response",
            ),
            false => (
                Outcome::CallerLeft,
                "the caller disconnected before it received a response",
            ),
        };
        self.count(outcome);
        self.log(outcome, None, cause);
    }
}

impl Tenant {
    /// Whether the gateway has given up the requests under way.
    fn gave_up(&self) -> bool {
        self.aborted.load(Relaxed)
    }
}
