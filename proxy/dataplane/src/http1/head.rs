//! Where a head ends, and reading up to there within bounds of size and time.

use std::io;

use engine::gate::limits::LENIENT_HEAD_BYTES;
use tokio::io::AsyncRead;
use tokio::time::Instant;

use super::limits;
use super::wire::Reader;

/// Finds the end of a head in bytes that come piece by piece, looking at each byte once.
///
/// An empty line ends a head however its lines end: the bytes up to there go to the gate, which refuses all but CRLF.
#[derive(Debug, Default)]
pub(super) struct HeadEnd {
    searched: usize,
}

impl HeadEnd {
    /// The length of the head at the start of `bytes`, which have only grown since the last call.
    pub(super) fn find(&mut self, bytes: &[u8]) -> Option<usize> {
        let from = self.searched;
        for at in memchr::memchr_iter(b'\n', bytes.get(from..).unwrap_or_default()) {
            let line_end = from + at;
            let before = bytes.get(..line_end).unwrap_or_default();
            let before = before.strip_suffix(b"\r").unwrap_or(before);
            if before.is_empty() || before.ends_with(b"\n") {
                return Some(line_end + 1);
            }
        }
        self.searched = bytes.len();
        None
    }
}

/// What came of waiting for a head whose first byte is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrived {
    /// A head of so many bytes, at the start of what has arrived.
    Head(usize),
    /// The connection ended.
    Ended,
    /// There is no more of it in time.
    Slow,
    /// More than a head may have.
    TooLong,
}

/// Reads the rest of a request's head within [`limits::HEAD`].
///
/// # Errors
/// Whatever the connection fails with.
pub(super) async fn read_head<R: AsyncRead + Unpin>(reader: &mut Reader<R>) -> io::Result<Arrived> {
    let mut end = HeadEnd::default();
    let mut due = None;
    loop {
        if let Some(length) = end.find(reader.bytes()) {
            return Ok(Arrived::Head(length));
        }
        if reader.bytes().len() > LENIENT_HEAD_BYTES {
            return Ok(Arrived::TooLong);
        }
        // Nearly all heads are whole at once: the clock is read for the others.
        let due = *due.get_or_insert_with(|| Instant::now() + limits::HEAD);
        match reader.fill_before(due).await {
            Some(Ok(0)) => return Ok(Arrived::Ended),
            Some(result) => result?,
            None => return Ok(Arrived::Slow),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::HeadEnd;

    #[test]
    fn a_head_ends_with_the_first_empty_line_whatever_ends_its_lines() {
        for (bytes, length) in [
            (&b"A\r\nB\r\n\r\nC"[..], Some(8)),
            (b"A\nB\n\nC", Some(5)),
            (b"A\n\r\nB: c\r\n\r\n", Some(4)),
            (b"\r\nA", Some(2)),
            (b"\nA", Some(1)),
            (b"A\r\n\r", None),
            (b"A\r\r\n", None),
            (b"", None),
        ] {
            assert_eq!(HeadEnd::default().find(bytes), length, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn pieces_give_the_same_end() {
        let bytes = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nrest";
        let mut end = HeadEnd::default();
        let found = (0..=bytes.len()).find_map(|length| end.find(&bytes[..length]));
        assert_eq!(found, Some(bytes.len() - 4));
    }
}
