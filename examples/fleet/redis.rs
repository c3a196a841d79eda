//! A redis-server at a free port.

use std::{
    io,
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
};

use redis::{Commands, RedisResult, cmd};

/// What Redis has been sent so far, and what it stores.
pub(crate) struct Spent {
    pub(crate) scripts: u64,
    pub(crate) commands: u64,
    pub(crate) micros: u64,
    pub(crate) bytes: u64,
}

/// Killed when it is dropped.
pub(crate) struct Redis {
    port: u16,
    child: Child,
}

impl Redis {
    pub(crate) fn start() -> io::Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let child = spawn(port)?;
        Ok(Self { port, child })
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// It accepts connections and never answers.
    pub(crate) fn stop(&self) -> io::Result<()> {
        self.signal("-STOP")
    }

    pub(crate) fn resume(&self) -> io::Result<()> {
        self.signal("-CONT")
    }

    pub(crate) fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// At the same port, empty.
    pub(crate) fn restart(&mut self) -> io::Result<()> {
        self.child = spawn(self.port)?;
        Ok(())
    }

    pub(crate) fn spent(&self) -> RedisResult<Spent> {
        let mut connection = redis::Client::open(self.url())?.get_connection()?;
        let mut spent = Spent {
            scripts: 0,
            commands: 0,
            micros: 0,
            bytes: 0,
        };
        let info: String = cmd("INFO").arg("commandstats").query(&mut connection)?;
        for line in info.lines() {
            let number = |name| {
                let (_, rest) = line.split_once(name)?;
                rest.split(',').next()?.parse::<u64>().ok()
            };
            let calls = number("calls=").unwrap_or_default();
            if line.starts_with("cmdstat_eval") {
                spent.scripts += calls;
                spent.micros += number("usec=").unwrap_or_default();
            } else if IN_SCRIPTS.iter().any(|name| line.starts_with(name)) {
                spent.commands += calls;
            }
        }
        let keys: Vec<String> = connection.keys("m2m:*")?;
        for key in keys {
            let usage = cmd("MEMORY")
                .arg("USAGE")
                .arg(key)
                .query::<Option<u64>>(&mut connection)?;
            spent.bytes += usage.unwrap_or_default();
        }
        Ok(spent)
    }

    fn signal(&self, signal: &str) -> io::Result<()> {
        let id = self.child.id().to_string();
        Command::new("kill").args([signal, &id]).status().map(drop)
    }
}

fn spawn(port: u16) -> io::Result<Child> {
    let child = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "no"])
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| {
            let how = "redis-server must be installed: `apt-get install redis-server`, or `brew install redis`";
            io::Error::new(error.kind(), how)
        })?;
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        std::thread::yield_now();
    }
    Ok(child)
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may be gone already.
        drop(self.kill());
    }
}

/// Those that the stores' scripts use.
const IN_SCRIPTS: [&str; 7] = [
    "cmdstat_get",
    "cmdstat_set",
    "cmdstat_del",
    "cmdstat_time",
    "cmdstat_h",
    "cmdstat_z",
    "cmdstat_p",
];
