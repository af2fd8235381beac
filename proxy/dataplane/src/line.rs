//! One JSON object as one line of printable ASCII: whatever a client put into it, no byte of it ends a line or means
//! something to a terminal (AU-05).

use std::io::{self, Write};

use bytes::Bytes;
use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// The usual size of a denial, with room to spare.
const USUAL_BYTES: usize = 1_024;

/// Writes a value, without an end of line; nothing where it can't be written, which no type of ours can't.
pub fn json<T: Serialize>(value: &T) -> Bytes {
    let mut bytes = Vec::with_capacity(USUAL_BYTES);
    match value.serialize(&mut Serializer::with_formatter(&mut bytes, Ascii)) {
        Ok(()) => bytes.into(),
        Err(_) => Bytes::new(),
    }
}

/// Compact; what isn't printable ASCII is written as `\uXXXX`.
struct Ascii;

impl Formatter for Ascii {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        // Nearly all text is plain; without an early exit this is a few instructions for sixteen bytes.
        let is_plain = |byte: &u8| matches!(byte, b' '..=b'~');
        if fragment.bytes().fold(true, |plain, byte| plain & is_plain(&byte)) {
            return writer.write_all(fragment.as_bytes());
        }
        let mut rest = fragment;
        // The first byte of a letter, so that it can be split there.
        while let Some(at) = rest.bytes().position(|byte| !is_plain(&byte)) {
            let (plain, other) = rest.split_at(at);
            writer.write_all(plain.as_bytes())?;
            let Some(letter) = other.chars().next() else { break };
            for unit in letter.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = other.get(letter.len_utf8()..).unwrap_or_default();
        }
        writer.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::json;

    #[test]
    fn au_05_a_line_is_printable_ascii_and_says_the_same() {
        let hostile = "a\"\\\n\r\t\0\u{1b}[2J\u{7f}\u{9b}31m\u{202e}\u{2028}é漢😀";
        let line = json(&[hostile]);
        assert!(line.iter().all(|byte| (b' '..=b'~').contains(byte)), "{line:?}");
        assert_eq!(serde_json::from_slice::<Vec<String>>(&line).unwrap(), [hostile]);
    }
}
