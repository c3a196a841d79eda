//! Scopes, audience and resource of a request's token. [pure]

use std::{collections::BTreeSet, fmt, sync::Arc};

use super::CacheKey;

/// The scopes, the audience and the resource that a request's token needs. Put the set into the request's extensions to
/// select one of the tokens of a credential.
///
/// Each part that is set replaces that of the [`TokenEndpoint`](super::TokenEndpoint). The layer keeps one token for
/// each set. It requests the token with the first request that has the set, and evicts the least recently used one if
/// there are more than [`max_token_scopes`](super::ClientCredentialsLayerBuilder::max_token_scopes). Cheap to clone:
/// create each set once.
///
/// A source of your own reads the set from [`FetchContext::token_scope`](super::FetchContext::token_scope). A source
/// that does not read it requests the same kind of token for every set.
///
/// To choose the credential instead, use [`tenants`](crate::tenants).
///
/// # Examples
///
/// ```
/// use http::Request;
/// use tower_m2m::client_credentials::TokenScope;
///
/// let scope = TokenScope::new().scope("orders.write").audience("https://orders.example.com");
/// let mut request = Request::post("https://api.example.com/orders").body(())?;
/// request.extensions_mut().insert(scope);
/// # Ok::<(), http::Error>(())
/// ```
#[derive(Clone, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[must_use = "put it into the extensions of a request"]
pub struct TokenScope(Arc<Parts>);

/// Contents of a set.
#[derive(Clone, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
struct Parts {
    /// Name in errors, events and metrics.
    name: Option<Box<str>>,
    /// Scopes instead of those of the endpoint; empty for those.
    scopes: BTreeSet<Box<str>>,
    /// Scopes in addition.
    added: BTreeSet<Box<str>>,
    /// Audiences instead of those of the endpoint; empty for those.
    audiences: BTreeSet<Box<str>>,
    /// Resources instead of those of the endpoint; empty for those.
    resources: BTreeSet<Box<str>>,
}

impl TokenScope {
    /// Creates a set that requests what the endpoint requests.
    pub fn new() -> Self {
        Self::default()
    }

    /// Requests `scope`: one scope, or several separated by spaces (RFC 6749 §3.3). Further calls add more. The order
    /// does not matter. Default: the scopes of the endpoint.
    pub fn scope(mut self, scope: impl AsRef<str>) -> Self {
        let scopes = scope.as_ref().split_ascii_whitespace().map(Into::into);
        Arc::make_mut(&mut self.0).scopes.extend(scopes);
        self
    }

    /// Requests `scope` in addition to the scopes of the endpoint or of this set. Further calls add more. Default:
    /// none.
    pub fn add_scope(mut self, scope: impl AsRef<str>) -> Self {
        let scopes = scope.as_ref().split_ascii_whitespace().map(Into::into);
        Arc::make_mut(&mut self.0).added.extend(scopes);
        self
    }

    /// Requests a token for `audience`. Further calls add more. Default: the audiences of the endpoint.
    pub fn audience(mut self, audience: impl Into<Box<str>>) -> Self {
        Arc::make_mut(&mut self.0).audiences.insert(audience.into());
        self
    }

    /// Requests a token for `resource` (RFC 8707). Further calls add more. Default: the resources of the endpoint.
    pub fn resource(mut self, resource: impl Into<Box<str>>) -> Self {
        Arc::make_mut(&mut self.0).resources.insert(resource.into());
        self
    }

    /// Sets the name in errors, events and metrics, after that of the credential and a slash. Default: the scopes, or
    /// else the audiences or resources. Sets with different names have different tokens.
    pub fn name(mut self, name: impl Into<Box<str>>) -> Self {
        Arc::make_mut(&mut self.0).name = Some(name.into());
        self
    }

