//! Certificates for the connection to the token endpoint.

use super::{Config, ConfigError, keys::PRIVATE_KEY};

impl Config {
    /// `Config::layer` leaves no other way to bring a certificate along, and a key alone is of no use.
    pub(super) fn check_certificate(&self, required: bool) -> Result<(), ConfigError> {
        let method = self.text("client_auth").unwrap_or_default();
        let by_certificate = matches!(method, "tls_client_auth" | "self_signed_tls_client_auth");
        let needed = required || PRIVATE_KEY.iter().any(|key| self.is_set(key));
        if by_certificate && needed && !self.is_set("certificate_file") {
            let missing = "is not set: the file with the client's certificate, PEM (or pass one to \
                           `Config::endpoint()?.client_certificate(..)`)";
            return Err(self.wrong("certificate_file", missing));
        }
        Ok(())
    }

    #[cfg(not(feature = "https"))]
    pub(super) fn check_no_tls(&self) -> Result<(), ConfigError> {
        let mut keys = ["ca_file", "certificate_file"].into_iter();
        match keys.find(|key| self.is_set(key)) {
            Some(key) => {
                let wrong =
                    "is set, for which tower-m2m needs its feature `https`, `ring` or `aws-lc-rs`";
                Err(self.wrong(key, wrong))
            }
            None => Ok(()),
        }
    }
}

#[cfg(feature = "https")]
mod with_provider {
    use rustls::{ClientConfig, ConfigBuilder, RootCertStore, client::WantsClientCert};

    use super::{super::secret::ConfiguredSecret, Config, ConfigError, PRIVATE_KEY};
    use crate::client_credentials::{
        SecretFile,
        endpoint::{
            pem,
            tls::{self, Roots},
        },
    };

    impl Config {
        /// The certificates to trust; `None` for the platform's. With them comes what is wrong with those that are left
        /// out. A certificate and its key are checked now, and read again for every fetch.
        pub(in super::super) fn tls(&self) -> Result<Option<(Roots, Vec<String>)>, ConfigError> {
            let keys = ["ca_file", "certificate_file"];
            let Some(key) = keys.into_iter().find(|key| self.is_set(key)) else {
                return Ok(None);
            };
            let unusable = |error| self.wrong(key, format!("cannot be used: {error}"));
            let trusts = self.is_set("ca_file");
            let (roots, skipped) = match trusts {
                true => self.authorities()?,
                // The platform's are read by the first fetch.
                false => (RootCertStore::empty(), Vec::new()),
            };
            let builder = tls::builder().map_err(unusable)?;
            if self.is_set("certificate_file") {
                self.check_identity(builder.with_root_certificates(roots.clone()))?;
            }
            Ok(trusts.then(|| (Roots::new(roots), skipped)))
        }

        /// The client's certificate and key, to be read again for every fetch.
        pub(in super::super) fn certificate(
            &self,
        ) -> Result<Option<(SecretFile, ConfiguredSecret)>, ConfigError> {
            if !self.is_set("certificate_file") {
                return Ok(None);
            }
            let chain = self.token_file("certificate_file", "the client's certificate, PEM")?;
            let key = self.secret(&PRIVATE_KEY, "the certificate's private key, PEM")?;
            Ok(Some((chain, key)))
        }

        /// The certificates to trust, and what is wrong with those that cannot be.
        fn authorities(&self) -> Result<(RootCertStore, Vec<String>), ConfigError> {
            let content = self.file("ca_file")?;
            let certificates = pem::certificates(&content);
            let count = certificates.len();
            let mut roots = RootCertStore::empty();
            let mut skipped = Vec::new();
            for (number, certificate) in (1..).zip(certificates) {
                let problem = match certificate.map(|der| roots.add(der)) {
                    Some(Ok(())) => continue,
                    Some(Err(_)) => "cannot be a trusted root",
                    None => "is damaged",
                };
                skipped.push(format!("certificate {number} of {count} {problem}"));
            }
            match skipped.first() {
                Some(first) if roots.is_empty() => {
                    let wrong = format!("names a file without a usable certificate: {first}");
                    Err(self.wrong("ca_file", wrong))
                }
                None if roots.is_empty() => {
                    let found = pem::found(&content);
                    let wrong =
                        format!("names a file that holds no PEM certificate: found {found}");
                    Err(self.wrong("ca_file", wrong))
                }
                _ => Ok((roots, skipped)),
            }
        }

        fn check_identity(
            &self,
            builder: ConfigBuilder<ClientConfig, WantsClientCert>,
        ) -> Result<(), ConfigError> {
            let chain = pem::chain(&self.file("certificate_file")?).map_err(|found| {
                let wrong = format!("names a file that holds no PEM certificate: {found}");
                self.wrong("certificate_file", wrong)
            })?;
            let (key, pem) = self.secret_now(&PRIVATE_KEY, "the certificate's private key, PEM")?;
            let private = pem::private_key(&pem).map_err(|found| {
                self.wrong(
                    key,
                    format!("is no private key in PEM, not encrypted: {found}"),
                )
            })?;
            let checked = builder.with_client_auth_cert(chain, private);
            checked.map(drop).map_err(|_| {
                let certificate = self.key("certificate_file");
                let wrong = format!("does not belong to the certificate that {certificate} names");
                self.wrong(key, wrong)
            })
        }
    }
}
