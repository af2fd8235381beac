//! Endpoints that break the rules of HTTP/2, by frames made by hand (research A.4): what it costs is their own streams.

use std::cell::Cell;
use std::rc::Rc;

use http::HeaderName;

use super::speaking::{Endpoint, calling};
use super::*;
use crate::http2::tests::hostile::{PREFACE, block, frame, kind};
use crate::http2::tests::{ask, call, get, whole};

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PUSH_PROMISE: u8 = 5;

/// A connection of which the endpoint's side is said by hand.
struct Raw(TcpStream);

impl Raw {
    async fn accept(listener: &TcpListener) -> Self {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut preface = vec![0; PREFACE.len()];
        stream.read_exact(&mut preface).await.unwrap();
        assert_eq!(preface, PREFACE);
        stream.write_all(&frame(kind::SETTINGS, 0, 0, &[])).await.unwrap();
        Self(stream)
    }

    async fn say(&mut self, bytes: &[u8]) {
        // The other end may have hung up already, which will be seen.
        let _ = self.0.write_all(bytes).await;
    }

    /// The stream of the next frame of a kind; none at the end.
    async fn next(&mut self, wanted: u8) -> Option<u32> {
        loop {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await.ok()?;
            let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
            self.0.read_exact(&mut payload).await.ok()?;
            if head[3] == wanted {
                return Some(u32::from_be_bytes([head[5], head[6], head[7], head[8]]));
            }
        }
    }

    /// Takes requests and answers each, as it should be, until the end.
    async fn behave(mut self) {
        while let Some(stream) = self.next(kind::HEADERS).await {
            self.say(&answer(stream, END_STREAM)).await;
        }
    }

    async fn until_the_end(mut self) {
        while self.next(u8::MAX).await.is_some() {}
    }
}

fn answer(stream: u32, flags: u8) -> Vec<u8> {
    frame(kind::HEADERS, END_HEADERS | flags, stream, &block(&[(":status", "200")]))
}

fn goaway(last: u32, code: u32) -> Vec<u8> {
    frame(kind::GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat())
}

/// An endpoint that does this with its first request, and behaves on all later connections; how many there were.
async fn endpoint(first: impl AsyncFnOnce(Raw, u32) + 'static) -> (SocketAddr, Rc<Cell<usize>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, count) = (listener.local_addr().unwrap(), Rc::new(Cell::new(0)));
    let connections = Rc::clone(&count);
    spawn_local(async move {
        let mut raw = Raw::accept(&listener).await;
        connections.set(1);
        let stream = raw.next(kind::HEADERS).await.unwrap();
        spawn_local(async move { first(raw, stream).await });
        loop {
            let raw = Raw::accept(&listener).await;
            connections.set(connections.get() + 1);
            spawn_local(raw.behave());
        }
    });
    (address, count)
}

/// What becomes of a request whose endpoint says this: it fails, and the next one is served on another connection.
fn fails(of: impl Fn(u32) -> Vec<u8> + 'static) {
    run(async {
        let (address, connections) = endpoint(async move |mut raw: Raw, stream| {
            raw.say(&of(stream)).await;
            raw.until_the_end().await;
        })
        .await;
        let (worker, sender) = calling(&[address]).await;
        let (response, _) =
            sender.clone().ready().await.unwrap().send_request(get("/"), true).unwrap();
        if let Ok(got) = whole(response).await {
            assert!(got.status == 502 || got.broken.is_some(), "{got:?}");
        }
        assert_eq!(ask(&sender, get("/"), b"").await.status, 200);
        assert_eq!((connections.get(), worker.exchanges.flights()), (2, 0));
        assert_eq!(worker.shared.metrics.repeated.get(), 0);
    });
}

/// So many of these, after the answer has begun or before.
fn flood(times: u32, begun: bool, of: impl Fn(u32) -> Vec<u8> + 'static) {
    fails(move |stream| {
        let begin = if begun { answer(stream, 0) } else { Vec::new() };
        begin.into_iter().chain((0..times).flat_map(|_| of(stream))).collect()
    });
}

