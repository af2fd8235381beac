//! The requests of an HTTP connection, decided: gate and engine on one table, a permit or an answer.

use std::rc::Rc;

use engine::gate::{GateProfile, GateRule, Refusal, http1, http1_into, http2, http2_into};
use engine::request::{CanonicalRequest, Version, is_grpc};
use engine::rows::Probe;
use engine::{Arrival, Decision, Form, Reason};

use crate::clock;
use crate::decision_id::new_id;
use crate::exchange::{Answer, Decider, Denied, Failure, Granted, InFlight, Verdict};
use crate::memory::Pressure;
use crate::metrics::Subject;
use crate::session::{About, Denial, Judged, Session};

/// The step of D1 at which a probe is allowed.
const PROBE_STEP: u8 = 3;
/// HTTP connections of a peer end this long before its certificate does (semantics I9: drained before, cut at the end).
const BEFORE_EXPIRY_MILLIS: i64 = 10_000;
/// What the kubelet sends with a probe besides the declared headers (semantics T6).
const PROBE_HEADERS: [&str; 2] = ["user-agent", "accept"];
/// The same with a gRPC probe; nothing can be declared for one.
const GRPC_PROBE_HEADERS: [&str; 3] = ["user-agent", "content-type", "grpc-timeout"];
/// Between two proxies, the version that a request had before HTTP/2 carried it. Never forwarded: the gate removes it.
const VERSION_CARRIED: &[u8] = b"x-policyd-version";
const GRPC_DEADLINE_EXCEEDED: u8 = 4;
const GRPC_UNAVAILABLE: u8 = 14;

impl Decider for Session {
    fn decide(&self, head: &[u8]) -> Verdict {
        let verdict = self.decide_read(|| false, |reuse, profile| http1_into(reuse, head, profile));
        if let Verdict::Forward(granted) = &verdict {
            *self.in_flight.borrow_mut() = Rc::downgrade(&granted.request);
        }
        verdict
    }

    fn decide_fields(&self, fields: &[(&[u8], &[u8])]) -> Verdict {
        let version = self.version_carried(fields);
        let grpc = || fields.iter().any(|(name, value)| *name == b"content-type" && is_grpc(value));
        self.decide_read(grpc, |reuse, profile| http2_into(reuse, fields, profile, version))
    }

    fn give_back(&self, request: Rc<CanonicalRequest>) {
        if self.in_flight.borrow().ptr_eq(&Rc::downgrade(&request)) {
            self.in_flight.take();
        }
        self.worker().spare.keep(request);
    }

    fn refused_below(&self, rule: GateRule, what: &str) {
        let decision = Decision::refusal(Reason::InvalidRequest(rule), Form::Closed);
        let version = Version::Http2;
        let refusal = Refusal { rule, offset: 0, field: None, grpc: false, version };
        let about = About { gate: Some(&refusal), detail: Some(what), ..About::default() };
        drop(self.settle(Subject::Request, decision, about));
    }

    async fn revoked(&self, request: &CanonicalRequest) -> Answer {
        let denial = self.until_request_denied(request).await;
        match verdict(&denial) {
            Verdict::Answer(answer) => answer,
            Verdict::Close | Verdict::Deny(_) | Verdict::Forward(_) => Answer {
                id: denial.id,
                view: denial.decision.reason().client_view(),
                grpc: request.is_grpc_content_type(),
            },
        }
    }

    fn refuse_head(&self, _so_far: &[u8], refusal: Refusal) -> Answer {
        let decision = refused(Session::decide(self, &Arrival::Refused(&refusal)));
        self.answer(decision, About { gate: Some(&refusal), ..About::default() })
    }

    fn refuse_body(&self, request: &CanonicalRequest, refusal: Refusal) -> Answer {
        let form = if request.is_grpc_content_type() { Form::Grpc } else { Form::Http };
        let decision = Decision::refusal(Reason::InvalidRequest(refusal.rule), form);
        self.answer(
            decision,
            About { request: Some(request), gate: Some(&refusal), detail: Some("body") },
        )
    }

    fn failed(&self, failure: Failure) -> Answer {
        self.worker().shared.metrics.failed(failure);
        failure_answer(failure)
    }

    fn ending(&self) -> bool {
        self.worker().shared.is_stopping() || self.ends_between_requests()
    }

