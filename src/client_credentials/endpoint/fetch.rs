//! One attempt to get a token: find the endpoint, authenticate, ask, read.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Uri, header};
use http_body_util::Full;
use tokio::time::Instant;

use super::{
    AssertionAudience, Location, TokenEndpoint, TokenRequest,
    auth::{ClientAuthentication, Target},
    claims::Claims,
    discovery::{Able, Choice},
    form::Form,
    notes::report_trimmed,
    response,
    transport::{Certificate, Transport},
};
use crate::client_credentials::{
    AccessToken, TokenError, TokenErrorKind, TokenEvent, context::Surroundings,
};

/// Why an attempt brought no token.
pub(super) struct Failed {
    pub(super) error: TokenError,
    /// A token request was sent.
    pub(super) asked: bool,
    /// The credentials were refused, and others are kept for which a token was granted before.
    pub(super) has_kept: bool,
}

impl From<TokenError> for Failed {
    fn from(error: TokenError) -> Self {
        Self {
            error,
            asked: false,
            has_kept: false,
        }
    }
}

impl TokenEndpoint {
    /// One request for a token, given up at `deadline`; with `kept`, in the name of the credentials for which one was
    /// granted last.
    pub(super) async fn attempt(
        &self,
        transport: &Transport,
        kept: bool,
        deadline: Instant,
        cx: &Surroundings<'_>,
    ) -> Result<AccessToken, Failed> {
        let choice = self.locate(transport, cx).await?;
        let mut request = self.request(choice, kept, deadline, cx).await?;
        for name in request.used.take_trimmed() {
            report_trimmed(name, cx);
        }
        let missed = request.used.take_missed();
        let mut private = kept || !missed.is_empty();
        for error in missed {
            self.tell_kept(error, cx);
        }
        let sent_at = cx.clock().now();
        let http = into_http(request.token_endpoint().clone(), &mut request);
        let read = transport.send(http).await.and_then(|answered| {
            let context = self.reading(&request, cx);
            response::read(answered.status, &answered.headers, &answered.body, &context)
        });
        let (token, quirks) = read.map_err(|error| Failed {
            asked: true,
            has_kept: error.kind() == TokenErrorKind::CredentialsRefused
                && request.used.have_others_kept(),
            // Which may be an alias that the metadata names.
            error: error.with_endpoint(response::place(request.token_endpoint())),
        })?;
        request.used.keep();
        for quirk in quirks {
            cx.emit(|credential| TokenEvent::QuirkMet { credential, quirk });
        }
        if token
            .expose()
            .and_then(Claims::of)
            .is_some_and(|claims| claims.is_bound())
        {
            cx.emit(|credential| TokenEvent::BoundToken { credential });
            private |= !matches!(self.client.certificate().await, Certificate::Known(_));
        }
        let token = token.with_sent_at(sent_at);
        Ok(match private {
            true => token.unshareable(),
            false => token,
        })
    }

    async fn locate(
        &self,
        transport: &Transport,
        cx: &Surroundings<'_>,
    ) -> Result<Choice, TokenError> {
        let able = Able {
            methods: self.auth.methods(),
            algorithm: self.auth.algorithm(),
        };
        match &self.location {
            Location::Known(uri) => Ok(Choice::at(uri.clone(), able.methods)),
            Location::Discovered(discovery) => {
                discovery.choice(transport, able, self.allow_http, cx).await
            }
        }
    }

    async fn request(
        &self,
        choice: Choice,
        kept: bool,
        deadline: Instant,
        cx: &Surroundings<'_>,
    ) -> Result<TokenRequest, TokenError> {
        let uri = choice.token_endpoint.clone();
        let mut request = self.blank(&uri, choice, &self.assertion_audience, deadline, cx);
        self.grant.write(&mut request).await?;
        if !self.scopes.is_empty() {
            request.parameter("scope", self.scopes.join(" "));
        }
        request.form.extend(&self.parameters);
        request
            .secrets
            .extend(self.parameters.but(&OPEN_PARAMETERS));
        self.authenticate(&mut request, kept).await?;
        Ok(request)
    }

