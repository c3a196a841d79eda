//! An API that repeats the token in its challenge.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderValue, StatusCode, header};
use tower::Layer;
use tower_m2m::client_credentials::{AccessToken, FetchContext, TokenError, TokenSource};

use super::{
    api::{api, layer},
    output_log::{OutputLog, assert_log_is_clean, listen},
    search::{API_KEY, SHORT_TOKEN, TOKEN, percent, percent_lower},
    support::{get, send, status_only},
};

/// A challenge around what the API repeats.
const CHALLENGES: [fn(&str) -> String; 7] = [
    |echo| format!("Bearer error=\"invalid_token\", error_description=\"{echo}\""),
    |echo| {
        format!(
            "Bearer error=\"invalid_token\", error_description=\"the token {echo}, was revoked\""
        )
    },
    |echo| format!("Bearer error=\"{echo}\""),
    |echo| format!("Bearer realm={echo}"),
    |echo| format!("Bearer scope=\"{echo}\", error=\"invalid_token\""),
    |echo| format!("Bearer error=\"invalid_token\", {echo}"),
    |echo| format!("Bearer {echo}"),
];

const ECHOES: [fn(&str) -> String; 6] = [
    |token| token.to_owned(),
    |token| format!("Bearer {token}"),
    percent,
    percent_lower,
    |token| STANDARD.encode(token),
    // A quoted pair in the middle (RFC 9110 §5.6.4).
    |token| format!("{}\\{}", &token[..3], &token[3..]),
];

/// Issues the same token always, and prints the context of each fetch.
struct EchoSource {
    token: &'static str,
    output: OutputLog,
}

impl TokenSource for EchoSource {
    async fn fetch(&self, cx: FetchContext<'_>) -> Result<AccessToken, TokenError> {
        self.output.debug(&cx);
        for challenge in cx
            .rejected()
            .map_or(&[][..], |rejected| rejected.challenges())
        {
            self.output.debug(challenge);
            self.output.text(challenge.scheme());
            for text in [
                challenge.realm(),
                challenge.error(),
                challenge.error_description(),
                challenge.scope(),
            ] {
                self.output.text(text.unwrap_or_default());
            }
        }
        Ok(AccessToken::new(self.token))
    }
}

#[tokio::test(start_paused = true)]
async fn a_challenge_that_echoes_the_token_is_redacted() {
    listen();
    for token in [TOKEN, SHORT_TOKEN, API_KEY] {
        for challenge in CHALLENGES {
            for (number, echo) in ECHOES.into_iter().enumerate() {
                let witness = OutputLog::default();
                let challenge = challenge(&echo(token));
                let value = HeaderValue::try_from(&challenge).unwrap();
                let inner = api(&witness, move |request| {
                    assert!(
                        request.headers()[header::AUTHORIZATION]
                            .to_str()
                            .unwrap()
                            .ends_with(token)
                    );
                    let mut response = status_only(StatusCode::UNAUTHORIZED);
                    response
                        .headers_mut()
                        .insert(header::WWW_AUTHENTICATE, value.clone());
                    response
                });
                let source = EchoSource {
                    token,
                    output: witness.clone(),
                };
                let layer = layer(source, &witness, |builder| builder);

                let response = send(&layer.layer(inner), get("/")).await.unwrap();

                assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
                assert!(witness.output().contains("RejectedToken"), "{challenge}");
                witness.debug(&(layer.handle().tokens(), layer.handle().tokens().status()));
                witness.assert_clean(&format!("echo {number} in {challenge}"));
            }
        }
    }
    assert_log_is_clean();
}
