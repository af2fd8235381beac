//! Requests that HTTP/2 only carries between proxies: their application is spoken to in HTTP/1.1.

use std::rc::Rc;
use std::sync::Arc;

use http::Request;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;

use super::{Got, ask, get};
use crate::certificate::Leaf;
use crate::http2;
use crate::inbound::tests::{ALLOW, Rig};
use crate::onward::Onward;
use crate::session::{ProvenPeer, Session};
use crate::shared::Worker;
use crate::trust::tests::{authority, issue, long_lived};

/// Where the application is.
#[derive(Debug)]
struct Here(std::net::SocketAddr);

impl crate::exchange::Upstream for Here {
    type Io = TcpStream;

    async fn connect(&self) -> std::io::Result<TcpStream> {
        TcpStream::connect(self.0).await
    }
}

/// What a client that may be a proxy gets, and what the application read, which gives these bytes back.
async fn exchange(meshed: bool, head: Request<()>, body: &[u8], answer: &[u8]) -> (Got, String) {
    let rig = Rig::start().await;
    rig.enforce(ALLOW);
    let worker = Rc::new(Worker::new(Arc::clone(&rig.shared), 1));
    let peer = meshed.then(|| {
        let (chain, _) = issue(&long_lived("spiffe://cluster.local/ns/a/sa/b"), &authority("root"));
        let under = rig.shared.keyring.trust().bundles();
        Rc::new(ProvenPeer { leaf: Leaf::read(&chain[0]).unwrap(), chain, under })
    });
    let session = Rc::new(Session::new(&worker, 80, std::net::Ipv4Addr::LOCALHOST.into(), peer));
    let application = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let onward = Rc::new(Onward::new(Here(application.local_addr().unwrap())));
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    spawn_local(http2::serve(theirs, session, onward));
    let (sender, connection) = h2::client::handshake(ours).await.unwrap();
    spawn_local(async move {
        let _ = connection.await;
    });
    let app = async {
        let (mut stream, _) = application.accept().await.unwrap();
        let mut read = Vec::new();
        while !ends(&read) {
            assert!(stream.read_buf(&mut read).await.unwrap() > 0);
        }
        stream.write_all(answer).await.unwrap();
        String::from_utf8_lossy(&read).into_owned()
    };
    tokio::join!(ask(&sender, head, body), app)
}

fn ends(read: &[u8]) -> bool {
    let text = String::from_utf8_lossy(read);
    let chunked = text.contains("transfer-encoding: chunked");
    text.contains("\r\n\r\n") && (!chunked || text.contains("\r\n0\r\n"))
}

fn carried(mut head: Request<()>) -> Request<()> {
    head.headers_mut().insert("x-policyd-version", "1.1".parse().unwrap());
    head
}

#[test]
fn h2_15_what_was_http_1_1_goes_on_as_such() {
    crate::inbound::tests::run(async {
        const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: x-hop\r\nX-Hop: 1\r\nA: b\r\n\r\nok";
        let (got, read) = exchange(true, carried(get("/a?b=c")), b"", ANSWER).await;
        assert!(read.starts_with("GET /a?b=c HTTP/1.1\r\nhost: authors:8080\r\n"), "{read}");
        assert!(!read.contains("x-policyd") && !read.contains("transfer-encoding"), "{read}");
        assert_eq!((got.status, got.body.as_slice()), (200, &b"ok"[..]));
        assert_eq!(got.headers["a"], "b");
        assert!(!got.headers.contains_key("x-hop"), "{:?}", got.headers);
    });
}

#[test]
fn h2_15_a_body_without_a_length_goes_on_in_chunks() {
    crate::inbound::tests::run(async {
        const ANSWER: &[u8] =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nETag: x\r\nHost: y\r\n\r\n";
        let (mut parts, ()) = carried(get("/a")).into_parts();
        parts.method = http::Method::POST;
        let (got, read) = exchange(true, Request::from_parts(parts, ()), b"hello", ANSWER).await;
        assert!(read.contains("\r\ntransfer-encoding: chunked\r\n"), "{read}");
        assert!(read.ends_with("\r\n\r\n5\r\nhello\r\n0\r\n\r\n"), "{read}");
        assert_eq!(got.body, b"abc");
        assert_eq!(got.trailers["etag"], "x");
        assert!(!got.trailers.contains_key("host"));
    });
}

#[test]
fn an_answer_that_breaks_the_rules_is_a_bad_gateway() {
    crate::inbound::tests::run(async {
        const BAD: &[u8] =
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n";
        let (got, _) = exchange(true, carried(get("/a")), b"", BAD).await;
        assert_eq!(got.status, 502);
    });
}

#[test]
fn only_a_proxy_says_that_a_request_was_http_1_1() {
    crate::inbound::tests::run(async {
        let (_, read) = exchange(false, carried(get("/a")), b"", b"").await;
        assert!(read.starts_with("PRI * HTTP/2.0\r\n"), "{read}");
    });
}
