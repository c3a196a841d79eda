//! The methods that sign an assertion.

use super::{Config, ConfigError, keys::PRIVATE_KEY};
use crate::client_credentials::{ClientAuth, KeyAlgorithm, SecretAlgorithm, SigningKey};

impl Config {
    pub(super) fn signed(&self, id: &str, method: &str) -> Result<ClientAuth, ConfigError> {
        if !self.is_set("issuer") && !self.is_set("assertion_audience") {
            let missing = format!(
                "is not set, and neither is {}: whom a signed assertion is for",
                self.key("issuer")
            );
            return Err(self.wrong("assertion_audience", missing));
        }
        if method == "private_key_jwt" {
            return Ok(ClientAuth::private_key_jwt(id, self.signing_key()?));
        }
        let algorithm = match self.text("signing_algorithm") {
            None | Some("HS256") => SecretAlgorithm::Hs256,
            Some("HS384") => SecretAlgorithm::Hs384,
            Some("HS512") => SecretAlgorithm::Hs512,
            Some(_) => {
                return Err(self.wrong("signing_algorithm", "is none of HS256, HS384, HS512"));
            }
        };
        let secret = self.client_secret()?;
        Ok(ClientAuth::client_secret_jwt_with(id, secret, algorithm))
    }

    fn signing_key(&self) -> Result<SigningKey, ConfigError> {
        let what = "the private key, PEM or JWK";
        let (key, content) = self.secret_now(&PRIVATE_KEY, what)?;
        let name = self.text("signing_algorithm");
        let algorithm = ALGORITHMS.into_iter().find(|a| Some(a.as_str()) == name);
        let algorithm = algorithm.ok_or_else(|| {
            let names = ALGORITHMS.map(KeyAlgorithm::as_str).join(", ");
            self.wrong("signing_algorithm", format!("must be one of {names}"))
        })?;
        let read = SigningKey::pem_or_jwk(algorithm, &content);
        let read = read.map_err(|error| {
            let error = error.to_string();
            let found = error.split_once(": found ").map_or("", |(_, found)| found);
            let wrong = format!(
                "is no private key for {}: found {found}; for another type of key, set {}",
                algorithm.as_str(),
                self.key("signing_algorithm")
            );
            self.wrong(key, wrong)
        })?;
        // What was read now shows mistakes at once; a file is read again.
        let signing = match key == PRIVATE_KEY[1] {
            true => SigningKey::source(algorithm, self.token_file(key, what)?),
            false => read,
        };
        Ok(match self.text("key_id") {
            Some(id) => signing.with_key_id(id),
            None => signing,
        })
    }
}

const ALGORITHMS: [KeyAlgorithm; 5] = [
    KeyAlgorithm::Rs256,
    KeyAlgorithm::Ps256,
    KeyAlgorithm::Es256,
    KeyAlgorithm::Es384,
    KeyAlgorithm::EdDsa,
];
