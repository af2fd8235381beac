//! Why: the closed list of reasons (semantics D4), and what the client sees of each (D5).

use std::fmt;

use crate::gate::GateRule;

/// Why a decision is what it is. Closed on purpose: whoever handles a decision handles each reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A rule, the port's default or a probe grants it.
    Allowed,
    /// A Deny matched.
    ExplicitDeny,
    /// A Require in whose scope the request lies is not met.
    RequirementNotMet,
    /// Nothing grants it.
    NoMatchingRule,
    /// Only the identity is missing.
    NoIdentity,
    /// Routes are attached and none was selected.
    NoRoute,
    /// The gate refused: it could be read two ways, or is malformed.
    InvalidRequest(GateRule),
    /// The port does not speak this.
    ProtocolRefused,
    /// A policy that concerns it can't be read.
    PolicyUnreadable,
    /// There is no table.
    NoPolicyLoaded,
    /// The table is older than `maxTableAge`.
    PolicyStale,
    /// The peer is revoked, expired, or not the one expected.
    PeerRejected,
    /// What the decision was delegated to did not answer.
    DelegateUnavailable,
    /// A rate limit.
    RateLimited,
    /// A limit of the proxy.
    Overloaded,
    /// The engine failed; that denies.
    EngineError,
}

/// What a client learns of a refusal, and no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientView {
    /// HTTP status.
    pub status: u16,
    /// gRPC status code.
    pub grpc_status: u8,
    /// One word for the body.
    pub category: &'static str,
}

impl Reason {
    /// What the client of the inbound side sees (D5).
    pub fn client_view(self) -> ClientView {
        let (status, grpc_status, category) = match self {
            Self::Allowed => (200, 0, "allowed"),
            Self::NoIdentity => (403, 16, "denied"),
            Self::ExplicitDeny
            | Self::RequirementNotMet
            | Self::NoMatchingRule
            | Self::ProtocolRefused
            | Self::PolicyUnreadable
            | Self::PeerRejected => (403, 7, "denied"),
            Self::NoRoute => (404, 5, "not_found"),
            Self::InvalidRequest(_) => (400, 3, "bad_request"),
            Self::RateLimited => (429, 8, "limited"),
            Self::NoPolicyLoaded
            | Self::PolicyStale
            | Self::DelegateUnavailable
            | Self::Overloaded
            | Self::EngineError => (503, 14, "unavailable"),
        };
        ClientView { status, grpc_status, category }
    }

    /// What the application behind the outbound side sees: a refused peer or forbidden plaintext is a bad gateway (D5).
    pub fn outbound_view(self) -> ClientView {
        match self {
            Self::PeerRejected | Self::NoIdentity => {
                ClientView { status: 502, grpc_status: 14, category: "unavailable" }
            }
            other => other.client_view(),
        }
    }

    /// Whether it speaks of one request and of nothing else: neither of how it was framed, nor of its connection, nor of
    /// the proxy itself. Then another request may follow it on its connection.
    pub fn is_of_one_request(self) -> bool {
        match self {
            Self::Allowed
            | Self::ExplicitDeny
            | Self::RequirementNotMet
            | Self::NoMatchingRule
            | Self::NoIdentity
            | Self::NoRoute
            | Self::PolicyUnreadable
            | Self::NoPolicyLoaded
            | Self::PolicyStale
            | Self::DelegateUnavailable
            | Self::RateLimited => true,
            Self::InvalidRequest(_)
            | Self::ProtocolRefused
            | Self::PeerRejected
            | Self::Overloaded
            | Self::EngineError => false,
        }
    }

    /// The word of D4, without the gate rule.
    pub fn word(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::ExplicitDeny => "explicit_deny",
            Self::RequirementNotMet => "requirement_not_met",
            Self::NoMatchingRule => "no_matching_rule",
            Self::NoIdentity => "no_identity",
            Self::NoRoute => "no_route",
            Self::InvalidRequest(_) => "invalid_request",
            Self::ProtocolRefused => "protocol_refused",
            Self::PolicyUnreadable => "policy_unreadable",
            Self::NoPolicyLoaded => "no_policy_loaded",
            Self::PolicyStale => "policy_stale",
            Self::PeerRejected => "peer_rejected",
            Self::DelegateUnavailable => "delegate_unavailable",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::EngineError => "engine_error",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidRequest(rule) => write!(f, "invalid_request:{}", rule.as_str()),
            other => f.write_str(other.word()),
        }
    }
}
