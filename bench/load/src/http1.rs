//! One request and its answer over HTTP/1.1.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::dial::Stream;

const MOST_HEADERS: usize = 64;
const READ_BYTES: usize = 16 * 1024;

/// What came back; the body is read and dropped.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer {
    /// Its status.
    pub(crate) status: u16,
    /// The proxy ends the connection.
    pub(crate) closes: bool,
}

/// A connection and what has been read of it.
pub(crate) struct Connection {
    stream: Stream,
    read: Vec<u8>,
}

/// The bytes of a GET.
pub(crate) fn get(path: &str, headers: &[String], close: bool) -> Vec<u8> {
    let mut text =
        format!("GET {path} HTTP/1.1\r\nHost: app.bench\r\nUser-Agent: load\r\nAccept: */*\r\n");
    for header in headers {
        text.push_str(header);
        text.push_str("\r\n");
    }
    text.push_str(if close { "Connection: close\r\n\r\n" } else { "\r\n" });
    text.into_bytes()
}

impl Connection {
    /// Around a fresh stream.
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream, read: Vec::with_capacity(READ_BYTES) }
    }

    /// Asks, and reads the whole answer.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> io::Result<Answer> {
        self.stream.write_all(request).await?;
        self.stream.flush().await?;
        loop {
            if let Some((answer, length)) = head(&self.read)? {
                while self.read.len() < length {
                    self.more().await?;
                }
                self.read.drain(..length);
                return Ok(answer);
            }
            self.more().await?;
        }
    }

    /// Says goodbye.
    pub(crate) async fn close(mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }

    async fn more(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.read).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

/// The head, and the length of head and body together; none where the head isn't whole yet.
fn head(bytes: &[u8]) -> io::Result<Option<(Answer, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(bytes).map_err(io::Error::other)?;
    let httparse::Status::Complete(length) = parsed else { return Ok(None) };
    let find = |name: &str| {
        let found = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        found.and_then(|header| std::str::from_utf8(header.value).ok())
    };
    let body: usize = find("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
    let closes = find("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    let answer = Answer { status: response.code.unwrap_or(0), closes };
    Ok(Some((answer, length + body)))
}
