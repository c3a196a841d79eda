//! An endpoint that requests tokens for the scope of a request.

use super::TokenEndpoint;
use crate::client_credentials::TokenScope;

impl TokenEndpoint {
    /// Returns the endpoint with the parts of `scope` in place of its own. It shares everything else.
    pub(super) fn for_scope(&self, scope: &TokenScope) -> Self {
        let mut endpoint = self.clone();
        let mut scopes = scope.scopes().peekable();
        if scopes.peek().is_some() {
            endpoint.scopes = scopes.map(str::to_owned).collect();
        }
        for added in scope.added_scopes() {
            endpoint.added_scopes.push(added.to_owned());
        }
        let audiences: Vec<_> = scope.audiences().collect();
        endpoint.parameters.replace("audience", &audiences);
        let resources: Vec<_> = scope.resources().collect();
        endpoint.parameters.replace("resource", &resources);
        endpoint
    }
}
