//! Lua scripts, which run atomically on the server.
//!
//! A script makes several commands atomic without a transaction.
//!
//! A script is sent by its hash. A server that was restarted, or a node that is new in the cluster, does not know it
//! and returns `NOSCRIPT`; the call is then repeated with the text, which the server caches.

use redis::{Cmd, ToRedisArgs, cmd};

/// A script, which the server caches under its SHA-1 hash.
pub(crate) struct Script {
    /// Text of the script.
    source: &'static str,
    /// Hash for `EVALSHA`.
    hash: String,
}

/// An invocation of a script: with keys and arguments.
///
/// Built once and sent up to 16 times, so that arguments are encoded only once.
pub(crate) struct Call {
    /// Text of the script.
    source: &'static str,
    /// Hash for `EVALSHA`.
    hash: String,
    /// Keys, at least one.
    keys: Vec<String>,
    /// Encoded arguments.
    arguments: Vec<Vec<u8>>,
}

impl Script {
    /// Creates a script and computes its hash.
    pub(crate) fn new(source: &'static str) -> Self {
        let hash = redis::Script::new(source).get_hash().to_owned();
        Self { source, hash }
    }

    /// Starts a call with its first key. All keys of one call must share a hash tag, and so a slot of a cluster.
    pub(crate) fn key(&self, key: String) -> Call {
        Call {
            source: self.source,
            hash: self.hash.clone(),
            keys: vec![key],
            arguments: Vec::new(),
        }
    }
}

impl Call {
    /// Adds a key.
    pub(crate) fn key(mut self, key: String) -> Self {
        self.keys.push(key);
        self
    }

    /// Adds an argument.
    pub(crate) fn arg(mut self, argument: impl ToRedisArgs) -> Self {
        self.arguments.extend(argument.to_redis_args());
        self
    }

    /// Returns the first key, which determines the slot.
    ///
    /// A call is only created by `Script::key`, so there is always one.
    pub(super) fn first_key(&self) -> &str {
        &self.keys[0]
    }

    /// Returns the command: `EVAL` with the text if `whole`, for a server that has not cached the script, otherwise
    /// `EVALSHA`.
    pub(super) fn command(&self, whole: bool) -> Cmd {
        let mut command = match whole {
            true => cmd("EVAL"),
            false => cmd("EVALSHA"),
        };
        command
            .arg(if whole { self.source } else { &self.hash })
            .arg(self.keys.len())
            .arg(&self.keys)
            .arg(&self.arguments);
        command
    }
}