#[test]
fn h2_17_floods_of_frames_that_move_nothing_end_the_connection() {
    flood(1_000, false, |_| frame(kind::SETTINGS, 0, 0, &[]));
    flood(1_000, false, |_| frame(kind::PING, 0, 0, &[7; 8]));
    flood(1_000, false, |_| frame(kind::PRIORITY, 0, 1, &[0, 0, 0, 0, 3]));
    flood(1_000, false, |_| frame(kind::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]));
    flood(1_000, false, |_| frame(0xfa, 0, 0, b"?"));
    flood(1_000, true, |stream| frame(kind::DATA, 0, stream, &[]));
    flood(1_000, true, |stream| frame(kind::RST_STREAM, 0, stream, &[0, 0, 0, 8]));
}

#[test]
fn h2_17_a_flood_of_continuations_ends_the_connection() {
    fails(|stream| {
        let begin = frame(kind::HEADERS, 0, stream, &block(&[(":status", "200")]));
        let more = frame(kind::CONTINUATION, 0, stream, &[]);
        begin.into_iter().chain((0..1_000).flat_map(|_| more.clone())).collect()
    });
}

#[test]
fn h2_17_pushed_streams_are_refused() {
    fails(|stream| {
        let promised = [&[0, 0, 0, 2][..], &block(&[(":method", "GET"), (":path", "/")])].concat();
        frame(PUSH_PROMISE, END_HEADERS, stream, &promised)
    });
}

#[test]
fn h2_17_frames_against_the_protocol_fail_what_is_open() {
    fails(|_| answer(2, END_STREAM));
    fails(|_| answer(99, END_STREAM));
    fails(|_| b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n".to_vec());
}

#[test]
fn what_is_wrong_with_one_answer_is_wrong_with_that_one_only() {
    let wrong: [&[(&str, &str)]; 3] = [
        &[(":status", "200"), ("connection", "close")],
        &[(":status", "101")],
        &[(":status", "200"), ("content-length", "5")],
    ];
    for fields in wrong {
        run(async move {
            let (address, connections) = endpoint(async move |mut raw: Raw, stream| {
                let bad = frame(kind::HEADERS, END_HEADERS | END_STREAM, stream, &block(fields));
                raw.say(&bad).await;
                raw.behave().await;
            })
            .await;
            let (_worker, sender) = calling(&[address]).await;
            let got = ask(&sender, get("/"), b"").await;
            assert!(got.status == 502 || got.broken.is_some(), "{fields:?} {got:?}");
            assert_eq!(ask(&sender, get("/"), b"").await.status, 200);
            assert_eq!(connections.get(), 1, "{fields:?}");
        });
    }
}

#[test]
fn h2_08_whoever_sends_more_than_the_window_ends_its_own_stream() {
    run(async {
        let (address, connections) = endpoint(async |mut raw: Raw, stream| {
            let piece = frame(kind::DATA, 0, stream, &[0; 16_384]);
            raw.say(&[answer(stream, 0), piece.repeat(5)].concat()).await;
            raw.behave().await;
        })
        .await;
        let (_worker, sender) = calling(&[address]).await;
        let (response, _) =
            sender.clone().ready().await.unwrap().send_request(get("/"), true).unwrap();
        let got = whole(response).await;
        assert!(got.is_err() || got.unwrap().broken.is_some());
        assert_eq!(ask(&sender, get("/"), b"").await.status, 200);
        assert_eq!(connections.get(), 1);
    });
}

#[test]
fn h2_06_an_answer_with_too_much_in_its_head_is_a_bad_gateway() {
    for (count, length) in [(75, 1_000), (250, 1)] {
        run(async move {
            let script =
                async move |_: http::Request<h2::RecvStream>,
                            mut respond: h2::server::SendResponse<bytes::Bytes>| {
                    let mut head = http::Response::new(());
                    for at in 0..count {
                        let name: HeaderName = format!("x-{at}").parse().unwrap();
                        head.headers_mut().insert(name, "v".repeat(length).parse().unwrap());
                    }
                    let _ = respond.send_response(head, true);
                };
            let endpoint = Endpoint::start(script).await;
            let (_worker, sender) = calling(&[endpoint.address]).await;
            assert_eq!(ask(&sender, get("/"), b"").await.status, 502);
            assert_eq!(ask(&sender, call("/a/Get"), b"x").await.grpc_status(), "14");
            assert_eq!(endpoint.connections.get(), 1);
        });
    }
}

#[test]
fn g20_interim_answers_without_end_are_a_bad_gateway() {
    run(async {
        let (address, _) = endpoint(async |mut raw: Raw, stream| {
            let interim = frame(kind::HEADERS, END_HEADERS, stream, &block(&[(":status", "102")]));
            raw.say(&interim.repeat(20)).await;
            raw.behave().await;
        })
        .await;
        let (_worker, sender) = calling(&[address]).await;
        assert_eq!(ask(&sender, get("/"), b"").await.status, 502);
        assert_eq!(ask(&sender, get("/"), b"").await.status, 200);
    });
}

#[test]
fn h2_17_a_stream_above_the_last_of_a_goodbye_goes_out_once_more_with_its_body() {
    for code in [0, 11] {
        run(async move {
            let (address, connections) = endpoint(async move |mut raw: Raw, _| {
                raw.next(kind::DATA).await.unwrap();
                raw.say(&goaway(0, code)).await;
                raw.until_the_end().await;
            })
            .await;
            let (worker, sender) = calling(&[address]).await;
            assert_eq!(ask(&sender, call("/a/Get"), b"hello").await.status, 200);
            assert_eq!((connections.get(), worker.shared.metrics.repeated.get()), (2, 1));
        });
    }
}

#[test]
fn h2_17_a_stream_that_a_goodbye_includes_is_not_sent_again() {
    run(async {
        let (address, connections) = endpoint(async |mut raw: Raw, stream| {
            raw.say(&goaway(stream, 0)).await;
        })
        .await;
        let (worker, sender) = calling(&[address]).await;
        assert_eq!(ask(&sender, get("/"), b"").await.status, 502);
        assert_eq!(ask(&sender, get("/"), b"").await.status, 200);
        assert_eq!((connections.get(), worker.shared.metrics.repeated.get()), (2, 0));
    });
}

#[test]
fn h2_17_goodbyes_without_end_are_given_up() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        spawn_local(async move {
            loop {
                let mut raw = Raw::accept(&listener).await;
                spawn_local(async move {
                    raw.next(kind::HEADERS).await;
                    raw.say(&goaway(0, 0)).await;
                    raw.until_the_end().await;
                });
            }
        });
        let (worker, sender) = calling(&[address]).await;
        assert_eq!(ask(&sender, get("/"), b"").await.status, 502);
        assert_eq!(ask(&sender, call("/a/Get"), b"x").await.grpc_status(), "14");
        assert_eq!(worker.shared.metrics.repeated.get(), 2);
    });
}