    async fn ended(&self) {
        let shared = &self.worker().shared;
        let mut stopping = shared.stopping.subscribe();
        let mut changes = shared.revisit.subscribe();
        while !self.ends_between_requests() {
            tokio::select! {
                _ = stopping.wait_for(|stopping| *stopping) => return,
                changed = changes.changed() => if changed.is_err() { return },
            }
        }
    }
}

/// What the client sees of an application that failed: an id and a status, and that it is nothing of policy.
pub fn failure_answer(failure: Failure) -> Answer {
    let (status, grpc_status) = match failure {
        Failure::Deadline => (504, GRPC_DEADLINE_EXCEEDED),
        Failure::Silent => (504, GRPC_UNAVAILABLE),
        Failure::Unreachable | Failure::BadAnswer | Failure::Desync => (502, GRPC_UNAVAILABLE),
    };
    let view = engine::ClientView { status, grpc_status, category: "unavailable" };
    Answer { id: new_id(), view, grpc: false }
}

impl Session {
    /// Decides what `gate` reads. `grpc` says how to answer where it isn't asked.
    fn decide_read(
        &self,
        grpc: impl Fn() -> bool,
        gate: impl FnOnce(CanonicalRequest, &GateProfile) -> Result<CanonicalRequest, Refusal>,
    ) -> Verdict {
        let worker = self.worker();
        let overloaded = |what| {
            let about = About { detail: Some(what), ..About::default() };
            let form = if grpc() { Form::Grpc } else { Form::Http };
            self.refuse(Decision::refusal(Reason::Overloaded, form), about)
        };
        if worker.shared.memory.pressure() == Pressure::Refuse {
            return overloaded("memory");
        }
        let Some(in_flight) =
            InFlight::take(&worker.in_flight, worker.most_in_flight, &worker.shared.metrics)
        else {
            return overloaded("requests");
        };
        if self.share.get() >= worker.most_of_one_peer {
            return overloaded("requests of one peer");
        }
        let in_flight = in_flight.in_share(&self.share);
        match self.read(gate) {
            Ok(read) => self.settle_request(read, in_flight),
            Err((refusal, decision)) => {
                self.refuse(decision, About { gate: Some(&refusal), ..About::default() })
            }
        }
    }

    /// The version that the request had at its client: a proxy that carries HTTP/1.1 over HTTP/2 says so. Nobody else is
    /// asked, and whoever proved to be a peer could as well have sent HTTP/1.1.
    fn version_carried(&self, fields: &[(&[u8], &[u8])]) -> Version {
        let says = |(name, value): &(&[u8], &[u8])| *name == VERSION_CARRIED && *value == b"1.1";
        if self.peer().is_some() && fields.iter().any(says) {
            Version::Http11
        } else {
            Version::Http2
        }
    }

    /// Whether the connection gives up its place: memory is short, or the peer's certificate is about to end.
    fn ends_between_requests(&self) -> bool {
        self.worker().shared.memory.pressure() >= Pressure::Shed || self.peer_is_ending()
    }

    /// Whether the peer's certificate is about to end.
    fn peer_is_ending(&self) -> bool {
        let ends = self.peer().map(|peer| peer.leaf.not_after_millis);
        ends.is_some_and(|end| end - BEFORE_EXPIRY_MILLIS <= clock::now_millis())
    }

    /// Reads a head as the port of the table in force says, without a table only to know how to answer; and decides on it
    /// by that very table, whatever comes into force meanwhile (semantics T4). Nothing is counted or written.
    fn read(
        &self,
        gate: impl FnOnce(CanonicalRequest, &GateProfile) -> Result<CanonicalRequest, Refusal>,
    ) -> Result<Read, (Refusal, Decision)> {
        let judged = self.judged();
        let judged = judged.as_deref();
        let unknown = GateProfile::default();
        let profile = judged.map_or(&unknown, |judged| judged.connection.port().profile());
        match self.worker().spare.read(|reuse| gate(reuse, profile)) {
            Err(refusal) => {
                let decision = refused(Session::decide_on(judged, &Arrival::Refused(&refusal)));
                Err((refusal, decision))
            }
            Ok(request) => {
                let decision = Session::decide_on(judged, &Arrival::Http(&request));
                let probe = decision.step() == PROBE_STEP && decision.permit().is_some();
                let stripped = if probe { stripped_probe(judged, &request) } else { None };
                Ok(Read { request, decision, probe, stripped })
            }
        }
    }

    /// Whether a head is that of a probe which is exempt from policy (semantics T6). Nothing is counted or written.
    pub(crate) fn is_probe(&self, head: &[u8]) -> bool {
        self.read(|reuse, profile| http1_into(reuse, head, profile)).is_ok_and(|read| read.probe)
    }

