//! What the pod itself calls: an explicit listener stands for a service, an endpoint is chosen, and bytes go to it under
//! mutual TLS. Requests are not read here but for their first line: what may be asked is the other side's to decide.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use engine::Reason;
use snapshot::Answer as DecisionAnswer;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tracing::warn;

use crate::clock;
use crate::denials::{DenialRecord, Direction, PeerRecord};
use crate::discovery::{Endpoint, Speaks};
use crate::endpoint::{self, Passage, Proven, Reached, Unreached};
use crate::enforcement::Enforced;
use crate::exchange::{Answer, Failure};
use crate::first::{self, First, Look, Seen};
use crate::forward::{self, Ended, Side, Why};
use crate::http1;
use crate::limits;
use crate::memory::Pressure;
use crate::metrics::Subject;
use crate::prefixed::Prefixed;
use crate::requests::failure_answer;
use crate::session::new_id;
use crate::settings::Outbound;
use crate::shared::Worker;
use crate::sockets;
use crate::tls::{ALPN_HTTP1, ALPN_TCP};

/// How many endpoints are tried for one connection.
const TRIES: usize = 3;

/// One service that the pod calls, on one worker.
#[derive(Debug)]
pub struct OutboundPort {
    /// The thread.
    pub worker: Rc<Worker>,
    /// Where it listens, and for what.
    pub port: Outbound,
}

/// What the pod's application says first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Spoken {
    http: bool,
    head_only: bool,
}

impl OutboundPort {
    /// Serves one connection of the pod's application to its end.
    pub async fn serve(self: Rc<Self>, stream: TcpStream, _source: SocketAddr) {
        let shared = &self.worker.shared;
        shared.metrics.outbound_connections.add(1);
        if shared.memory.pressure() >= Pressure::Shed {
            self.record(None, Reason::Overloaded, false, "memory");
            return;
        }
        let Some(_place) = shared.outbound_places.take() else {
            self.record(None, Reason::Overloaded, false, "connections");
            return;
        };
        shared.metrics.outbound_open.add(1);
        self.open(stream).await;
        shared.metrics.outbound_open.add(-1);
    }

    async fn open(&self, mut stream: TcpStream) {
        sockets::tune(&stream);
        let speaks = self.speaks();
        let mut seen = Seen::default();
        let first = if speaks == Some(Speaks::Bytes) {
            Ok(First::Bytes)
        } else {
            first_words(&mut stream, &mut seen, speaks == Some(Speaks::Http1)).await
        };
        let spoken = match first {
            Err(_) | Ok(First::Left) => return,
            Ok(first) => {
                Spoken { http: first == First::Http1, head_only: seen.bytes.starts_with(b"HEAD ") }
            }
        };
        if let Err(refused) = self.call(&mut stream, seen.bytes, spoken).await {
            answer(stream, spoken, &refused).await;
        }
    }

    /// Carries the connection, of which `begun` was read. A request that nobody has heard goes out once more, on a new
    /// connection: the other side may have closed the first one for reasons of its own.
    async fn call(
        &self,
        stream: &mut TcpStream,
        mut begun: Vec<u8>,
        spoken: Spoken,
    ) -> Result<(), Answer> {
        let repeatable = spoken.http && http1::is_repeatable_alone(&begun);
        let mut kept = repeatable.then(|| begun.clone());
        loop {
            // The table of this moment: the client may have taken its time to speak.
            let Some(enforced) = self.worker.shared.enforcement.current() else {
                return Err(self.record(None, Reason::NoPolicyLoaded, spoken.http, ""));
            };
            let endpoints = self.endpoints(&enforced);
            let (endpoint, reached, passage) = self.reach(&enforced, &endpoints, spoken).await?;
            // What is open for long must not keep a table that is no longer in force.
            drop(enforced);
            let length = begun.len() as u64;
            let client = Prefixed::new(begun, &mut *stream);
            let Some(ended) = self.carry(client, endpoint, (reached, passage), spoken).await else {
                return Ok(());
            };
            // A connection that broke before a byte came back: the other side refused us, or its application is gone.
            let Ended { to_client: 0, from_client, why: Why::Broken(Side::Callee, error) } = ended
            else {
                return Ok(());
            };
            let Some(again) = kept.take().filter(|_| from_client <= length && broke_off(&error))
            else {
                self.log_failure(&endpoint.address.to_string(), &error);
                return Err(failure_answer(Failure::Unreachable));
            };
            begun = again;
            self.worker.shared.metrics.repeated.add(1);
        }
    }

    /// What the service speaks as far as is known now.
    fn speaks(&self) -> Option<Speaks> {
        self.worker.shared.enforcement.current()?.discovery.service(&self.port.service)?.speaks()
    }

    fn endpoints(&self, enforced: &Enforced) -> Vec<Endpoint> {
        let service = enforced.discovery.service(&self.port.service);
        service.map(|service| service.in_turn().take(TRIES).cloned().collect()).unwrap_or_default()
    }

