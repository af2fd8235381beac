//! How a stream ends, as gRPC says it: a number, and a message that begins with a stable code.

/// A gRPC status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Status {
    /// gRPC's number.
    pub code: u32,
    /// `CODE: detail`.
    pub message: String,
}

pub(crate) const INVALID_ARGUMENT: u32 = 3;
pub(crate) const DEADLINE_EXCEEDED: u32 = 4;
pub(crate) const PERMISSION_DENIED: u32 = 7;
pub(crate) const RESOURCE_EXHAUSTED: u32 = 8;
pub(crate) const UNIMPLEMENTED: u32 = 12;
pub(crate) const INTERNAL: u32 = 13;
pub(crate) const UNAVAILABLE: u32 = 14;

impl Status {
    /// Nothing was wrong.
    pub fn ok() -> Self {
        Self { code: 0, message: String::new() }
    }

    pub(crate) fn new(code: u32, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The message as a header value: what isn't printable ASCII is percent-encoded (gRPC over HTTP/2).
    pub(crate) fn encoded(&self) -> String {
        use std::fmt::Write as _;
        self.message.bytes().fold(String::new(), |mut text, byte| {
            match byte {
                b' '..=b'$' | b'&'..=b'~' => text.push(char::from(byte)),
                // Writing to a String can't fail.
                other => drop(write!(text, "%{other:02X}")),
            }
            text
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_a_header_value() {
        let status = Status::new(INTERNAL, "a 100%\r\nü");
        assert_eq!(status.encoded(), "a 100%25%0D%0A%C3%BC");
    }
}
