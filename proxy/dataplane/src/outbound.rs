//! What the pod itself calls: an explicit listener stands for a service. Each HTTP request, and each connection of other
//! bytes, finds an endpoint of its own and goes there under mutual TLS. What may be asked is the other side's to decide.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use engine::{Form, Reason};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::callees::Callees;
use crate::discovery::Speaks;
use crate::endpoint::Checked;
use crate::exchange::{Answer, Failure};
use crate::first::{self, First, Look, Seen};
use crate::forward::{self, Ended, Side, Why};
use crate::http1;
use crate::http2;
use crate::limits;
use crate::memory::Pressure;
use crate::prefixed::Prefixed;
use crate::service_metrics::{ServiceMetrics, Trouble};
use crate::settings::Outbound;
use crate::shared::Worker;
use crate::sockets;
use crate::tls::{ALPN_HTTP1, ALPN_TCP};

mod calls;
mod lines;
mod reaching;
mod record;
mod redirected;

pub use redirected::RedirectedOutbound;

/// One service that the pod calls, on one worker.
#[derive(Debug)]
pub struct OutboundPort {
    worker: Rc<Worker>,
    port: Outbound,
    /// What a service is called by people: in denials, counters and lines.
    name: String,
    callees: Callees,
    metrics: Arc<ServiceMetrics>,
}

/// What the pod's application says first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Spoken {
    http: bool,
    head_only: bool,
}

impl Spoken {
    const BYTES: Self = Self { http: false, head_only: false };

    fn form(self) -> Form {
        if self.http { Form::Http } else { Form::Closed }
    }

    fn alpn(self) -> &'static [u8] {
        if self.http { ALPN_HTTP1 } else { ALPN_TCP }
    }
}

impl OutboundPort {
    /// Of a listener, on a worker.
    pub fn new(worker: Rc<Worker>, port: Outbound) -> Self {
        let (name, metrics) = (port.service.clone(), &worker.shared.metrics);
        let metrics = metrics.services.of(&name);
        Self::named(worker, port, name, metrics)
    }

    fn named(
        worker: Rc<Worker>,
        port: Outbound,
        name: String,
        metrics: Arc<ServiceMetrics>,
    ) -> Self {
        let exchanges = Rc::clone(&worker.exchanges);
        let callees = Callees::new(&port.service, exchanges, Arc::clone(&metrics));
        Self { worker, port, name, callees, metrics }
    }

    /// Serves one connection of the pod's application to its end.
    pub async fn serve(self: Rc<Self>, stream: TcpStream, _source: SocketAddr) {
        let shared = &self.worker.shared;
        shared.metrics.outbound_connections.add(1);
        if shared.memory.pressure() >= Pressure::Shed {
            self.record(None, Reason::Overloaded, Form::Closed, "memory");
            return;
        }
        let Some(_place) = shared.outbound_places.take() else {
            self.record(None, Reason::Overloaded, Form::Closed, "connections");
            return;
        };
        shared.metrics.outbound_open.add(1);
        Rc::clone(&self).open(stream).await;
        shared.metrics.outbound_open.add(-1);
    }

    /// Follows discovery and closes idle connections that may no longer be used, until SIGTERM.
    pub async fn tend(self: Rc<Self>) {
        let shared = &self.worker.shared;
        let mut stopping = shared.stopping.subscribe();
        let mut changes = shared.revisit.subscribe();
        loop {
            self.look_again();
            tokio::select! {
                _ = stopping.wait_for(|stopping| *stopping) => break,
                changed = changes.changed() => if changed.is_err() { break },
            }
        }
        self.callees.clear();
    }

    /// Takes over what discovery says now, and closes idle connections that no longer stand.
    fn look_again(&self) {
        let shared = &self.worker.shared;
        if let Some(enforced) = shared.enforcement.current() {
            self.callees.refresh(&enforced.discovery);
            self.callees.prune(shared, &enforced);
        }
    }

    async fn open(self: Rc<Self>, mut stream: TcpStream) {
        sockets::tune(&stream);
        let speaks = self.speaks();
        let mut seen = Seen::default();
        let first = if speaks == Some(Speaks::Bytes) {
            Ok(First::Bytes)
        } else {
            first_words(&mut stream, &mut seen, speaks == Some(Speaks::Http)).await
        };
        let head_only = seen.bytes.starts_with(b"HEAD ");
        let client = Prefixed::new(seen.bytes, stream);
        match first {
            Err(_) | Ok(First::Left) => {}
            Ok(First::Http1) => {
                if let Some(unread) = http1::serve_calls(client, &*self).await {
                    self.carry_bytes(unread, Spoken { http: true, head_only }).await;
                }
            }
            Ok(First::Http2) => Box::pin(http2::serve_calls(client, self)).await,
            Ok(_) => self.carry_bytes(client, Spoken::BYTES).await,
        }
    }

    /// What the service speaks as far as is known now.
    fn speaks(&self) -> Option<Speaks> {
        self.worker.shared.enforcement.current()?.discovery.service(&self.port.service)?.speaks()
    }

    /// Carries the rest of a connection, whatever it is, on one of its own.
    async fn carry_bytes<C>(&self, mut client: C, spoken: Spoken)
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        let (wire, checked, _flight) = match self.reach(spoken.form(), spoken.alpn()).await {
            Ok(reached) => reached,
            Err(refused) => return answer(client, spoken, &refused).await,
        };
        let ended = tokio::select! {
            ended = forward::to_endpoint(checked.as_ref(), &mut client, wire) => ended,
            // Nothing is said into the middle of what may have begun.
            _ = self.until_rejected(&checked, spoken.form()) => return,
        };
        // A connection that broke before a byte came back: the other side refused us, or its application is gone.
        if let Ended { to_client: 0, why: Why::Broken(Side::Callee, error), .. } = ended {
            self.log_failure(Some(checked.endpoint.address), &error);
            answer(client, spoken, &self.failure(Failure::Unreachable, Trouble::Broken)).await;
        }
    }

    /// Ends when this endpoint may no longer be talked to, with what the application is told.
    async fn until_rejected(&self, checked: &Checked, form: Form) -> Answer {
        let shared = &self.worker.shared;
        let mut changes = shared.revisit.subscribe();
        loop {
            let enforced = shared.enforcement.current();
            if let Some(reason) = enforced.and_then(|enforced| checked.rejected(shared, &enforced))
            {
                shared.metrics.cut.add(1);
                return self.record(Some(&checked.endpoint), reason, form, "cut");
            }
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
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

/// HTTP gets an answer, anything else is closed (semantics D5).
async fn answer<C>(mut client: C, spoken: Spoken, answer: &Answer)
where
    C: AsyncRead + AsyncWrite + Unpin,
{
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
