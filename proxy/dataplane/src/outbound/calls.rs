//! The requests of the pod's application, each to an endpoint of its own.

use engine::gate::{GateRule, Refusal};
use engine::request::{CanonicalRequest, Version};
use engine::{Form, Reason};
use http::Request;
use tokio::time::Duration;

use super::OutboundPort;
use super::reaching::Search;
use super::record::form_of;
use crate::callees::{Callee, Flight, Held, Lane};
use crate::caller::{Caller, Road};
use crate::endpoint::Wire;
use crate::exchange::{Answer, Failure};
use crate::http1::Connection;
use crate::http2::{self, Place};
use crate::memory::Pressure;
use crate::service_metrics::Trouble;
use crate::tls::ALPN_HTTP1;

/// Answers from this status on say nothing of how fast an endpoint is: who refuses at once mustn't attract requests.
const SERVER_ERROR: u16 = 500;

impl OutboundPort {
    /// Whether there is room for one more request.
    fn admit(&self, request: &CanonicalRequest) -> Result<(), Answer> {
        let what = if self.worker.shared.memory.pressure() == Pressure::Refuse {
            "memory"
        } else if self.worker.exchanges.flights() >= self.worker.most_calls {
            "calls"
        } else {
            return Ok(());
        };
        Err(self.record(None, Reason::Overloaded, form_of(request), what))
    }
}

/// The head of a request of HTTP/1.1 for a proxy of ours, which takes it over HTTP/2.
fn carried(request: &CanonicalRequest, callee: &Callee) -> Option<Request<()>> {
    let meshed = callee.endpoint.identity.is_some() && request.version() == Version::Http11;
    if meshed { http2::carried(request) } else { None }
}

impl Caller for OutboundPort {
    type Io = Wire;
    type Proof = Held;
    type Flight = Flight;

    async fn connect(
        &self,
        request: &CanonicalRequest,
        broken: Option<&Flight>,
    ) -> Result<(Road<Wire, Held>, Flight), Answer> {
        self.admit(request)?;
        let fresh = broken.is_some() || request.version() == Version::Http10;
        let mut search = Search::new(self, broken.map(Flight::callee), form_of(request));
        loop {
            let (enforced, callee) = search.next()?;
            if let Some(head) = carried(request, &callee) {
                if let Some((place, flight)) = search.line(&enforced, callee).await {
                    return Ok((Road::Shared(place, Box::new(head)), flight));
                }
                continue;
            }
            let desync = || drop(self.failed(Failure::Desync));
            let idle = || callee.take_idle(&self.worker.shared, &enforced, desync);
            if let Some(lane) = if fresh { None } else { idle() } {
                return Ok((Road::Own(Box::new(lane)), callee.begin()));
            }
            if let Some((wire, checked, flight)) = search.dial(&enforced, callee, ALPN_HTTP1).await
            {
                let lane = Connection::of(wire, Held::new(checked));
                return Ok((Road::Own(Box::new(lane)), flight));
            }
        }
    }

    async fn place(
        &self,
        request: &CanonicalRequest,
        broken: Option<&Flight>,
    ) -> Result<(Place<Held>, Flight), Answer> {
        self.admit(request)?;
        let mut search = Search::new(self, broken.map(Flight::callee), form_of(request));
        loop {
            let (enforced, callee) = search.next()?;
            if let Some(found) = search.line(&enforced, callee).await {
                return Ok(found);
            }
        }
    }

    fn is_meshed(&self, proof: &Held) -> bool {
        proof.checked.is_meshed()
    }

    async fn until_rejected(
        &self,
        request: &CanonicalRequest,
        proof: &Held,
        _flight: &Flight,
    ) -> Answer {
        OutboundPort::until_rejected(self, &proof.checked, form_of(request)).await
    }

    fn answered(&self, flight: &Flight, took: Duration, status: u16) {
        if status < SERVER_ERROR {
            flight.answered(took);
        }
    }

    fn keep(&self, connection: Lane, flight: &Flight) {
        flight.callee().keep(&self.worker.shared, connection);
    }

    fn repeated(&self) {
        self.worker.shared.metrics.repeated.add(1);
    }

    fn failed(&self, failure: Failure) -> Answer {
        match failure {
            Failure::Unreachable => self.failure(failure, Trouble::Broken),
            Failure::Silent | Failure::Deadline => self.failure(failure, Trouble::Silent),
            Failure::BadAnswer | Failure::Desync => self.failure(failure, Trouble::BadAnswer),
        }
    }

    fn refuse(&self, refusal: &Refusal) -> Answer {
        let form = if refusal.grpc { Form::Grpc } else { Form::Http };
        let field = refusal.field.as_deref().unwrap_or_default();
        self.record(None, Reason::InvalidRequest(refusal.rule), form, field)
    }

    fn refused_below(&self, rule: GateRule, what: &str) {
        self.record(None, Reason::InvalidRequest(rule), Form::Closed, what);
    }

    fn ending(&self) -> bool {
        let shared = &self.worker.shared;
        shared.is_stopping() || shared.memory.pressure() >= Pressure::Shed
    }

    async fn ended(&self) {
        let shared = &self.worker.shared;
        let mut stopping = shared.stopping.subscribe();
        let mut changes = shared.revisit.subscribe();
        while !self.ending() {
            tokio::select! {
                _ = stopping.wait_for(|stopping| *stopping) => return,
                changed = changes.changed() => if changed.is_err() { return },
            }
        }
    }
}
