//! Applies a changed configuration while requests are served.
//!
//! What has changed is decided for each tenant: a tenant whose credential stays as it is keeps its token, its quotas and its
//! counters. Requests in flight end with the configuration that they began with.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use tokio::time::sleep;
use tower_m2m::BoxError;

use crate::{Gateway, config::Config, now, tenant::Tenant};

/// What a reload has changed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Changes {
    /// Number of new tenants.
    pub added: usize,
    /// Number of tenants that are gone.
    pub removed: usize,
    /// Number of tenants with another credential: they fetch a new token, and their quotas start anew.
    pub replaced: usize,
    /// Number of tenants that keep their token and quotas; their keys, templates and deadline may have changed.
    pub kept: usize,
}

/// The number of reloads.
#[derive(Debug, Default)]
pub(crate) struct Reloads {
    applied: AtomicU64,
    rejected: AtomicU64,
}

impl Reloads {
    /// Adds the counters to the page of metrics.
    pub(crate) fn render(&self, page: &mut String) {
        let name = "gateway_config_reloads_total";
        // Writing to a string does not fail.
        let _ = writeln!(
            page,
            "# HELP {name} Reloads of the configuration by outcome.\n# TYPE {name} counter"
        );
        for (outcome, count) in [("applied", &self.applied), ("rejected", &self.rejected)] {
            let count = count.load(Relaxed);
            let _ = writeln!(page, "{name}{{outcome=\"{outcome}\"}} {count}");
        }
    }
}

impl Gateway {
    /// Reads the configuration file again and applies it, and logs what came of it. If it is wrong, the previous one stays
    /// in use.
    ///
    /// `variable` reads an environment variable, as for [`Config::read`].
    pub fn reload_file(&mut self, variable: impl Fn(&str) -> Option<String>) {
        let Some(path) = self.config.file().map(Path::to_owned) else {
            tracing::warn!("nothing to reload: the configuration comes from the environment");
            return;
        };
        let config = Config::read(Some(&path), variable);
        match config.and_then(|config| self.reload(&config)) {
            Ok(changes) => {
                let Changes {
                    added,
                    removed,
                    replaced,
                    kept,
                } = changes;
                tracing::info!(added, removed, replaced, kept, "configuration reloaded");
            }
            Err(error) => {
                self.app.reloads.rejected.fetch_add(1, Relaxed);
                let error = error.to_string();
                tracing::error!(
                    error,
                    "configuration not reloaded: the previous one stays in use"
                );
            }
        }
    }

    /// Applies `tenants`, `deadline` and `max_wait` of a configuration. Other keys that have changed are logged: they need a
    /// restart.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the configuration, without secrets. The previous one stays in use.
    pub fn reload(&mut self, config: &Config) -> Result<Changes, BoxError> {
        let before = config
            .check()
            .and_then(|()| self.app.apply(config))
            .map_err(|error| config.named(&error))?;
        let restart = self.config.needs_restart(config);
        if !restart.is_empty() {
            let keys = restart.join(", ");
            tracing::warn!(keys, "settings changed that need a restart");
        }
        // Until a restart, the same keys are reported again.
        self.config.tenants.clone_from(&config.tenants);

        let routes = self.app.routes();
        let mut changes = Changes::default();
        for tenant in &routes.tenants {
            match before.tenant_named(&tenant.name) {
                Some(before) if before.shares_credential(tenant) => {
                    changes.kept += 1;
                    continue;
                }
                Some(_) => changes.replaced += 1,
                None => changes.added += 1,
            }
            self.keep_token(tenant);
        }
        self.app.forget_all_but(&routes, &before);
        let deadline = Duration::from_secs(config.deadline);
        for tenant in &before.tenants {
            let now = routes.tenant_named(&tenant.name);
            changes.removed += usize::from(now.is_none());
            if now.is_none_or(|now| !now.shares_credential(tenant)) {
                self.retiring.spawn(retire(Arc::clone(tenant), deadline));
            }
        }
        while self.retiring.try_join_next().is_some() {}
        self.app.reloads.applied.fetch_add(1, Relaxed);
        Ok(changes)
    }

    /// Returns a watch of the files that the configuration depends on.
    #[must_use]
    pub fn file_watch(&self) -> FileWatch {
        let mut watch = FileWatch {
            interval: Duration::from_secs(self.config.watch_interval),
            files: BTreeMap::new(),
        };
        watch.follow(self);
        watch
    }
}

/// Ends the tokens of a tenant that is gone or has another credential, once none of its requests can need them.
async fn retire(tenant: Arc<Tenant>, deadline: Duration) {
    let Some(credential) = tenant.credential.clone() else {
        return;
    };
    let began = now();
    // The others are requests in flight.
    while Arc::strong_count(&tenant) > 1 && now() - began < deadline {
        sleep(Duration::from_millis(100)).await;
    }
    credential.tokens.shutdown().await;
}

/// Reports changes of files, by their length and time of modification. Follows symbolic links, so that a link that is
/// replaced is a change, as with a mounted secret of Kubernetes.
#[derive(Debug)]
pub struct FileWatch {
    interval: Duration,
    files: BTreeMap<PathBuf, State>,
}

/// Length and time of modification of a file; `None` if it cannot be read.
type State = Option<(u64, SystemTime)>;

impl FileWatch {
    /// Waits until a file has changed since the last [`mark`](Self::mark). Never, without files or with an interval of 0.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no change.
    pub async fn changed(&self) {
        if self.files.is_empty() || self.interval.is_zero() {
            std::future::pending::<()>().await;
        }
        while self.files.iter().all(|(path, seen)| state(path) == *seen) {
            sleep(self.interval).await;
        }
    }

    /// Takes the present state of the files as known. To be called before they are read.
    pub fn mark(&mut self) {
        for (path, seen) in &mut self.files {
            *seen = state(path);
        }
    }

    /// Watches the files that the configuration depends on now. What is known of a file stays.
    pub fn follow(&mut self, gateway: &Gateway) {
        let mut before = std::mem::take(&mut self.files);
        let files = gateway.config.files().into_iter().map(|path| {
            let known = before.remove(&path);
            (path.clone(), known.unwrap_or_else(|| state(&path)))
        });
        self.files = files.collect();
    }
}

fn state(path: &Path) -> State {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.len(), metadata.modified().ok()?))
}
