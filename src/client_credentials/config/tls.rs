//! Certificates for TLS connections to the token endpoint.
//!
//! A trust store may contain a few certificates that rustls rejects. They are skipped and reported, as long as one is
//! usable.

use rustls::{ClientConfig, ConfigBuilder, RootCertStore, client::WantsClientCert};

use super::{Config, ConfigError};
use crate::client_credentials::{
    Proxy, Secret, TokenEndpoint,
    endpoint::{
        pem,
        tls::{self, Roots},
    },
};

impl Config {
    /// Adds the trusted roots and the client's certificate. The certificate and its key are checked now, and read again
    /// for every fetch.
    ///
    /// Blocks: files are read with `std::fs`, once, at startup.
    ///
    /// # Errors
    ///
    /// Names the key whose file cannot be read or used.
    pub(super) fn with_tls(&self, endpoint: TokenEndpoint) -> Result<TokenEndpoint, ConfigError> {
        let mut endpoint = self.with_proxy(endpoint)?;
        let (trusted, own) = (&self.keys.ca_file, &self.keys.certificate_file);
        let key = match (trusted, own) {
            (Some(_), _) => "ca_file",
            (None, Some(_)) => "certificate_file",
            (None, None) => return Ok(endpoint),
        };
        let (roots, skipped) = match trusted {
            Some(path) => self.authorities(path)?,
            // The first fetch reads the platform's roots.
            None => (RootCertStore::empty(), Vec::new()),
        };
        let unusable = |error| self.invalid(key, format!("cannot be used: {error}"));
        let builder = tls::builder().map_err(unusable)?;
        // The check needs no roots, so an empty store serves as well.
        if let Some(path) = own {
            self.check_identity(builder.with_root_certificates(roots.clone()), path)?;
        }
        if trusted.is_some() {
            endpoint.trust(Roots::new(roots));
        }
        for problem in skipped {
            endpoint.note_certificate(self.name("ca_file"), problem);
        }
        if let Some(path) = own {
            let key = self.secret("private_key", KEY)?;
            endpoint = endpoint.client_certificate(self.file_at("certificate_file", path), key);
        }
        Ok(endpoint)
    }

    /// Sets the proxy of token requests.
    ///
    /// # Errors
    ///
    /// Names `proxy`, if it is neither a URL nor one of the two words. The value may contain a password and is not part
    /// of the error.
    fn with_proxy(&self, endpoint: TokenEndpoint) -> Result<TokenEndpoint, ConfigError> {
        let (proxy, no_proxy) = (&self.keys.proxy, &self.keys.no_proxy);
        if proxy.is_none() && no_proxy.is_none() {
            return Ok(endpoint);
        }
        let chosen = match proxy.as_ref().map(Secret::expose) {
            None | Some("environment") => Proxy::environment(),
            Some("none") => Proxy::none(),
            Some(url) => Proxy::new(url),
        };
        let hosts = no_proxy.iter().flatten();
        let hosts = hosts.map(String::as_str).collect::<Vec<_>>().join(",");
        let chosen = chosen.no_proxy(hosts);
        chosen.validate().map_err(|_| {
            let problem = "is neither an http:// or https:// URL, nor `none` or `environment`";
            self.invalid("proxy", problem)
        })?;
        Ok(endpoint.proxy(chosen))
    }

    /// Reads the trusted roots. Returns them and the problems of the certificates that were skipped. Fails if none is
    /// usable.
    ///
    /// The roots replace those of the platform; they are not added to them.
    ///
    /// # Errors
    ///
    /// Names `ca_file`, and describes what was found instead of a certificate.
    fn authorities(&self, path: &str) -> Result<(RootCertStore, Vec<String>), ConfigError> {
        let content = self.content("ca_file", path)?;
        let certificates = pem::certificates(&content);
        let count = certificates.len();
        let mut roots = RootCertStore::empty();
        let mut skipped = Vec::new();
        for (number, certificate) in (1..).zip(certificates) {
            let problem = match certificate.map(|der| roots.add(der)) {
                Some(Ok(())) => continue,
                Some(Err(_)) => "cannot be used as a trusted root",
                None => "is damaged",
            };
            skipped.push(format!("certificate {number} of {count} {problem}"));
        }
        if !roots.is_empty() {
            return Ok((roots, skipped));
        }
        let problem = match skipped.first() {
            Some(first) => format!("names a file without a usable certificate: {first}"),
            None => {
                let found = pem::found(&content);
                format!("names a file that contains no PEM certificate: found {found}")
            }
        };
        Err(self.invalid("ca_file", problem))
    }

    /// Checks that the certificate and the private key can be read and belong together.
    ///
    /// # Errors
    ///
    /// Names the key of the certificate or of the private key, and describes what was found instead.
    fn check_identity(
        &self,
        builder: ConfigBuilder<ClientConfig, WantsClientCert>,
        path: &str,
    ) -> Result<(), ConfigError> {
        let chain = pem::chain(&self.content("certificate_file", path)?).map_err(|found| {
            let problem = format!("names a file that contains no PEM certificate: {found}");
            self.invalid("certificate_file", problem)
        })?;
        let (key, pem) = self.secret_now("private_key", KEY)?;
        let private = pem::private_key(&pem).map_err(|found| {
            let problem = format!("is not an unencrypted private key in PEM: {found}");
            self.invalid(&key, problem)
        })?;
        let checked = builder.with_client_auth_cert(chain, private);
        checked.map(drop).map_err(|_| {
            let problem = "does not match the certificate in {certificate_file}";
            self.invalid(&key, problem)
        })
    }
}

/// Description of the private key, for errors.
const KEY: &str = "the certificate's private key, PEM";
