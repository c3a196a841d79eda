//! The gateway's configuration: a TOML file, or the environment for a single tenant.

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use http::{HeaderName, header::AUTHORIZATION};
use serde::Deserialize;
use tower_m2m::{BoxError, Origin, client_credentials};

use crate::template::Templates;

/// Everything that can be set. Times are in whole seconds.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where callers come in. Default: `127.0.0.1:8080`.
    #[serde(default = "listen")]
    pub listen: SocketAddr,
    /// Where `/livez`, `/readyz` and `/metrics` are. Default: `127.0.0.1:9090`.
    #[serde(default = "admin_listen")]
    pub admin_listen: SocketAddr,
    /// The longest wait for a quota or between two attempts. Default: 10.
    #[serde(default = "max_wait")]
    pub max_wait: u64,
    /// How long a call may take until its response begins, waits included. Default: 60.
    #[serde(default = "deadline")]
    pub deadline: u64,
    /// How long it may take to connect to an upstream. Default: 10.
    #[serde(default = "connect_timeout")]
    pub connect_timeout: u64,
    /// How long a new connection may take until its first request's head is complete. Default: 10.
    #[serde(default = "header_timeout")]
    pub header_timeout: u64,
    /// How long a connection may have no request after that; half a head is none. Default: 75.
    #[serde(default = "idle_timeout")]
    pub idle_timeout: u64,
    /// For how long a caller may take nothing of an answer. Default: 60.
    #[serde(default = "write_timeout")]
    pub write_timeout: u64,
    /// Maximum number of callers' connections. Default: 4096, or fewer if the process may open fewer than twice as many
    /// descriptors.
    #[serde(default = "max_connections")]
    pub max_connections: usize,
    /// Maximum number of connections from one IPv4 address or one IPv6 network of 64 bits, such as a balancer's.
    /// Default: 1024.
    #[serde(default = "max_connections_per_peer")]
    pub max_connections_per_peer: usize,
    /// Maximum number of requests under way, those that wait included. Default: 4096, or fewer as above.
    #[serde(default = "max_requests")]
    pub max_requests: usize,
    /// Maximum number of such requests of one tenant. Default: 1024.
    #[serde(default = "max_requests_per_tenant")]
    pub max_requests_per_tenant: usize,
    /// How many bytes of a request's body are remembered at most, to send it again. Default: 65536.
    #[serde(default = "replay_cap")]
    pub replay_cap: usize,
    /// How many bytes the bodies of all requests under way may keep together for that. Default: 64 MiB.
    #[serde(default = "replay_budget")]
    pub replay_budget: usize,
    /// For how long `/readyz` says no before connections are refused, so that balancers notice. Default: 0.
    #[serde(default)]
    pub drain_delay: u64,
    /// Interval of the checks whether the configuration or a file of caller keys has changed. 0: only SIGHUP reloads.
    /// Default: 5.
    #[serde(default = "watch_interval")]
    pub watch_interval: u64,
    /// How long the rest of the shutdown may take: requests under way go on, then tokens are revoked. Default: 30.
    #[serde(default = "shutdown_timeout")]
    pub shutdown_timeout: u64,
    /// By name.
    pub tenants: BTreeMap<String, TenantConfig>,
    /// Where this was read.
    #[serde(skip)]
    source: Source,
}

/// Where a configuration was read, which says what its keys are called there.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
enum Source {
    #[default]
    Text,
    File(PathBuf),
    Environment,
}

