//! cargo run --example didit
//!
//! Didit, an identity verification service: three ways to authenticate (a token with the key in the form, a token with
//! Basic, the key itself as `x-api-key`), separate limits for reading and writing, and credentials that only the account's
//! token can read. Runs against a test double that responds as Didit documents it, with its minute shortened to 2 s.
//!
//! With `DIDIT_CLIENT_ID` and `DIDIT_API_KEY`, it reads a list from the real API in each of the three ways. With
//! `DIDIT_ACCOUNT_TOKEN`, `DIDIT_ORG_ID` and `DIDIT_APP_ID`, it first reads those credentials from the account. It creates
//! nothing there and registers no account, because registering takes a person who reads a code from a mailbox.

mod account;
mod auth_methods;
mod double;

use http::HeaderName;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tower_m2m::{BoxError, client_credentials::AccessToken};

use self::{account::Credentials, auth_methods::Load, double::Double};

pub(crate) type Body = http_body_util::Full<bytes::Bytes>;
pub(crate) type Http = Client<HttpsConnector<HttpConnector>, Body>;

/// The addresses of Didit: one host for tokens and accounts, another for the API.
pub(crate) struct Site {
    auth: String,
    api: String,
    http: Http,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let variable = |name: &str| std::env::var(name).ok();
    let http = Client::builder(TokioExecutor::new()).build(
        HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(rustls::crypto::ring::default_provider())?
            .https_or_http()
            .enable_http1()
            .build(),
    );
    let real = |http| Site {
        auth: "https://apx.didit.me".to_owned(),
        api: "https://verification.didit.me".to_owned(),
        http,
    };
    let read_only = Load { gets: 3, posts: 0 };
    if let Some(token) = variable("DIDIT_ACCOUNT_TOKEN") {
        let org = variable("DIDIT_ORG_ID").ok_or("DIDIT_ORG_ID is not set")?;
        let app = variable("DIDIT_APP_ID").ok_or("DIDIT_APP_ID is not set")?;
        let site = real(http);
        let credentials = account::read(&site, AccessToken::new(token), &org, &app).await?;
        return auth_methods::run(&site, &credentials, read_only)
            .await
            .map(drop);
    }
    if let Some(id) = variable("DIDIT_CLIENT_ID") {
        let key = variable("DIDIT_API_KEY").ok_or("DIDIT_API_KEY is not set")?;
        let credentials = Credentials::new(id, key);
        return auth_methods::run(&real(http), &credentials, read_only)
            .await
            .map(drop);
    }
    doubles(http).await
}

async fn doubles(http: Http) -> Result<(), BoxError> {
    let double = Double::start().await?;
    let site = Site {
        auth: double.auth.clone(),
        api: double.api.clone(),
        http,
    };
    let account = account::register(&site, || double.code_in_the_mailbox()).await?;
    let (org, app) = (&account.org, &account.app);
    let credentials = account::read(&site, account.token.clone(), org, app).await?;
    println!("registered, and read the application's credentials with the account's token");

    let tokens = auth_methods::run(
        &site,
        &credentials,
        Load {
            gets: 40,
            posts: 36,
        },
    )
    .await?;

    for token in tokens {
        if account::read(&site, token, org, app).await.is_ok() {
            return Err("the client's token can read the credentials".into());
        }
    }
    println!("the client's tokens cannot read them");
    let wrong = Credentials::new("id", "wrong");
    let status = auth_methods::status_with_key(&site, &wrong).await?;
    println!("a wrong key: {status}");
    if status != http::StatusCode::FORBIDDEN {
        return Err("a wrong key was not rejected".into());
    }
    Ok(())
}

pub(crate) const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