    fn settle_request(&self, read: Read, in_flight: InFlight) -> Verdict {
        let Read { request, decision, probe, stripped } = read;
        let about = About { request: Some(&request), ..About::default() };
        match self.settle(Subject::Request, decision, about) {
            Err(denial) => verdict_on(&denial, request),
            Ok(permit) => {
                let Some(request) = (if probe { stripped.map(Rc::new) } else { Some(request) })
                else {
                    // FAIL-CLOSED: a probe that can't be reduced to what is exempt is no exempt probe.
                    return self.refuse(
                        Decision::refusal(Reason::EngineError, Form::Http),
                        About::default(),
                    );
                };
                Verdict::Forward(Granted { request, permit, in_flight })
            }
        }
    }

    fn refuse(&self, decision: Decision, about: About<'_>) -> Verdict {
        match self.settle(Subject::Request, decision, about) {
            Err(denial) => verdict(&denial),
            Ok(_) => Verdict::Close,
        }
    }

    fn answer(&self, decision: Decision, about: About<'_>) -> Answer {
        let form = decision.form();
        let denial = self.settle(Subject::Request, decision, about).err();
        let view = denial.as_ref().and_then(|denial| denial.decision.client_view());
        Answer {
            id: denial.map_or_else(new_id, |denial| denial.id),
            view: view.unwrap_or_else(|| Reason::EngineError.client_view()),
            grpc: form == Form::Grpc,
        }
    }
}

/// A head that the gate accepted, and what one table makes of it.
struct Read {
    request: Rc<CanonicalRequest>,
    decision: Decision,
    /// Whether it is a probe that is exempt from policy.
    probe: bool,
    /// Of a probe, what may reach the application.
    stripped: Option<CanonicalRequest>,
}

/// An exempt probe with only those headers that may reach the application (semantics T6).
fn stripped_probe(judged: Option<&Judged>, request: &CanonicalRequest) -> Option<CanonicalRequest> {
    let port = judged?.connection.port();
    if request.version() == Version::Http2 {
        return stripped_grpc_probe(request, port.profile());
    }
    let declared = port.probes().iter().find_map(|probe| match probe {
        Probe::Http { target, headers } if **target == *request.target() => Some(headers),
        _ => None,
    })?;
    let mut head =
        format!("GET {} HTTP/1.1\r\nhost: {}\r\n", request.target(), request.authority())
            .into_bytes();
    for (name, value) in request.fields() {
        if PROBE_HEADERS.contains(&name) || declared.iter().any(|known| **known == *name) {
            head.extend_from_slice(name.as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value);
            head.extend_from_slice(b"\r\n");
        }
    }
    head.extend_from_slice(b"connection: close\r\n\r\n");
    http1(&head, port.profile()).ok()
}

fn stripped_grpc_probe(
    request: &CanonicalRequest,
    profile: &GateProfile,
) -> Option<CanonicalRequest> {
    let mut fields: Vec<(&[u8], &[u8])> = vec![
        (b":method", request.method().as_bytes()),
        (b":scheme", request.scheme().as_bytes()),
        (b":authority", request.authority().as_bytes()),
        (b":path", request.target().as_bytes()),
        (b"te", b"trailers"),
    ];
    let kept = request.fields().filter(|(name, _)| GRPC_PROBE_HEADERS.contains(name));
    fields.extend(kept.map(|(name, value)| (name.as_bytes(), value)));
    http2(&fields, profile).ok()
}

/// FAIL-CLOSED: what the gate refused is never allowed, whatever the engine made of it; there is nothing to forward.
fn refused(decision: Decision) -> Decision {
    if decision.permit().is_none() {
        decision
    } else {
        Decision::refusal(Reason::EngineError, decision.form())
    }
}

/// The same of a request that the gate has read: where it is itself that is refused, another may follow it.
fn verdict_on(denial: &Denial, request: Rc<CanonicalRequest>) -> Verdict {
    match verdict(denial) {
        Verdict::Answer(answer) if denial.decision.reason().is_of_one_request() => {
            Verdict::Deny(Denied { answer, request })
        }
        other => other,
    }
}

fn verdict(denial: &Denial) -> Verdict {
    match denial.decision.client_view() {
        None => Verdict::Close,
        Some(view) => Verdict::Answer(Answer {
            id: denial.id.clone(),
            view,
            grpc: denial.decision.form() == Form::Grpc,
        }),
    }
}