/// One tenant: who its callers are, and where their requests go.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantConfig {
    /// The origin of the upstream.
    pub upstream: String,
    /// What this tenant's callers send as `Authorization: Bearer`: at least 16 visible characters of ASCII each.
    #[serde(default)]
    pub caller_keys: Vec<String>,
    /// A file of such keys, one in each line.
    pub caller_keys_file: Option<PathBuf>,
    /// Whether requests are sent again whatever their method when the upstream rejected them with 429. Default: `false`;
    /// an intermediary may not assume that a rejected request was not processed (RFC 9110 §9.2.2).
    #[serde(default)]
    pub retry_all_methods: bool,
    /// What the log shows of paths, such as `/orders/{id}`; a path that fits none is shown as `other`. Default: the path,
    /// with `{}` for each segment that may be an identifier.
    #[serde(default)]
    pub path_templates: Vec<String>,
    /// The keys of tower-m2m's `Config`. Without this table, requests go upstream without a credential and without limits.
    pub credentials: Option<Credentials>,
    #[serde(skip)]
    from_environment: bool,
}

/// How a tenant's credential is got, and where it is put. Equal if its keys are.
#[derive(Clone, Deserialize)]
#[serde(try_from = "toml::Table")]
pub struct Credentials {
    pub(crate) config: client_credentials::Config,
    /// The header it is put into.
    pub(crate) placement: HeaderName,
    /// Whether it may go to an upstream over plain http.
    allows_http: bool,
    /// Where it may go, if that is said: the upstream must be among them.
    allowed_origins: Option<String>,
    /// The keys as they were read; empty from the environment.
    table: toml::Table,
}

impl Credentials {
    fn new(
        config: client_credentials::Config,
        text: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, BoxError> {
        let placement = match text("header") {
            Some(name) => name
                .parse()
                .map_err(|_| "header is not a header name, such as x-api-key")?,
            None => AUTHORIZATION,
        };
        let allows_http = text("dangerously_allow_http");
        Ok(Self {
            config,
            placement,
            allows_http: allows_http.is_some_and(|text| ["true", "1"].contains(&&*text)),
            allowed_origins: text("allowed_origins"),
            table: toml::Table::new(),
        })
    }

    /// Settings with which tower-m2m would reject every request are rejected at startup.
    fn may_go_to(&self, upstream: &Origin) -> Result<(), String> {
        if !upstream.is_https() && !upstream.is_loopback() && !self.allows_http {
            return Err(format!(
                "{upstream} uses plain http, which exposes the credential to the network; use https, or set \
                 dangerously_allow_http to true in the credentials"
            ));
        }
        let Some(allowed) = &self.allowed_origins else {
            return Ok(());
        };
        let mut origins = allowed
            .split([',', ' '])
            .filter_map(|text| text.parse().ok());
        if origins.any(|origin: Origin| origin == *upstream) {
            return Ok(());
        }
        Err(format!(
            "{upstream} is not among allowed_origins of the credentials; add it, or remove allowed_origins"
        ))
    }
}

impl TryFrom<toml::Table> for Credentials {
    type Error = BoxError;

