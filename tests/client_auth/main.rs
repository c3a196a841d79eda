//! How clients authenticate, what they ask for, and how it is refused; without signatures.

#[path = "../support/mod.rs"]
mod support;

mod grants;
mod methods;
mod values;
