//! An OAuth 2.0 authorization server for client credentials, on loopback.

mod answer;
mod builder;
mod fault;
mod protocol;
mod service;

use std::{fmt, time::Duration};

pub use self::{
    answer::{Answer, Grant},
    builder::IssuerBuilder,
    fault::Fault,
    protocol::AcceptedAuth,
    service::IssuerService,
};
use super::{
    fault_target::FaultTarget, recorded_request::RecordedRequest, script::lock, serve::Server,
    token_registry::TokenRegistry,
};

/// An authorization server on 127.0.0.1 that grants client credentials (RFC 6749 §4.4) and counts requests.
///
/// Publishes metadata (RFC 8414, OpenID Connect Discovery) for [`Issuer::identifier`], revokes tokens for their clients
/// (RFC 7009), and binds a token to the key of a DPoP proof (RFC 9449). The server stops when it is dropped.
///
/// Checks each token request in this order: the path, a scripted fault, the method and content type, the client, the grant,
/// the proof. Other grants than client credentials are rejected with `unsupported_grant_type`.
///
/// # Examples
///
/// ```
/// use tower_m2m::{
///     BoxError, ClientAuth, ClientCredentialsLayer, TokenEndpoint, test_util::Issuer,
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let issuer = Issuer::builder().client("id", "secret").in_process();
/// let endpoint =
///     TokenEndpoint::new(issuer.token_url().parse()?, ClientAuth::basic("id", "secret"));
/// let origin = "https://api.example.com".parse()?;
/// let layer =
///     ClientCredentialsLayer::builder(endpoint.service(issuer.service()), origin).build();
///
/// layer.handle().prefetch().await?;
///
/// assert_eq!(issuer.stats().issued, 1);
/// # Ok(())
/// # }
/// ```
pub struct Issuer {
    /// The issuer's logic and state.
    service: IssuerService,
    /// Stops the listener when dropped. `None` in process.
    server: Option<Server>,
}

/// The counters of an [`Issuer`]. `requests` and `rejected` mean the same as in [`ApiStats`](super::ApiStats).
///
/// # Examples
///
/// ```
/// use tower_m2m::{
///     BoxError, ClientAuth, ClientCredentialsLayer, TokenEndpoint,
///     test_util::{Issuer, IssuerStats},
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let issuer = Issuer::builder().client("id", "secret").in_process();
/// let endpoint =
///     TokenEndpoint::new(issuer.token_url().parse()?, ClientAuth::post("id", "wrong"));
/// let endpoint = endpoint.service(issuer.service());
/// let layer =
///     ClientCredentialsLayer::builder(endpoint, "https://api.example.com".parse()?).build();
///
/// layer.handle().prefetch().await.unwrap_err();
///
/// let seen: IssuerStats = issuer.stats();
/// assert_eq!((seen.issued, seen.rejected), (0, seen.requests));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct IssuerStats {
    /// Number of requests to a token endpoint, whatever the response.
    pub requests: u64,
    /// Number of tokens issued.
    pub issued: u64,
    /// Number of 4xx and 5xx responses, including scripted ones.
    pub rejected: u64,
    /// Number of tokens that clients revoked at the revocation endpoint.
    pub revoked: u64,
    /// Number of requests for the metadata.
    pub metadata_requests: u64,
    /// Number of tokens issued while the same client had another one that was neither revoked nor in its refresh window.
    pub redundant: u64,
}

impl Issuer {
    /// Returns a builder of an issuer.
    pub fn builder() -> IssuerBuilder {
        IssuerBuilder::new()
    }

    /// Returns scheme, host and port, such as `http://127.0.0.1:40001`.
    #[must_use]
    pub fn origin(&self) -> String {
        self.service.0.origin.clone()
    }

    /// Returns the URL of the token endpoint; of the first one if there are several.
    #[must_use]
    pub fn token_url(&self) -> String {
        let path = self.service.0.endpoints.first().map_or("", |e| &e.path);
        format!("{}{path}", self.service.0.origin)
    }

    /// Returns the issuer identifier: the origin and [`IssuerBuilder::identifier_path`].
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_m2m::{
    ///     BoxError, ClientAuth, ClientCredentialsLayer, TokenEndpoint, test_util::Issuer,
    /// };
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), BoxError> {
    /// let issuer = Issuer::builder()
    ///     .client("id", "secret")
    ///     .identifier_path("/realms/m2m")
    ///     .in_process();
    /// let endpoint =
    ///     TokenEndpoint::discover(issuer.identifier(), ClientAuth::basic("id", "secret"));
    /// let endpoint = endpoint.service(issuer.service());
    /// let layer =
    ///     ClientCredentialsLayer::builder(endpoint, "https://api.example.com".parse()?).build();
    ///
    /// layer.handle().prefetch().await?;
    ///
    /// assert_eq!(issuer.stats().metadata_requests, 1);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn identifier(&self) -> String {
        self.service.0.identifier()
    }

    /// Returns the URL of the revocation endpoint (RFC 7009).
    #[must_use]
    pub fn revocation_url(&self) -> String {
        self.service.0.revocation_url()
    }

    /// Sets the nonce that each DPoP proof must contain (RFC 9449 §8) from now on; other proofs get `use_dpop_nonce`. Each
    /// response announces it. Default: `None`.
    pub fn set_dpop_nonce(&self, nonce: Option<String>) {
        self.service.0.dpop.set_nonce(nonce);
    }

