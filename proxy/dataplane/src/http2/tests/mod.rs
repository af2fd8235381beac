//! Whole connections on loopback: a client, an inbound port with a real table, an application, all of the `h2` crate or of
//! bytes made by hand.

mod calls;
mod downgrades;
mod grants;
pub(crate) mod hostile;
mod lines;
mod pulse;

use std::cell::RefCell;
use std::fmt::Write as _;
use std::future::{Future, poll_fn};
use std::rc::Rc;

use bytes::Bytes;
use engine::Facts;
use h2::client::{ResponseFuture, SendRequest};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::net::TcpListener;
use tokio::task::spawn_local;

use crate::assignment::tests::snapshot_with;
use crate::discovery::Discovery;
use crate::inbound::tests::{Rig, enforce};

/// An application that speaks HTTP/2 with prior knowledge; the heads it was sent are kept.
pub(crate) fn application(
    listener: TcpListener,
    script: impl AsyncFn(Request<RecvStream>, SendResponse<Bytes>) + 'static,
) -> Rc<RefCell<Vec<String>>> {
    let heads = Rc::new(RefCell::new(Vec::new()));
    let (kept, script) = (Rc::clone(&heads), Rc::new(script));
    spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (kept, script) = (Rc::clone(&kept), Rc::clone(&script));
            spawn_local(async move {
                let Ok(mut connection) = h2::server::handshake(stream).await else { return };
                while let Some(Ok((request, respond))) = connection.accept().await {
                    kept.borrow_mut().push(head_of(&request));
                    let script = Rc::clone(&script);
                    spawn_local(async move { script(request, respond).await });
                }
            });
        }
    });
    heads
}

fn head_of(request: &Request<RecvStream>) -> String {
    let mut text = format!("{} {}\n", request.method(), request.uri());
    for (name, value) in request.headers() {
        writeln!(text, "{name}: {}", value.to_str().unwrap()).unwrap();
    }
    text
}

/// Answers a gRPC call: each message back as it comes, then the end.
pub(crate) async fn echo(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let mut body = request.into_body();
    let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
    let mut stream = respond.send_response(head, false).unwrap();
    while let Some(Ok(piece)) = body.data().await {
        let _ = body.flow_control().release_capacity(piece.len());
        if stream.send_data(piece, false).is_err() {
            return;
        }
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    trailers.insert("x-policyd-decision", "forged".parse().unwrap());
    trailers.insert("my-bin", "AAE=".parse().unwrap());
    let _ = stream.send_trailers(trailers);
}

/// A client of the port.
pub(crate) async fn client(rig: &Rig) -> SendRequest<Bytes> {
    let (sender, connection) = h2::client::handshake(rig.client().await).await.unwrap();
    spawn_local(async move {
        let _ = connection.await;
    });
    sender
}

/// A call of gRPC to `path`.
pub(crate) fn call(path: &str) -> Request<()> {
    Request::builder()
        .method("POST")
        .uri(format!("http://authors:8080{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap()
}

pub(crate) fn get(path: &str) -> Request<()> {
    Request::builder().uri(format!("http://authors:8080{path}")).body(()).unwrap()
}

/// What came back, in words: status, decision and gRPC fields, body, trailers.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: HeaderMap,
    /// How the stream broke, if it did.
    pub(crate) broken: Option<h2::Error>,
}

impl Got {
    pub(crate) fn grpc_status(&self) -> &str {
        let field = self.trailers.get("grpc-status").or(self.headers.get("grpc-status"));
        field.map_or("", |value| value.to_str().unwrap())
    }
}

pub(crate) async fn whole(response: ResponseFuture) -> Result<Got, h2::Error> {
    let (head, mut body) = response.await?.into_parts();
    let mut got = Got {
        status: head.status.as_u16(),
        headers: head.headers,
        body: Vec::new(),
        trailers: HeaderMap::new(),
        broken: None,
    };
    while let Some(piece) = body.data().await {
        match piece {
            Ok(piece) => {
                let _ = body.flow_control().release_capacity(piece.len());
                got.body.extend_from_slice(&piece);
            }
            Err(error) => {
                got.broken = Some(error);
                return Ok(got);
            }
        }
    }
    match body.trailers().await {
        Ok(trailers) => got.trailers = trailers.unwrap_or_default(),
        Err(error) => got.broken = Some(error),
    }
    Ok(got)
}

/// Sends one request with a body, and gives what came back.
pub(crate) async fn ask(sender: &SendRequest<Bytes>, head: Request<()>, body: &[u8]) -> Got {
    let mut sender = sender.clone().ready().await.unwrap();
    let (response, mut stream) = sender.send_request(head, body.is_empty()).unwrap();
    if !body.is_empty() {
        send(&mut stream, body, true).await;
    }
    whole(response).await.unwrap()
}

pub(crate) async fn send(stream: &mut SendStream<Bytes>, bytes: &[u8], end: bool) {
    let mut rest = Bytes::copy_from_slice(bytes);
    while !rest.is_empty() {
        stream.reserve_capacity(rest.len());
        let Some(Ok(room)) = poll_fn(|context| stream.poll_capacity(context)).await else { return };
        let part = rest.split_to(room.min(rest.len()));
        if stream.send_data(part, end && rest.is_empty()).is_err() {
            return;
        }
    }
}

/// A table that allows all but paths under `/denied` (and what is said besides).
pub(crate) fn all_but_denied(rig: &Rig) {
    forbid(rig, &["/denied"]);
}

/// A table that allows all but paths under these.
pub(crate) fn forbid(rig: &Rig, prefixes: &[&str]) {
    let port = serde_json::json!({
        "protocol": 1, "access": 3, "path_mode": 1, "cluster_conditions": 1,
        "rules": (0..prefixes.len()).collect::<Vec<_>>()
    });
    let conditions: Vec<_> = prefixes
        .iter()
        .map(|prefix| serde_json::json!({"subject": 5, "test": 3, "values": [prefix]}))
        .collect();
    let rules: Vec<_> = prefixes
        .iter()
        .enumerate()
        .map(|(at, prefix)| {
            serde_json::json!({
                "effect": 2, "level": 2, "scope": 1, "identity": 1, "network": 1,
                "authorization": format!("authorizationpolicy.policyd.dev/books/no{prefix}"),
                "origin": "policyd.dev/AuthorizationPolicy/books/no:spec", "conditions": [at]
            })
        })
        .collect();
    let bytes = snapshot_with(&port, &rules.into(), &conditions.into());
    enforce(&rig.shared, &bytes, Facts::default(), Discovery::default());
}

/// Runs a test in which the port is in front of an application that does this.
pub(crate) fn with_application<T: Future<Output = ()>>(
    script: impl AsyncFn(Request<RecvStream>, SendResponse<Bytes>) + 'static,
    test: impl FnOnce(Rig, Rc<RefCell<Vec<String>>>) -> T,
) {
    crate::inbound::tests::run(async {
        let mut rig = Rig::start().await;
        let unused = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listener = std::mem::replace(&mut rig.application, unused);
        let heads = application(listener, script);
        all_but_denied(&rig);
        test(rig, heads).await;
    });
}
