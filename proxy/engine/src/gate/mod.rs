//! The gate: bytes of a request's head in, one immutable [`CanonicalRequest`] or one [`Refusal`] out.
//!
//! What is decided on is what is forwarded: a request that could be read in two ways is refused with the rule that
//! says so (G1–G20), not guessed at. Two properties hold and are tested: reading what was written gives the same
//! request, and reading it again changes nothing.
//!
//! The way through: `lines` (exact CRLF lines) → `http1` or `http2` (request line or pseudo-header fields) →
//! `fields` (each field classified) → `target`, `authority` (normal forms) → `judge` (binding or would-be).

mod authority;
mod fields;
mod http1;
mod http2;
mod judge;
mod kind;
pub mod limits;
mod lines;
mod refusal;
mod syntax;
mod target;

pub use crate::request::CanonicalRequest;
pub use authority::normal_host;
pub use http1::{http1, http1_into};
pub use http2::{http2, http2_carrying, http2_into};
pub use kind::is_reserved;
pub use lines::{Line, Lines, split_field};
pub use refusal::{Flaw, GateRule, Refusal};
pub use syntax::{has_control, is_token, trim_blanks};
pub use target::{fold_path, normal_path};

/// What to do with a path that servers are known to read in different ways (G5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PathMode {
    /// Refuse it.
    #[default]
    Strict,
    /// Merge slashes and resolve dot segments, decide on and forward the result; refuse what is still ambiguous.
    Merge,
    /// Forward it as it came; no policy on such a port may read paths.
    Opaque,
}

/// What the gate needs to know of a port. Part of the rule table, so that gate and decision come from one snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GateProfile {
    /// How ambiguous paths are treated (G5).
    pub path_mode: PathMode,
    /// Whether a request may ask for an upgrade to `websocket`.
    pub websocket: bool,
    /// An `audit` port where nothing enforced reads requests (semantics T5): only the rules that guard the framing,
    /// control bytes and the hard limit refuse; anything else is kept in [`CanonicalRequest::unread`].
    pub lenient: bool,
    /// The headers which the table's policies read: lower case, sorted, unique. Look-alikes of them (G11) and a
    /// `Connection` that names one (G14) are refused.
    pub policy_headers: Vec<String>,
}

impl GateProfile {
    /// Whether a policy of the table reads the header `name` (lower case).
    #[must_use]
    pub fn reads(&self, name: &str) -> bool {
        self.policy_headers.binary_search_by(|header| header.as_str().cmp(name)).is_ok()
    }
}

#[cfg(test)]
mod tests;
