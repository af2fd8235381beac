//! Which rule refused, and where.

use std::fmt;

use crate::request::Version;

macro_rules! gate_rules {
    ($($variant:ident $text:literal $doc:literal),+ $(,)?) => {
        /// The rules of the gate. `as_str` is the stable code behind `invalid_request:`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum GateRule { $(#[doc = $doc] $variant),+ }

        impl GateRule {
            /// Every rule, in order.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The stable code of the rule.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }
    };
}

gate_rules! {
    G1 "G1" "Exactly one authority.",
    G2 "G2" "Authorities compare in normal form; one without it is refused as G1.",
    G3 "G3" "The target is a path and a query of the characters that may stand there.",
    G4 "G4" "Percent triplets are well formed and don't hide control characters.",
    G5 "G5" "A path that all servers read alike.",
    G6 "G6" "Unreserved characters compare decoded. Never refuses.",
    G7 "G7" "Prefixes end at a segment. Never refuses.",
    G8 "G8" "One framing of the body.",
    G9 "G9" "Lines end with CRLF and are what they seem.",
    G10 "G10" "Chunks are well formed.",
    G11 "G11" "Field names are tokens, and no look-alikes of names that matter.",
    G12 "G12" "Field values are free of control characters.",
    G13 "G13" "Never refuses: several values of one header are a matter of policy (semantics V2).",
    G14 "G14" "Connection options don't remove what matters; upgrades only where they are enabled.",
    G15 "G15" "Reserved headers are removed. Never refuses.",
    G16 "G16" "Trailers are on a list.",
    G17 "G17" "Methods are upper-case tokens; TRACE and TRACK are refused.",
    G18 "G18" "HTTP/1.0, HTTP/1.1 and HTTP/2 only.",
    G19 "G19" "The only expectation is 100-continue.",
    G20 "G20" "One response for one request.",
    Limits "limits" "A bound of the limits table.",
}

impl fmt::Display for GateRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a piece of text (a path, a host) breaks which rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// The rule it breaks.
    pub rule: GateRule,
    /// Bytes from the start of the text.
    pub offset: usize,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.rule, self.offset)
    }
}

impl std::error::Error for Flaw {}

/// A request that the gate did not accept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The first rule that it breaks.
    pub rule: GateRule,
    /// Bytes from the start of the head; in HTTP/2 the index of the field.
    pub offset: usize,
    /// The header (printable ASCII, at most 64 characters), or the part of the request line: `method`, `target`,
    /// `version`.
    pub field: Option<String>,
    /// Whether to answer as gRPC: exactly one content type could be seen, and it is one of gRPC.
    pub grpc: bool,
    /// The version of the request; HTTP/1.1 where it couldn't be read.
    pub version: Version,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.version == Version::Http2 { "field" } else { "byte" };
        write!(f, "invalid_request:{} at {place} {}", self.rule, self.offset)?;
        match &self.field {
            Some(field) => write!(f, " ({field})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Refusal {}
