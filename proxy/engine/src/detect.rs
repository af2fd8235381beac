//! What a connection speaks, from its first bytes (semantics T1).
//!
//! HTTP is the HTTP/2 preface, or a first line whose last word begins `HTTP/` in any case. Lines are watched byte by byte
//! with constant memory, so that a line can be watched further after the detection ended.

const WORD: [u8; 5] = *b"HTTP/";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What the first line turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// It hasn't ended.
    Open,
    /// It is HTTP's.
    Http,
    /// It has ended and is not HTTP's.
    Other,
}

/// Watches the first line of a connection.
#[derive(Debug, Clone, Default)]
pub struct FirstLine {
    word: [u8; 5],
    length: usize,
    blank_since: bool,
    begun: bool,
    control: bool,
    ended: Option<bool>,
}

impl FirstLine {
    /// Looks at the next bytes.
    pub fn feed(&mut self, bytes: &[u8]) -> Line {
        for byte in bytes {
            if self.ended.is_some() {
                break;
            }
            self.next(*byte);
        }
        self.so_far()
    }

    /// As of now.
    pub fn so_far(&self) -> Line {
        match self.ended {
            None => Line::Open,
            Some(true) => Line::Http,
            Some(false) => Line::Other,
        }
    }

    /// Whether a byte was seen that no request line holds. The line is watched further nevertheless.
    pub fn holds_control(&self) -> bool {
        self.control
    }

    fn next(&mut self, byte: u8) {
        match byte {
            // Servers skip empty lines before a request; some end a line at a lone CR. Both are read as they would.
            b'\r' | b'\n' if !self.begun => {}
            b'\r' | b'\n' => self.ended = Some(self.length >= WORD.len() && self.is_http_word()),
            b' ' | b'\t' | 0x0b | 0x0c => {
                self.begun = true;
                self.blank_since = true;
                self.control |= byte != b' ' && byte != b'\t';
            }
            _ => {
                self.begun = true;
                self.control |= byte.is_ascii_control();
                if self.blank_since {
                    self.length = 0;
                    self.blank_since = false;
                }
                if let Some(place) = self.word.get_mut(self.length) {
                    *place = byte;
                }
                self.length = self.length.saturating_add(1);
            }
        }
    }

    fn is_http_word(&self) -> bool {
        self.word.eq_ignore_ascii_case(&WORD)
    }
}

/// What a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoken {
    /// More bytes are needed.
    Unknown,
    /// HTTP/1, or what must pass for it at the gate.
    Http1,
    /// The whole preface of HTTP/2.
    Http2,
    /// Not HTTP; where the line hasn't ended it must be watched further.
    Bytes,
}

/// Judges all bytes read so far, of which `line` has seen every one. `most` ends the search.
pub fn spoken(bytes: &[u8], line: &FirstLine, most: usize) -> Spoken {
    if bytes.len() >= PREFACE.len() && bytes.starts_with(PREFACE) {
        return Spoken::Http2;
    }
    if bytes.len() < PREFACE.len() && PREFACE.starts_with(bytes) {
        return Spoken::Unknown;
    }
    match line.so_far() {
        Line::Http => Spoken::Http1,
        Line::Other => Spoken::Bytes,
        Line::Open if line.holds_control() || bytes.len() >= most => Spoken::Bytes,
        Line::Open => Spoken::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(bytes: &[u8]) -> Spoken {
        let mut line = FirstLine::default();
        line.feed(bytes);
        spoken(bytes, &line, 64)
    }

    #[test]
    fn t1_http_is_a_first_line_whose_last_word_begins_http() {
        let http: [&[u8]; 8] = [
            b"GET / HTTP/1.1\r\n",
            b"get / http/1.1\n",
            b"\r\n\r\nGET / HTTP/1.0\r\n",
            b"GET / HtTp/9\r\n",
            b"x HTTP/1.1 \t\r\n",
            b"HTTP/1.1 200 HTTP/\r\n",
            b"GET / HTTP/1.1\rHost: a\n",
            b"\x00 HTTP/1.1\n",
        ];
        for bytes in http {
            assert_eq!(judge(bytes), Spoken::Http1, "{}", bytes.escape_ascii());
        }
        let other: [&[u8]; 6] = [
            b"GET /\r\n",
            b"*1\r\n",
            b"SSH-2.0-x\r\n",
            b"GET / HTTP\r\n",
            b"HTTP/1.1 200 OK\r\n",
            b"EHLO x\r\n",
        ];
        for bytes in other {
            assert_eq!(judge(bytes), Spoken::Bytes, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn t1_the_preface_is_http2_and_only_whole() {
        for length in 0..PREFACE.len() {
            assert_eq!(judge(&PREFACE[..length]), Spoken::Unknown, "{length}");
        }
        assert_eq!(judge(PREFACE), Spoken::Http2);
        assert_eq!(judge(b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"), Spoken::Http1);
    }

    #[test]
    fn an_open_line_is_watched_further() {
        let mut line = FirstLine::default();
        line.feed(b"\x00\x01 abc");
        assert_eq!(spoken(b"\x00\x01 abc", &line, 64), Spoken::Bytes);
        assert_eq!(line.feed(b" HT"), Line::Open);
        assert_eq!(line.feed(b"TP/1.1\r\n"), Line::Http);
    }

    #[test]
    fn a_long_line_ends_the_search_but_not_the_watch() {
        let long = [b'a'; 64];
        let mut line = FirstLine::default();
        line.feed(&long);
        assert_eq!(spoken(&long, &line, 64), Spoken::Bytes);
        assert_eq!(line.feed(b" HTTP/1.1\n"), Line::Http);
    }

    #[test]
    fn t1_an_open_line_is_looked_at_until_a_byte_that_no_request_holds() {
        for open in [&b"GET /a"[..], b"GET / HT", b"GET\t/ ", b"\r\n\r\nG", b"P"] {
            assert_eq!(judge(open), Spoken::Unknown, "{}", open.escape_ascii());
        }
        for control in [0, 1, 8, 0x0b, 0x0c, 0x1b, 0x7f] {
            let line = [b"GET / ", &[control][..], b"x"].concat();
            assert_eq!(judge(&line), Spoken::Bytes, "{}", line.escape_ascii());
        }
        assert_eq!(judge(&[b'a'; 63]), Spoken::Unknown);
        assert_eq!(judge(&[b'a'; 64]), Spoken::Bytes);
    }
}
