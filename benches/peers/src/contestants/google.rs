//! `google-cloud-auth`: a task renews the token, requests get headers from a `watch` channel. User credentials, since
//! their token endpoint can be chosen; the cache is the same for all.

use google_cloud_auth::credentials::{CacheableResource, Credentials, user_account};
use http::Extensions;
use serde_json::json;
use tower::ServiceExt;

use super::{AUTHORIZATION, Client, Contestant};
use crate::inner::{Inner, Plain, Sent};

#[derive(Clone)]
struct Google<S> {
    credentials: Credentials,
    inner: S,
}

impl<S: Inner<Plain>> Client for Google<S> {
    async fn send(&mut self, mut request: Sent) {
        let headers = self.credentials.headers(Extensions::new()).await;
        if let CacheableResource::New { data, .. } = headers.expect("a token") {
            request.headers_mut().extend(data);
        }
        let ready = self.inner.ready().await.expect("ready");
        let answer = ready.call(request).await.expect("a response");
        assert!(answer.status().is_success());
    }
}

pub async fn contestant(issuer: &str, inner: &impl Inner<Plain>) -> Contestant {
    let user = json!({
        "type": "authorized_user",
        "client_id": "id",
        "client_secret": "secret",
        "refresh_token": "refresh",
        "token_uri": issuer,
    });
    let credentials = user_account::Builder::new(user).build();
    let client = Google {
        credentials: credentials.expect("a user"),
        inner: inner.clone(),
    };
    let token = client.credentials.headers(Extensions::new()).await;
    drop(token.expect("a token"));
    Contestant::new("google-cloud-auth, by hand", AUTHORIZATION, client)
}
