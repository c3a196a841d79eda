//! Origins (RFC 6454): scheme, host and port, parsed once and compared without allocating.
//!
//! The origin decides whether a request gets a token, so parsing is strict and comparison exact: user information, percent
//! encodings in the host, and ports with signs or leading zeros never match. HTTP clients disagree on how to read them, and
//! a token sent to the wrong host is leaked.
//!
//! | text | origin of a setting | of a request's URI |
//! |---|---|---|
//! | `https://API.example.com:443/` | `https://api.example.com` | the same |
//! | `https://api.example.com./` | another host, with the dot | the same |
//! | `https://api.example.com/orders` | error: it has a path | `https://api.example.com` |
//! | `https://user@api.example.com/` | error: it has user information | none |
//! | `https://%61pi.example.com/` | error: its host is malformed | none |
//! | `https://api.example.com:+443/` | error: its port is not a number | none |
//! | `https://*.example.com/` | error: it has a wildcard | none |
//! | `ftp://api.example.com/` | error: its scheme is neither https nor http | none |
//! | `/orders` | error: it has no scheme | none |

mod scheme;
mod text;

use std::{error::Error, fmt, net::Ipv4Addr, str::FromStr};

use http::Uri;

use scheme::Scheme;
use text::{canonical, effective, ipv6, split, without_secrets};

/// An origin (RFC 6454 §4): `http` or `https`, a host and a port.
///
/// Parsed from text such as `https://api.example.com`; the port may be omitted if it is the scheme's default. Two
/// origins are equal only if all three parts are: a host with a trailing dot, or a name that resolves to the same
/// address, is another host.
///
/// # Examples
///
/// ```
/// use tower_m2m::Origin;
///
/// let origin: Origin = "https://API.example.com:443".parse()?;
///
/// assert_eq!(origin.to_string(), "https://api.example.com");
/// assert!("https://api.example.com/orders".parse::<Origin>().is_err());
/// # Ok::<(), tower_m2m::InvalidOrigin>(())
/// ```
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Origin {
    /// `http` or `https`.
    scheme: Scheme,
    /// Lower-case. IPv6 addresses are in brackets and in canonical form (RFC 5952).
    host: Box<str>,
    /// The effective port.
    port: u16,
    /// Host and port in their usual spelling, for a fast comparison.
    authority: Box<str>,
    /// Whether the host is this machine. Checked for each request over plain http.
    is_loopback: bool,
}

/// The error of parsing an [`Origin`]. Its message states the problem, and omits user information and queries.
///
/// # Examples
///
/// ```
/// use tower_m2m::{InvalidOrigin, Origin};
///
/// let error: InvalidOrigin = "https://user:secret@api.example.com"
///     .parse::<Origin>()
///     .unwrap_err();
///
/// assert!(!error.to_string().contains("secret"));
/// ```
#[derive(Clone, Eq, PartialEq)]
pub struct InvalidOrigin {
    /// The text, without its secrets.
    value: Box<str>,
    /// What is wrong with it.
    problem: &'static str,
}

impl Origin {
    /// Creates an origin from canonical parts.
    fn new(scheme: Scheme, host: Box<str>, port: u16) -> Self {
        // Without a default port, as clients write it.
        let authority = if port == scheme.default_port() {
            host.clone()
        } else {
            format!("{host}:{port}").into()
        };
        Self {
            scheme,
            is_loopback: is_loopback(&host),
            host,
            port,
            authority,
        }
    }

    /// Returns `http` or `https`.
    #[must_use]
    pub fn scheme(&self) -> &str {
        self.scheme.as_str()
    }

