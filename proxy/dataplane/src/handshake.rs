//! Ends our own TLS at the accepting side, and says who the other end proved to be. Whether it proved it now or resumes what
//! it proved before makes no difference to what is checked.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::clock;
use crate::hello::Hello;
use crate::limits;
use crate::prefixed::Prefixed;
use crate::resumption::with_tickets;
use crate::session::ProvenPeer;
use crate::shared::Worker;
use crate::tls;
use crate::trust::Role;

/// A connection inside TLS, the `ClientHello` read twice: once to know that it is ours, once to answer it.
///
/// It is big and moves from hand to hand; each would have room for it, were it not boxed.
pub type Inside = Box<TlsStream<Prefixed<TcpStream>>>;

/// Answers a `ClientHello` of ours. The peer is verified on the way, by the bundles of this moment.
pub async fn accept(
    worker: &Rc<Worker>,
    stream: Prefixed<TcpStream>,
    hello: Hello,
) -> io::Result<(Inside, Rc<ProvenPeer>)> {
    // FAIL-CLOSED: without a valid certificate of our own no handshake completes.
    let shared = &worker.shared;
    let own = shared.keyring.valid_credentials(clock::now_millis());
    let own = own.ok_or_else(|| io::Error::other("we have no valid certificate"))?;
    let before = shared.keyring.trust().bundles();
    let config = match shared.enforcement.current() {
        Some(enforced) => {
            let sessions = shared.sessions.under(&own, &before, &enforced);
            Arc::clone(sessions.map_err(io::Error::other)?.server.of(hello))
        }
        None => Arc::clone(own.server.of(hello)),
    };
    let work = async {
        let _turn = worker.handshakes.acquire().await.map_err(io::Error::other)?;
        with_tickets(TlsAcceptor::from(config).accept(stream)).await
    };
    let stream = timeout(limits::HANDSHAKE, work).await??;
    let tls = stream.get_ref().1;
    let chain = tls.peer_certificates().unwrap_or_default().to_vec();
    shared.metrics.inbound_handshakes.count(tls.handshake_kind());
    // Once more: a resumed session was not verified in its handshake, and the bundles may be others by now. A chain that
    // was verified a moment ago is known.
    let under = shared.keyring.trust().bundles();
    let now = clock::now_millis();
    let leaf = under.verify(&chain, Role::Client, now).map_err(tls::not_believed)?;
    Ok((Box::new(stream), worker.peers.proven(leaf, chain, under)))
}
