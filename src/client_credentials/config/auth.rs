//! Which way of authenticating a configuration names, and what that way needs.

use super::{
    Config, ConfigError,
    choice::Choice,
    keys::{CLIENT_SECRET, PRIVATE_KEY},
    secret::ConfiguredSecret,
};
use crate::client_credentials::ClientAuth;

impl Config {
    pub(super) fn auth(&self) -> Result<ClientAuth, ConfigError> {
        let method = self.chosen("client_auth", "post", &METHODS)?;
        if method == "anonymous" {
            return Ok(ClientAuth::anonymous());
        }
        let id = self.text("client_id").ok_or_else(|| {
            let missing = "is not set: the client's id at the authorization server";
            self.wrong("client_id", missing)
        })?;
        Ok(match method {
            "post" | "client_secret_post" => ClientAuth::post(id, self.client_secret()?),
            "basic" | "client_secret_basic" => ClientAuth::basic(id, self.client_secret()?),
            "basic_raw" if id.contains(':') => {
                let wrong = format!(
                    "holds a colon, which basic_raw cannot send; set {} to basic",
                    self.key("client_auth")
                );
                return Err(self.wrong("client_id", wrong));
            }
            "basic_raw" => ClientAuth::basic_raw(id, self.client_secret()?),
            "assertion" => {
                let what = "the file with the assertion that somebody else signs";
                let file = self.token_file("assertion_file", what)?;
                let kind = self.text("assertion_type");
                ClientAuth::assertion_of_type(id, file, kind.unwrap_or(ClientAuth::JWT_BEARER))
            }
            "tls_client_auth" => ClientAuth::tls(id),
            "self_signed_tls_client_auth" => ClientAuth::self_signed_tls(id),
            "none" => ClientAuth::none(id),
            _ => return self.signed(id, method),
        })
    }

    pub(super) fn client_secret(&self) -> Result<ConfiguredSecret, ConfigError> {
        self.secret(&CLIENT_SECRET, "the client's secret")
    }

    #[cfg(not(feature = "jwt"))]
    fn signed(&self, _: &str, method: &str) -> Result<ClientAuth, ConfigError> {
        let wrong = format!(
            "is {method}, for which tower-m2m needs its feature `jwt-aws-lc-rs` or `jwt-rust-crypto`"
        );
        Err(self.wrong("client_auth", wrong))
    }
}

const ID: &[&str] = &["client_id"];
const ALGORITHM: &[&str] = &["signing_algorithm", "assertion_audience", "assertion_typ"];

const METHODS: [Choice; 12] = [
    ("post", &[ID, &CLIENT_SECRET]),
    ("basic", &[ID, &CLIENT_SECRET]),
    ("basic_raw", &[ID, &CLIENT_SECRET]),
    ("client_secret_post", &[ID, &CLIENT_SECRET]),
    ("client_secret_basic", &[ID, &CLIENT_SECRET]),
    ("client_secret_jwt", &[ID, &CLIENT_SECRET, ALGORITHM]),
    (
        "private_key_jwt",
        &[ID, &PRIVATE_KEY, &["key_id"], ALGORITHM],
    ),
    ("assertion", &[ID, &["assertion_file", "assertion_type"]]),
    (
        "tls_client_auth",
        &[ID, &["certificate_file"], &PRIVATE_KEY],
    ),
    (
        "self_signed_tls_client_auth",
        &[ID, &["certificate_file"], &PRIVATE_KEY],
    ),
    ("none", &[ID]),
    ("anonymous", &[]),
];
