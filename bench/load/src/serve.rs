//! The application behind the proxy: the same answer to everything, as cheaply as can be.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use http::Response;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;

use crate::cue;

const PREFACE: &[u8] = b"PRI";
const END: &[u8] = b"\r\n\r\n";
const READ_BYTES: usize = 16 * 1024;

/// Serves until it is ended. Says `{"listening": address}` first.
pub(crate) async fn serve(listen: SocketAddr, body: usize) -> io::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    cue::say(&json!({ "listening": listener.local_addr()?.to_string() }))?;
    let body = Bytes::from(vec![b'x'; body]);
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let whole: Rc<[u8]> = [head.as_bytes(), body.as_ref()].concat().into();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (whole, body) = (Rc::clone(&whole), body.clone());
        spawn_local(async move {
            // A client that leaves is no error of ours.
            let _ = answer(stream, &whole, body).await;
        });
    }
}

async fn answer(stream: TcpStream, whole: &[u8], body: Bytes) -> io::Result<()> {
    let mut first = [0; PREFACE.len()];
    while stream.peek(&mut first).await? > 0 {
        if first == PREFACE {
            return http2(stream, body).await;
        }
        if first[0] != PREFACE[0] || first[2] != 0 {
            return http1(stream, whole).await;
        }
    }
    Ok(())
}

/// One answer for each blank line: requests have no bodies here.
async fn http1(mut stream: TcpStream, whole: &[u8]) -> io::Result<()> {
    let mut read = Vec::with_capacity(READ_BYTES);
    while stream.read_buf(&mut read).await? > 0 {
        let mut from = 0;
        while let Some(at) = read[from..].windows(END.len()).position(|bytes| bytes == END) {
            from += at + END.len();
            stream.write_all(whole).await?;
        }
        read.drain(..from);
    }
    Ok(())
}

async fn http2(stream: TcpStream, body: Bytes) -> io::Result<()> {
    let mut connection = h2::server::handshake(stream).await.map_err(io::Error::other)?;
    while let Some(accepted) = connection.accept().await {
        let (_, mut respond) = accepted.map_err(io::Error::other)?;
        let mut send = respond.send_response(Response::new(()), false).map_err(io::Error::other)?;
        send.send_data(body.clone(), true).map_err(io::Error::other)?;
    }
    Ok(())
}
