//! What is done in one step on the server.

use redis::{Cmd, ToRedisArgs, cmd};

/// A script, which the server keeps under its hash.
pub(crate) struct Script {
    source: &'static str,
    hash: String,
}

/// A script with its keys and arguments.
pub(crate) struct Call {
    source: &'static str,
    hash: String,
    keys: Vec<String>,
    arguments: Vec<Vec<u8>>,
}

impl Script {
    pub(crate) fn new(source: &'static str) -> Self {
        let hash = redis::Script::new(source).get_hash().to_owned();
        Self { source, hash }
    }

    /// Keys of one call share a hash tag, and so a slot of a cluster.
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
    pub(crate) fn key(mut self, key: String) -> Self {
        self.keys.push(key);
        self
    }

    pub(crate) fn arg(mut self, argument: impl ToRedisArgs) -> Self {
        self.arguments.extend(argument.to_redis_args());
        self
    }

    pub(super) fn first_key(&self) -> &str {
        &self.keys[0]
    }

    /// The command: with the script itself, for a server that does not know it yet, or with its hash.
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
