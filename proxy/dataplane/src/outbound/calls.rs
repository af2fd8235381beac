//! The requests of the pod's application, each to an endpoint of its own.

use engine::Reason;
use engine::gate::Refusal;
use engine::request::{CanonicalRequest, Version};
use tokio::time::Duration;

use super::OutboundPort;
use super::reaching::Search;
use crate::callees::{Flight, Held, Lane};
use crate::endpoint::Wire;
use crate::exchange::{Answer, Failure};
use crate::http1::{Caller, Connection};
use crate::memory::Pressure;
use crate::service_metrics::Trouble;

/// Answers from this status on say nothing of how fast an endpoint is: who refuses at once mustn't attract requests.
const SERVER_ERROR: u16 = 500;

impl Caller for OutboundPort {
    type Io = Wire;
    type Proof = Held;
    type Flight = Flight;

    async fn connect(
        &self,
        request: &CanonicalRequest,
        broken: Option<&Flight>,
    ) -> Result<(Lane, Flight), Answer> {
        if self.worker.shared.memory.pressure() == Pressure::Refuse {
            return Err(self.record(None, Reason::Overloaded, true, "memory"));
        }
        let reuse = broken.is_none() && request.version() != Version::Http10;
        let mut search = Search::new(self, broken.map(Flight::callee), true);
        loop {
            let (enforced, callee) = search.next()?;
            if reuse {
                let desync = || drop(self.failed(Failure::Desync));
                if let Some(lane) = callee.take_idle(&self.worker.shared, &enforced, desync) {
                    return Ok((lane, callee.begin()));
                }
            }
            if let Some((wire, checked, flight)) = search.dial(&enforced, callee).await {
                return Ok((Connection::of(wire, Held::new(checked)), flight));
            }
        }
    }

    fn is_meshed(&self, proof: &Held) -> bool {
        proof.checked.is_meshed()
    }

    async fn until_rejected(&self, proof: &Held, _flight: &Flight) -> Answer {
        OutboundPort::until_rejected(self, &proof.checked, true).await
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

    fn refuse_body(&self, refusal: &Refusal) -> Answer {
        self.record(None, Reason::InvalidRequest(refusal.rule), true, "body")
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
