//! The decision, in the order of semantics D1.

use crate::{
    condition::Rigour,
    connection::Connection,
    decision::{Decision, Form, Verdict, WouldBe},
    gate::Refusal,
    ports::{Reading, View},
    reason::Reason,
    request::{CanonicalRequest, Version},
    route::is_grpc_request,
    rows::{Access, Effect, Probe, Protocol, RouteId, RuleId},
    rules::{Firsts, Pending, Standing},
    time::{Moment, Timestamp},
};

/// What arrived on a connection.
#[derive(Debug, Clone, Copy)]
pub enum Arrival<'a> {
    /// A request that the gate accepted.
    Http(&'a CanonicalRequest),
    /// A request that the gate refused.
    Refused(&'a Refusal),
    /// Bytes that are not HTTP.
    Bytes,
    /// Nothing, until the detection ended.
    Silence,
    /// TLS that is not ours.
    ForeignTls,
}

/// Decides. Never panics, never allocates where no audit policy differs; what it can't know denies.
pub fn decide(connection: &Connection, arrival: &Arrival<'_>, moment: Moment) -> Decision {
    let read = Read::of(connection, arrival);
    let real = judge(connection, &read, moment, View::Enforced);
    let mut decision = Decision {
        verdict: real.verdict(),
        reason: real.reason,
        rule: real.rule,
        route: read.selected.filter(|_| real.step >= 5),
        form: read.form(connection, real.reason),
        step: real.step,
        would_be: None,
    };
    if connection.port().differs() && real.step > 3 {
        decision.would_be = would_be(connection, &read, moment, real);
    }
    decision
}

fn would_be(
    connection: &Connection,
    read: &Read<'_>,
    moment: Moment,
    real: Outcome,
) -> Option<Box<WouldBe>> {
    let other = judge(connection, read, moment, View::WouldBe);
    (other.verdict() != real.verdict()).then(|| {
        Box::new(WouldBe {
            verdict: other.verdict(),
            reason: other.reason,
            rules: read.audited(connection, moment.now, other),
        })
    })
}

/// What one view of the rules comes to.
#[derive(Debug, Clone, Copy)]
struct Outcome {
    reason: Reason,
    rule: Option<RuleId>,
    step: u8,
}

impl Outcome {
    fn verdict(self) -> Verdict {
        if self.reason == Reason::Allowed { Verdict::Allow } else { Verdict::Deny }
    }
}

/// What arrived, as policies see it: the request if one may be read, and the routes it selects and concerns.
pub(crate) struct Read<'a> {
    arrival: &'a Arrival<'a>,
    /// None for bytes, and for a request that was let through unread (T5).
    pub(crate) request: Option<&'a CanonicalRequest>,
    pub(crate) selected: Option<RouteId>,
    matched: Vec<RouteId>,
}

impl<'a> Read<'a> {
    pub(crate) fn of(connection: &Connection, arrival: &'a Arrival<'a>) -> Self {
        let port = connection.port();
        let mut read = Self { arrival, request: None, selected: None, matched: Vec::new() };
        if let Arrival::Http(request) = arrival
            && port.reading() == Reading::Http
            && request.unread().is_none()
            // What T3 would refuse and T5 lets through is as unread as what the gate would refuse.
            && (!port.profile().lenient || speaks(connection, request))
        {
            read.request = Some(request);
            let matches = &connection.table().matches;
            if !port.routes().is_empty() {
                read.selected = port.selector.select(matches, request);
            }
            port.guard.concerned(matches, request, &mut read.matched);
        }
        read
    }

    /// How an answer would look (D5).
    fn form(&self, connection: &Connection, reason: Reason) -> Form {
        let opaque = connection.port().reading() == Reading::Opaque;
        match self.arrival {
            Arrival::Http(request)
                if opaque && reason == Reason::Allowed && self.is_probe(connection) =>
            {
                if request.is_grpc_content_type() { Form::Grpc } else { Form::Http }
            }
            Arrival::Http(_) | Arrival::Refused(_) if opaque => Form::Closed,
            Arrival::Http(request)
                if reason == Reason::ProtocolRefused && !takes(connection, request.version()) =>
            {
                Form::Closed
            }
            Arrival::Http(request) if request.is_grpc_content_type() => Form::Grpc,
            Arrival::Refused(refusal) if refusal.grpc => Form::Grpc,
            Arrival::Http(_) | Arrival::Refused(_) => Form::Http,
            Arrival::Bytes | Arrival::Silence | Arrival::ForeignTls => Form::Closed,
        }
    }

