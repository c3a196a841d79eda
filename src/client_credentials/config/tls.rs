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
                           `Config::endpoint()?.tls_config(..)`)";
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
    use rustls::{
        ClientConfig, ConfigBuilder, RootCertStore,
        client::WantsClientCert,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    };

    use super::{super::secret::ConfiguredSecret, Config, ConfigError, PRIVATE_KEY};
    use crate::client_credentials::{SecretFile, endpoint::tls};

    impl Config {
        /// `None` for the defaults. A certificate and its key are checked now, and read again for every fetch.
        pub(in super::super) fn tls(&self) -> Result<Option<ClientConfig>, ConfigError> {
            let keys = ["ca_file", "certificate_file"];
            let Some(key) = keys.into_iter().find(|key| self.is_set(key)) else {
                return Ok(None);
            };
            let unusable = |error| self.wrong(key, format!("cannot be used: {error}"));
            let trusts = self.is_set("ca_file");
            let roots = match trusts {
                true => self.authorities()?,
                // The platform's are read by the first fetch.
                false => RootCertStore::empty(),
            };
            let builder = tls::builder().map_err(unusable)?;
            let builder = builder.with_root_certificates(roots);
            let config = match self.is_set("certificate_file") {
                true => self.identify(builder)?,
                false => builder.with_no_client_auth(),
            };
            Ok(trusts.then_some(config))
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

        fn authorities(&self) -> Result<RootCertStore, ConfigError> {
            let mut roots = RootCertStore::empty();
            for certificate in self.certificates("ca_file")? {
                let wrong = "names a file with a certificate that cannot be a trusted root";
                let added = roots.add(certificate);
                added.map_err(|_| self.wrong("ca_file", wrong))?;
            }
            Ok(roots)
        }

        fn identify(
            &self,
            builder: ConfigBuilder<ClientConfig, WantsClientCert>,
        ) -> Result<ClientConfig, ConfigError> {
            let chain = self.certificates("certificate_file")?;
            let (key, pem) = self.secret_now(&PRIVATE_KEY, "the certificate's private key, PEM")?;
            let wrong = |_| self.wrong(key, "is no private key in PEM (PKCS #8, not encrypted)");
            let private = PrivateKeyDer::from_pem_slice(&pem).map_err(wrong)?;
            builder.with_client_auth_cert(chain, private).map_err(|_| {
                let certificate = self.key("certificate_file");
                let wrong = format!("does not belong to the certificate that {certificate} names");
                self.wrong(key, wrong)
            })
        }

        fn certificates(&self, key: &str) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
            let pem = self.file(key)?;
            let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
            let read = read.ok().filter(|certificates| !certificates.is_empty());
            read.ok_or_else(|| self.wrong(key, "names a file that holds no PEM certificate"))
        }
    }
}