#[test]
fn h2_17_an_endpoint_that_takes_no_streams_is_overloaded_until_it_does() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (worker, sender) = calling(&[address]).await;
        let limit = |streams: u8| frame(kind::SETTINGS, 0, 0, &[0, 3, 0, 0, 0, streams]);
        let accept = async {
            let mut raw = Raw::accept(&listener).await;
            // Nothing counts before it is acknowledged.
            raw.say(&limit(0)).await;
            for _ in 0..2 {
                raw.next(kind::SETTINGS).await;
            }
            raw
        };
        let first = tokio::join!(ask(&sender, call("/a/Get"), b"x"), accept);
        let (got, mut raw) = first;
        // The first one may have gone out before the limit was known; then it is still waiting at the endpoint's.
        assert!(matches!(got.grpc_status(), "14"), "{got:?}");
        let again = async {
            raw.say(&limit(5)).await;
            let stream = raw.next(kind::HEADERS).await.unwrap();
            raw.say(&answer(stream, END_STREAM)).await;
            raw
        };
        let (got, _raw) = tokio::join!(ask(&sender, get("/"), b""), again);
        assert_eq!(got.status, 200);
        let text = worker.shared.metrics.text(crate::metrics::Moments::default());
        assert!(text.contains("subject=\"outbound\",verdict=\"deny\",reason=\"overloaded\"} 1\n"));
    });
}
