//! Ends our own TLS at the accepting side, and says who the other end proved to be.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::certificate::Leaf;
use crate::clock;
use crate::hello::Hello;
use crate::limits;
use crate::prefixed::Prefixed;
use crate::session::ProvenPeer;
use crate::shared::Worker;

/// A connection inside TLS, the `ClientHello` read twice: once to know that it is ours, once to answer it.
pub type Inside = TlsStream<Prefixed<TcpStream>>;

/// Answers a `ClientHello` of ours. The peer is verified on the way, by the bundles of this moment.
pub async fn accept(
    worker: &Rc<Worker>,
    stream: Prefixed<TcpStream>,
    hello: Hello,
) -> io::Result<(Inside, ProvenPeer)> {
    // FAIL-CLOSED: without a valid certificate of our own no handshake completes.
    let own = worker.shared.keyring.valid_credentials(clock::now_millis());
    let own = own.ok_or_else(|| io::Error::other("we have no valid certificate"))?;
    let config = match hello {
        Hello::Mesh => &own.server.mesh,
        Hello::OwnHttp1 => &own.server.http1,
        Hello::OwnHttp2 => &own.server.http2,
        Hello::OwnUnnamed | Hello::Foreign | Hello::Incomplete => &own.server.unnamed,
    };
    let work = async {
        let _turn = worker.handshakes.acquire().await.map_err(io::Error::other)?;
        TlsAcceptor::from(Arc::clone(config)).accept(stream).await
    };
    let stream = timeout(limits::HANDSHAKE, work).await??;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default().to_vec();
    let first = chain.first().ok_or_else(|| io::Error::other("the peer showed no certificate"))?;
    let leaf = Leaf::read(first).map_err(io::Error::other)?;
    Ok((stream, ProvenPeer { leaf, chain }))
}
