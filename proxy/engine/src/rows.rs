//! What a table is made of: the rows as values, checked one by one, not yet linked.
//!
//! The wire form is `proto/policyd/v1/snapshot.proto`; `proxy/snapshot` makes these from it and nothing else does.

use crate::{
    condition::Condition,
    gate::PathMode,
    identity::{IdentitySet, SpiffeId},
    network::NetworkSet,
    route::Route,
    time::Timestamp,
};

/// Position of a rule: the workload's rules first, then the cluster's. The order is the order of attribution (D2).
pub type RuleId = u32;
/// Position of a route: the order of age (W7).
pub type RouteId = u32;

/// What a rule does to what matches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Grants.
    Allow,
    /// Refuses.
    Deny,
    /// Refuses what does not meet it.
    Require,
    /// Refuses, because something that should have been read can't be (semantics U).
    Refuse,
}

/// Where a rule was attached, the most specific first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// A route.
    Route,
    /// A Server.
    Server,
    /// A namespace.
    Namespace,
    /// The cluster.
    Cluster,
}

/// What a rule concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// All that arrives at the port.
    Port,
    /// Every HTTP request at the port.
    Http,
    /// Requests that selected the route.
    Selected(RouteId),
    /// Requests that any match of the route matches, whichever route was selected (A5).
    Matched(RouteId),
}

/// One row.
#[derive(Debug, Clone)]
pub struct Rule {
    /// What it does.
    pub effect: Effect,
    /// Where it is attached.
    pub level: Level,
    /// The policy it is one effect of.
    pub authorization: Box<str>,
    /// Object and field path.
    pub origin: Box<str>,
    /// `mode: Audit` (A6).
    pub audit: bool,
    /// What it concerns.
    pub scope: Scope,
    /// Index into the part's identity sets; none: not asked.
    pub identities: Option<u32>,
    /// Also meets a peer without identity (A3).
    pub anonymous_too: bool,
    /// Index into the part's network sets; none: not asked.
    pub networks: Option<u32>,
    /// Indices into the part's conditions: all must hold.
    pub conditions: Box<[u32]>,
    /// When it ends (A7).
    pub valid_until: Option<Timestamp>,
}

/// Values that the rules of one part share.
#[derive(Debug, Clone, Default)]
pub struct Pools {
    /// Sets of identities.
    pub identities: Vec<IdentitySet>,
    /// Sets of networks.
    pub networks: Vec<NetworkSet>,
    /// Conditions.
    pub conditions: Vec<Condition>,
}

/// Whom a revocation names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revoked {
    /// A whole identity.
    Identity(SpiffeId),
    /// One pod.
    PodUid(Box<str>),
    /// One certificate, by the SHA-256 of its DER.
    Certificate([u8; 32]),
}

/// An item of `revoked[]` (I9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// Whom.
    pub whom: Revoked,
    /// Only certificates issued before.
    pub issued_before: Option<Timestamp>,
}

/// The cluster's part.
#[derive(Debug, Clone, Default)]
pub struct ClusterRows {
    /// Our own trust domain.
    pub trust_domain: Box<str>,
    /// Shared values.
    pub pools: Pools,
    /// Cluster-level rules.
    pub rules: Vec<Rule>,
    /// Who is revoked.
    pub revoked: Vec<Revocation>,
    /// W5.
    pub cluster_networks: NetworkSet,
    /// T6.
    pub probe_networks: NetworkSet,
    /// None: never stale.
    pub max_table_age_millis: Option<u64>,
}

/// The workload's own part.
#[derive(Debug, Clone, Default)]
pub struct WorkloadRows {
    /// Shared values.
    pub pools: Pools,
    /// Rules of the levels route, Server, namespace.
    pub rules: Vec<Rule>,
    /// Routes by age.
    pub routes: Vec<Route>,
    /// Ports by number.
    pub ports: Vec<PortRow>,
    /// Every other port.
    pub other: PortRow,
}

/// What a port speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// Detected.
    #[default]
    Unknown,
    /// HTTP/1.0 and 1.1 only.
    Http1,
    /// HTTP/2 only.
    Http2,
    /// gRPC over HTTP/2 only.
    Grpc,
    /// Bytes.
    Opaque,
    /// The application's own TLS.
    Tls,
}

/// A port's default (W3, W4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Access {
    /// Nobody.
    #[default]
    Deny,
    /// Everybody, recorded as would-be denial.
    Audit,
    /// Everybody.
    AllUnauthenticated,
    /// Every identity of our trust domain.
    AllAuthenticated,
    /// Everybody in the cluster networks.
    ClusterUnauthenticated,
    /// Every identity of our trust domain in the cluster networks.
    ClusterAuthenticated,
}

/// What cluster rules with conditions mean on a port (T3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClusterConditions {
    /// They are evaluated.
    #[default]
    Evaluate,
    /// They count as satisfied.
    Satisfied,
    /// Such rules don't apply.
    PassOver,
}

/// A probe that the pod declares (T6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// GET of exactly this path and query; the declared headers reach the application.
    Http {
        /// Path and query.
        target: Box<str>,
        /// Names in lower case.
        headers: Box<[Box<str>]>,
    },
    /// Accept, dial, close.
    Tcp,
    /// `grpc.health.v1.Health/Check`.
    Grpc {
        /// The service asked about.
        service: Box<str>,
    },
}

/// One port.
#[derive(Debug, Clone, Default)]
pub struct PortRow {
    /// 0 for every port without a row.
    pub number: u16,
    /// What it speaks.
    pub protocol: Protocol,
    /// The Server that owns it.
    pub server: Option<Box<str>>,
    /// Where that was written.
    pub server_origin: Box<str>,
    /// The default.
    pub access: Access,
    /// G5.
    pub path_mode: PathMode,
    /// Whether WebSocket upgrades are enabled.
    pub websocket: bool,
    /// T3.
    pub cluster_conditions: ClusterConditions,
    /// Rules that concern it, rising.
    pub rules: Vec<RuleId>,
    /// Routes attached, rising.
    pub routes: Vec<RouteId>,
    /// Declared probes.
    pub probes: Vec<Probe>,
}
