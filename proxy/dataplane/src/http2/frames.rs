//! The heads of frames in a stream of bytes (RFC 9113 §4.1). Payloads are passed over, but for their first eight bytes.

/// The kinds of frames, by number.
pub(crate) mod kind {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const PRIORITY: u8 = 2;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PING: u8 = 6;
    pub(crate) const GOAWAY: u8 = 7;
    pub(crate) const WINDOW_UPDATE: u8 = 8;
    pub(crate) const CONTINUATION: u8 = 9;
}

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const HEAD_BYTES: usize = 9;
/// What a client says before its first frame.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// One frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) stream: u32,
    flags: u8,
    length: u32,
    /// The payload's first bytes, as far as they are there.
    opening: [u8; 8],
}

impl Frame {
    fn of(head: [u8; HEAD_BYTES]) -> Self {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = head;
        let length = u32::from_be_bytes([0, l0, l1, l2]);
        let stream = u32::from_be_bytes([s0, s1, s2, s3]) & 0x7fff_ffff;
        Self { kind, stream, flags, length, opening: [0; 8] }
    }

    /// Whether it begins a field list that further frames go on with.
    pub(super) fn leaves_fields_open(&self) -> bool {
        matches!(self.kind, kind::HEADERS | kind::CONTINUATION) && self.flags & END_HEADERS == 0
    }

    /// Whether it ends its sender's side of the stream.
    pub(super) fn ends_stream(&self) -> bool {
        matches!(self.kind, kind::HEADERS | kind::DATA) && self.flags & END_STREAM != 0
    }

    /// Whether it answers another one: SETTINGS and PING with ACK.
    pub(super) fn is_answer(&self) -> bool {
        matches!(self.kind, kind::SETTINGS | kind::PING) && self.flags & ACK != 0
    }

    /// DATA that carries nothing and ends nothing. To be asked when its payload has begun.
    pub(super) fn is_empty_data(&self) -> bool {
        let [pad, ..] = self.opening;
        let padding = if self.flags & PADDED == 0 { 0 } else { 1 + u32::from(pad) };
        self.kind == kind::DATA && self.flags & END_STREAM == 0 && self.length <= padding
    }

    /// The code of a whole `RST_STREAM`.
    pub(super) fn code(&self) -> u32 {
        let [c0, c1, c2, c3, ..] = self.opening;
        u32::from_be_bytes([c0, c1, c2, c3])
    }

    /// The code of a whole `GOAWAY`; the last stream stands before it.
    pub(super) fn goaway_code(&self) -> u32 {
        let [.., c0, c1, c2, c3] = self.opening;
        u32::from_be_bytes([c0, c1, c2, c3])
    }
}

/// How far a frame is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its head.
    Begun,
    /// All of it.
    Whole,
}

/// Follows the frames of one direction.
#[derive(Debug)]
pub(super) struct Frames {
    /// Bytes of the preface that are still to come.
    preface: usize,
    head: [u8; HEAD_BYTES],
    have: usize,
    frame: Frame,
    payload_seen: u32,
}

impl Frames {
    /// Of a client, which begins with the preface.
    pub(super) fn of_client() -> Self {
        Self { preface: PREFACE.len(), ..Self::of_server() }
    }

    /// Of a server.
    pub(super) fn of_server() -> Self {
        let (head, frame) = ([0; HEAD_BYTES], Frame::default());
        Self { preface: 0, head, have: 0, frame, payload_seen: 0 }
    }

    /// Takes the next bytes and says which frames begin and end in them.
    pub(super) fn feed(&mut self, bytes: &[u8], mut tell: impl FnMut(Stage, &Frame)) {
        let skipped = bytes.len().min(self.preface);
        self.preface -= skipped;
        let mut rest = bytes.get(skipped..).unwrap_or_default();
        while let Some(first) = rest.first() {
            if self.have < HEAD_BYTES {
                if let Some(slot) = self.head.get_mut(self.have) {
                    *slot = *first;
                }
                self.have += 1;
                rest = rest.get(1..).unwrap_or_default();
                if self.have == HEAD_BYTES {
                    self.frame = Frame::of(self.head);
                    self.payload_seen = 0;
                    tell(Stage::Begun, &self.frame);
                    self.end_if_whole(&mut tell);
                }
                continue;
            }
            let left = self.frame.length - self.payload_seen;
            let count = rest.len().min(left as usize);
            let (payload, after) = rest.split_at(count);
            self.open(payload);
            self.payload_seen += u32::try_from(count).unwrap_or(left);
            rest = after;
            self.end_if_whole(&mut tell);
        }
    }

    fn open(&mut self, payload: &[u8]) {
        let slots = self.frame.opening.iter_mut().skip(self.payload_seen as usize);
        for (slot, byte) in slots.zip(payload) {
            *slot = *byte;
        }
    }

    fn end_if_whole(&mut self, tell: &mut impl FnMut(Stage, &Frame)) {
        if self.payload_seen == self.frame.length {
            self.have = 0;
            tell(Stage::Whole, &self.frame);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(pieces: &[&[u8]]) -> Vec<(Stage, u8, u32, u32)> {
        let mut frames = Frames::of_client();
        let mut told = Vec::new();
        for piece in pieces {
            frames.feed(piece, |stage, frame| {
                told.push((stage, frame.kind, frame.stream, frame.code()));
            });
        }
        told
    }

    #[test]
    fn frames_are_the_same_in_pieces_of_any_size() {
        let mut bytes = PREFACE.to_vec();
        bytes.extend_from_slice(&[0, 0, 0, 4, 0, 0, 0, 0, 0]);
        bytes.extend_from_slice(&[0, 0, 4, 3, 0, 0x80, 0, 0, 3, 0, 0, 0, 8]);
        bytes.extend_from_slice(&[0, 0, 6, 0, 0, 0, 0, 0, 1, 9, 9, 9, 9, 9, 9]);
        let whole = told(&[&bytes]);
        let expected = [
            (Stage::Begun, kind::SETTINGS, 0, 0),
            (Stage::Whole, kind::SETTINGS, 0, 0),
            (Stage::Begun, kind::RST_STREAM, 3, 0),
            (Stage::Whole, kind::RST_STREAM, 3, 8),
            (Stage::Begun, kind::DATA, 1, 0),
            (Stage::Whole, kind::DATA, 1, 0x0909_0909),
        ];
        assert_eq!(whole, expected);
        for size in 1..7 {
            assert_eq!(told(&bytes.chunks(size).collect::<Vec<_>>()), whole, "{size}");
        }
    }

    #[test]
    fn h2_05_data_of_padding_only_is_empty() {
        let mut empty = Vec::new();
        let mut frames = Frames::of_server();
        let mut feed = |bytes: &[u8]| {
            frames.feed(bytes, |stage, frame| {
                if stage == Stage::Whole {
                    empty.push(frame.is_empty_data());
                }
            });
        };
        feed(&[0, 0, 0, 0, 0, 0, 0, 0, 1]);
        feed(&[0, 0, 3, 0, PADDED, 0, 0, 0, 1, 2, 0, 0]);
        feed(&[0, 0, 3, 0, PADDED, 0, 0, 0, 1, 1, 7, 0]);
        feed(&[0, 0, 0, 0, END_STREAM, 0, 0, 0, 1]);
        assert_eq!(empty, [true, true, false, false]);
    }
}