    /// The first endpoint that can be reached. A refusal ends the search: another endpoint's answer would hide it.
    async fn reach<'e>(
        &self,
        enforced: &Enforced,
        endpoints: &'e [Endpoint],
        spoken: Spoken,
    ) -> Result<(&'e Endpoint, Reached, Passage), Answer> {
        if let Some(limit) = enforced.table.max_table_age_millis()
            && enforced.moment().table_age_millis > limit
        {
            return Err(self.record(None, Reason::PolicyStale, spoken.http, ""));
        }
        let alpn = if spoken.http { ALPN_HTTP1 } else { ALPN_TCP };
        for endpoint in endpoints {
            match endpoint::reach(&self.worker.shared, enforced, endpoint, alpn).await {
                Ok((reached, passage)) => return Ok((endpoint, reached, passage)),
                Err(Unreached::Refused(reason, why)) => {
                    return Err(self.record(Some(endpoint), reason, spoken.http, &why));
                }
                Err(Unreached::Failed(error)) => {
                    self.log_failure(&endpoint.address.to_string(), &error);
                }
            }
        }
        if endpoints.is_empty() {
            self.log_failure("", &io::Error::other("no endpoint is known"));
        }
        Err(failure_answer(Failure::Unreachable))
    }

    fn log_failure(&self, endpoint: &str, error: &io::Error) {
        self.worker.shared.metrics.failed(Failure::Unreachable);
        warn!(service = self.port.service, endpoint, problem = error.to_string(), "not reached");
    }

    /// None where the connection was cut, because this endpoint may no longer be talked to.
    async fn carry(
        &self,
        client: Prefixed<&mut TcpStream>,
        endpoint: &Endpoint,
        (reached, passage): (Reached, Passage),
        spoken: Spoken,
    ) -> Option<Ended> {
        match reached {
            Reached::Plain(stream) => {
                tokio::select! {
                    ended = forward::to_endpoint(passage, client, stream) => Some(ended),
                    () = self.until_rejected(endpoint, None, spoken) => None,
                }
            }
            Reached::Meshed(stream, proven) => {
                tokio::select! {
                    ended = forward::to_endpoint(passage, client, stream) => Some(ended),
                    () = self.until_rejected(endpoint, Some(&proven), spoken) => None,
                }
            }
        }
    }

    /// Ends when this endpoint may no longer be talked to.
    async fn until_rejected(&self, endpoint: &Endpoint, proven: Option<&Proven>, spoken: Spoken) {
        let shared = &self.worker.shared;
        let mut changes = shared.revisit.subscribe();
        loop {
            let rejected = match (shared.enforcement.current(), proven) {
                (None, _) => None,
                (Some(enforced), Some(proven)) => proven.rejected(shared, &enforced, endpoint),
                (Some(enforced), None) => endpoint::plain_rejected(&enforced),
            };
            if let Some(reason) = rejected {
                shared.metrics.cut.add(1);
                self.record(Some(endpoint), reason, spoken.http, "cut");
                return;
            }
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Counts a refusal and writes it down; what the application sees of it.
    fn record(
        &self,
        endpoint: Option<&Endpoint>,
        reason: Reason,
        http: bool,
        detail: &str,
    ) -> Answer {
        let shared = &self.worker.shared;
        let decision = endpoint::refusal(reason, http);
        shared.metrics.decided(Subject::Outbound, decision.verdict(), reason);
        let view = reason.outbound_view();
        let id = new_id();
        let enforced: Option<Arc<Enforced>> = shared.enforcement.current();
        let mut told = DecisionAnswer::without_table(&decision);
        told.id = Some(id.clone());
        told.status = http.then_some(view.status);
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
            service: Some(self.port.service.clone()),
            decision: told,
            peer: PeerRecord {
                ip: endpoint.map(|endpoint| endpoint.address.ip().to_string()).unwrap_or_default(),
                ..PeerRecord::default()
            },
            request: None,
            gate: None,
            detail: (!detail.is_empty()).then(|| detail.to_owned()),
        });
        Answer { id, view, grpc: false }
    }
}

/// What the application says first. Towards HTTP the client speaks first, so there is nothing to do until it does:
/// connections that are opened ahead of need are kept, for a while.
async fn first_words(stream: &mut TcpStream, seen: &mut Seen, patient: bool) -> io::Result<First> {
    let look = Look { tls_for: None, http: true };
    let deadline = Instant::now() + limits::HALF_CLOSED;
    loop {
        match first::look(stream, seen, look).await {
            Ok(First::Silence) if patient && Instant::now() < deadline => {}
            Ok(First::Silence) if patient => return Ok(First::Left),
            first => return first,
        }
    }
}

/// Whether a connection ended without a word: no alert of TLS, which says that the other side refuses us.
fn broke_off(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
    )
}

/// HTTP gets an answer, anything else is closed (semantics D5).
async fn answer(mut client: TcpStream, spoken: Spoken, answer: &Answer) {
    if !spoken.http {
        return;
    }
    let sent = client.write_all(&answer.http1(spoken.head_only)).await.is_ok();
    if sent && client.shutdown().await.is_ok() {
        first::linger(&mut client).await;
    }
}

#[cfg(test)]
mod tests;
