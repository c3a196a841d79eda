//! How clients authenticate at issuers, and what they ask for.

use tower_m2m::{
    ClientAuth, ClientCredentialsLayer, TokenEndpoint,
    client_credentials::{
        AssertionAudience, KeyAlgorithm, SigningKey, TokenError, TokenErrorKind as Kind,
    },
};

use crate::{
    servers::{SECRET, Servers},
    table::{Finished, Outcome, Table},
};

const OIDC: &str = "oidc-provider";
const DJANGO: &str = "django-oauth-toolkit";
const DOORKEEPER: &str = "Doorkeeper";

/// What an issuer is expected to do.
#[derive(Clone, Copy)]
enum Expected {
    Token,
    /// The `error` of RFC 6749 §5.2.
    ErrorResponse(&'static str),
    /// Its metadata does not name the method.
    NotOffered,
}
use Expected::{ErrorResponse, NotOffered, Token};

/// One way to ask for a token, and what oidc-provider, django-oauth-toolkit and Doorkeeper are expected to do.
struct Case {
    name: &'static str,
    auth: ClientAuth,
    settings: fn(TokenEndpoint) -> TokenEndpoint,
    expected: [Expected; 3],
}

impl Case {
    fn new(name: &'static str, auth: ClientAuth, expected: [Expected; 3]) -> Self {
        Self {
            name,
            auth,
            settings: |endpoint| endpoint,
            expected,
        }
    }

    fn with(mut self, settings: fn(TokenEndpoint) -> TokenEndpoint) -> Self {
        self.settings = settings;
        self
    }

    /// Asks the endpoint that is named.
    fn ask_named(
        &self,
        issuer: String,
        token_endpoint: &str,
        expected: Expected,
    ) -> impl Future<Output = Outcome> + Send + 'static {
        let named = TokenEndpoint::new(token_endpoint.parse().unwrap(), self.auth.clone());
        let named = (self.settings)(named.issuer(issuer));
        async move { judge(token(named).await, expected) }
    }

    /// Asks twice: the endpoint found from the issuer, and named.
    fn ask(
        &self,
        issuer: String,
        token_endpoint: &str,
        expected: Expected,
    ) -> impl Future<Output = Outcome> + Send + 'static {
        let discovered = TokenEndpoint::discover(issuer.as_str(), self.auth.clone());
        let discovered = (self.settings)(discovered);
        let named = self.ask_named(issuer, token_endpoint, expected);
        async move {
            let outcome = judge(token(discovered).await, expected);
            if outcome != Outcome::NotOffered {
                assert_eq!(outcome, named.await);
            }
            outcome
        }
    }
}

pub(crate) async fn table(servers: &Servers) -> Finished {
    let mut table = Table::new("token by", &[OIDC, DJANGO, DOORKEEPER]);
    for case in cases() {
        let name = case.name;
        let [oidc, django, doorkeeper] = case.expected;
        let issuer = servers.get("issuer", "issuer");
        let token_endpoint = match name.contains("tls_client_auth") {
            true => servers.get("issuer", "mutual_tls_token_endpoint"),
            false => format!("{issuer}/token"),
        };
        table.cell(name, OIDC, case.ask(issuer, &token_endpoint, oidc));

        let issuer = servers.get("django_api", "issuer");
        let token_endpoint = format!("{issuer}/token/");
        table.cell(name, DJANGO, case.ask(issuer, &token_endpoint, django));

        // It has no metadata.
        let issuer = servers.get("doorkeeper", "issuer");
        let token_endpoint = format!("{issuer}/oauth/token");
        let case = case.ask_named(issuer, &token_endpoint, doorkeeper);
        table.cell(name, DOORKEEPER, case);
    }
    table.finish().await
}

