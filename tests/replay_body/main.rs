//! What the copies of a request body yield, in turn, one after the other and concurrently.

mod bodies;
mod cap;
mod copies;
mod ends;
mod kinds;
mod reading;

const CAP: usize = 10;
const SUPERSEDED: &str = "request body superseded by a later attempt";
const INCOMPLETE: &str = "request body is no longer complete and cannot be sent again; the replay layer's \
                          `.max_body_bytes(..)` limits how much is buffered";
