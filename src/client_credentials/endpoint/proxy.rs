//! The HTTP proxy of the default client: settings, the environment, and which URLs it is for. [pure]
//!
//! The environment is read as curl reads it, with two differences: requests to loopback never use its proxy, and a value
//! that cannot be used is an error instead of being ignored.

use std::fmt;

use http::{Uri, uri::Scheme};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};

use crate::{Origin, client_credentials::TokenError, secret::Secret};

/// The HTTP proxy through which token requests are sent, for [`TokenEndpoint::proxy`](super::TokenEndpoint::proxy).
///
/// Requests go through a tunnel (`CONNECT`, RFC 9110 §9.3.6). With https the proxy sees the host and the port, and nothing
/// else. Its URL may contain a user and a password, which are sent to the proxy only and are never printed.
///
/// # Examples
///
/// ```
/// use tower_m2m::{ClientAuth, TokenEndpoint, client_credentials::Proxy};
///
/// let auth = ClientAuth::basic("orders", "secret");
/// let proxy = Proxy::new("http://user:password@proxy.internal:3128")
///     .no_proxy("10.0.0.0/8, .internal");
/// assert!(!format!("{proxy:?}").contains("password"));
/// let endpoint = TokenEndpoint::discover("https://issuer.example", auth).proxy(proxy);
/// # drop(endpoint);
/// ```
#[doc(alias("HTTPS_PROXY", "NO_PROXY"))]
#[derive(Clone)]
#[must_use = "pass it to `TokenEndpoint::proxy`"]
pub struct Proxy {
    /// Where the proxy comes from.
    source: ProxySource,
    /// Hosts that are connected to directly.
    no_proxy: String,
}

/// Where the proxy comes from.
#[derive(Clone, Default)]
enum ProxySource {
    /// The variables of the environment.
    #[default]
    Environment,
    /// Connections are direct.
    None,
    /// This URL.
    Url(Secret),
}

impl Proxy {
    /// Uses the proxy at `url`, over `http://` or `https://`, for all hosts. Without a scheme, `http://` is assumed. The
    /// environment is ignored.
    ///
    /// [`TokenEndpoint::validate`](super::TokenEndpoint::validate), or the first token request, reports an invalid URL.
    pub fn new(url: impl Into<Secret>) -> Self {
        Self {
            source: ProxySource::Url(url.into()),
            no_proxy: String::new(),
        }
    }

    /// Connects directly. The environment is ignored.
    pub fn none() -> Self {
        Self {
            source: ProxySource::None,
            no_proxy: String::new(),
        }
    }

    /// Reads the environment when the first connection is opened, as curl does. The default of a
    /// [`TokenEndpoint`](super::TokenEndpoint).
    ///
    /// | variable | for |
    /// |---|---|
    /// | `https_proxy`, `HTTPS_PROXY` | https |
    /// | `http_proxy`, `HTTP_PROXY` | http; in a CGI program (`REQUEST_METHOD` is set) the second one is ignored, because a request can set it |
    /// | `all_proxy`, `ALL_PROXY` | both, unless a variable above is set |
    /// | `no_proxy`, `NO_PROXY` | hosts without a proxy: names with their subdomains, addresses, networks, or `*` for all |
    ///
    /// A host with a port, such as `id.example:8443`, matches nothing: leave the port out. The first variable that is set and not empty counts. Requests to loopback are never sent through this proxy.
    pub fn environment() -> Self {
        Self {
            source: ProxySource::Environment,
            no_proxy: String::new(),
        }
    }

    /// Sets hosts to which connections are direct, separated by commas or spaces: names with their subdomains,
    /// addresses, networks such as `10.0.0.0/8`, or `*` for all. A host with a port matches nothing. Default: none. With
    /// [`environment`](Self::environment) they are added to those of the environment.
    pub fn no_proxy(mut self, hosts: impl Into<String>) -> Self {
        self.no_proxy = hosts.into();
        self
    }

    /// Returns whether the environment decides alone, so that endpoints can share their connections.
    pub(super) fn is_default(&self) -> bool {
        matches!(self.source, ProxySource::Environment) && self.no_proxy.is_empty()
    }

    /// Checks the URL. The environment is not read.
    ///
    /// # Errors
    ///
    /// A configuration error, if the URL is not usable.
    pub(in crate::client_credentials) fn validate(&self) -> Result<(), TokenError> {
        self.rules(|_| None).map(drop)
    }

