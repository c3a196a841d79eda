//! The copy of a request that is kept until nobody can want it sent again.

use http::{Request, request::Parts};

use crate::replay::ReplayableBody;

/// A request's head and a copy of its body, before anything was added to it.
#[derive(Debug)]
pub(crate) struct Kept<B> {
    head: Parts,
    body: B,
}

impl<B: ReplayableBody> Kept<B> {
    /// A copy of `request`, if its body can be sent again.
    pub(crate) fn of(request: &Request<B>) -> Option<Self> {
        let body = request.body().try_clone()?;
        let mut head = Request::new(());
        *head.method_mut() = request.method().clone();
        *head.uri_mut() = request.uri().clone();
        *head.version_mut() = request.version();
        *head.headers_mut() = request.headers().clone();
        *head.extensions_mut() = request.extensions().clone();
        let (head, ()) = head.into_parts();
        Some(Self { head, body })
    }

    /// A further copy.
    pub(crate) fn copy(&self) -> Option<Self> {
        Some(Self {
            head: self.head.clone(),
            body: self.body.try_clone()?,
        })
    }

    /// Whether the body can still be sent in full.
    pub(crate) fn is_intact(&self) -> bool {
        self.body.is_intact()
    }

    /// The request, for the last time.
    pub(crate) fn into_request(self) -> Request<B> {
        Request::from_parts(self.head, self.body)
    }
}

/// What an attempt is sent from.
#[derive(Debug)]
pub(crate) enum Outgoing<B> {
    /// The request itself, for the first attempt.
    First(Request<B>),
    /// The copy, for the others.
    Kept(Kept<B>),
}

impl<B: ReplayableBody> Outgoing<B> {
    /// The request, and a copy for the next attempt if there can be one.
    pub(crate) fn into_request(self) -> (Request<B>, Option<Kept<B>>) {
        match self {
            Self::First(request) => {
                let kept = Kept::of(&request);
                (request, kept)
            }
            Self::Kept(kept) => {
                let copy = kept.copy();
                (kept.into_request(), copy)
            }
        }
    }
}

/// A kept request, and the service through which it would be sent again.
#[derive(Debug)]
pub(crate) struct Retained<S, B> {
    service: S,
    kept: Kept<B>,
}

impl<S: Clone, B: ReplayableBody> Retained<S, B> {
    pub(crate) fn of(request: &Request<B>, service: &S) -> Option<Box<Self>> {
        let kept = Kept::of(request)?;
        Some(Box::new(Self {
            service: service.clone(),
            kept,
        }))
    }
}

impl<S, B: ReplayableBody> Retained<S, B> {
    pub(crate) fn is_intact(&self) -> bool {
        self.kept.is_intact()
    }

    pub(crate) fn into_kept(self) -> (S, Kept<B>) {
        (self.service, self.kept)
    }

    pub(crate) fn into_parts(self) -> (S, Request<B>) {
        (self.service, self.kept.into_request())
    }
}
