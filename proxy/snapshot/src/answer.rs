//! A decision as JSON: what the proxy logs, what explain and test show. One form for all.

use engine::{
    Arrival, Connection, Decision, Dimension, NEAREST, Verdict, decide, near_misses,
    request::{CanonicalRequest, Version},
};
use serde::Serialize;

use crate::Asked;

/// A decision with the names that its rows have in the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// UUIDv7; none for a question.
    pub id: Option<String>,
    /// `allow` or `deny`.
    pub verdict: &'static str,
    /// From the closed list.
    pub reason: String,
    /// HTTP status; none where the connection is closed, or TCP goes on.
    pub status: Option<u16>,
    /// gRPC status; none where it is no gRPC.
    pub grpc_status: Option<u8>,
    /// The port's owner.
    pub server: Option<String>,
    /// The selected route.
    pub route: Option<String>,
    /// What decided.
    pub authorization: Option<String>,
    /// Where that was written.
    pub origin: Option<String>,
    /// The table's version.
    pub table: Option<String>,
    /// SHA-256 of the pod facts.
    pub facts: Option<String>,
    /// What it would be with everything enforced, where that differs.
    pub audit: Option<WouldBeAnswer>,
}

/// See [`engine::WouldBe`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WouldBeAnswer {
    /// `allow` or `deny`.
    pub verdict: &'static str,
    /// From the closed list.
    pub reason: String,
    /// The Audit policies that make the difference.
    pub authorizations: Vec<String>,
}

impl Answer {
    /// Names what a decision on a connection points to.
    pub fn of(connection: &Connection, decision: &Decision) -> Self {
        let table = connection.table();
        let rule = decision.rule().and_then(|id| table.rule(id));
        let route = decision.route().and_then(|id| table.route(id));
        Self {
            server: connection.port().server().map(Into::into),
            route: route.map(|route| route.name),
            authorization: rule.as_ref().map(|rule| rule.name.clone()),
            origin: rule.map(|rule| rule.origin),
            audit: decision.would_be().map(|other| WouldBeAnswer {
                verdict: verdict(other.verdict),
                reason: other.reason.to_string(),
                authorizations: names(connection, &other.rules),
            }),
            ..Self::without_table(decision)
        }
    }

    /// A decision that no table made.
    pub fn without_table(decision: &Decision) -> Self {
        let view = decision.client_view();
        Self {
            id: None,
            verdict: verdict(decision.verdict()),
            reason: decision.reason().to_string(),
            status: view.map(|view| view.status),
            grpc_status: view
                .filter(|_| decision.form() == engine::Form::Grpc)
                .map(|view| view.grpc_status),
            server: None,
            route: None,
            authorization: None,
            origin: None,
            table: None,
            facts: None,
            audit: None,
        }
    }
}

/// Decides a question.
pub fn answer(asked: &Asked) -> Answer {
    Answer::of(&asked.connection, &decide(&asked.connection, &asked.arrival(), asked.moment))
}

/// Decides a question and says what was looked at: JSON of an answer with `step`, `request`, `peer`, `gate` and
/// `nearMisses`.
pub fn explain(asked: &Asked) -> Explanation {
    let decision = decide(&asked.connection, &asked.arrival(), asked.moment);
    let arrival = asked.arrival();
    let denied_by_rules = decision.verdict() == Verdict::Deny && decision.step() >= 5;
    let misses = if denied_by_rules {
        near_misses(&asked.connection, &arrival, asked.moment, NEAREST)
    } else {
        Vec::new()
    };
    let connection = &asked.connection;
    let near_misses = misses
        .iter()
        .filter_map(|miss| {
            let rule = connection.table().rule(miss.rule)?;
            Some(Miss {
                rule: miss.rule,
                authorization: rule.name,
                origin: rule.origin,
                failed: miss.failed.iter().map(dimension).collect(),
            })
        })
        .collect();
    Explanation {
        answer: Answer::of(connection, &decision),
        step: decision.step(),
        rule: decision.rule(),
        request: match arrival {
            Arrival::Http(request) => Some(Request::of(request)),
            _ => None,
        },
        gate: match arrival {
            Arrival::Refused(refusal) => Some(Gate::of(refusal)),
            Arrival::Http(request) => request.unread().map(Gate::of),
            _ => None,
        },
        peer: Peer {
            ip: connection.source().to_string(),
            identity: connection.peer().map(|peer| peer.identity.to_string()),
        },
        near_misses,
    }
}

/// An answer and why.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The decision.
    #[serde(flatten)]
    pub answer: Answer,
    step: u8,
    /// Position in the table: the workload's rules, then the cluster's.
    rule: Option<u32>,
    request: Option<Request>,
    gate: Option<Gate>,
    peer: Peer,
    near_misses: Vec<Miss>,
}

#[derive(Debug, Clone, Serialize)]
struct Peer {
    ip: String,
    identity: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
struct Miss {
    rule: u32,
    authorization: String,
    origin: String,
    failed: Vec<String>,
}

#[derive(Debug, Clone, Serialize)]
struct Gate {
    rule: &'static str,
    offset: usize,
    field: Option<String>,
}

impl Gate {
    fn of(refusal: &engine::gate::Refusal) -> Self {
        Self { rule: refusal.rule.as_str(), offset: refusal.offset, field: refusal.field.clone() }
    }
}

/// The request as decided on.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    version: &'static str,
    method: String,
    host: String,
    authority: String,
    path: String,
    folded_path: String,
    query: Option<String>,
    target: String,
    headers: Vec<(String, String)>,
}

impl Request {
    /// As JSON says it; bytes that aren't UTF-8 become replacement characters.
    pub fn of(request: &CanonicalRequest) -> Self {
        Self {
            version: match request.version() {
                Version::Http10 => "1.0",
                Version::Http11 => "1.1",
                Version::Http2 => "2",
            },
            method: request.method().into(),
            host: request.host().into(),
            authority: request.authority().into(),
            path: request.path().into(),
            folded_path: request.folded_path().into(),
            query: request.query().map(Into::into),
            target: request.target().into(),
            headers: request
                .fields()
                .map(|(name, value)| (name.into(), String::from_utf8_lossy(value).into_owned()))
                .collect(),
        }
    }
}

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "allow",
        Verdict::Deny => "deny",
    }
}

fn names(connection: &Connection, rules: &[u32]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for rule in rules.iter().filter_map(|id| connection.table().rule(*id)) {
        if !names.contains(&rule.name) {
            names.push(rule.name);
        }
    }
    names
}

fn dimension(dimension: &Dimension) -> String {
    match dimension {
        Dimension::Identity => "identity".into(),
        Dimension::Network => "network".into(),
        Dimension::Route => "route".into(),
        Dimension::Condition(place) => format!("condition:{place}"),
        Dimension::Expired => "expired".into(),
    }
}