    /// Returns the rules, with the environment as `var` returns it.
    ///
    /// # Errors
    ///
    /// A configuration error that names the setting or the variable whose value is not a usable URL.
    pub(super) fn rules(
        &self,
        var: impl Fn(&str) -> Option<String>,
    ) -> Result<ProxyRules, TokenError> {
        match &self.source {
            ProxySource::None => Ok(ProxyRules::direct()),
            ProxySource::Url(url) => {
                let setting = ("`.proxy(..)`", url.expose().to_owned());
                ProxyRules::new(Some(&setting), Some(&setting), &self.no_proxy, false)
            }
            ProxySource::Environment => {
                let first = |names: &[&'static str]| {
                    names.iter().find_map(|name| {
                        let value = var(name).filter(|value| !value.trim().is_empty())?;
                        Some((*name, value))
                    })
                };
                let all = first(&["all_proxy", "ALL_PROXY"]);
                // A CGI server sets `HTTP_PROXY` to the request's header `Proxy`.
                let http = match var("REQUEST_METHOD") {
                    Some(_) => first(&["http_proxy"]),
                    None => first(&["http_proxy", "HTTP_PROXY"]),
                };
                let https = first(&["https_proxy", "HTTPS_PROXY"]);
                let no = first(&["no_proxy", "NO_PROXY"]).map_or_else(String::new, |(_, no)| no);
                ProxyRules::new(
                    http.as_ref().or(all.as_ref()),
                    https.as_ref().or(all.as_ref()),
                    &format!("{no},{}", self.no_proxy),
                    true,
                )
            }
        }
    }
}

impl Default for Proxy {
    fn default() -> Self {
        Self::environment()
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match &self.source {
            ProxySource::Environment => "environment",
            ProxySource::None => "none",
            // It may contain credentials.
            ProxySource::Url(_) => "url",
        };
        f.debug_struct("Proxy")
            .field("source", &source)
            .field("no_proxy", &self.no_proxy)
            .finish()
    }
}

/// Which URLs are reached through which proxy.
pub(super) struct ProxyRules {
    /// The proxies and the exceptions.
    matcher: Matcher,
    /// Names of the settings for http and https.
    settings: [&'static str; 2],
    /// Whether loopback is always connected to directly.
    spares_loopback: bool,
}

/// The proxy for one connection.
pub(super) struct ChosenProxy {
    /// URL and credentials.
    pub(super) intercept: Intercept,
    /// The setting or the variable that names it.
    pub(super) setting: &'static str,
}

impl ProxyRules {
    /// Returns rules without a proxy.
    fn direct() -> Self {
        Self {
            matcher: Matcher::builder().build(),
            settings: [""; 2],
            spares_loopback: true,
        }
    }

