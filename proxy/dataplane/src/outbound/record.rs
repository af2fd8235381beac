//! What is written down and counted of a call that doesn't come about, and what the application sees of it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use engine::request::CanonicalRequest;
use engine::{Decision, Form, Reason};
use snapshot::Answer as DecisionAnswer;
use tracing::warn;

use super::OutboundPort;
use crate::clock;
use crate::decision_id::new_id;
use crate::denials::{DenialRecord, Direction, PeerRecord};
use crate::discovery::Endpoint;
use crate::enforcement::Enforced;
use crate::exchange::{Answer, Failure};
use crate::metrics::Subject;
use crate::requests::failure_answer;
use crate::service_metrics::Trouble;

/// HTTP's status of every answer in words of gRPC (semantics D5).
const GRPC_STATUS: u16 = 200;

/// In which words a request is answered.
pub(super) fn form_of(request: &CanonicalRequest) -> Form {
    if request.is_grpc_content_type() { Form::Grpc } else { Form::Http }
}

impl OutboundPort {
    /// Counts a refusal and writes it down; what the application sees of it.
    pub(super) fn record(
        &self,
        endpoint: Option<&Endpoint>,
        reason: Reason,
        form: Form,
        detail: &str,
    ) -> Answer {
        let shared = &self.worker.shared;
        let decision = Decision::refusal(reason, form);
        shared.metrics.decided(Subject::Outbound, decision.verdict(), reason);
        let view = reason.outbound_view();
        let id = new_id();
        let enforced: Option<Arc<Enforced>> = shared.enforcement.current();
        let mut told = DecisionAnswer::without_table(&decision);
        told.id = Some(id.clone());
        (told.status, told.grpc_status) = match form {
            Form::Closed => (None, None),
            Form::Http => (Some(view.status), None),
            Form::Grpc => (Some(GRPC_STATUS), Some(view.grpc_status)),
        };
        told.table = enforced.as_ref().map(|enforced| enforced.table_version.clone());
        told.facts = enforced.as_ref().map(|enforced| enforced.facts_version.clone());
        shared.denials.write(&DenialRecord {
            time: clock::rfc3339(clock::now_millis()),
            event: "denial",
            direction: Direction::Outbound,
            workload: enforced.map(|enforced| enforced.workload.clone()),
            namespace: shared.settings.namespace.clone(),
            pod: shared.settings.pod_name.clone(),
            port: endpoint.map_or(self.port.listen.port(), |endpoint| endpoint.address.port()),
            service: Some(self.name.clone()),
            decision: told,
            peer: PeerRecord {
                ip: endpoint.map(|endpoint| endpoint.address.ip().to_string()).unwrap_or_default(),
                ..PeerRecord::default()
            },
            request: None,
            gate: None,
            detail: (!detail.is_empty()).then(|| detail.to_owned()),
        });
        Answer { id, view, grpc: form == Form::Grpc }
    }

    /// Counts what an endpoint failed to do; what the application sees of it. No denial.
    pub(super) fn failure(&self, failure: Failure, trouble: Trouble) -> Answer {
        self.metrics.failed(trouble);
        self.worker.shared.metrics.failed(failure);
        failure_answer(failure)
    }

    pub(super) fn log_failure(&self, endpoint: Option<SocketAddr>, error: &io::Error) {
        let endpoint = endpoint.map(|address| address.to_string()).unwrap_or_default();
        warn!(service = self.name, endpoint, problem = error.to_string(), "not reached");
    }
}