    fn try_from(table: toml::Table) -> Result<Self, BoxError> {
        let text = |name: &str| match table.get(name)? {
            toml::Value::String(text) => Some(text.clone()),
            toml::Value::Boolean(yes) => Some(yes.to_string()),
            toml::Value::Array(values) => {
                let words: Vec<_> = values.iter().filter_map(toml::Value::as_str).collect();
                Some(words.join(","))
            }
            _ => None,
        };
        let config = table.clone().try_into()?;
        let credentials = Self::new(config, text)?;
        Ok(Self {
            table,
            ..credentials
        })
    }
}

impl PartialEq for Credentials {
    fn eq(&self, other: &Self) -> bool {
        self.table == other.table
    }
}

/// Shows no secrets.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("config", &self.config)
            .field("placement", &self.placement)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// What is in the file whose path is `path` or in `GATEWAY_CONFIG`; without either, one tenant, `default`, from
    /// `GATEWAY_UPSTREAM`, `GATEWAY_CALLER_KEYS` (separated by commas) and the `OAUTH_*` variables.
    ///
    /// `GATEWAY_LISTEN` and `GATEWAY_ADMIN_LISTEN` are used in both cases.
    ///
    /// # Errors
    ///
    /// Names the file or the variable that is missing or wrong.
    pub fn read(
        path: Option<&Path>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, BoxError> {
        let path = path.map(Path::to_owned);
        let mut config = match path.or_else(|| variable("GATEWAY_CONFIG").map(Into::into)) {
            Some(path) => {
                let text = std::fs::read_to_string(&path)
                    .map_err(|error| format!("{}: {error}", path.display()))?;
                let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
                let config = Self::parse_unchecked(text).and_then(|mut config| {
                    config.source = Source::File(path.clone());
                    config.check().map(|()| config)
                });
                config.map_err(|error| format!("{}: {error}", path.display()))?
            }
            None => {
                let config = Self::of_variables(&variable)?;
                config.check()?;
                config
            }
        };
        for (name, address) in [
            ("GATEWAY_LISTEN", &mut config.listen),
            ("GATEWAY_ADMIN_LISTEN", &mut config.admin_listen),
        ] {
            if let Some(text) = variable(name) {
                *address = text.parse().map_err(|_| {
                    format!("{name} is not an address and a port, such as 127.0.0.1:8080")
                })?;
            }
        }
        Ok(config)
    }

    /// What a TOML text says.
    ///
    /// # Errors
    ///
    /// Names the key that is wrong, and where it is; shows no values.
    pub fn parse(text: &str) -> Result<Self, BoxError> {
        let config = Self::parse_unchecked(text)?;
        config.check()?;
        Ok(config)
    }

    fn parse_unchecked(text: &str) -> Result<Self, BoxError> {
        let wrong = |error: &toml::de::Error, key: &str| {
            // The error's own `Display` shows the line, which may hold a secret.
            let before = error.span().and_then(|span| text.get(..span.start));
            let line = before.map_or(0, |before| before.matches('\n').count() + 1);
            let problem = without_value(error.message());
            match key {
                "" | "." => format!("line {line}: {problem}"),
                key => format!("line {line}: {key}: {problem}"),
            }
        };
        let document = toml::Deserializer::parse(text).map_err(|error| wrong(&error, ""))?;
        serde_path_to_error::deserialize(document)
            .map_err(|error| wrong(error.inner(), &error.path().to_string()).into())
    }

    /// What deserializing does not find.
    ///
    /// # Errors
    ///
    /// Names the key, and shows no secrets.
    pub(crate) fn check(&self) -> Result<(), BoxError> {
        for (key, value) in [
            ("deadline", self.deadline),
            ("connect_timeout", self.connect_timeout),
            ("header_timeout", self.header_timeout),
            ("idle_timeout", self.idle_timeout),
            ("write_timeout", self.write_timeout),
            ("max_connections", self.max_connections as u64),
            (
                "max_connections_per_peer",
                self.max_connections_per_peer as u64,
            ),
            ("max_requests", self.max_requests as u64),
            (
                "max_requests_per_tenant",
                self.max_requests_per_tenant as u64,
            ),
        ] {
            if value == 0 {
                return Err(format!("{key} is 0: no request could succeed").into());
            }
        }
        if self.tenants.is_empty() {
            return Err("tenants: none is configured, so no request could succeed".into());
        }
        for (name, tenant) in &self.tenants {
            tenant
                .check(name)
                .map_err(|error| format!("tenant {name:?}: {error}"))?;
        }
        Ok(())
    }

    /// The files that this depends on: its own, and those of caller keys. Empty if it comes from the environment.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let Source::File(own) = &self.source else {
            return Vec::new();
        };
        let keys = self.tenants.values();
        let keys = keys.filter_map(|tenant| tenant.caller_keys_file.clone());
        std::iter::once(own.clone()).chain(keys).collect()
    }

    /// The file that this was read from.
    pub(crate) fn file(&self) -> Option<&Path> {
        match &self.source {
            Source::File(path) => Some(path),
            Source::Text | Source::Environment => None,
        }
    }

    /// The keys whose values differ and that only a restart applies.
    pub(crate) fn needs_restart(&self, other: &Self) -> Vec<&'static str> {
        let numbers = |config: &Self| {
            [
                ("connect_timeout", config.connect_timeout),
                ("header_timeout", config.header_timeout),
                ("idle_timeout", config.idle_timeout),
                ("write_timeout", config.write_timeout),
                ("max_connections", config.max_connections as u64),
                (
                    "max_connections_per_peer",
                    config.max_connections_per_peer as u64,
                ),
                ("max_requests", config.max_requests as u64),
                (
                    "max_requests_per_tenant",
                    config.max_requests_per_tenant as u64,
                ),
                ("replay_cap", config.replay_cap as u64),
                ("replay_budget", config.replay_budget as u64),
                ("drain_delay", config.drain_delay),
                ("watch_interval", config.watch_interval),
                ("shutdown_timeout", config.shutdown_timeout),
            ]
        };
        let addresses = [
            ("listen", self.listen != other.listen),
            ("admin_listen", self.admin_listen != other.admin_listen),
        ];
        let pairs = numbers(self).into_iter().zip(numbers(other));
        let numbers = pairs.map(|((key, own), (_, other))| (key, own != other));
        let changed = addresses.into_iter().chain(numbers);
        changed
            .filter_map(|(key, differs)| differs.then_some(key))
            .collect()
    }

    /// What `key` is called where this was read.
    pub(crate) fn key(&self, key: &'static str) -> &'static str {
        match (&self.source, key) {
            (Source::Environment, "listen") => "GATEWAY_LISTEN",
            (Source::Environment, "admin_listen") => "GATEWAY_ADMIN_LISTEN",
            _ => key,
        }
    }

    /// `error` with the file that the configuration was read from.
    pub(crate) fn named(&self, error: &BoxError) -> BoxError {
        match &self.source {
            Source::File(path) => format!("{}: {error}", path.display()).into(),
            Source::Text | Source::Environment => error.to_string().into(),
        }
    }

    fn of_variables(variable: &impl Fn(&str) -> Option<String>) -> Result<Self, BoxError> {
        let needed = |name: &str| match variable(name) {
            Some(text) if !text.trim().is_empty() => Ok(text),
            _ => Err(format!(
                "{name} is not set, and no configuration file is given, as an argument or in GATEWAY_CONFIG"
            )),
        };
        let upstream = needed("GATEWAY_UPSTREAM")?;
        let caller_keys = needed("GATEWAY_CALLER_KEYS")?;
        let config = client_credentials::Config::from_vars("OAUTH_", variable)?;
        let text = |name: &str| variable(&format!("OAUTH_{}", name.to_ascii_uppercase()));
        let tenant = TenantConfig {
            upstream,
            caller_keys: caller_keys.split(',').map(str::to_owned).collect(),
            caller_keys_file: None,
            retry_all_methods: false,
            path_templates: Vec::new(),
            credentials: Some(Credentials::new(config, text)?),
            from_environment: true,
        };
        Ok(Self {
            listen: listen(),
            admin_listen: admin_listen(),
            max_wait: max_wait(),
            deadline: deadline(),
            connect_timeout: connect_timeout(),
            header_timeout: header_timeout(),
            idle_timeout: idle_timeout(),
            write_timeout: write_timeout(),
            max_connections: max_connections(),
            max_connections_per_peer: max_connections_per_peer(),
            max_requests: max_requests(),
            max_requests_per_tenant: max_requests_per_tenant(),
            replay_cap: replay_cap(),
            replay_budget: replay_budget(),
            drain_delay: 0,
            watch_interval: watch_interval(),
            shutdown_timeout: shutdown_timeout(),
            tenants: BTreeMap::from([("default".to_owned(), tenant)]),
            source: Source::Environment,
        })
    }
}