    /// Creates rules from the values of settings, each with its name.
    ///
    /// # Errors
    ///
    /// A configuration error for a value that is not a usable URL.
    fn new(
        http: Option<&(&'static str, String)>,
        https: Option<&(&'static str, String)>,
        no_proxy: &str,
        spares_loopback: bool,
    ) -> Result<Self, TokenError> {
        for (name, url) in [http, https].into_iter().flatten() {
            validate(name, url.trim())?;
        }
        let url = |setting: Option<&(&'static str, String)>| {
            setting.map_or_else(String::new, |(_, url)| url.trim().to_owned())
        };
        let name = |setting: Option<&(&'static str, String)>| setting.map_or("", |(name, _)| *name);
        let matcher = Matcher::builder()
            .http(url(http))
            .https(url(https))
            .no(exceptions(no_proxy).join(","))
            .build();
        Ok(Self {
            matcher,
            settings: [name(http), name(https)],
            spares_loopback,
        })
    }

    /// Returns the proxy for a connection to `uri`. `None` for a direct one.
    pub(super) fn choose(&self, uri: &Uri) -> Option<ChosenProxy> {
        if self.spares_loopback && Origin::of(uri).is_some_and(|origin| origin.is_loopback()) {
            return None;
        }
        let [http, https] = self.settings;
        let is_https = uri.scheme() == Some(&Scheme::HTTPS);
        Some(ChosenProxy {
            intercept: self.matcher.intercept(uri)?,
            setting: if is_https { https } else { http },
        })
    }
}

/// Returns the hosts without a proxy, as [`Matcher`] reads them: addresses without brackets, and with `*` all addresses,
/// which it compares with addresses and networks only.
fn exceptions(no_proxy: &str) -> Vec<&str> {
    let mut found = Vec::new();
    // curl accepts spaces between hosts as well.
    for host in no_proxy.split([',', ' ', '\t', '\r', '\n']) {
        found.push(unbracketed(host));
        if host == "*" {
            found.extend(["0.0.0.0/0", "::/0"]);
        }
    }
    found
}

/// Returns an IPv6 address without its brackets, and any other host as it is.
fn unbracketed(host: &str) -> &str {
    let inside = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    inside.unwrap_or(host)
}

/// Checks the URL of a proxy.
///
/// # Errors
///
/// A configuration error that names the setting, and not its value, which may contain a password.
fn validate(name: &str, url: &str) -> Result<(), TokenError> {
    let invalid = |what: &str| {
        TokenError::configuration(format!(
            "was not sent: the proxy in {name} {what}; connect through other proxies with a client of your own, \
             `.service(..)`"
        ))
    };
    let uri: Uri = url.parse().map_err(|_| invalid("is not a URL"))?;
    match uri.scheme_str() {
        // Without a scheme: `proxy.internal:3128`. A port or a user does not count as a scheme here.
        Some("http" | "https") | None => {}
        Some(_) => return Err(invalid("is not an http:// or https:// URL")),
    }
    let has_host = uri.host().is_some_and(|host| !host.is_empty());
    has_host.then_some(()).ok_or_else(|| invalid("has no host"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(vars: &[(&str, &str)]) -> Result<ProxyRules, TokenError> {
        let vars: Vec<(String, String)> = vars
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Proxy::environment().rules(|name| {
            let found = vars.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| value.clone())
        })
    }

    /// The proxy of `url` and its setting.
    fn chosen(rules: &ProxyRules, url: &'static str) -> Option<(String, &'static str)> {
        let chosen = rules.choose(&Uri::from_static(url))?;
        Some((chosen.intercept.uri().to_string(), chosen.setting))
    }

    #[test]
    fn connections_are_shared_only_if_the_environment_decides_alone() {
        assert!(Proxy::environment().is_default());
        for own in [
            Proxy::none(),
            Proxy::new("http://proxy:3128"),
            Proxy::environment().no_proxy("internal"),
        ] {
            assert!(!own.is_default(), "{own:?}");
        }
    }

    const ISSUER: &str = "https://id.example/token";
    const PLAIN: &str = "http://id.example/token";

    #[test]
    fn the_environment_is_read_as_curl_reads_it() {
        for (vars, https, http) in [
            (&[][..], None, None),
            (
                &[("HTTPS_PROXY", "http://a:1")],
                Some(("http://a:1/", "HTTPS_PROXY")),
                None,
            ),
            (
                &[("HTTPS_PROXY", "http://a:1"), ("https_proxy", "http://b:2")],
                Some(("http://b:2/", "https_proxy")),
                None,
            ),
            // An empty variable counts as unset.
            (
                &[("HTTPS_PROXY", "http://a:1"), ("https_proxy", " ")],
                Some(("http://a:1/", "HTTPS_PROXY")),
                None,
            ),
            (
                &[("HTTP_PROXY", "a:1")],
                None,
                Some(("http://a:1/", "HTTP_PROXY")),
            ),
            (
                &[("HTTP_PROXY", "a:1"), ("REQUEST_METHOD", "GET")],
                None,
                None,
            ),
            (
                &[("http_proxy", "a:1"), ("REQUEST_METHOD", "GET")],
                None,
                Some(("http://a:1/", "http_proxy")),
            ),
            (
                &[("ALL_PROXY", "https://a"), ("http_proxy", "b:2")],
                Some(("https://a/", "ALL_PROXY")),
                Some(("http://b:2/", "http_proxy")),
            ),
        ] {
            let rules = rules(vars).unwrap();
            let expected = |proxy: Option<(&str, &'static str)>| {
                proxy.map(|(url, setting)| (url.to_owned(), setting))
            };

            assert_eq!(chosen(&rules, ISSUER), expected(https), "{vars:?}");
            assert_eq!(chosen(&rules, PLAIN), expected(http), "{vars:?}");
        }
    }

    #[test]
    fn exceptions_are_hosts_domains_addresses_and_networks() {
        let rules = rules(&[
            ("HTTPS_PROXY", "http://proxy:1"),
            ("NO_PROXY", "id.example, .corp  10.0.0.0/8,::2"),
        ])
        .unwrap();
        for (url, is_direct) in [
            (ISSUER, true),
            ("https://eu.id.example/", true),
            ("https://notid.example/", false),
            ("https://a.corp/", true),
            ("https://10.1.2.3:8443/", true),
            ("https://11.1.2.3/", false),
            ("https://[::2]/", true),
            ("https://[::3]/", false),
        ] {
            assert_eq!(chosen(&rules, url).is_none(), is_direct, "{url}");
        }
    }

    #[test]
    fn a_star_exempts_names_and_addresses() {
        let urls = [
            ISSUER,
            PLAIN,
            "https://10.1.2.3:8443/",
            "https://[2001:db8::1]/",
        ];
        for exempt in ["*", "a.example *", " *, a.example"] {
            let rules = Proxy::new("http://proxy:1").no_proxy(exempt);
            let rules = rules.rules(|_| None).unwrap();
            for url in urls {
                assert_eq!(chosen(&rules, url), None, "{exempt} {url}");
            }
        }
        let rules = rules(&[("ALL_PROXY", "http://proxy:1"), ("NO_PROXY", "*.example")]).unwrap();
        for url in urls {
            assert!(chosen(&rules, url).is_some(), "{url}");
        }
    }

    #[test]
    fn an_exempt_address_may_have_brackets_and_a_host_has_no_port() {
        let rules = Proxy::new("http://proxy:1").no_proxy("[::1], [2001:db8::1],id.example:443");
        let rules = rules.rules(|_| None).unwrap();
        for (url, is_direct) in [
            ("https://[::1]:8443/", true),
            ("https://[2001:db8::1]/", true),
            ("https://[2001:db8::2]/", false),
            (ISSUER, false),
        ] {
            assert_eq!(chosen(&rules, url).is_none(), is_direct, "{url}");
        }
    }

    #[test]
    fn loopback_is_reached_directly_unless_the_program_names_a_proxy() {
        let environment = rules(&[("ALL_PROXY", "http://proxy:1")]).unwrap();
        let named = Proxy::new("http://proxy:1").rules(|_| None).unwrap();
        for url in [
            "http://127.0.0.1:8081/token",
            "http://localhost/token",
            "https://[::1]/token",
        ] {
            assert_eq!(chosen(&environment, url), None, "{url}");
            assert!(chosen(&named, url).is_some(), "{url}");
        }
        assert!(chosen(&environment, ISSUER).is_some());
    }

    #[test]
    fn a_program_can_ignore_or_extend_the_environment() {
        let var = |name: &str| match name {
            "HTTPS_PROXY" => Some("http://env:1".to_owned()),
            "NO_PROXY" => Some("a.example".to_owned()),
            _ => None,
        };
        let direct = Proxy::none().rules(var).unwrap();
        let named = Proxy::new("http://named:2").no_proxy("id.example");
        let named = named.rules(var).unwrap();
        let extended = Proxy::environment().no_proxy("id.example");
        let extended = extended.rules(var).unwrap();

        assert_eq!(chosen(&direct, ISSUER), None);
        assert_eq!(chosen(&named, ISSUER), None);
        let other = chosen(&named, "https://a.example/").unwrap();
        assert_eq!(other, ("http://named:2/".to_owned(), "`.proxy(..)`"));
        for url in [ISSUER, "https://a.example/"] {
            assert_eq!(chosen(&extended, url), None, "{url}");
        }
        assert!(chosen(&extended, "https://b.example/").is_some());
    }

    #[test]
    fn an_unusable_url_is_an_error_without_its_value() {
        for url in [
            "socks5://user:canary@proxy:1080",
            "http://user:canary@",
            "ftp://canary",
            "http://can ary",
            "/canary",
        ] {
            for name in ["HTTPS_PROXY", "http_proxy", "ALL_PROXY"] {
                let error = rules(&[(name, url)]).err().expect(url);

                let text = format!("{error} {error:?}");
                assert!(text.contains(name), "{text}");
                assert!(
                    !text.contains("canary") && !text.contains("can ary"),
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn credentials_of_a_proxy_are_not_printed() {
        let proxy = Proxy::new("http://user:canary@proxy:1");

        assert_eq!(
            format!("{proxy:?}"),
            r#"Proxy { source: "url", no_proxy: "" }"#
        );
        let rules = proxy.rules(|_| None).unwrap();
        let chosen = rules.choose(&Uri::from_static(ISSUER)).unwrap();
        assert!(chosen.intercept.basic_auth().unwrap().is_sensitive());
    }
}
