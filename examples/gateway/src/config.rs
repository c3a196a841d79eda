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
    /// How many bytes of a request's body are remembered at most, to send it again. Default: 65536.
    #[serde(default = "replay_cap")]
    pub replay_cap: usize,
    /// How many bytes the bodies of all requests under way may keep together for that. Default: 64 MiB.
    #[serde(default = "replay_budget")]
    pub replay_budget: usize,
    /// For how long `/readyz` says no before connections are refused, so that balancers notice. Default: 0.
    #[serde(default)]
    pub drain_delay: u64,
    /// For how long requests under way may go on after that. Default: 30.
    #[serde(default = "shutdown_timeout")]
    pub shutdown_timeout: u64,
    /// By name.
    pub tenants: BTreeMap<String, TenantConfig>,
}

/// One tenant: who its callers are, and where their requests go.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantConfig {
    /// The origin of the upstream.
    pub upstream: String,
    /// What this tenant's callers send as `Authorization: Bearer`.
    #[serde(default)]
    pub caller_keys: Vec<String>,
    /// A file of such keys, one in each line.
    pub caller_keys_file: Option<PathBuf>,
    /// Whether requests are sent again whatever their method when the upstream refused them with 429. Default: `false`;
    /// an intermediary may not assume that a refused request was not processed (RFC 9110 §9.2.2).
    #[serde(default)]
    pub retry_all_methods: bool,
    /// The keys of tower-m2m's `Config`. Without this table, requests go upstream without a credential and without limits.
    pub credentials: Option<Credentials>,
}

/// How a tenant's credential is got, and where it is put.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "toml::Table")]
pub struct Credentials {
    pub(crate) config: client_credentials::Config,
    /// The header it is put into.
    pub(crate) placement: HeaderName,
}

impl Credentials {
    fn new(config: client_credentials::Config, header: Option<&str>) -> Result<Self, BoxError> {
        let placement = match header {
            Some(name) => name.parse()?,
            None => AUTHORIZATION,
        };
        Ok(Self { config, placement })
    }
}

impl TryFrom<toml::Table> for Credentials {
    type Error = BoxError;

    fn try_from(table: toml::Table) -> Result<Self, BoxError> {
        let header = table.get("header").and_then(toml::Value::as_str);
        let header = header.map(str::to_owned);
        Self::new(table.try_into()?, header.as_deref())
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
                Self::parse(&text).map_err(|error| format!("{}: {error}", path.display()))?
            }
            None => Self::of_variables(&variable)?,
        };
        for (name, address) in [
            ("GATEWAY_LISTEN", &mut config.listen),
            ("GATEWAY_ADMIN_LISTEN", &mut config.admin_listen),
        ] {
            if let Some(text) = variable(name) {
                *address = text.parse().map_err(|_| format!("{name} is no address"))?;
            }
        }
        Ok(config)
    }

    /// What a TOML text says.
    ///
    /// # Errors
    ///
    /// Names what is wrong, and where; shows no values.
    pub fn parse(text: &str) -> Result<Self, BoxError> {
        toml::from_str(text).map_err(|error: toml::de::Error| {
            // The error's own `Display` shows the line, which may hold a secret.
            let before = error.span().and_then(|span| text.get(..span.start));
            let line = before.map_or(0, |before| before.matches('\n').count() + 1);
            format!("line {line}: {}", error.message()).into()
        })
    }

    fn of_variables(variable: &impl Fn(&str) -> Option<String>) -> Result<Self, BoxError> {
        let needed = |name: &str| variable(name).ok_or_else(|| format!("{name} is not set"));
        let config = client_credentials::Config::from_vars("OAUTH_", variable)?;
        let header = variable("OAUTH_HEADER");
        let tenant = TenantConfig {
            upstream: needed("GATEWAY_UPSTREAM")?,
            caller_keys: needed("GATEWAY_CALLER_KEYS")?
                .split(',')
                .map(str::to_owned)
                .collect(),
            caller_keys_file: None,
            retry_all_methods: false,
            credentials: Some(Credentials::new(config, header.as_deref())?),
        };
        Ok(Self {
            listen: listen(),
            admin_listen: admin_listen(),
            max_wait: max_wait(),
            deadline: deadline(),
            replay_cap: replay_cap(),
            replay_budget: replay_budget(),
            drain_delay: 0,
            shutdown_timeout: shutdown_timeout(),
            tenants: BTreeMap::from([("default".to_owned(), tenant)]),
        })
    }
}

impl TenantConfig {
    /// Who may call, each key with at least 16 characters.
    pub(crate) fn keys(&self) -> Result<Vec<String>, BoxError> {
        let mut keys = self.caller_keys.clone();
        if let Some(path) = &self.caller_keys_file {
            let text = std::fs::read_to_string(path)
                .map_err(|error| format!("caller_keys_file {}: {error}", path.display()))?;
            keys.extend(text.lines().map(|line| line.trim().to_owned()));
        }
        keys.retain(|key| !key.is_empty());
        if keys.is_empty() {
            return Err("has no caller keys: nobody could call".into());
        }
        if keys.iter().any(|key| key.len() < SHORTEST_KEY) {
            return Err(format!("has a caller key of less than {SHORTEST_KEY} characters").into());
        }
        Ok(keys)
    }

    pub(crate) fn origin(&self) -> Result<Origin, BoxError> {
        Ok(self.upstream.parse()?)
    }
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

fn replay_cap() -> usize {
    64 * 1024
}

fn replay_budget() -> usize {
    64 * 1024 * 1024
}

fn shutdown_timeout() -> u64 {
    30
}

const SHORTEST_KEY: usize = 16;
