//! The error wrapper by which a nested retry layer reports to the outer one that it has given up. A response has
//! extensions for that; an error has none.

use std::{error::Error, fmt};

use http::Response;

use crate::BoxError;

/// The error of an inner layer that has made all of its retries and leaves further ones to the outer layer.
///
/// Only attempts that the outer layer has marked end with it, and the outer layer removes it. Its messages are those
/// of the error within, so that a layer in between that logs errors shows the original one.
///
/// Without the wrapper, the outer layer would see an ordinary transient error and retry it as often as it is allowed
/// to, after the inner layer has done the same: n × n sends.
struct InnerGaveUp(BoxError);

/// Removes the wrapper from an outcome. Returns the original outcome and whether an inner layer had given up.
///
/// An error without the wrapper stays as it is. Only the outermost error is examined: a layer in between that puts the
/// wrapper into an error of its own hides it, and the outer layer then follows its own rules.
pub(super) fn unwrap<RB>(
    outcome: Result<Response<RB>, BoxError>,
) -> (Result<Response<RB>, BoxError>, bool) {
    match outcome.map_err(|error| error.downcast::<InnerGaveUp>()) {
        Ok(response) => (Ok(response), false),
        Err(Ok(wrapped)) => (Err(wrapped.0), true),
        Err(Err(error)) => (Err(error), false),
    }
}

/// Wraps an error for the outer layer.
pub(super) fn wrap(error: BoxError) -> BoxError {
    Box::new(InnerGaveUp(error))
}

impl fmt::Debug for InnerGaveUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for InnerGaveUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Error for InnerGaveUp {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}