    /// T6. What HTTP says is compared as declared; a gRPC probe's service is in its message, which isn't read.
    fn is_probe(&self, connection: &Connection) -> bool {
        let probes = connection.port().probes();
        if probes.is_empty() || !connection.is_from_prober() {
            return false;
        }
        probes.iter().any(|probe| match (probe, self.arrival) {
            (Probe::Http { target, .. }, Arrival::Http(request)) => {
                request.unread().is_none()
                    && request.version() != Version::Http2
                    && request.method() == "GET"
                    && request.target() == &**target
                    && !request.has_body()
            }
            (Probe::Grpc { .. }, Arrival::Http(request)) => {
                request.unread().is_none()
                    && is_grpc_request(request)
                    && request.path() == "/grpc.health.v1.Health/Check"
            }
            (Probe::Tcp, Arrival::Silence) => true,
            _ => false,
        })
    }

    /// Whether the port's protocol is not what arrived, or anything but HTTP is refused here (T3).
    fn is_protocol_refused(&self, connection: &Connection, view: View) -> bool {
        let port = connection.port();
        if port.reading() == Reading::Opaque || (view == View::Enforced && port.profile().lenient) {
            return false;
        }
        match self.arrival {
            Arrival::Http(request) => !speaks(connection, request),
            Arrival::Refused(_) => false,
            Arrival::Bytes | Arrival::Silence | Arrival::ForeignTls => {
                port.protocol() != Protocol::Unknown || port.http_only(view)
            }
        }
    }

    /// The Audit policies that matched at the step that decides the would-be verdict.
    fn audited(&self, connection: &Connection, now: Timestamp, outcome: Outcome) -> Vec<RuleId> {
        let table = connection.table();
        let (effect, on_routes) = match outcome.step {
            5 => (Effect::Refuse, None),
            6 => (Effect::Deny, Some(false)),
            7 => (Effect::Require, Some(false)),
            9 => (Effect::Deny, Some(true)),
            10 => (Effect::Require, Some(true)),
            11 => (Effect::Allow, None),
            _ => return Vec::new(),
        };
        connection
            .port()
            .rules()
            .filter(|id| {
                table.rules.get(*id).is_some_and(|rule| {
                    let on_route = rule.level == crate::rows::Level::Route;
                    rule.audit
                        && rule.effect == effect
                        && on_routes.is_none_or(|want| want == on_route)
                })
            })
            .filter(|id| {
                crate::near_miss::Dimensions::of(connection, self, now, *id).does_its_work()
            })
            .collect()
    }
}

/// Whether the request is of the protocol that the port's Server names (T3).
fn speaks(connection: &Connection, request: &CanonicalRequest) -> bool {
    takes(connection, request.version())
        && (connection.port().protocol() != Protocol::Grpc || is_grpc_request(request))
}

/// Whether the port takes this version of HTTP at all.
fn takes(connection: &Connection, version: Version) -> bool {
    match connection.port().protocol() {
        Protocol::Http1 => version != Version::Http2,
        Protocol::Http2 | Protocol::Grpc => version == Version::Http2,
        Protocol::Unknown | Protocol::Opaque | Protocol::Tls => true,
    }
}

fn judge(connection: &Connection, read: &Read<'_>, moment: Moment, view: View) -> Outcome {
    before_rules(connection, read, moment, view)
        .unwrap_or_else(|| by_rules(connection, read, moment.now, view))
}

/// Steps 1 to 4.
fn before_rules(
    connection: &Connection,
    read: &Read<'_>,
    moment: Moment,
    view: View,
) -> Option<Outcome> {
    let at = |reason, step| Some(Outcome { reason, rule: None, step });
    let table = connection.table();
    if table.max_table_age_millis().is_some_and(|limit| moment.table_age_millis > limit) {
        return at(Reason::PolicyStale, 1);
    }
    let opaque = connection.port().reading() == Reading::Opaque;
    match read.arrival {
        Arrival::Refused(refusal) if !opaque => return at(Reason::InvalidRequest(refusal.rule), 2),
        Arrival::Http(request) if view == View::WouldBe && !opaque => {
            if let Some(refusal) = request.unread() {
                return at(Reason::InvalidRequest(refusal.rule), 2);
            }
        }
        _ => {}
    }
    if read.is_probe(connection) {
        return at(Reason::Allowed, 3);
    }
    if connection.peer_rejected(moment.now) {
        return at(Reason::PeerRejected, 4);
    }
    if read.is_protocol_refused(connection, view) {
        return at(Reason::ProtocolRefused, 4);
    }
    None
}

