//! What a retry layer within another tells the outer one about errors, which have no room for it themselves.

use std::{error::Error, fmt};

use http::Response;

use crate::BoxError;

/// An inner layer has sent the request as often as it does, and now leaves the retries to the outer one. Only attempts
/// that the outer layer has marked end so, and it takes the error out again.
struct GivenUpBelow(BoxError);

/// The outcome, with the error as it was, and whether a layer below had given up.
pub(super) fn open<RB>(
    outcome: Result<Response<RB>, BoxError>,
) -> (Result<Response<RB>, BoxError>, bool) {
    match outcome.map_err(|error| error.downcast::<GivenUpBelow>()) {
        Ok(response) => (Ok(response), false),
        Err(Ok(wrapped)) => (Err(wrapped.0), true),
        Err(Err(error)) => (Err(error), false),
    }
}

/// The error for the outer layer.
pub(super) fn close(error: BoxError) -> BoxError {
    Box::new(GivenUpBelow(error))
}

impl fmt::Debug for GivenUpBelow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for GivenUpBelow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Error for GivenUpBelow {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}
