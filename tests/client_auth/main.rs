//! How clients authenticate, what they request, and how they are rejected; without signatures.

#[path = "../support/mod.rs"]
mod support;

mod grants;
mod methods;
mod values;
