//! What a field's name means to the gate.

use super::GateProfile;
use super::refusal::GateRule;
use super::syntax::is_token;

/// What a field is to the gate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    Te,
    Expect,
    Upgrade,
    /// Belongs to the hop, or is ours alone to set: never forwarded, never seen by a policy.
    Removed,
    /// Applications may trust it, so it is removed, but not where nothing may break (semantics T5, T7).
    ClientCertificate,
    Forwarded,
}

/// The longest name that means something to the gate, with room to spare.
const LONGEST_NAME: usize = 32;

impl Kind {
    pub(super) fn of(name: &[u8]) -> Self {
        let mut buffer = [0; LONGEST_NAME];
        let Some(lower) = buffer.get_mut(..name.len()) else {
            return if is_reserved(name) { Self::Removed } else { Self::Forwarded };
        };
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        match &*lower {
            b"host" => Self::Host,
            b"content-length" => Self::ContentLength,
            b"transfer-encoding" => Self::TransferEncoding,
            b"connection" => Self::Connection,
            b"te" => Self::Te,
            b"expect" => Self::Expect,
            b"upgrade" => Self::Upgrade,
            b"keep-alive" | b"proxy-connection" | b"http2-settings" | b"trailer" => Self::Removed,
            b"x-forwarded-client-cert" => Self::ClientCertificate,
            other if is_reserved(other) => Self::Removed,
            _ => Self::Forwarded,
        }
    }
}

/// Whether only the mesh sets this header, in any case: `x-policyd-*`, `l5d-client-id`, `x-forwarded-client-cert`.
#[must_use]
pub fn is_reserved(name: &[u8]) -> bool {
    const PREFIX: &[u8] = b"x-policyd-";
    name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
        || name.eq_ignore_ascii_case(b"l5d-client-id")
        || name.eq_ignore_ascii_case(b"x-forwarded-client-cert")
}

/// A name that some servers take for one that frames or routes: the same but for characters no name may have.
pub(super) fn hides_framing(name: &[u8]) -> Option<GateRule> {
    let squeezed: Vec<u8> = name.iter().copied().filter(|byte| is_token(&[*byte])).collect();
    match Kind::of(&squeezed) {
        Kind::ContentLength | Kind::TransferEncoding => Some(GateRule::G8),
        Kind::Host => Some(GateRule::G1),
        Kind::Connection | Kind::Upgrade => Some(GateRule::G14),
        _ => None,
    }
}

fn same_but_underscores(name: &[u8], other: &[u8]) -> bool {
    let dash = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    name.len() == other.len() && name.iter().map(dash).eq(other.iter().map(dash))
}

/// G11: another name which applications that don't tell `_` from `-` take for one that matters.
pub(super) fn is_look_alike(name: &[u8], profile: &GateProfile) -> bool {
    let alike = |other: &str| {
        same_but_underscores(name, other.as_bytes()) && !name.eq_ignore_ascii_case(other.as_bytes())
    };
    if profile.policy_headers.iter().any(|header| alike(header)) {
        return true;
    }
    name.contains(&b'_') && {
        let dashed: Vec<u8> = name.iter().map(|b| if *b == b'_' { b'-' } else { *b }).collect();
        !matches!(Kind::of(&dashed), Kind::Forwarded)
    }
}
