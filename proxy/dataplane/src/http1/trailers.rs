//! Which trailers go on (G16).

use engine::gate::is_reserved;

/// What is plainly about the content just sent, and nothing that routes, frames or authorises.
const PASS: [&str; 7] =
    ["content-digest", "content-md5", "digest", "etag", "expires", "repr-digest", "server-timing"];

/// What never passes, even between gRPC ends, which name their trailers freely (semantics T7).
const NEVER: [&str; 22] = [
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "max-forwards",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "www-authenticate",
];

/// Whether the trailer `name` (any case) goes on; `grpc`: the message's content type is one of gRPC.
pub(crate) fn passes(name: &[u8], grpc: bool) -> bool {
    let one_of = |names: &[&str]| names.iter().any(|n| name.eq_ignore_ascii_case(n.as_bytes()));
    if grpc { !one_of(&NEVER) && !is_reserved(name) } else { one_of(&PASS) }
}

#[cfg(test)]
mod tests {
    use super::passes;

    #[test]
    fn h1_21_only_listed_trailers_pass() {
        for name in [
            "Host",
            "Content-Length",
            "Authorization",
            "X-Policyd-A",
            "l5d-client-id",
            "transfer-encoding",
        ] {
            assert!(!passes(name.as_bytes(), false) && !passes(name.as_bytes(), true), "{name}");
        }
        assert!(passes(b"ETag", false) && !passes(b"grpc-status", false));
        assert!(passes(b"grpc-status", true) && passes(b"my-trailer-bin", true));
    }
}