/// The message of a deserializer without the value that it found, which may be a secret.
fn without_value(message: &str) -> String {
    for problem in ["invalid type: ", "invalid value: "] {
        let found = message.strip_prefix(problem);
        if let Some((found, expected)) = found.and_then(|rest| rest.rsplit_once(", expected ")) {
            let kind = found.split([' ', '"', '`']).next().unwrap_or_default();
            return format!("{problem}{kind}, expected {expected}");
        }
    }
    message.to_owned()
}

impl TenantConfig {
    fn check(&self, name: &str) -> Result<(), BoxError> {
        // It becomes a label.
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || !name.chars().all(plain) {
            return Err(
                "its name must consist of one or more letters, digits, `-`, `_` and `.`".into(),
            );
        }
        let upstream = self.origin()?;
        if let Some(credentials) = &self.credentials {
            let checked = credentials.may_go_to(&upstream);
            checked.map_err(|error| format!("{}: {error}", self.key("upstream")))?;
        }
        self.templates()?;
        let key = self.key("caller_keys");
        for caller_key in &self.caller_keys {
            check_key(caller_key).map_err(|problem| format!("{key}: {problem}"))?;
        }
        Ok(())
    }

    /// Who may call.
    pub(crate) fn keys(&self) -> Result<Vec<String>, BoxError> {
        let mut keys = self.caller_keys.clone();
        if let Some(path) = &self.caller_keys_file {
            let wrong = |problem: &dyn fmt::Display| {
                format!("caller_keys_file {}: {problem}", path.display())
            };
            let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
            let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
            for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
                check_key(line).map_err(|problem| wrong(&problem))?;
                keys.push(line.to_owned());
            }
        }
        if keys.is_empty() {
            return Err(
                "has no caller keys, so every request would be rejected: set caller_keys or caller_keys_file"
                    .into(),
            );
        }
        Ok(keys)
    }

    pub(crate) fn origin(&self) -> Result<Origin, BoxError> {
        let origin = self.upstream.parse();
        origin.map_err(|error| format!("{}: {error}", self.key("upstream")).into())
    }

    pub(crate) fn templates(&self) -> Result<Templates, BoxError> {
        let templates = Templates::new(&self.path_templates);
        templates.map_err(|error| format!("path_templates: {error}").into())
    }

    /// What `key` is called where this was read.
    pub(crate) fn key(&self, key: &'static str) -> &'static str {
        match key {
            "upstream" if self.from_environment => "GATEWAY_UPSTREAM",
            "caller_keys" if self.from_environment => "GATEWAY_CALLER_KEYS",
            key => key,
        }
    }
}