/// Steps 5 to 12.
fn by_rules(connection: &Connection, read: &Read<'_>, now: Timestamp, view: View) -> Outcome {
    let here = settle(connection, connection.at_port(view), read.request, now);
    let mut chosen = Firsts::default();
    if let Some(route) = read.selected {
        chosen = settle(connection, &connection.selected(route, view), read.request, now);
    }
    let mut concerned = Firsts::default();
    for route in &read.matched {
        let standing = connection.matched(*route, view);
        concerned.merge(&settle(connection, &standing, read.request, now));
    }
    let at = |reason, rule, step| Outcome { reason, rule, step };
    let no_route = read.request.is_some()
        && !connection.port().routes().is_empty()
        && read.selected.is_none()
        && !(view == View::Enforced && connection.port().access() == Access::Audit);

    if let Some(rule) = here.refuse.or(chosen.refuse).or(concerned.refuse).rule() {
        at(Reason::PolicyUnreadable, Some(rule), 5)
    } else if let Some(rule) = here.deny.rule() {
        at(denied(connection, rule), Some(rule), 6)
    } else if let Some(rule) = here.require.rule() {
        at(Reason::RequirementNotMet, Some(rule), 7)
    } else if no_route {
        at(Reason::NoRoute, None, 8)
    } else if let Some(rule) = concerned.deny.rule() {
        at(denied(connection, rule), Some(rule), 9)
    } else if let Some(rule) = concerned.require.rule() {
        at(Reason::RequirementNotMet, Some(rule), 10)
    } else if let Some(rule) = chosen.allow.or(here.allow).rule() {
        at(Reason::Allowed, Some(rule), 11)
    } else {
        let help = here.identity_would_help || chosen.identity_would_help;
        at(by_default(connection, view, help), None, 12)
    }
}

/// A Deny that met its peer only through A3 says so (D3).
fn denied(connection: &Connection, rule: RuleId) -> Reason {
    let names_identities =
        connection.table().rules.get(rule).is_some_and(|rule| rule.identities().is_some());
    if connection.peer().is_none() && names_identities {
        Reason::NoIdentity
    } else {
        Reason::ExplicitDeny
    }
}

/// Step 12 (W3, W4, D3).
fn by_default(connection: &Connection, view: View, identity_would_help: bool) -> Reason {
    let access = connection.port().access();
    let (network, wants_identity) = match access {
        Access::Deny => (false, false),
        Access::Audit => (view == View::Enforced, false),
        Access::AllUnauthenticated => (true, false),
        Access::AllAuthenticated => (true, true),
        Access::ClusterUnauthenticated => (connection.is_from_cluster(), false),
        Access::ClusterAuthenticated => (connection.is_from_cluster(), true),
    };
    if network && (!wants_identity || connection.is_of_ours()) {
        return Reason::Allowed;
    }
    let help = identity_would_help || (network && wants_identity);
    if connection.peer().is_none() && help { Reason::NoIdentity } else { Reason::NoMatchingRule }
}

/// A standing with its pending rules judged by the request.
fn settle(
    connection: &Connection,
    standing: &Standing,
    request: Option<&CanonicalRequest>,
    now: Timestamp,
) -> Firsts {
    let mut settled = standing.settled;
    for Pending { id, lacks_identity } in &standing.pending {
        let Some(rule) = connection.table().rules.get(*id) else { continue };
        if !holds_now(connection, *id, request, now) {
            continue;
        }
        if *lacks_identity {
            settled.identity_would_help = true;
        } else {
            settled.note(rule.effect, *id);
        }
    }
    settled
}

/// Whether a rule's scope, conditions and term hold for the request; not for bytes (T2).
fn holds_now(
    connection: &Connection,
    id: RuleId,
    request: Option<&CanonicalRequest>,
    now: Timestamp,
) -> bool {
    let rules = &connection.table().rules;
    let Some(rule) = rules.get(id) else { return false };
    if is_expired(rules.valid_until(rule), now) {
        return false;
    }
    if rule.scope == crate::rows::Scope::Http && request.is_none() {
        return false;
    }
    connection.port().conditions_satisfied(id)
        || rules
            .conditions(rule)
            .iter()
            .all(|index| condition_holds(connection, id, *index, request))
}

/// A grant ends at the instant that `validUntil` names (A7).
pub(crate) fn is_expired(valid_until: Option<Timestamp>, now: Timestamp) -> bool {
    valid_until.is_some_and(|end| end <= now)
}

/// One condition of a rule, with the rigour of its effect (V2, V5).
pub(crate) fn condition_holds(
    connection: &Connection,
    id: RuleId,
    index: u32,
    request: Option<&CanonicalRequest>,
) -> bool {
    let table = connection.table();
    let (Some(rule), Some(condition), Some(request)) =
        (table.rules.get(id), table.condition(id, index), request)
    else {
        return false;
    };
    let rigour = if rule.effect == Effect::Allow { Rigour::EveryValue } else { Rigour::AnyValue };
    condition.holds(request, rigour)
}
