//! The bytes that are forwarded. They are made from the canonical request and from nothing else.

use super::{CanonicalRequest, Framing, Version};

impl CanonicalRequest {
    /// Appends the request's head as HTTP/1 to `out`, the empty line included. Reading it again with the same profile
    /// gives an equal request. A request that came as HTTP/1.0 goes on as HTTP/1.0 on a connection of its own (G18).
    pub fn write_http1_head(&self, out: &mut Vec<u8>) {
        self.write_http1(self.framing, out);
    }

    /// The same for a request that came as a field list, which doesn't say that a body follows: without a length of its
    /// own it goes on in chunks.
    pub fn write_http1_head_with_body(&self, out: &mut Vec<u8>) {
        let framing = if self.framing == Framing::None { Framing::Chunked } else { self.framing };
        self.write_http1(framing, out);
    }

    fn write_http1(&self, framing: Framing, out: &mut Vec<u8>) {
        let version: &[u8] = match self.version {
            Version::Http10 => b" HTTP/1.0\r\n",
            Version::Http11 | Version::Http2 => b" HTTP/1.1\r\n",
        };
        out.reserve(self.text.len() + self.values.len() + 4 * self.fields.len() + 128);
        out.extend_from_slice(self.method().as_bytes());
        out.push(b' ');
        out.extend_from_slice(self.target_bytes());
        out.extend_from_slice(version);
        write_field(out, "host", self.authority().as_bytes());
        for (name, value) in self.fields() {
            write_field(out, name, value);
        }
        if framing == Framing::Chunked {
            write_field(out, "transfer-encoding", b"chunked");
        }
        self.write_hop(out);
        out.extend_from_slice(b"\r\n");
    }

    /// The fields of the next hop, and the `connection` that names them.
    fn write_hop(&self, out: &mut Vec<u8>) {
        if self.te_trailers {
            write_field(out, "te", b"trailers");
        }
        if let Some(protocol) = self.upgrade() {
            write_field(out, "upgrade", protocol.as_bytes());
        }
        let close = self.version == Version::Http10;
        let options: &[u8] = match (close, self.te_trailers, self.upgrade.is_some()) {
            (false, false, false) => return,
            (false, true, false) => b"te",
            (false, false, true) => b"upgrade",
            (false, true, true) => b"te, upgrade",
            (true, false, _) => b"close",
            (true, true, _) => b"close, te",
        };
        write_field(out, "connection", options);
    }
}

fn write_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}
