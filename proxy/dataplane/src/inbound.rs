//! A connection to one of the pod's ports: TLS of ours is ended here, anything else is taken as it comes; then it is seen
//! what is spoken, and each arrival is decided before a byte of it goes on.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;

use engine::{Arrival, Decision, Form, Permit, Reason};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{interval, timeout};
use tracing::debug;

use crate::aside::Aside;
use crate::exchange::Upstream;
use crate::first::{self, First, Look, Seen};
use crate::forward::{self, Why};
use crate::handshake;
use crate::hello::Hello;
use crate::http1;
use crate::http2;
use crate::limits;
use crate::memory::Pressure;
use crate::metrics::Subject;
use crate::onward::Onward;
use crate::places::Place;
use crate::prefixed::Prefixed;
use crate::revisit::Carrying;
use crate::session::{About, ProvenPeer, Session};
use crate::settings::Inbound;
use crate::shared::Worker;
use crate::sockets;
use crate::tls;
use crate::watch::Watch;

mod redirected;

pub use redirected::RedirectedInbound;

/// One of the pod's ports, on one worker.
#[derive(Debug)]
pub struct InboundPort {
    /// The thread.
    pub worker: Rc<Worker>,
    /// Where it listens, and what is behind it.
    pub port: Inbound,
    /// The application behind it.
    pub onward: Rc<Onward<Application>>,
}

/// Where allowed requests and connections of a port go.
#[derive(Debug, Clone, Copy)]
pub struct Application {
    /// Where it listens.
    to: SocketAddr,
    /// The address it is dialled from; none: the kernel's choice.
    from: Option<IpAddr>,
}

impl Upstream for Application {
    type Io = TcpStream;

    async fn connect(&self) -> io::Result<TcpStream> {
        if self.from.is_some() {
            return sockets::dial(self.from, self.to, |_| {}).await;
        }
        let stream = timeout(limits::CONNECT, TcpStream::connect(self.to)).await??;
        sockets::tune(&stream);
        Ok(stream)
    }
}

impl InboundPort {
    /// A port of `worker`, without a connection to its application yet.
    pub fn new(worker: &Rc<Worker>, port: Inbound) -> Self {
        let application = Application { to: port.application, from: None };
        Self::before(worker, port, application)
    }

    fn before(worker: &Rc<Worker>, port: Inbound, application: Application) -> Self {
        Self { worker: Rc::clone(worker), port, onward: Rc::new(Onward::new(application)) }
    }

    /// Closes connections to the application that have been idle for too long, until SIGTERM.
    pub async fn tend(self: Rc<Self>) {
        let mut stopping = self.worker.shared.stopping.subscribe();
        let mut ticks = interval(http1::limits::POOLED / 2);
        loop {
            tokio::select! {
                _ = stopping.wait_for(|stopping| *stopping) => return self.onward.pool.clear(),
                _ = ticks.tick() => self.onward.pool.sweep(),
            }
        }
    }

    /// Serves one connection to its end.
    pub async fn serve(self: Rc<Self>, stream: TcpStream, source: SocketAddr) {
        let shared = &self.worker.shared;
        shared.metrics.inbound_connections.add(1);
        shared.metrics.inbound_open.add(1);
        if shared.memory.pressure() >= Pressure::Shed {
            overloaded(&self.session(source, None), "memory");
        } else if let Some(place) = shared.inbound_places.take() {
            self.open(stream, source, place).await;
        } else {
            overloaded(&self.session(source, None), "connections");
        }
        shared.metrics.inbound_open.add(-1);
    }

    fn session(&self, source: SocketAddr, peer: Option<Rc<ProvenPeer>>) -> Rc<Session> {
        Rc::new(Session::new(&self.worker, self.port.listen.port(), source.ip(), peer))
    }

    async fn open(&self, mut stream: TcpStream, source: SocketAddr, mut place: Place) {
        sockets::tune(&stream);
        let session = self.session(source, None);
        let own_name = self.worker.shared.settings.own_server_name();
        let mut seen = Seen::default();
        let look = Look { tls_for: Some(&own_name), http: session.reads_http() };
        let Ok(first) = first::look(&mut stream, &mut seen, look).await else { return };
        if let First::Ours(hello) = first {
            let stream = Prefixed::new(seen.bytes, stream);
            return Box::pin(self.open_tls(stream, source, hello, place)).await;
        }
        if !place.belongs_to(&source.ip().to_canonical().to_string()) {
            overloaded(&session, "connections");
            return;
        }
        self.carry(&session, first, seen, stream).await;
    }

    /// Ends our own TLS, then goes on with what is inside.
    async fn open_tls(
        &self,
        stream: Prefixed<TcpStream>,
        source: SocketAddr,
        hello: Hello,
        mut place: Place,
    ) {
        // In a box of its own, which is gone afterwards: a connection has no room for what it was opened with.
        let accepted = Box::pin(handshake::accept(&self.worker, stream, hello)).await;
        let (mut stream, peer) = match accepted {
            Ok(proven) => proven,
            Err(error) => {
                self.handshake_failed(source, &error);
                return;
            }
        };
        let identity = peer.leaf.identity.to_string();
        let session = self.session(source, Some(peer));
        if !place.belongs_to(&identity) {
            overloaded(&session, "connections");
            return;
        }
        let mut seen = Seen::default();
        // On a port where nothing is read there is nothing to wait for.
        let first = if session.reads_http() {
            first::look(&mut stream, &mut seen, Look { tls_for: None, http: true }).await
        } else {
            Ok(First::Bytes)
        };
        if let Ok(first) = first {
            self.carry(&session, first, seen, stream).await;
        }
    }

