//! What of a request is written down: what policies read, and of that no more than is good for a log. What isn't there
//! whole says how long it was, and its SHA-256, so that it can be recognised.

use aws_lc_rs::digest::{SHA256, digest};
use engine::request::{CanonicalRequest, Version};
use serde::Serialize;

use crate::certificate::hex;
use crate::limits;
use crate::line::Object;

/// A value that isn't recorded as it was: it is too long, or isn't UTF-8; or entries that had no room.
#[derive(Debug, Serialize)]
pub struct Cut {
    field: String,
    /// Its length; of all entries that aren't recorded.
    bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entries: Option<usize>,
}

/// Takes values up to a bound for all of them.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    taken: usize,
    pub(crate) cut: Vec<Cut>,
}

impl Recorder {
    /// A value as text, as far as it is recorded.
    pub(crate) fn text(&mut self, field: &str, value: &[u8]) -> String {
        let room = limits::RECORDED_REQUEST_BYTES.saturating_sub(self.taken);
        let most = limits::RECORDED_BYTES.min(room);
        let begin = value.get(..most).unwrap_or(value);
        let text = match str::from_utf8(begin) {
            Ok(text) => text.to_owned(),
            // In the midst of a letter: that is where it is cut.
            Err(error) if error.error_len().is_none() => {
                String::from_utf8_lossy(begin.get(..error.valid_up_to()).unwrap_or_default())
                    .into_owned()
            }
            Err(_) => String::from_utf8_lossy(begin).into_owned(),
        };
        self.taken += begin.len();
        if text.as_bytes() != value {
            let sha256 = Some(hex(digest(&SHA256, value).as_ref()));
            self.cut.push(Cut {
                field: field.to_owned(),
                bytes: value.len(),
                sha256,
                entries: None,
            });
        }
        text
    }

    /// Names with their values, up to a bound of their number and of all bytes.
    fn entries<'a, V: AsRef<[u8]>>(
        &mut self,
        field: &str,
        entries: impl Iterator<Item = (&'a str, V)>,
    ) -> Vec<(String, String)> {
        let mut recorded = Vec::new();
        let (mut without_room, mut bytes) = (0, 0);
        for (name, value) in entries {
            let value = value.as_ref();
            let has_room = recorded.len() < limits::RECORDED_ENTRIES
                && self.taken + name.len() < limits::RECORDED_REQUEST_BYTES;
            if has_room {
                self.taken += name.len();
                let place = format!("{field}/{}", recorded.len());
                recorded.push((name.to_owned(), self.text(&place, value)));
            } else {
                without_room += 1;
                bytes += value.len();
            }
        }
        if without_room > 0 {
            let entries = Some(without_room);
            self.cut.push(Cut { field: field.to_owned(), bytes, sha256: None, entries });
        }
        recorded
    }
}

/// A request, without anything that policies don't read (design §10).
#[derive(Debug, Serialize)]
pub struct RequestRecord {
    version: &'static str,
    method: String,
    host: String,
    path: String,
    query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cut: Vec<Cut>,
}

impl RequestRecord {
    /// Of the headers only those in `read`, lower case and sorted; of the query only the values of `keys`, decoded.
    pub fn new(request: &CanonicalRequest, read: &[String], keys: &[String]) -> Self {
        let is_read = |name: &str| read.binary_search_by(|known| known.as_str().cmp(name)).is_ok();
        let mut recorder = Recorder::default();
        let queried = keys
            .iter()
            .flat_map(|key| request.query_values(key).map(move |value| (key.as_str(), value)));
        Self {
            version: match request.version() {
                Version::Http10 => "1.0",
                Version::Http11 => "1.1",
                Version::Http2 => "2",
            },
            method: recorder.text("method", request.method().as_bytes()),
            host: recorder.text("host", request.host().as_bytes()),
            path: recorder.text("path", request.path().as_bytes()),
            query: recorder.entries("query", queried),
            headers: recorder
                .entries("headers", request.fields().filter(|(name, _)| is_read(name))),
            cut: recorder.cut,
        }
    }