/// # Errors
///
/// Why no caller could use the key.
fn check_key(key: &str) -> Result<(), String> {
    if key.trim() != key {
        return Err("a key has leading or trailing spaces".into());
    }
    if key.len() < MIN_KEY_LEN {
        return Err(format!(
            "has a caller key shorter than {MIN_KEY_LEN} characters"
        ));
    }
    if !key
        .bytes()
        .all(|byte| byte.is_ascii_graphic() || byte == b' ')
    {
        return Err("a key contains characters that a header cannot contain".into());
    }
    Ok(())
}

/// Shows no keys.
impl fmt::Debug for TenantConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantConfig")
            .field("upstream", &self.upstream)
            .field("credentials", &self.credentials)
            .finish_non_exhaustive()
    }
}

fn listen() -> SocketAddr {
    ([127, 0, 0, 1], 8080).into()
}

fn admin_listen() -> SocketAddr {
    ([127, 0, 0, 1], 9090).into()
}

fn max_wait() -> u64 {
    10
}

fn deadline() -> u64 {
    60
}

fn connect_timeout() -> u64 {
    10
}

fn header_timeout() -> u64 {
    10
}

fn idle_timeout() -> u64 {
    75
}

fn write_timeout() -> u64 {
    60
}

fn max_connections() -> usize {
    4096
}

fn max_connections_per_peer() -> usize {
    1024
}

fn max_requests() -> usize {
    4096
}

fn max_requests_per_tenant() -> usize {
    1024
}

fn replay_cap() -> usize {
    64 * 1024
}

fn replay_budget() -> usize {
    64 * 1024 * 1024
}

fn shutdown_timeout() -> u64 {
    30
}

fn watch_interval() -> u64 {
    5
}

const MIN_KEY_LEN: usize = 16;