    /// How the answer to `request` is read.
    pub(super) fn reading<'a>(
        &'a self,
        request: &'a TokenRequest,
        cx: &Surroundings<'_>,
    ) -> response::Context<'a> {
        response::Context {
            wall: cx.clock().wall(),
            default_lifetime: self.default_lifetime,
            bearer_types: &self.bearer_types,
            strict: self.strict,
            advice: request.advice,
            secrets: &request.secrets,
        }
    }

    /// A request to the endpoint at `uri` that says nothing yet. Its assertions are for `audience`.
    pub(super) fn blank(
        &self,
        uri: &Uri,
        choice: Choice,
        audience: &AssertionAudience,
        deadline: Instant,
        cx: &Surroundings<'_>,
    ) -> TokenRequest {
        let audience = match audience {
            AssertionAudience::Issuer => self.known_issuer(&choice),
            AssertionAudience::TokenEndpoint => Some(choice.token_endpoint.to_string().into()),
            AssertionAudience::RequestedEndpoint => Some(uri.to_string().into()),
            AssertionAudience::Other(audience) => Some(Arc::clone(audience)),
        };
        TokenRequest::new(
            Form::default(),
            Target {
                token_endpoint: choice.token_endpoint,
                audience,
                method: choice.method,
                typed: self.assertion_typ,
                now: cx.clock().now(),
                wall: cx.clock().wall(),
                deadline,
            },
        )
    }

    /// The issuer as its metadata calls it, unless another is configured.
    fn known_issuer(&self, choice: &Choice) -> Option<Arc<str>> {
        match &self.location {
            Location::Discovered(discovery)
                if self.issuer.as_deref() == Some(discovery.issuer()) =>
            {
                choice.issuer.clone().or_else(|| self.issuer.clone())
            }
            _ => self.issuer.clone(),
        }
    }

    /// Adds who the client is; with `kept`, by the credentials for which a token was granted last.
    pub(super) async fn authenticate(
        &self,
        request: &mut TokenRequest,
        kept: bool,
    ) -> Result<(), TokenError> {
        request.used.begin_credentials(kept);
        let set = request.form.len();
        self.auth.authenticate(request).await?;
        match request.form.repeated_after(set, &["resource"]) {
            Some(name) => Err(TokenError::configuration(format!(
                "was not sent: the parameter {name:?} is set twice, by a setting and by the client's authentication"
            ))),
            None => Ok(()),
        }
    }

    /// Where token requests go, for people: without user info and query; an issuer as it is configured.
    pub(super) fn place(&self) -> String {
        match &self.location {
            Location::Known(uri) => response::place(uri),
            Location::Discovered(discovery) => {
                let issuer = discovery.issuer();
                let place = issuer
                    .parse()
                    .map_or_else(|_| "an issuer".to_owned(), |uri| response::place(&uri));
                // A URI always has a path; an issuer may have none.
                match place.strip_suffix('/') {
                    Some(bare) if !issuer.ends_with('/') => bare.to_owned(),
                    _ => place,
                }
            }
        }
    }

    /// The error with where it comes from, unless it says so itself.
    pub(super) fn name(&self, error: TokenError) -> TokenError {
        match error.endpoint() {
            Some(_) => error,
            None => error.with_endpoint(self.place()),
        }
    }
}

pub(super) fn into_http(uri: Uri, request: &mut TokenRequest) -> Request<Full<Bytes>> {
    let mut http = Request::new(Full::new(request.form.encode()));
    *http.method_mut() = Method::POST;
    *http.uri_mut() = uri;
    *http.headers_mut() = std::mem::take(&mut request.headers);
    let headers = http.headers_mut();
    // The client's authentication may have set them.
    for (name, value) in [
        (header::CONTENT_TYPE, FORM),
        (header::ACCEPT, JSON),
        (header::USER_AGENT, USER_AGENT),
    ] {
        headers.entry(name).or_insert(value);
    }
    http
}

/// Parameters that are no secrets, and that the server's words are often about.
const OPEN_PARAMETERS: [&str; 3] = ["audience", "authorization_details", "resource"];

pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");
pub(super) const USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("tower-m2m/", env!("CARGO_PKG_VERSION")));
const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");
