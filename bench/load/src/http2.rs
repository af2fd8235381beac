//! Requests on the streams of one HTTP/2 connection.

use std::io;

use bytes::Bytes;
use h2::client::{SendRequest, handshake};
use http::{HeaderName, HeaderValue, Request};

use crate::dial::Stream;

/// A connection, or one more hand on it.
#[derive(Clone)]
pub(crate) struct Connection {
    send: SendRequest<Bytes>,
}

/// A GET as `h2` takes it.
pub(crate) fn get(path: &str, headers: &[String]) -> io::Result<Request<()>> {
    let uri = format!("https://app.bench{path}");
    let mut request = Request::get(uri).body(()).map_err(io::Error::other)?;
    for header in headers {
        let (name, value) =
            header.split_once(": ").ok_or_else(|| io::Error::other("expected `name: value`"))?;
        let name = HeaderName::try_from(name).map_err(io::Error::other)?;
        let value = HeaderValue::try_from(value).map_err(io::Error::other)?;
        request.headers_mut().insert(name, value);
    }
    Ok(request)
}

impl Connection {
    /// Greets, and keeps the connection going beside us.
    pub(crate) async fn new(stream: Stream) -> io::Result<Self> {
        let (send, connection) = handshake(stream).await.map_err(io::Error::other)?;
        tokio::task::spawn_local(async move {
            // Whoever waits for a stream of it hears of the error.
            let _ = connection.await;
        });
        Ok(Self { send })
    }

    /// Asks, reads the whole answer, and gives its status.
    pub(crate) async fn ask(&mut self, request: Request<()>) -> io::Result<u16> {
        let mut send = self.send.clone().ready().await.map_err(io::Error::other)?;
        let (answer, _) = send.send_request(request, true).map_err(io::Error::other)?;
        let (head, mut body) = answer.await.map_err(io::Error::other)?.into_parts();
        while let Some(chunk) = body.data().await {
            let length = chunk.map_err(io::Error::other)?.len();
            body.flow_control().release_capacity(length).map_err(io::Error::other)?;
        }
        Ok(head.status.as_u16())
    }
}
