//! A redis-server at a free port.

use std::{
    io,
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
};

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

    pub(crate) fn go_on(&self) -> io::Result<()> {
        self.signal("-CONT")
    }

    pub(crate) fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// At the same port, empty.
    pub(crate) fn come_back(&mut self) -> io::Result<()> {
        self.child = spawn(self.port)?;
        Ok(())
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
