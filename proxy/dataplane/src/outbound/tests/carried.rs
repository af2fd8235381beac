//! Requests of HTTP/1.1 that go to a meshed endpoint on a shared connection of HTTP/2.

use std::cell::Cell;
use std::rc::Rc;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::task::JoinHandle;

use super::*;

const KEPT: &[u8] = b"GET / HTTP/1.1\r\nhost: authors\r\n\r\n";

/// An endpoint with its proxy, and a caller of it.
struct Pair {
    callee: Rig,
    worker: Rc<Worker>,
    listen: SocketAddr,
}

impl Pair {
    async fn start() -> Self {
        let root = authority("root");
        let callee = Rig::with(keyring(AUTHORS, &root)).await;
        callee.enforce(ALL_AUTHENTICATED);
        let (worker, listen) = caller(&root, callee.proxy, AUTHORS, "Deny").await;
        Self { callee, worker, listen }
    }

    /// The application takes connections and answers each request with this, keeping what it heard.
    fn answers(&mut self, with: &'static [u8]) -> JoinHandle<()> {
        let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        unused.set_nonblocking(true).unwrap();
        let unused = TcpListener::from_std(unused).unwrap();
        let listener = std::mem::replace(&mut self.callee.application, unused);
        spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                spawn_local(async move {
                    let mut stream = BufReader::new(stream);
                    let mut line = String::new();
                    while let Ok(1..) = stream.read_line(&mut line).await {
                        if line.ends_with("\r\n\r\n") {
                            line.clear();
                            if stream.write_all(with).await.is_err() {
                                return;
                            }
                        }
                    }
                });
            }
        })
    }

    fn connections(&self) -> u64 {
        self.callee.shared.metrics.inbound_connections.get()
    }
}

/// Asks on a connection that stays; so many bytes of answers come back.
async fn ask(stream: &mut TcpStream, request: &[u8], answer: &str) -> String {
    stream.write_all(request).await.unwrap();
    let mut got = Vec::new();
    while !String::from_utf8_lossy(&got).ends_with(answer) {
        assert!(stream.read_buf(&mut got).await.unwrap() > 0, "{}", got.escape_ascii());
    }
    String::from_utf8(got).unwrap()
}