    /// Appends it as JSON.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let mut object = Object::begin(out);
        object.text("version", self.version);
        object.text("method", &self.method);
        object.text("host", &self.host);
        object.text("path", &self.path);
        object.pairs("query", &self.query);
        object.pairs("headers", &self.headers);
        if !self.cut.is_empty() {
            object.value("cut", &self.cut);
        }
        object.end();
    }
}

#[cfg(test)]
mod tests {
    use engine::gate::{self, GateProfile};

    use super::*;

    fn recorded(head: &[u8], read: &[&str], keys: &[&str]) -> serde_json::Value {
        let request = gate::http1(head, &GateProfile::default()).unwrap();
        let names =
            |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        serde_json::to_value(RequestRecord::new(&request, &names(read), &names(keys))).unwrap()
    }

    #[test]
    fn only_what_policies_read_is_recorded() {
        let head =
            b"GET /a?k=a+b&secret=1&k=c%26d HTTP/1.1\r\nhost: h\r\nx-env: p\r\ncookie: s\r\n\r\n";
        let json = recorded(head, &["x-env"], &["k"]);
        assert_eq!(json["query"], serde_json::json!([["k", "a b"], ["k", "c&d"]]));
        assert_eq!(json["headers"], serde_json::json!([["x-env", "p"]]));
        assert_eq!(json["path"], "/a");
        assert_eq!(json.get("cut"), None);
    }

    #[test]
    fn au_05_what_is_cut_says_its_length_and_its_hash() {
        let long = "a".repeat(700);
        let head = format!("GET /{long} HTTP/1.1\r\nhost: h\r\nx-env: {long}\r\n\r\n");
        let json = recorded(head.as_bytes(), &["x-env"], &[]);
        assert_eq!(json["path"].as_str().unwrap().len(), limits::RECORDED_BYTES);
        let path = format!("/{long}");
        let expected = serde_json::json!([
            {"field": "path", "bytes": 701, "sha256": hex(digest(&SHA256, path.as_bytes()).as_ref())},
            {"field": "headers/0", "bytes": 700, "sha256": hex(digest(&SHA256, long.as_bytes()).as_ref())},
        ]);
        assert_eq!(json["cut"], expected);
    }

    #[test]
    fn au_05_what_is_not_utf_8_is_recorded_as_far_as_it_is() {
        let head = b"GET / HTTP/1.1\r\nhost: h\r\nx-env: a\xff\xfeb\r\n\r\n";
        let json = recorded(head, &["x-env"], &[]);
        assert_eq!(json["headers"], serde_json::json!([["x-env", "a\u{fffd}\u{fffd}b"]]));
        assert_eq!(
            (&json["cut"][0]["field"], &json["cut"][0]["bytes"]),
            (&"headers/0".into(), &4.into())
        );
    }

    #[test]
    fn au_05_a_letter_is_not_cut_in_two() {
        let mut recorder = Recorder::default();
        let text = "é".repeat(limits::RECORDED_BYTES);
        assert_eq!(recorder.text("path", text.as_bytes()), "é".repeat(limits::RECORDED_BYTES / 2));
        let shifted = format!("a{text}");
        let expected = format!("a{}", "é".repeat(limits::RECORDED_BYTES / 2 - 1));
        assert_eq!(recorder.text("path", shifted.as_bytes()), expected);
        assert_eq!(recorder.cut.len(), 2);
    }

    #[test]
    fn au_05_many_entries_have_a_bound() {
        let mut recorder = Recorder::default();
        let value = [b'v'; 400];
        let recorded = recorder.entries("headers", std::iter::repeat_n(("x-env", value), 1_000));
        assert!(recorded.len() < 50, "{}", recorded.len());
        let all: usize = recorded.iter().map(|(name, value)| name.len() + value.len()).sum();
        assert!(all <= limits::RECORDED_REQUEST_BYTES, "{all}");
        let left = recorder.cut.last().unwrap();
        assert_eq!(
            (left.entries, left.bytes),
            (Some(1_000 - recorded.len()), (1_000 - recorded.len()) * 400)
        );
        let short =
            Recorder::default().entries("query", std::iter::repeat_n(("k", [b'v'; 1]), 1_000));
        assert_eq!(short.len(), limits::RECORDED_ENTRIES);
    }
}