fn cases() -> Vec<Case> {
    const INVALID_CLIENT: Expected = ErrorResponse("invalid_client");
    const GRANTED: [Expected; 3] = [Token; 3];
    const REFUSED: [Expected; 3] = [INVALID_CLIENT; 3];
    // django-oauth-toolkit and Doorkeeper know secrets only.
    const GRANTED_BY_ONE: [Expected; 3] = [Token, NotOffered, INVALID_CLIENT];
    const REFUSED_BY_ONE: [Expected; 3] = [INVALID_CLIENT, NotOffered, INVALID_CLIENT];
    // Doorkeeper does not decode what RFC 6749 §2.3.1 has clients encode: the spaces of the secret, for one.
    const ENCODED: [Expected; 3] = [Token, Token, INVALID_CLIENT];

    let (odd_id, odd_secret) = ("odd id+%40", "p@ss w/rd+ %&=?");
    let basic = || ClientAuth::basic("basic", SECRET);
    let post = || ClientAuth::post("post", SECRET);
    let secret_jwt = ClientAuth::client_secret_jwt("secret_jwt", SECRET);
    let key = |algorithm, pem: &[u8]| {
        ClientAuth::private_key_jwt("key_jwt", SigningKey::pem(algorithm, pem).unwrap())
    };
    let rs256 = key(KeyAlgorithm::Rs256, include_bytes!("../keys/rsa.pem"));
    let ps256 = key(KeyAlgorithm::Ps256, include_bytes!("../keys/rsa.pem"));
    let es256 = key(KeyAlgorithm::Es256, include_bytes!("../keys/ec.pem"));
    let es384 = key(KeyAlgorithm::Es384, include_bytes!("../keys/ec384.pem"));
    let ed_dsa = key(KeyAlgorithm::EdDsa, include_bytes!("../keys/ed.pem"));
    let jwk = SigningKey::jwk(KeyAlgorithm::Es256, include_bytes!("../keys/ec.jwk")).unwrap();
    let jwk = |id| ClientAuth::private_key_jwt(id, jwk.clone());
    let tls = || ClientAuth::tls("tls");
    let self_signed = || ClientAuth::self_signed_tls("self_signed");
    vec![
        Case::new("client_secret_basic", basic(), ENCODED),
        Case::new(
            "client_secret_basic, reserved characters",
            ClientAuth::basic(odd_id, odd_secret),
            ENCODED,
        ),
        Case::new(
            "client_secret_basic, reserved characters sent raw",
            ClientAuth::basic_raw(odd_id, odd_secret),
            [ErrorResponse("invalid_request"), INVALID_CLIENT, Token],
        ),
        Case::new(
            "client_secret_basic, wrong secret",
            ClientAuth::basic("basic", "wrong"),
            REFUSED,
        ),
        Case::new("client_secret_post", post(), GRANTED),
        Case::new(
            "client_secret_post, wrong secret",
            ClientAuth::post("post", "wrong"),
            REFUSED,
        ),
        Case::new("client_secret_jwt, HS256", secret_jwt, GRANTED_BY_ONE),
        Case::new("private_key_jwt, RS256", rs256, GRANTED_BY_ONE),
        Case::new("private_key_jwt, PS256", ps256, GRANTED_BY_ONE),
        Case::new("private_key_jwt, ES256", es256, GRANTED_BY_ONE),
        Case::new("private_key_jwt, ES384", es384, GRANTED_BY_ONE),
        Case::new("private_key_jwt, EdDSA", ed_dsa, GRANTED_BY_ONE),
        Case::new(
            "private_key_jwt, JWK with kid",
            jwk("key_jwt"),
            GRANTED_BY_ONE,
        ),
        Case::new(
            "private_key_jwt, aud = token endpoint",
            jwk("key_jwt"),
            GRANTED_BY_ONE,
        )
        .with(|e| e.assertion_audience(AssertionAudience::TokenEndpoint)),
        Case::new(
            "private_key_jwt, another aud",
            jwk("key_jwt"),
            REFUSED_BY_ONE,
        )
        .with(|e| e.assertion_audience("https://other.example")),
        Case::new(
            "private_key_jwt, another client's key",
            jwk("self_signed"),
            REFUSED_BY_ONE,
        ),
        Case::new("tls_client_auth", tls(), GRANTED_BY_ONE)
            .with(|e| presenting(e, Some(CERTIFIED))),
        Case::new("tls_client_auth, no certificate", tls(), REFUSED_BY_ONE)
            .with(|e| presenting(e, None)),
        Case::new(
            "tls_client_auth, certificate of another CA",
            tls(),
            REFUSED_BY_ONE,
        )
        .with(|e| presenting(e, Some(SELF_SIGNED))),
        Case::new("self_signed_tls_client_auth", self_signed(), GRANTED_BY_ONE)
            .with(|e| presenting(e, Some(SELF_SIGNED))),
        Case::new(
            "self_signed_tls_client_auth, another certificate",
            self_signed(),
            REFUSED_BY_ONE,
        )
        .with(|e| presenting(e, Some(CERTIFIED))),
        Case::new(
            "none, registered without a secret",
            ClientAuth::none("none"),
            GRANTED_BY_ONE,
        ),
        Case::new(
            "none, registered with a secret",
            ClientAuth::none("basic"),
            REFUSED_BY_ONE,
        ),
        Case::new(
            "an unknown client",
            ClientAuth::basic("nobody", SECRET),
            REFUSED,
        ),
        Case::new(
            "an unknown scope",
            post(),
            [
                Token,
                ErrorResponse("invalid_scope"),
                ErrorResponse("invalid_scope"),
            ],
        )
        .with(|e| e.scope("nothing")),
        Case::new("a resource (RFC 8707)", post(), GRANTED)
            .with(|e| e.resource("https://api.example/jwt")),
        Case::new(
            "a resource that is a URN",
            post(),
            [Token, ErrorResponse("invalid_target"), Token],
        )
        .with(|e| e.resource("urn:example:opaque")),
        Case::new(
            "an unknown resource",
            post(),
            [ErrorResponse("invalid_target"), Token, Token],
        )
        .with(|e| e.resource("https://unknown.example/")),
    ]
}