    /// Returns the scopes that replace those of the endpoint; none if they stay.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.0.scopes.iter().map(|scope| &**scope)
    }

    /// Returns the scopes that are requested in addition.
    pub fn added_scopes(&self) -> impl Iterator<Item = &str> {
        self.0.added.iter().map(|scope| &**scope)
    }

    /// Returns the audiences that replace those of the endpoint; none if they stay.
    pub fn audiences(&self) -> impl Iterator<Item = &str> {
        self.0.audiences.iter().map(|audience| &**audience)
    }

    /// Returns the resources that replace those of the endpoint; none if they stay.
    pub fn resources(&self) -> impl Iterator<Item = &str> {
        self.0.resources.iter().map(|resource| &**resource)
    }

    /// Returns whether the set requests what the endpoint requests.
    pub(crate) fn is_empty(&self) -> bool {
        *self.0 == Parts::default()
    }

    /// Returns the name for errors, events and metrics, of at most [`MAX_LABEL_CHARS`].
    pub(crate) fn label(&self) -> String {
        let parts = &*self.0;
        let named: Vec<&str> = match &parts.name {
            Some(name) => vec![name],
            None => [
                &parts.scopes,
                &parts.added,
                &parts.audiences,
                &parts.resources,
            ]
            .into_iter()
            .find(|part| !part.is_empty())
            .into_iter()
            .flatten()
            .map(|part| &**part)
            .collect(),
        };
        let printable = |c: &char| !c.is_control();
        let joined = named.join(" ");
        joined
            .chars()
            .filter(printable)
            .take(MAX_LABEL_CHARS)
            .collect()
    }

    /// Adds the set to a cache key. The name is not part of it: it does not change the token.
    pub(crate) fn add_to(&self, key: CacheKey) -> CacheKey {
        let parts = [
            ("scope", &self.0.scopes),
            ("added scope", &self.0.added),
            ("audience", &self.0.audiences),
            ("resource", &self.0.resources),
        ];
        let pairs = parts
            .into_iter()
            .flat_map(|(name, values)| values.iter().map(move |value| (name, value)));
        let set = pairs.fold(CacheKey::new("token scope"), |set, (name, value)| {
            set.field(name, value.as_bytes())
        });
        key.nested("token scope", &set)
    }
}

impl fmt::Debug for TokenScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenScope")
            .field("scopes", &self.0.scopes)
            .field("added_scopes", &self.0.added)
            .field("audiences", &self.0.audiences)
            .field("resources", &self.0.resources)
            .finish_non_exhaustive()
    }
}

/// Maximum length of a name.
const MAX_LABEL_CHARS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_sets_are_equal_in_any_order() {
        let one = TokenScope::new().scope("a b").audience("x").scope("c");
        let same = TokenScope::new().audience("x").scope("c b").scope(" a ");

        assert_eq!(one, same);
        let key = CacheKey::new("k");
        assert_eq!(one.add_to(key.clone()), same.add_to(key.clone()));
        for other in [
            TokenScope::new(),
            TokenScope::new().scope("a b c"),
            TokenScope::new().add_scope("a b c").audience("x"),
            TokenScope::new().scope("a b c").resource("x"),
        ] {
            assert_ne!(one, other);
            assert_ne!(one.add_to(key.clone()), other.add_to(key.clone()));
        }
        assert!(TokenScope::new().is_empty() && !one.is_empty());
    }

    #[test]
    fn the_name_is_the_first_part_and_bounded() {
        let scopes = TokenScope::new().scope("b a");
        assert_eq!(scopes.label(), "a b");
        assert_eq!(scopes.clone().name("write").label(), "write");
        assert_eq!(TokenScope::new().audience("x\ny").label(), "xy");
        assert_eq!(TokenScope::new().resource("x".repeat(99)).label().len(), 64);
        // The name distinguishes tokens in this process, and not those in a store.
        let key = || CacheKey::new("k");
        assert_eq!(scopes.add_to(key()), scopes.clone().name("n").add_to(key()));
        assert_ne!(scopes, scopes.clone().name("n"));
    }

    #[test]
    fn debug_output_shows_what_is_requested() {
        let scope = TokenScope::new().scope("read").add_scope("write");

        let text = format!("{:?}", scope.audience("orders").resource("urn:a"));

        for part in ["read", "write", "orders", "urn:a"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
