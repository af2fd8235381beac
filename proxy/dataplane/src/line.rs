//! One JSON object as one line of printable ASCII: whatever a client put into it, no byte of it ends a line or means
//! something to a terminal (AU-05).

use std::io::{self, Write};

use bytes::Bytes;
use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// The usual size of a denial, with room to spare.
pub(crate) const USUAL_BYTES: usize = 1_024;

/// Writes a value, without an end of line; nothing where it can't be written, which no type of ours can't.
pub fn json<T: Serialize>(value: &T) -> Bytes {
    let mut bytes = Vec::with_capacity(USUAL_BYTES);
    match value.serialize(&mut Serializer::with_formatter(&mut bytes, Ascii)) {
        Ok(()) => bytes.into(),
        Err(_) => Bytes::new(),
    }
}

/// An object that is written field by field: what is written often, and at once. Keys are ours, and plain.
#[derive(Debug)]
pub struct Object<'a> {
    out: &'a mut Vec<u8>,
    begun: bool,
}

impl<'a> Object<'a> {
    /// Begins one at the end of `out`.
    pub fn begin(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, begun: false }
    }

    /// Where the value of a field goes.
    pub fn field(&mut self, key: &str) -> &mut Vec<u8> {
        if std::mem::replace(&mut self.begun, true) {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    /// A field that is text.
    pub fn text(&mut self, key: &str, value: &str) {
        text(self.field(key), value);
    }

    /// A field that is text or null.
    pub fn text_or_null(&mut self, key: &str, value: Option<&str>) {
        match value {
            Some(value) => self.text(key, value),
            None => self.field(key).extend_from_slice(b"null"),
        }
    }

    /// A field of any kind; nothing where it can't be written, which no type of ours can't.
    pub fn value<T: Serialize>(&mut self, key: &str, value: &T) {
        let out = self.field(key);
        let before = out.len();
        if value.serialize(&mut Serializer::with_formatter(&mut *out, Ascii)).is_err() {
            out.truncate(before);
            out.extend_from_slice(b"null");
        }
    }

    /// A field that is a list of names with their values.
    pub fn pairs(&mut self, key: &str, pairs: &[(String, String)]) {
        let out = self.field(key);
        out.push(b'[');
        for (index, (name, value)) in pairs.iter().enumerate() {
            out.extend_from_slice(if index > 0 { b",[" } else { b"[" });
            text(out, name);
            out.push(b',');
            text(out, value);
            out.push(b']');
        }
        out.push(b']');
    }

    /// Ends it.
    pub fn end(self) {
        self.out.push(b'}');
    }
}

/// Text in quotation marks. Nearly all of it is plain, which is seen without looking at each byte by itself.
fn text(out: &mut Vec<u8>, value: &str) {
    let is_plain = |byte: u8| matches!(byte, b' '..=b'!' | b'#'..=b'[' | b']'..=b'~');
    if value.bytes().fold(true, |plain, byte| plain & is_plain(byte)) {
        out.push(b'"');
        out.extend_from_slice(value.as_bytes());
        out.push(b'"');
        return;
    }
    // Writing to a Vec can't fail.
    let _ = value.serialize(&mut Serializer::with_formatter(out, Ascii));
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
    use super::{Object, json};

    #[test]
    fn au_05_an_object_is_what_serde_would_write() {
        let hostile = "a\"\\\n\0\u{7f}\u{202e}é😀";
        for value in ["", "plain", "a b~", hostile, "\"", "\\", "é"] {
            let mut out = Vec::new();
            let mut object = Object::begin(&mut out);
            object.text("text", value);
            object.text_or_null("none", None);
            object.value("number", &7);
            object.pairs("pairs", &[1, 2].map(|_| ("n".to_owned(), value.to_owned())));
            object.pairs("empty", &[]);
            object.end();
            assert!(out.iter().all(|byte| (b' '..=b'~').contains(byte)), "{out:?}");
            let pair = serde_json::json!(["n", value]);
            let expected = serde_json::json!({
                "text": value, "none": null, "number": 7, "pairs": [pair.clone(), pair], "empty": [],
            });
            assert_eq!(serde_json::from_slice::<serde_json::Value>(&out).unwrap(), expected);
        }
    }

    #[test]
    fn au_05_a_line_is_printable_ascii_and_says_the_same() {
        let hostile = "a\"\\\n\r\t\0\u{1b}[2J\u{7f}\u{9b}31m\u{202e}\u{2028}é漢😀";
        let line = json(&[hostile]);
        assert!(line.iter().all(|byte| (b' '..=b'~').contains(byte)), "{line:?}");
        assert_eq!(serde_json::from_slice::<Vec<String>>(&line).unwrap(), [hostile]);
    }
}
