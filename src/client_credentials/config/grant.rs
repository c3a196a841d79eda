//! What a token is asked for in exchange for.

use super::{Config, ConfigError, choice::Choice};
use crate::client_credentials::{Grant, TokenExchange};

impl Config {
    pub(super) fn grant(&self) -> Result<Grant, ConfigError> {
        Ok(match self.chosen("grant", "client_credentials", &GRANTS)? {
            "jwt_bearer" => {
                let what = "the file with the JWT that is given in";
                Grant::jwt_bearer(self.token_file("grant_assertion_file", what)?)
            }
            "token_exchange" => {
                let what = "the file with the token that is given in";
                let file = self.token_file("subject_token_file", what)?;
                let kind = self
                    .text("subject_token_type")
                    .unwrap_or(TokenExchange::JWT);
                let exchange = TokenExchange::new(file, kind);
                match self.text("requested_token_type") {
                    Some(kind) => exchange.requested_token_type(kind).into(),
                    None => exchange.into(),
                }
            }
            _ => Grant::client_credentials(),
        })
    }
}

const GRANTS: [Choice; 3] = [
    ("client_credentials", &[]),
    ("jwt_bearer", &[&["grant_assertion_file"]]),
    (
        "token_exchange",
        &[&[
            "subject_token_file",
            "subject_token_type",
            "requested_token_type",
        ]],
    ),
];
