//! A redis-server on a port of its own.

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::Mutex,
};

/// Killed when it is dropped.
pub(crate) struct Server {
    port: u16,
    pub(crate) arguments: Vec<String>,
    child: Option<Child>,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// With these further arguments.
    pub(crate) fn start_with(arguments: &[&str]) -> Self {
        let mut server = Self::absent();
        server.arguments = arguments.iter().map(ToString::to_string).collect();
        server.restart();
        server
    }

    /// A port at which nothing listens: below those that connections take, and given to no other test.
    pub(crate) fn absent() -> Self {
        static USED_PORTS: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
        let is_free = |port: &u16| {
            TcpListener::bind(("127.0.0.1", *port)).is_ok()
                && USED_PORTS.lock().unwrap().insert(*port)
        };
        let mut ports = std::iter::repeat_with(|| fastrand::u16(10_000..32_000));
        Self {
            port: ports.find(is_free).unwrap(),
            arguments: Vec::new(),
            child: None,
        }
    }

    /// Starts again at the same port, empty.
    pub(crate) fn restart(&mut self) {
        let port = self.port.to_string();
        let child = Command::new("redis-server")
            .args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(&self.arguments)
            .stdout(Stdio::null())
            .spawn()
            .expect(
                "redis-server must be installed for these tests (apt-get install redis-server, brew install redis)",
            );
        let child = self.child.insert(child);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(child.try_wait().unwrap().is_none(), "redis-server ended");
            std::thread::yield_now();
        }
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// SIGSTOP: it accepts connections, and never answers.
    pub(crate) fn stop(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let id = self.child.as_ref().unwrap().id().to_string();
        let status = Command::new("kill").args([signal, &id]).status().unwrap();
        assert!(status.success());
    }

    pub(crate) fn port(&self) -> String {
        self.port.to_string()
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn url_as(&self, user: &str, password: &str) -> String {
        format!("redis://{user}:{password}@127.0.0.1:{}", self.port)
    }

    /// Creates the user with the permissions that the guide `fleet` lists.
    pub(crate) fn create_user_of_the_guide(&self, user: &str) {
        let guide = include_str!("../../src/docs/fleet.md");
        let (_, rules) = guide.split_once(&format!("ACL SETUSER {user} ")).unwrap();
        let (rules, _) = rules.split_once("```").unwrap();
        let command = ["ACL", "SETUSER", user]
            .into_iter()
            .chain(rules.split_whitespace());
        let command: Vec<_> = command.map(str::as_bytes).collect();
        self.command(&command);
    }

    /// Carries out one command, and returns the answer as it is written.
    pub(crate) fn command(&self, parts: &[&[u8]]) -> Vec<u8> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let mut message = format!("*{}\r\n", parts.len()).into_bytes();
        for part in parts {
            message.extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
            message.extend_from_slice(part);
            message.extend_from_slice(b"\r\n");
        }
        stream.write_all(&message).unwrap();
        // Then the server ends the connection, and the answer is whole.
        stream.write_all(b"*1\r\n$4\r\nQUIT\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        answer.truncate(answer.len() - b"+OK\r\n".len());
        assert!(
            !answer.starts_with(b"-"),
            "{}",
            String::from_utf8_lossy(&answer)
        );
        answer
    }

    /// All keys.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.list(&[b"KEYS", b"*"])
    }

    /// All channels with subscribers.
    pub(crate) fn channels(&self) -> Vec<String> {
        self.list(&[b"PUBSUB", b"CHANNELS"])
    }

    pub(crate) fn list(&self, command: &[&[u8]]) -> Vec<String> {
        let answer = String::from_utf8(self.command(command)).unwrap();
        let lines = answer.split("\r\n").skip(1);
        lines
            .filter(|line| !line.is_empty() && !line.starts_with('$'))
            .map(str::to_owned)
            .collect()
    }

    /// The one key that ends like this.
    pub(crate) fn key(&self, end: &str) -> String {
        let found: Vec<_> = self
            .keys()
            .into_iter()
            .filter(|key| key.ends_with(end))
            .collect();
        let [key] = &found[..] else {
            panic!("{found:?}");
        };
        key.clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