#[test]
fn the_requests_of_all_clients_share_one_connection_and_theirs_stay_open() {
    run(async {
        let mut pair = Pair::start().await;
        let _application = pair.answers(OK);
        let mut clients = Vec::new();
        for _ in 0..8 {
            clients.push(TcpStream::connect(pair.listen).await.unwrap());
        }
        for _ in 0..5 {
            for client in &mut clients {
                let got = ask(client, KEPT, "\r\n\r\nok").await;
                assert_eq!(got, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
            }
        }
        assert_eq!(pair.connections(), 1);
        let text = pair.worker.shared.metrics.text(crate::metrics::Moments::default());
        for line in [
            "policyd_outbound_calls_total{service=\"books/authors:80\"} 40\n",
            "policyd_outbound_reused_total{service=\"books/authors:80\"} 39\n",
            "policyd_outbound_in_flight{service=\"books/authors:80\"} 0\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    });
}

#[test]
fn h2_15_what_arrives_is_what_was_sent() {
    const REQUEST: &[u8] = b"POST /a;b?c=%2f HTTP/1.1\r\nHost: authors\r\nX-A: b ,c\r\nx-a: \r\n\
        Connection: x-hop\r\nX-Hop: 1\r\nCookie: d=e\r\nContent-Length: 5\r\n\r\nhello";
    const ARRIVED: &str = "POST /a;b?c=%2f HTTP/1.1\r\nhost: authors\r\nx-a: b ,c\r\nx-a: \r\n\
        cookie: d=e\r\ncontent-length: 5\r\n\r\nhello";
    run(async {
        let pair = Pair::start().await;
        let mut client = TcpStream::connect(pair.listen).await.unwrap();
        let (_, heard) = tokio::join!(ask(&mut client, REQUEST, "ok"), async {
            let (mut stream, _) = pair.callee.application.accept().await.unwrap();
            let mut heard = Vec::new();
            while !heard.ends_with(b"hello") {
                assert!(stream.read_buf(&mut heard).await.unwrap() > 0);
            }
            stream.write_all(OK).await.unwrap();
            String::from_utf8(heard).unwrap()
        });
        let sorted = |text: &str| {
            let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
            lines.sort_unstable();
            lines
        };
        assert_eq!(sorted(&heard), sorted(ARRIVED), "{heard}");
    });
}

#[test]
fn bodies_pass_in_pieces_and_with_their_trailers() {
    const CHUNKED: &[u8] =
        b"POST /a HTTP/1.1\r\nhost: authors\r\ntransfer-encoding: chunked\r\n\r\n\
        5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nETag: up\r\nHost: no\r\n\r\n";
    const ANSWER: &[u8] =
        b"HTTP/1.1 201 Made\r\ntransfer-encoding: chunked\r\nX-Policyd-Decision: forged\r\n\r\n\
        3\r\nabc\r\n0\r\nETag: down\r\nHost: no\r\n\r\n";
    run(async {
        let pair = Pair::start().await;
        let mut client = TcpStream::connect(pair.listen).await.unwrap();
        let (got, heard) = tokio::join!(ask(&mut client, CHUNKED, "\r\n\r\n"), async {
            let (mut stream, _) = pair.callee.application.accept().await.unwrap();
            let mut heard = Vec::new();
            while !heard.ends_with(b"0\r\netag: up\r\n\r\n") {
                assert!(stream.read_buf(&mut heard).await.unwrap() > 0, "{}", heard.escape_ascii());
            }
            stream.write_all(ANSWER).await.unwrap();
            String::from_utf8(heard).unwrap()
        });
        assert!(heard.starts_with("POST /a HTTP/1.1\r\nhost: authors\r\n"), "{heard}");
        assert!(!heard.contains("no\r\n") && !heard.contains("policyd"), "{heard}");
        assert!(
            got.starts_with("HTTP/1.1 201 Created\r\ntransfer-encoding: chunked\r\n\r\n"),
            "{got}"
        );
        let body = got.split("\r\n\r\n").nth(1).unwrap();
        assert!(
            body.starts_with("3\r\nabc\r\n") && got.contains("0\r\netag: down\r\n\r\n"),
            "{got}"
        );
        assert!(!got.contains("forged") && !got.contains("no\r\n"), "{got}");
    });
}

#[test]
fn a_body_larger_than_all_windows_passes_whole() {
    run(async {
        let pair = Pair::start().await;
        let body: Vec<u8> = (0..3_000_000_u32).map(|at| at.to_le_bytes()[0]).collect();
        let head =
            format!("POST /a HTTP/1.1\r\nhost: authors\r\ncontent-length: {}\r\n\r\n", body.len());
        let mut client = TcpStream::connect(pair.listen).await.unwrap();
        let (mut reader, mut writer) = client.split();
        let application = async {
            let (mut stream, _) = pair.callee.application.accept().await.unwrap();
            let mut heard = Vec::new();
            while !heard.windows(4).any(|window| window == b"\r\n\r\n") {
                stream.read_buf(&mut heard).await.unwrap();
            }
            let begun = heard.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
            let (mut from, mut to) = stream.split();
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 3000000\r\n\r\n";
            to.write_all(answer).await.unwrap();
            to.write_all(&heard[begun..]).await.unwrap();
            let _ = tokio::io::copy(&mut from, &mut to).await;
        };
        let ask = async {
            let sending = async {
                writer.write_all(head.as_bytes()).await.unwrap();
                writer.write_all(&body).await.unwrap();
            };
            let receiving = async {
                let mut got = Vec::new();
                while got.len() < body.len() || !got.ends_with(&body[body.len() - 1_000..]) {
                    assert!(reader.read_buf(&mut got).await.unwrap() > 0);
                }
                got
            };
            tokio::join!(sending, receiving).1
        };
        let got = tokio::select! {
            got = ask => got,
            () = application => panic!("the application ended"),
        };
        assert!(got.ends_with(&body));
    });
}

#[test]
fn answers_without_a_body_leave_the_connection_as_it_is() {
    const HEAD: &[u8] = b"HEAD / HTTP/1.1\r\nhost: authors\r\n\r\n";
    run(async {
        let mut pair = Pair::start().await;
        let mut client = TcpStream::connect(pair.listen).await.unwrap();
        let application = pair.answers(b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n");
        for _ in 0..2 {
            let got = ask(&mut client, HEAD, "\r\n\r\n").await;
            assert_eq!(got, "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n");
        }
        application.abort();
        let mut pair = Pair::start().await;
        let mut client = TcpStream::connect(pair.listen).await.unwrap();
        let _application = pair.answers(b"HTTP/1.1 204 No Content\r\n\r\n");
        for _ in 0..2 {
            let got = ask(&mut client, KEPT, "\r\n\r\n").await;
            assert_eq!(got, "HTTP/1.1 204 No Content\r\n\r\n");
        }
        assert_eq!(pair.connections(), 1);
    });
}

#[test]
fn a_refusal_of_the_other_proxy_ends_the_clients_connection_and_no_others() {
    run(async {
        let mut pair = Pair::start().await;
        let _application = pair.answers(OK);
        let mut other = TcpStream::connect(pair.listen).await.unwrap();
        ask(&mut other, KEPT, "ok").await;
        pair.callee.enforce(1);
        let answer = say(pair.listen, &KEPT.repeat(2)).await;
        assert_eq!(answer.matches("HTTP/1.1 403 Forbidden\r\n").count(), 1, "{answer}");
        assert!(answer.contains("\r\nx-policyd-decision: "), "{answer}");
        pair.callee.enforce(ALL_AUTHENTICATED);
        ask(&mut other, KEPT, "ok").await;
        assert_eq!(pair.connections(), 1);
    });
}

#[test]
fn what_asks_to_leave_http_or_is_of_http_1_0_has_a_connection_of_its_own() {
    const UPGRADE: &[u8] =
        b"GET /a HTTP/1.1\r\nHost: authors\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    run(async {
        let mut pair = Pair::start().await;
        let _application = pair.answers(OK);
        let mut client = TcpStream::connect(pair.listen).await.unwrap();
        ask(&mut client, KEPT, "ok").await;
        assert_eq!(pair.connections(), 1);
        assert!(
            say(pair.listen, b"GET /old HTTP/1.0\r\nhost: authors\r\n\r\n").await.ends_with("ok")
        );
        assert_eq!(pair.connections(), 2);
        say(pair.listen, UPGRADE).await;
        assert_eq!(pair.connections(), 3);
        ask(&mut client, KEPT, "ok").await;
        assert_eq!(pair.connections(), 3);
    });
}

/// An endpoint of which the first connection breaks when it has heard a request, and others answer; what happens to this
/// request, and how often it went out once more.
async fn broken_off(request: &'static [u8]) -> (String, u64) {
    let root = authority("root");
    let mut callee = Rig::with(keyring(AUTHORS, &root)).await;
    callee.enforce(ALL_AUTHENTICATED);
    // Between the two: it passes bytes, until it doesn't.
    let between = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, target) = (between.local_addr().unwrap(), callee.proxy);
    let broken = Rc::new(tokio::sync::Notify::new());
    let (told, first) = (Rc::clone(&broken), Cell::new(true));
    spawn_local(async move {
        while let Ok((mut stream, _)) = between.accept().await {
            let (first, told) = (first.replace(false), Rc::clone(&told));
            spawn_local(async move {
                let mut onward = TcpStream::connect(target).await.unwrap();
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut stream, &mut onward) => {}
                    () = told.notified(), if first => {}
                }
            });
        }
    });
    let (worker, listen) = caller(&root, address, AUTHORS, "Deny").await;
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let application = std::mem::replace(&mut callee.application, unused);
    let (answer, ()) = tokio::join!(say(listen, request), async {
        let (_heard, _) = heard(&application).await;
        broken.notify_one();
        let next = tokio::time::timeout(std::time::Duration::from_millis(500), heard(&application));
        if let Ok((mut stream, _)) = next.await {
            stream.write_all(OK).await.unwrap();
        }
    });
    (answer, worker.shared.metrics.repeated.get())
}

#[test]
fn what_broke_off_goes_out_once_more_only_where_that_can_have_no_effect() {
    const POST: &[u8] = b"POST / HTTP/1.1\r\nhost: authors\r\ncontent-length: 1\r\n\r\nx";
    run(async {
        let (answer, repeated) = broken_off(GET).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert_eq!(repeated, 1);
        let (answer, repeated) = broken_off(POST).await;
        assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
        assert_eq!(repeated, 0);
    });
}

#[test]
fn p_3_a_request_in_flight_ends_when_its_endpoint_may_no_longer_be_talked_to() {
    run(async {
        let pair = Pair::start().await;
        let (answer, _open) = tokio::join!(say(pair.listen, GET), async {
            let open = heard(&pair.callee.application).await;
            let others = bundles("cluster.local", &authority("another root"));
            pair.worker.shared.keyring.publish_bundles(others);
            open
        });
        assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("x-policyd-decision: "));
        assert_eq!(pair.worker.shared.metrics.cut.get(), 1);
        assert_eq!(pair.worker.shared.metrics.repeated.get(), 0);
    });
}
