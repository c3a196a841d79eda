//! `aws-smithy-runtime`: its lazy identity cache, and the header as its signer makes it. The orchestrator around it,
//! which costs some microseconds for each request, is left out.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_smithy_async::{rt::sleep::TokioSleep, time::SystemTimeSource};
use aws_smithy_runtime::client::{
    auth::no_auth::{NO_AUTH_SCHEME_ID, NoAuthScheme},
    identity::IdentityCache,
    orchestrator::endpoints::StaticUriEndpointResolver,
    retries::strategy::NeverRetryStrategy,
};
use aws_smithy_runtime_api::client::{
    auth::static_resolver::StaticAuthSchemeOptionResolver,
    identity::{
        Identity, IdentityFuture, ResolveCachedIdentity, ResolveIdentity, SharedIdentityResolver,
        http::Token,
    },
    runtime_components::{RuntimeComponents, RuntimeComponentsBuilder},
};
use aws_smithy_types::config_bag::ConfigBag;
use http::{HeaderValue, header};
use tower::ServiceExt;

use super::{AUTHORIZATION, Client, Contestant};
use crate::inner::{Inner, Plain, Sent, token};

#[derive(Debug)]
struct Resolver;

impl ResolveIdentity for Resolver {
    fn resolve_identity<'a>(
        &'a self,
        _: &'a RuntimeComponents,
        _: &'a ConfigBag,
    ) -> IdentityFuture<'a> {
        let until = SystemTime::now() + Duration::from_secs(24 * 3600);
        let token = Token::new(token(), Some(until));
        IdentityFuture::ready(Ok(Identity::new(token, Some(until))))
    }
}

#[derive(Clone)]
struct Aws<S> {
    components: Arc<RuntimeComponents>,
    settings: Arc<ConfigBag>,
    resolver: SharedIdentityResolver,
    inner: S,
}

impl<S: Inner<Plain>> Client for Aws<S> {
    async fn send(&mut self, mut request: Sent) {
        let cache = self.components.identity_cache();
        let resolver = self.resolver.clone();
        let identity = cache.resolve_cached_identity(resolver, &self.components, &self.settings);
        let identity = identity.await.expect("a token");
        let token = identity.data::<Token>().expect("a token");
        let value = HeaderValue::from_str(&format!("Bearer {}", token.token()));
        let headers = request.headers_mut();
        headers.insert(header::AUTHORIZATION, value.expect("a header value"));
        let ready = self.inner.ready().await.expect("ready");
        let answer = ready.call(request).await.expect("a response");
        assert!(answer.status().is_success());
    }
}

pub fn contestant(inner: &impl Inner<Plain>) -> Contestant {
    let resolver = SharedIdentityResolver::new(Resolver);
    let components = RuntimeComponentsBuilder::new("peers")
        .with_auth_scheme_option_resolver(Some(StaticAuthSchemeOptionResolver::new(Vec::new())))
        .with_endpoint_resolver(Some(StaticUriEndpointResolver::uri(
            "https://api.example.com",
        )))
        .with_auth_scheme(NoAuthScheme::new())
        .with_identity_resolver(NO_AUTH_SCHEME_ID, resolver.clone())
        .with_identity_cache(Some(IdentityCache::lazy().build()))
        .with_retry_strategy(Some(NeverRetryStrategy::new()))
        .with_time_source(Some(SystemTimeSource::new()))
        .with_sleep_impl(Some(TokioSleep::new()))
        .build();
    let client = Aws {
        components: Arc::new(components.expect("all components")),
        settings: Arc::new(ConfigBag::base()),
        resolver,
        inner: inner.clone(),
    };
    Contestant::new("aws-smithy identity cache, by hand", AUTHORIZATION, client)
}