async fn token(endpoint: TokenEndpoint) -> Result<(), TokenError> {
    let endpoint = endpoint.scope("orders.read");
    let layer = ClientCredentialsLayer::builder(endpoint, "http://127.0.0.1".parse().unwrap());
    layer.build().handle().prefetch().await
}

fn judge(got: Result<(), TokenError>, expected: Expected) -> Outcome {
    match (got, expected) {
        (Ok(()), Token) => Outcome::Passed,
        (Err(error), ErrorResponse(code)) => {
            let kind = match code {
                "invalid_client" => Kind::InvalidClient,
                "invalid_scope" => Kind::InvalidScope,
                _ => Kind::Rejected,
            };
            assert_eq!(
                (error.kind(), error.oauth_error(), error.is_transient()),
                (kind, Some(code), false),
                "{error}"
            );
            Outcome::Refused
        }
        (Err(error), NotOffered) => {
            assert_eq!(error.kind(), Kind::Configuration, "{error}");
            assert!(error.to_string().contains("metadata offers"), "{error}");
            Outcome::NotOffered
        }
        (Ok(()), _) => panic!("a token was granted"),
        (Err(error), Token) => panic!("{error}"),
    }
}

/// Trusts the tests' CA and presents `certificate`.
fn presenting(endpoint: TokenEndpoint, certificate: Option<&'static str>) -> TokenEndpoint {
    let endpoint = endpoint.root_certificate(include_bytes!("../certificates/ca.pem"));
    let endpoint = endpoint.unwrap();
    match certificate {
        Some(certificate) => {
            endpoint.client_certificate(certificate, include_str!("../certificates/client.key"))
        }
        None => endpoint,
    }
}

const CERTIFIED: &str = include_str!("../certificates/client.pem");
const SELF_SIGNED: &str = include_str!("../certificates/self_signed.pem");