    /// Returns this issuer without its socket, with the same state.
    #[must_use]
    pub fn service(&self) -> IssuerService {
        self.service.clone()
    }

    /// Returns the registry of the tokens it has issued, for an [`Api`](super::Api) to check.
    #[must_use]
    pub fn tokens(&self) -> TokenRegistry {
        self.service.0.tokens.clone()
    }

    /// Scripts `fault` for the next token request that has no fault yet. Several calls queue up.
    ///
    /// It is for requests to the token endpoints. [`next_for`](Self::next_for) with the path of the metadata or of the
    /// revocation endpoint is for requests to these.
    ///
    /// A fault with a response does not issue a token. [`Fault::Delay`] delays the normal response, and [`Fault::Hang`]
    /// tests time limits: the request ends only when its client drops it.
    pub fn next(&self, fault: Fault) {
        self.next_for(FaultTarget::any(), fault);
    }

    /// Scripts `fault` for the next request of `target` that has no fault yet. Several calls queue up.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_m2m::test_util::{AcceptedAuth, Fault, FaultTarget, Issuer};
    ///
    /// let issuer = Issuer::builder()
    ///     .client("id", "secret")
    ///     .endpoint("/other", [AcceptedAuth::Post])
    ///     .in_process();
    /// // The second request to one of the endpoints.
    /// issuer.next_for(FaultTarget::any().path("/other").nth(2), Fault::Reset);
    /// ```
    pub fn next_for(&self, target: FaultTarget, fault: Fault) {
        self.service.0.script.push(target, fault);
    }

    /// Scripts `fault` for every token request, once those from [`next`](Self::next) are used up. Default: none.
    pub fn always(&self, fault: Option<Fault>) {
        self.always_for(FaultTarget::any(), fault);
    }

    /// Scripts `fault` for every request of `target` that has no fault from [`next`](Self::next); `None` ends that. Default:
    /// none.
    ///
    /// It takes precedence over [`always`](Self::always). Among several targets, the one set first does.
    pub fn always_for(&self, target: FaultTarget, fault: Option<Fault>) {
        self.service.0.script.always(target, fault);
    }

    /// Sets the lifetime of tokens issued from now on.
    pub fn set_expires_in(&self, lifetime: Duration) {
        *lock(&self.service.0.expires_in) = lifetime;
    }

    /// Replaces the secret of a client, or adds the client. Its tokens stay valid.
    ///
    /// # Examples
    ///
    /// A rotation, as the issuer sees it:
    ///
    /// ```
    /// use tower_m2m::{
    ///     BoxError, ClientAuth, ClientCredentialsLayer, TokenEndpoint,
    ///     test_util::Issuer,
    /// };
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), BoxError> {
    /// let issuer = Issuer::builder().client("id", "old").in_process();
    /// issuer.set_secret("id", "new");
    ///
    /// let auth = ClientAuth::basic("id", "old");
    /// let endpoint = TokenEndpoint::new(issuer.token_url().parse()?, auth)
    ///     .service(issuer.service());
    /// let api = "https://api.example.com".parse()?;
    /// let layer = ClientCredentialsLayer::builder(endpoint, api).build();
    ///
    /// let error = layer.handle().prefetch().await.unwrap_err();
    /// assert_eq!(error.oauth_error(), Some("invalid_client"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_secret(&self, id: impl Into<String>, secret: impl Into<String>) {
        let (id, secret) = (id.into(), secret.into());
        let mut clients = lock(&self.service.0.clients);
        // A client has one secret at a time.
        clients.retain(|(known, _)| *known != id);
        clients.push((id, secret));
    }

    /// Returns whether a token is known, not expired and not revoked.
    #[must_use]
    pub fn is_valid(&self, token: &str) -> bool {
        self.service.0.tokens.is_valid(token)
    }

    /// Revokes one token.
    pub fn revoke(&self, token: &str) {
        self.service.0.tokens.revoke(token);
    }

    /// Revokes all tokens issued so far.
    ///
    /// An [`Api`](super::Api) with the same [`tokens`](Self::tokens) rejects them from now on, so a client must get
    /// another one.
    pub fn revoke_all(&self) {
        self.service.0.tokens.revoke_all();
    }

    /// Returns the counters.
    #[must_use]
    pub fn stats(&self) -> IssuerStats {
        *lock(&self.service.0.stats)
    }

    /// Returns the token requests so far, oldest first; the last 10,000.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_m2m::{
    ///     BoxError, ClientAuth, ClientCredentialsLayer, TokenEndpoint, test_util::Issuer,
    /// };
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), BoxError> {
    /// let issuer = Issuer::builder().client("id", "secret").in_process();
    /// let endpoint =
    ///     TokenEndpoint::new(issuer.token_url().parse()?, ClientAuth::post("id", "secret"));
    /// let endpoint = endpoint.service(issuer.service()).scope("orders.read");
    /// let layer =
    ///     ClientCredentialsLayer::builder(endpoint, "https://api.example.com".parse()?).build();
    ///
    /// layer.handle().prefetch().await?;
    ///
    /// let request = &issuer.requests()[0];
    /// assert_eq!(request.parameter("scope"), Some("orders.read"));
    /// assert_eq!(request.authorization(), None);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.service.0.requests.to_vec()
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer")
            .field("origin", &self.service.0.origin)
            .field("listens", &self.server.is_some())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
