//! Workload identity: the platform vouches for the program, and no secret of its own is needed.

pub mod azure_imds;
pub mod gcp_metadata;
pub mod github_actions;
pub mod kubernetes;
pub mod spiffe;

use bytes::Bytes;
use http::{HeaderValue, Request};
use http_body_util::Full;
use tower::{ServiceExt, util::BoxCloneSyncService};

use crate::Http;

/// Sends a GET with one field in place of each token request, which is what metadata servers expect. Their responses are those of
/// a token endpoint.
pub fn get_with(http: Http, name: &'static str, value: &'static str) -> Http {
    BoxCloneSyncService::new(http.map_request(move |request: Request<Full<Bytes>>| {
        let mut get = Request::new(Full::default());
        *get.uri_mut() = request.uri().clone();
        get.headers_mut()
            .insert(name, HeaderValue::from_static(value));
        get
    }))
}
