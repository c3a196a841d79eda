//! An HTTP/2 server that does with each request what a test says, frame by frame (RFC 9113 §4).

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What the server does with a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reply {
    /// `RST_STREAM` with this error code.
    Reset(u32),
    /// `GOAWAY` with this error code, after a last stream that comes before the request's, and the end of the connection.
    GoAway(u32),
    /// The end of the connection.
    Close,
}

/// A running server; stops when it is dropped.
pub(crate) struct Http2Server {
    pub(crate) url: String,
    script: Arc<Script>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Script {
    replies: Mutex<VecDeque<Reply>>,
    requests: Mutex<usize>,
}

impl Http2Server {
    /// Answers 200 to what comes after `replies`.
    pub(crate) async fn start(replies: &[Reply]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let script = Arc::new(Script {
            replies: Mutex::new(replies.iter().copied().collect()),
            requests: Mutex::default(),
        });
        let shared = Arc::clone(&script);
        let task = tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let script = Arc::clone(&shared);
                tokio::spawn(async move { script.serve(connection).await });
            }
        });
        Self { url, script, task }
    }

    /// How many requests have arrived.
    pub(crate) fn requests(&self) -> usize {
        *self.script.requests.lock().unwrap()
    }
}

impl Drop for Http2Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Script {
    async fn serve(&self, mut connection: TcpStream) -> io::Result<()> {
        let mut preface = [0; 24];
        connection.read_exact(&mut preface).await?;
        connection.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
        loop {
            let mut head = [0; 9];
            connection.read_exact(&mut head).await?;
            let [a, b, c, kind, flags, stream @ ..] = head;
            let length = u32::from_be_bytes([0, a, b, c]);
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            connection.read_exact(&mut payload).await?;
            let stream = u32::from_be_bytes(stream);
            if kind == SETTINGS && flags & ACK == 0 {
                connection.write_all(&frame(SETTINGS, ACK, 0, &[])).await?;
            }
            if kind != HEADERS {
                continue;
            }
            *self.requests.lock().unwrap() += 1;
            let reply = self.replies.lock().unwrap().pop_front();
            let answer = match reply {
                // `:status: 200` is the eighth of the static table (RFC 7541, Appendix A).
                None => frame(HEADERS, END_STREAM | END_HEADERS, stream, &[0x88]),
                Some(Reply::Reset(code)) => frame(RST_STREAM, 0, stream, &code.to_be_bytes()),
                Some(Reply::GoAway(code)) => {
                    let last = stream.saturating_sub(2).to_be_bytes();
                    frame(GOAWAY, 0, 0, &[last, code.to_be_bytes()].concat())
                }
                Some(Reply::Close) => return Ok(()),
            };
            connection.write_all(&answer).await?;
            if matches!(reply, Some(Reply::GoAway(_))) {
                // Until the client has seen it.
                connection.read_to_end(&mut Vec::new()).await?;
                return Ok(());
            }
        }
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Error codes of RFC 9113 §7.
pub(crate) const NO_ERROR: u32 = 0;
pub(crate) const INTERNAL_ERROR: u32 = 2;
pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;