    /// Returns the host in lower case. IPv6 addresses are in brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the port: the scheme's default if none was given.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns `host[:port]`, as in a `Host` header.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// Returns whether the scheme is `https`.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.scheme == Scheme::Https
    }

    /// Returns whether the host is this machine: `localhost` and names below it (RFC 6761 §6.3), an address of
    /// `127.0.0.0/8`, or `[::1]`.
    ///
    /// Names are not resolved: a name in `/etc/hosts` that points to this machine is not loopback, nor is `0.0.0.0` or
    /// a private address. Plain http is allowed for loopback only.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_m2m::Origin;
    ///
    /// for text in ["http://localhost:8080", "http://127.0.0.2", "http://[::1]"] {
    ///     assert!(text.parse::<Origin>()?.is_loopback());
    /// }
    /// assert!(!"http://10.0.0.1".parse::<Origin>()?.is_loopback());
    /// # Ok::<(), tower_m2m::InvalidOrigin>(())
    /// ```
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.is_loopback
    }

    /// Returns the origin of `uri`; `None` if it has no authority, another scheme, user information, or a malformed host
    /// or port.
    ///
    /// Path and query are ignored: unlike [`from_str`](FromStr::from_str), this reads the URI of a request.
    ///
    /// # Examples
    ///
    /// ```
    /// use http::Uri;
    /// use tower_m2m::Origin;
    ///
    /// let uri = Uri::from_static("https://api.example.com/orders?state=open");
    ///
    /// assert_eq!(Origin::of(&uri), "https://api.example.com".parse().ok());
    /// assert_eq!(Origin::of(&Uri::from_static("/orders")), None);
    /// ```
    #[must_use]
    pub fn of(uri: &Uri) -> Option<Self> {
        let scheme = Scheme::of(uri)?;
        let (host, port) = split(uri.authority()?.as_str())?;
        Some(Self::new(
            scheme,
            canonical(host)?,
            effective(port, scheme)?,
        ))
    }

    /// Returns whether `uri` is at this origin. Does not allocate.
    ///
    /// A URI with user information never is: `https://api.example.com@evil.example/` is easily misread.
    ///
    /// # Examples
    ///
    /// ```
    /// use http::Uri;
    /// use tower_m2m::Origin;
    ///
    /// let origin: Origin = "https://api.example.com".parse()?;
    ///
    /// assert!(origin.matches(&Uri::from_static("https://api.example.com:443/a")));
    /// assert!(!origin.matches(&Uri::from_static("http://api.example.com/a")));
    /// assert!(!origin.matches(&Uri::from_static("https://x@api.example.com/")));
    /// # Ok::<(), tower_m2m::InvalidOrigin>(())
    /// ```
    #[must_use]
    #[inline]
    pub fn matches(&self, uri: &Uri) -> bool {
        Scheme::of(uri) == Some(self.scheme)
            && uri
                .authority()
                .is_some_and(|authority| self.is_at(authority.as_str()))
    }

    /// Returns whether `uri` is at this origin and spells its authority as clients usually do.
    #[inline]
    pub(crate) fn is_usual_spelling(&self, uri: &Uri) -> bool {
        Scheme::of(uri) == Some(self.scheme)
            && uri
                .authority()
                .is_some_and(|authority| *authority.as_str() == *self.authority)
    }

    /// Returns whether the value of a `Host` header (RFC 9110 §7.2) names this origin. The scheme's default port may be
    /// omitted. Does not allocate.
    ///
    /// The scheme is not compared: a `Host` header contains none. A value that is not UTF-8, or that has user
    /// information, never matches.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_m2m::Origin;
    ///
    /// let origin: Origin = "https://api.example.com:8443".parse()?;
    ///
    /// assert!(origin.matches_authority(b"API.example.com:8443"));
    /// assert!(!origin.matches_authority(b"api.example.com"));
    /// # Ok::<(), tower_m2m::InvalidOrigin>(())
    /// ```
    #[must_use]
    pub fn matches_authority(&self, value: &[u8]) -> bool {
        std::str::from_utf8(value).is_ok_and(|authority| self.is_at(authority))
    }

    /// Compares with the usual spelling first, and with other spellings only if that differs.
    ///
    /// On the path of each request: one comparison of short strings for the spelling that clients send.
    #[inline]
    fn is_at(&self, authority: &str) -> bool {
        *authority == *self.authority || self.is_also_at(authority)
    }

    /// Compares with other spellings: upper case, an explicit default port, or a non-canonical IPv6 address.
    #[cold]
    fn is_also_at(&self, authority: &str) -> bool {
        split(authority).is_some_and(|(host, port)| {
            self.has_host(host) && effective(port, self.scheme) == Some(self.port)
        })
    }

    /// Returns whether `host` names this origin's host.
    fn has_host(&self, host: &str) -> bool {
        // An IPv6 address has many spellings.
        self.host.eq_ignore_ascii_case(host)
            || ipv6(host).is_some_and(|address| ipv6(&self.host) == Some(address))
    }
}

/// Returns whether a host in its canonical form is this machine.
fn is_loopback(host: &str) -> bool {
    let below = host.strip_suffix(".localhost");
    host == "localhost"
        || below.is_some_and(|name| !name.is_empty())
        || host
            .parse()
            .is_ok_and(|address: Ipv4Addr| address.is_loopback())
        || ipv6(host).is_some_and(|address| address.is_loopback())
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme(), self.authority)
    }
}

impl FromStr for Origin {
    type Err = InvalidOrigin;

    /// # Errors
    ///
    /// Returns an error if `text` has no scheme, a scheme other than `http` and `https`, no host, a wildcard, user
    /// information, a path other than `/`, a query, a fragment, or a port that is not in `1..=65535`.
    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        let invalid = |problem| InvalidOrigin {
            value: without_secrets(text),
            problem,
        };

        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| invalid("it has no scheme"))?;
        let scheme =
            Scheme::parse(scheme).ok_or_else(|| invalid("its scheme is neither https nor http"))?;
        let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(invalid("it has user information"));
        }
        if authority.contains('*') {
            return Err(invalid("it has a wildcard; list each origin separately"));
        }
        let (host, port) = split(authority).ok_or_else(|| invalid("its host is malformed"))?;
        if host.is_empty() {
            return Err(invalid("it has no host"));
        }
        let host = canonical(host).ok_or_else(|| invalid("its host is malformed"))?;
        let port = effective(port, scheme)
            .ok_or_else(|| invalid("its port is not a number from 1 to 65535"))?;
        if tail.contains('?') {
            return Err(invalid("it has a query"));
        }
        if tail.contains('#') {
            return Err(invalid("it has a fragment"));
        }
        if !matches!(tail, "" | "/") {
            return Err(invalid("it has a path"));
        }
        Ok(Self::new(scheme, host, port))
    }
}

impl TryFrom<&str> for Origin {
    type Error = InvalidOrigin;

    fn try_from(text: &str) -> Result<Self, InvalidOrigin> {
        text.parse()
    }
}

impl TryFrom<Uri> for Origin {
    type Error = InvalidOrigin;

    fn try_from(uri: Uri) -> Result<Self, InvalidOrigin> {
        uri.to_string().parse()
    }
}

impl InvalidOrigin {
    /// Returns what is wrong, without the text.
    pub(crate) fn problem(&self) -> &'static str {
        self.problem
    }
}

impl fmt::Display for InvalidOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `Debug` of a `str` escapes control characters, which may come from a file or the environment.
        write!(
            f,
            "{:?} is not an origin such as \"https://api.example.com\": {}",
            self.value, self.problem
        )
    }
}

/// Contains the message, because `main` prints the `Debug` output of the error that it returns.
impl fmt::Debug for InvalidOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InvalidOrigin({self})")
    }
}

impl Error for InvalidOrigin {}

#[cfg(test)]
mod tests;
