//! Endpoints and applications that speak HTTP/2, on the `h2` crate.

use std::cell::Cell;
use std::rc::Rc;

use bytes::Bytes;
use h2::RecvStream;
use h2::client::SendRequest;
use h2::server::SendResponse;
use http::Request;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::*;
use crate::http2::limits::CONNECTION_WINDOW_BYTES;
use crate::metrics::Moments;

/// An endpoint without a proxy that speaks HTTP/2 with prior knowledge.
pub(super) struct Endpoint {
    pub(super) address: SocketAddr,
    pub(super) connections: Rc<Cell<usize>>,
    pub(super) streams: Rc<Cell<usize>>,
    /// Ends its connections politely.
    pub(super) goodbye: Rc<Notify>,
    serving: JoinHandle<()>,
}

impl Endpoint {
    /// It does this with each stream.
    pub(super) async fn start(
        script: impl AsyncFn(Request<RecvStream>, SendResponse<Bytes>) + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (connections, streams) = (Rc::<Cell<usize>>::default(), Rc::<Cell<usize>>::default());
        let goodbye = Rc::<Notify>::default();
        let address = listener.local_addr().unwrap();
        let (opened, taken) = (Rc::clone(&connections), Rc::clone(&streams));
        let (leave, script) = (Rc::clone(&goodbye), Rc::new(script));
        let serving = spawn_local(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                opened.set(opened.get() + 1);
                let (taken, leave) = (Rc::clone(&taken), Rc::clone(&leave));
                let script = Rc::clone(&script);
                open.spawn_local(async move {
                    // As the proxy of a meshed endpoint has it: one stream doesn't take all of the window.
                    let mut builder = h2::server::Builder::new();
                    builder.initial_connection_window_size(CONNECTION_WINDOW_BYTES);
                    let Ok(mut connection) = builder.handshake(stream).await else { return };
                    let mut work = tokio::task::JoinSet::new();
                    loop {
                        let taken_up = tokio::select! {
                            taken_up = connection.accept() => taken_up,
                            () = leave.notified() => {
                                connection.graceful_shutdown();
                                continue;
                            }
                        };
                        let Some(Ok((request, respond))) = taken_up else { return };
                        taken.set(taken.get() + 1);
                        let script = Rc::clone(&script);
                        work.spawn_local(async move { script(request, respond).await });
                    }
                });
            }
        });
        Self { address, connections, streams, goodbye, serving }
    }

    /// As if it were killed.
    pub(super) async fn dies(self) {
        self.serving.abort();
        assert!(self.serving.await.unwrap_err().is_cancelled());
    }
}

/// The application's own connection of HTTP/2.
pub(super) async fn client(listen: SocketAddr) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(listen).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    spawn_local(async move {
        let _ = connection.await;
    });
    sender
}

pub(super) fn plain(endpoints: &[SocketAddr]) -> Discovery {
    let endpoints: Vec<_> = endpoints.iter().map(|address| (*address, "")).collect();
    discovery_of(&endpoints, "Allow")
}

/// A caller of these endpoints, and an application of its own.
pub(super) async fn calling(endpoints: &[SocketAddr]) -> (Rc<Worker>, SendRequest<Bytes>) {
    let (worker, listen) = caller_of(&authority("root"), plain(endpoints)).await;
    (worker, client(listen).await)
}

/// What the proxy counts.
pub(super) fn text(worker: &Worker) -> String {
    worker.shared.metrics.text(Moments::default())
}
