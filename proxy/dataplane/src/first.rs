//! The first bytes of a connection: read once, judged, and handed on with the rest.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::{Instant, timeout_at};

use crate::hello::{self, Hello};
use crate::limits;
use engine::detect::{FirstLine, Line, Spoken, spoken};

const READ_BYTES: usize = 4 * 1024;

/// What a connection begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// The client left without a byte.
    Left,
    /// Nothing came until the detection ended.
    Silence,
    /// TLS for us.
    Ours(Hello),
    /// TLS for somebody else.
    ForeignTls,
    /// HTTP/1.
    Http1,
    /// HTTP/2.
    Http2,
    /// Anything else.
    Bytes,
    /// A `ClientHello` that is too long, or too slow: nothing good comes of it.
    Stalled,
}

/// How far to look.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    /// Our own server name, where TLS is looked for.
    pub tls_for: Option<&'a str>,
    /// Whether HTTP is looked for.
    pub http: bool,
}

/// The bytes read so far.
#[derive(Debug, Default)]
pub struct Seen {
    /// To be handed on before the rest.
    pub bytes: Vec<u8>,
    /// The first line, which may have to be watched further.
    pub line: FirstLine,
}

/// Reads until it is clear what the connection speaks. Bounded in bytes and time.
pub async fn look<S: AsyncRead + Unpin>(
    io: &mut S,
    seen: &mut Seen,
    look: Look<'_>,
) -> io::Result<First> {
    let mut deadline = Instant::now() + limits::DETECTION;
    let mut in_tls = false;
    loop {
        if let Some(first) = judge(seen, look) {
            return Ok(first);
        }
        if look.tls_for.is_some() && hello::begins_tls(&seen.bytes) && !in_tls {
            in_tls = true;
            deadline = Instant::now() + limits::HANDSHAKE;
        }
        match read_some(io, seen, deadline).await? {
            Some(0) => return Ok(at_end(seen, in_tls)),
            Some(_) => {}
            None if in_tls => return Ok(First::Stalled),
            None if seen.bytes.is_empty() => return Ok(First::Silence),
            // Semantics T1: bytes for now; the line is watched further.
            None => return Ok(First::Bytes),
        }
    }
}

/// None while more bytes are needed.
fn judge(seen: &Seen, look: Look<'_>) -> Option<First> {
    if let Some(own) = look.tls_for
        && hello::begins_tls(&seen.bytes)
    {
        return match hello::read(&seen.bytes, own) {
            Hello::Incomplete if seen.bytes.len() > limits::CLIENT_HELLO_BYTES => {
                Some(First::Stalled)
            }
            Hello::Incomplete => None,
            Hello::Foreign => Some(First::ForeignTls),
            ours => Some(First::Ours(ours)),
        };
    }
    if seen.bytes.is_empty() {
        return None;
    }
    if !look.http {
        return Some(First::Bytes);
    }
    match spoken(&seen.bytes, &seen.line, limits::FIRST_LINE_BYTES) {
        Spoken::Unknown => None,
        Spoken::Http1 => Some(First::Http1),
        Spoken::Http2 => Some(First::Http2),
        Spoken::Bytes => Some(First::Bytes),
    }
}

/// The client sent its last byte before anything was clear.
fn at_end(seen: &mut Seen, in_tls: bool) -> First {
    if seen.bytes.is_empty() {
        return First::Left;
    }
    if in_tls {
        return First::Stalled;
    }
    // FAIL-CLOSED: an application might take the end for the end of the line.
    match seen.line.clone().feed(b"\n") {
        Line::Http => First::Http1,
        _ => First::Bytes,
    }
}

/// How many bytes were read; none: the time is over.
async fn read_some<S: AsyncRead + Unpin>(
    io: &mut S,
    seen: &mut Seen,
    deadline: Instant,
) -> io::Result<Option<usize>> {
    let before = seen.bytes.len();
    seen.bytes.reserve(READ_BYTES);
    let Ok(read) = timeout_at(deadline, io.read_buf(&mut seen.bytes)).await else {
        return Ok(None);
    };
    let count = read?;
    seen.line.feed(seen.bytes.get(before..).unwrap_or_default());
    Ok(Some(count))
}

/// Reads on to the end of an HTTP head, within the time of the detection and the limit of a head; its length,
/// 0 where it doesn't end. None where the client left.
pub async fn head<S: AsyncRead + Unpin>(io: &mut S, seen: &mut Seen) -> Option<usize> {
    const END: &[u8] = b"\r\n\r\n";
    let deadline = Instant::now() + limits::DETECTION;
    loop {
        if let Some(at) = seen.bytes.windows(END.len()).position(|window| window == END) {
            return Some(at + END.len());
        }
        if seen.bytes.len() >= limits::FIRST_LINE_BYTES {
            return Some(0);
        }
        match read_some(io, seen, deadline).await {
            Ok(Some(count)) if count > 0 => {}
            Ok(None) => return Some(0),
            Ok(Some(_)) | Err(_) => return None,
        }
    }
}

/// Takes in and drops what the client still sends, so that closing doesn't reset the answer away under it.
pub async fn linger<S: AsyncRead + Unpin>(io: &mut S) {
    const LONGEST: Duration = Duration::from_secs(1);
    const MOST: usize = 256 * 1024;
    let deadline = Instant::now() + LONGEST;
    let mut scratch = vec![0; READ_BYTES];
    let mut taken = 0;
    while taken < MOST {
        match timeout_at(deadline, io.read(&mut scratch)).await {
            Ok(Ok(count)) if count > 0 => taken += count,
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt as _, duplex};

    use super::*;

    async fn first_of(bytes: &[u8], look_for: Look<'_>, leave: bool) -> First {
        let (mut client, mut proxy) = duplex(1024);
        client.write_all(bytes).await.unwrap();
        if leave {
            client.shutdown().await.unwrap();
        }
        let first = look(&mut proxy, &mut Seen::default(), look_for).await.unwrap();
        drop(client);
        first
    }

    const BOTH: Look<'static> = Look { tls_for: Some("a.b.sa.td"), http: true };
    const OPAQUE: Look<'static> = Look { tls_for: Some("a.b.sa.td"), http: false };

    #[tokio::test(start_paused = true)]
    async fn t1_silence_ends_after_two_seconds() {
        let began = Instant::now();
        assert_eq!(first_of(b"", BOTH, false).await, First::Silence);
        assert_eq!(began.elapsed().as_secs(), 2);
        assert_eq!(first_of(b"GET / HT", BOTH, false).await, First::Bytes);
        assert_eq!(first_of(b"", BOTH, true).await, First::Left);
    }

    #[tokio::test(start_paused = true)]
    async fn t1_opaque_ports_skip_http_but_not_tls() {
        assert_eq!(first_of(b"GET / HTTP/1.1\r\n", OPAQUE, false).await, First::Bytes);
        assert_eq!(
            first_of(&[0x16, 3, 1, 0, 5, 9, 0, 0, 1, 0], OPAQUE, false).await,
            First::ForeignTls
        );
        assert_eq!(first_of(&[0x16, 3], OPAQUE, false).await, First::Stalled);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_the_stream_ends_a_line() {
        assert_eq!(first_of(b"GET / HTTP/1.1", BOTH, true).await, First::Http1);
        assert_eq!(first_of(b"hello", BOTH, true).await, First::Bytes);
    }
}
