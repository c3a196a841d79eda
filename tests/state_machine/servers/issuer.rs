//! The issuer.

use std::{future::pending, io, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use tokio::time::sleep;
use tower_m2m::BoxError;

use super::{World, secret};
use crate::{
    log::{TokenRefusal, What},
    steps::IssuerBehavior,
};

impl World {
    /// Responds to a token request. A token's lifetime starts when it is requested.
    pub(crate) async fn grant(
        self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Full<Bytes>>, BoxError> {
        self.write(What::TokenRequested);
        let asked = self.log().now();
        let mood = self.state().issuer.take();
        let slow = match mood {
            IssuerBehavior::Slow(delay) => delay,
            _ => Duration::ZERO,
        };
        let delay = self.setup().issuer_latency + slow;
        if !delay.is_zero() {
            sleep(delay).await;
        }
        let credentials = format!("client:{}", secret(self.state().secret));
        let expected = format!("Basic {}", STANDARD.encode(credentials));
        let authorization = request.headers().get(header::AUTHORIZATION);
        let authentic = authorization.is_some_and(|value| value.as_bytes() == expected.as_bytes());
        match mood {
            IssuerBehavior::Honest | IssuerBehavior::Slow(_) | IssuerBehavior::Caching
                if !authentic =>
            {
                Ok(self.refuse(StatusCode::UNAUTHORIZED, "invalid_client"))
            }
            IssuerBehavior::Honest | IssuerBehavior::Slow(_) => Ok(self.issue(asked, false)),
            IssuerBehavior::Caching => Ok(self.issue(asked, true)),
            IssuerBehavior::Status(status, wait) => {
                let passes = [502, 503, 504].contains(&status.as_u16()) && wait.is_none();
                self.write(What::TokenRefused {
                    why: if passes {
                        TokenRefusal::Transient
                    } else {
                        TokenRefusal::Other
                    },
                    retry_after: wait.map(Duration::from_secs),
                });
                let mut response = Response::new(Full::default());
                *response.status_mut() = status;
                if let Some(wait) = wait {
                    let headers = response.headers_mut();
                    headers.insert(header::RETRY_AFTER, wait.into());
                }
                Ok(response)
            }
            IssuerBehavior::Error("invalid_client") => {
                Ok(self.refuse(StatusCode::UNAUTHORIZED, "invalid_client"))
            }
            IssuerBehavior::Error(error) => Ok(self.refuse(StatusCode::BAD_REQUEST, error)),
            IssuerBehavior::Malformed => {
                self.write(What::TokenRefused {
                    why: TokenRefusal::Other,
                    retry_after: None,
                });
                Ok(Response::new(Full::from("{\"access_token\":")))
            }
            IssuerBehavior::Reset => {
                self.write(What::TokenRefused {
                    why: TokenRefusal::Transient,
                    retry_after: None,
                });
                Err(io::Error::from(io::ErrorKind::ConnectionReset).into())
            }
            IssuerBehavior::Hang => pending().await,
        }
    }

    fn issue(&self, asked: Duration, cached: bool) -> Response<Full<Bytes>> {
        let now = self.log().now();
        let mut state = self.state();
        let last = state.book.last(now).filter(|_| cached);
        let (token, lifetime) = last.unwrap_or_else(|| {
            let lifetime = self.setup().lifetime;
            (state.book.issue(asked + lifetime), lifetime)
        });
        drop(state);
        self.write(What::TokenIssued { token, lifetime });
        let seconds = lifetime.as_secs();
        json(
            StatusCode::OK,
            format!(
                r#"{{"access_token":"token-{token}","token_type":"Bearer","expires_in":{seconds}}}"#
            ),
        )
    }

    fn refuse(&self, status: StatusCode, error: &str) -> Response<Full<Bytes>> {
        self.write(What::TokenRefused {
            why: match error {
                "invalid_client" => TokenRefusal::Secret,
                _ => TokenRefusal::Other,
            },
            retry_after: None,
        });
        json(status, format!(r#"{{"error":"{error}"}}"#))
    }
}

fn json(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