    /// A peer that can't prove who it is, is a denial (semantics I8); a broken connection is not.
    fn handshake_failed(&self, source: SocketAddr, error: &io::Error) {
        self.worker.shared.metrics.handshake_failures.add(1);
        debug!(source = source.to_string(), problem = error.to_string(), "handshake failed");
        if let Some(problem) = tls::rejected_peer(error) {
            let decision = Decision::refusal(Reason::PeerRejected, Form::Closed);
            let about = About { detail: Some(&problem), ..About::default() };
            drop(self.session(source, None).settle(Subject::Connection, decision, about));
        }
    }

    /// Carries a connection of which the first bytes are known. Each way is in a box, so that a connection takes what its
    /// own way takes and not what the dearest does.
    async fn carry<S>(&self, session: &Rc<Session>, first: First, seen: Seen, mut stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let arrival = match first {
            First::Http1 if session.is_opaque() => {
                return Box::pin(self.carry_probe_or_bytes(session, seen, stream)).await;
            }
            First::Http1 => {
                let stream = Prefixed::new(seen.bytes, stream);
                return Box::pin(self.carry_http(session, stream)).await;
            }
            First::Http2 if !session.is_opaque() => {
                let stream = Prefixed::new(seen.bytes, stream);
                return Box::pin(self.carry_http2(session, stream)).await;
            }
            First::Left => return self.left(session).await,
            First::Stalled | First::Ours(_) => return,
            First::Silence => Arrival::Silence,
            First::ForeignTls => Arrival::ForeignTls,
            First::Http2 | First::Bytes => Arrival::Bytes,
        };
        match session.admit(&arrival) {
            Ok(permit) => {
                Box::pin(self.carry_bytes(session, (permit, arrival), seen, stream)).await;
            }
            Err(_) => close(&mut stream).await,
        }
    }

    /// Somebody came and left without a byte. Where that was a declared TCP probe, the application is dialled, as the probe
    /// would have (semantics T6); nothing is said about anybody else.
    async fn left(&self, session: &Session) {
        if session.decide(&Arrival::Silence).permit().is_some() {
            drop(self.onward.upstream.connect().await);
        }
    }

    async fn carry_http<S>(&self, session: &Session, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let Onward { upstream, pool, .. } = &*self.onward;
        let denied = pin!(session.until_denied(Carrying::Http));
        tokio::select! {
            biased;
            () = http1::serve_pooled(stream, session, upstream, pool) => {}
            _ = Aside::new(denied) => {}
        }
    }

    async fn carry_http2<S>(&self, session: &Rc<Session>, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let denied = pin!(session.until_denied(Carrying::Http));
        tokio::select! {
            biased;
            () = Box::pin(http2::serve(stream, Rc::clone(session), Rc::clone(&self.onward))) => {}
            _ = Aside::new(denied) => {}
        }
    }

    /// On an opaque port, plaintext from where probes come from (semantics T6): a declared HTTP probe is answered as one,
    /// all else are bytes.
    async fn carry_probe_or_bytes<S>(&self, session: &Session, mut seen: Seen, mut stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let Some(head) = first::head(&mut stream, &mut seen).await else { return };
        if session.is_probe(seen.bytes.get(..head).unwrap_or_default()) {
            return self.carry_http(session, Prefixed::new(seen.bytes, stream)).await;
        }
        match session.admit(&Arrival::Bytes) {
            Ok(permit) => self.carry_bytes(session, (permit, Arrival::Bytes), seen, stream).await,
            Err(_) => close(&mut stream).await,
        }
    }

    /// Forwards a connection that was let in, watching its first line and its grant.
    async fn carry_bytes<S>(
        &self,
        session: &Session,
        (permit, arrival): (Permit, Arrival<'static>),
        seen: Seen,
        stream: S,
    ) where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let Ok(application) = self.onward.upstream.connect().await else {
            self.worker.shared.metrics.failed(crate::exchange::Failure::Unreachable);
            return;
        };
        let arrival = Cell::new(arrival);
        let mut watch = Watch::new(session, &arrival, &seen);
        let client = Prefixed::new(seen.bytes, stream);
        tokio::select! {
            ended = forward::to_application(permit, client, application, |bytes| watch.passes(bytes)) => {
                if let Why::Broken(_, error) = ended.why {
                    debug!(problem = error.to_string(), "connection broken");
                }
            }
            _ = session.until_denied(Carrying::Connection(&arrival)) => {}
        }
    }
}

/// Refuses what is beyond the bounds on connections or memory. The denial is the whole effect: the connection is dropped.
fn overloaded(session: &Session, what: &str) {
    let decision = Decision::refusal(Reason::Overloaded, Form::Closed);
    let about = About { detail: Some(what), ..About::default() };
    drop(session.settle(Subject::Connection, decision, about));
}

/// Closes a connection that is refused without a word (semantics D5), properly where TLS has a word for it.
async fn close<S: AsyncWrite + Unpin>(stream: &mut S) {
    // Whoever doesn't take it in time is cut.
    let _ = timeout(limits::GOODBYE, stream.shutdown()).await;
}

#[cfg(test)]
pub(crate) mod tests;
