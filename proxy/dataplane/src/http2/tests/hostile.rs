//! Frames made by hand: what a client must not send, and what becomes of it (research A.4).

use bytes::Bytes;
use h2::server::SendResponse;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{ask, client, echo, get, with_application};
pub(crate) use crate::http2::frames::{PREFACE, kind};
use crate::inbound::tests::Rig;
use crate::metrics::Moments;

const PROTOCOL_ERROR: u32 = 1;
const ENHANCE_YOUR_CALM: u32 = 11;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A field list in the plainest form of HPACK: literals, nothing indexed, nothing compressed.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            assert!(text.len() < 127);
            bytes.push(u8::try_from(text.len()).unwrap());
            bytes.extend_from_slice(text.as_bytes());
        }
    }
    bytes
}

const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")];

fn request(stream: u32, flags: u8, more: &[(&str, &str)]) -> Vec<u8> {
    frame(kind::HEADERS, flags | END_HEADERS, stream, &block(&[&GET[..], more].concat()))
}

/// A connection on which frames are said by hand.
struct Raw(TcpStream);

impl Raw {
    async fn open(rig: &Rig) -> Self {
        let mut stream = rig.client().await;
        stream.write_all(PREFACE).await.unwrap();
        stream.write_all(&frame(kind::SETTINGS, 0, 0, &[])).await.unwrap();
        Self(stream)
    }

    async fn say(&mut self, bytes: &[u8]) {
        // The other end may have hung up already, which will be seen.
        let _ = self.0.write_all(bytes).await;
    }

    /// The next frame: kind, stream, and the code where it is a reset or a goodbye. None at the end.
    async fn next(&mut self) -> Option<(u8, u32, u32)> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.0.read_exact(&mut payload).await.ok()?;
        let code = |at: usize| {
            payload.get(at..at + 4).map_or(0, |code| u32::from_be_bytes(code.try_into().unwrap()))
        };
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let code = match head[3] {
            kind::RST_STREAM => code(0),
            kind::GOAWAY => code(4),
            _ => 0,
        };
        Some((head[3], stream, code))
    }

    /// The first frame of this kind.
    async fn first(&mut self, wanted: u8) -> Option<(u8, u32, u32)> {
        loop {
            let found = self.next().await?;
            if found.0 == wanted {
                return Some(found);
            }
        }
    }

    /// The code of the last goodbye before the end.
    async fn goodbye(&mut self) -> Option<u32> {
        let mut code = None;
        while let Some(found) = self.next().await {
            if found.0 == kind::GOAWAY {
                code = Some(found.2);
            }
        }
        code
    }
}

/// What becomes of a connection that says this over and over: its goodbye; others are served as before.
fn flood(times: usize, of: impl Fn(usize) -> Vec<u8>) {
    let bytes: Vec<u8> = (0..times).flat_map(of).collect();
    with_application(echo, async |rig, _| {
        let mut raw = Raw::open(&rig).await;
        raw.say(&bytes).await;
        let code = raw.goodbye().await;
        assert!(matches!(code, Some(ENHANCE_YOUR_CALM) | None), "{code:?}");
        let text = rig.shared.metrics.text(Moments::default());
        assert!(text.contains("policyd_gate_refusals_total{rule=\"limits\"} 1\n"), "{text}");
        assert_eq!(ask(&client(&rig).await, get("/"), b"").await.status, 200);
    });
}

fn odd(at: usize) -> u32 {
    u32::try_from(at).unwrap() * 2 + 1
}

#[test]
fn h2_01_rapid_resets_end_the_connection() {
    flood(2_000, |at| {
        let stream = odd(at);
        [request(stream, END_STREAM, &[]), frame(kind::RST_STREAM, 0, stream, &[0, 0, 0, 8])]
            .concat()
    });
}

#[test]
fn h2_02_resets_that_we_are_made_to_send_end_the_connection() {
    flood(2_000, |at| {
        let stream = odd(at);
        let too_much = [0x7f, 0xff, 0xff, 0xff];
        [request(stream, 0, &[]), frame(kind::WINDOW_UPDATE, 0, stream, &too_much)].concat()
    });
}

#[test]
fn h2_03_a_flood_of_continuations_ends_the_connection() {
    flood(2_000, |at| match at {
        0 => frame(kind::HEADERS, 0, 1, &block(&GET)),
        _ => frame(kind::CONTINUATION, 0, 1, &[]),
    });
}

#[test]
fn h2_04_floods_of_frames_that_move_nothing_end_the_connection() {
    flood(1_000, |_| frame(kind::SETTINGS, 0, 0, &[]));
    flood(1_000, |_| frame(kind::PING, 0, 0, &[7; 8]));
    flood(1_000, |_| frame(kind::PRIORITY, 0, 1, &[0, 0, 0, 0, 1]));
    flood(1_000, |_| frame(kind::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]));
    flood(1_000, |_| frame(0xfa, 0, 0, b"?"));
}

#[test]
fn h2_05_a_flood_of_empty_data_ends_the_connection() {
    flood(1_000, |at| match at {
        0 => request(1, 0, &[]),
        _ => frame(kind::DATA, 0, 1, &[]),
    });
}

#[test]
fn h2_06_field_lists_beyond_the_limits_are_refused() {
    with_application(echo, async |rig, heads| {
        let big = "v".repeat(1_000);
        let with = |count: usize| {
            let mut head = get("/");
            for at in 0..count {
                let name: http::HeaderName = format!("x-{at}").parse().unwrap();
                head.headers_mut().insert(name, big.parse().unwrap());
            }
            head
        };
        let sender = client(&rig).await;
        assert_eq!(ask(&sender, with(10), b"").await.status, 200);
        assert_eq!(ask(&sender, with(17), b"").await.status, 400);
        // Beyond the hard limit it isn't even kept; the connection lives all the same.
        assert_eq!(ask(&sender, with(75), b"").await.status, 431);
        assert_eq!(ask(&sender, get("/"), b"").await.status, 200);
        assert_eq!(heads.borrow().len(), 2);
        let text = rig.shared.metrics.text(Moments::default());
        assert!(text.contains("policyd_gate_refusals_total{rule=\"limits\"} 2\n"), "{text}");
    });
}

#[test]
fn h2_07_a_field_list_that_does_not_end_is_not_waited_for() {
    with_application(echo, async |rig, _| {
        let mut raw = Raw::open(&rig).await;
        raw.say(&frame(kind::HEADERS, 0, 1, &block(&GET))).await;
        let began = std::time::Instant::now();
        raw.goodbye().await;
        let waited = began.elapsed().as_secs_f32();
        assert!((4.5..7.0).contains(&waited), "{waited}");
    });
}

#[test]
fn h2_09_10_13_14_what_the_gate_refuses_is_answered_400() {
    with_application(echo, async |rig, heads| {
        let mut raw = Raw::open(&rig).await;
        let cases: [&[(&str, &str)]; 9] = [
            &[
                (":method", "GET"),
                (":scheme", "http"),
                (":authority", "a"),
                (":path", "/"),
                ("host", "b"),
            ],
            &[
                (":method", "GET"),
                (":scheme", "http"),
                (":path", "/"),
                ("host", "b"),
                ("host", "b"),
            ],
            &[(":method", "GET"), (":scheme", "http"), (":path", "/")],
            &[(":method", "GET"), (":scheme", "http"), (":authority", "u@a"), (":path", "/")],
            &[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "*")],
            &[(":method", "GET"), (":scheme", "ftp"), (":authority", "a"), (":path", "/")],
            &[(":method", "get"), (":scheme", "http"), (":authority", "a"), (":path", "/")],
            &[(":method", "CONNECT"), (":authority", "a:80")],
            &[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/../b")],
        ];
        for (at, fields) in cases.iter().enumerate() {
            let stream = odd(at);
            raw.say(&frame(kind::HEADERS, END_HEADERS | END_STREAM, stream, &block(fields))).await;
            assert_eq!(
                raw.first(kind::HEADERS).await,
                Some((kind::HEADERS, stream, 0)),
                "{fields:?}"
            );
        }
        assert!(heads.borrow().is_empty());
        let text = rig.shared.metrics.text(Moments::default());
        assert!(text.contains("verdict=\"deny\",reason=\"invalid_request\"} 9\n"), "{text}");
    });
}

#[test]
fn h2_10_11_what_the_library_refuses_is_reset_and_written_down() {
    with_application(echo, async |rig, heads| {
        let mut raw = Raw::open(&rig).await;
        let cases: [&[(&str, &str)]; 7] = [
            &[("connection", "close")],
            &[("transfer-encoding", "chunked")],
            &[("te", "gzip")],
            &[("upgrade", "h2c")],
            &[("keep-alive", "1")],
            &[(":path", "/again")],
            &[(":protocol", "websocket")],
        ];
        for (at, more) in cases.iter().enumerate() {
            raw.say(&request(odd(at), END_STREAM, more)).await;
            let reset = raw.first(kind::RST_STREAM).await;
            assert_eq!(reset, Some((kind::RST_STREAM, odd(at), PROTOCOL_ERROR)), "{more:?}");
        }
        // The connection is as good as ever.
        raw.say(&request(101, END_STREAM, &[])).await;
        assert_eq!(raw.first(kind::HEADERS).await, Some((kind::HEADERS, 101, 0)));
        assert_eq!(heads.borrow().len(), 1);
        let text = rig.shared.metrics.text(Moments::default());
        assert!(text.contains("policyd_gate_refusals_total{rule=\"G11\"} 7\n"), "{text}");
    });
}

#[test]
fn h2_12_18_malformed_bodies_and_trailers_are_reset_and_not_taken_for_whole() {
    with_application(echo, async |rig, _| {
        let mut raw = Raw::open(&rig).await;
        let length = [("content-length", "5")];
        raw.say(&request(1, 0, &length)).await;
        raw.say(&frame(kind::DATA, END_STREAM, 1, b"123")).await;
        assert_eq!(raw.first(kind::RST_STREAM).await, Some((kind::RST_STREAM, 1, PROTOCOL_ERROR)));
        raw.say(&request(3, 0, &length)).await;
        raw.say(&frame(kind::DATA, END_STREAM, 3, b"1234567")).await;
        assert_eq!(raw.first(kind::RST_STREAM).await, Some((kind::RST_STREAM, 3, PROTOCOL_ERROR)));
        raw.say(&request(5, END_STREAM, &length)).await;
        assert_eq!(raw.first(kind::RST_STREAM).await, Some((kind::RST_STREAM, 5, PROTOCOL_ERROR)));
    });
}

#[test]
fn h2_18_pseudo_header_fields_in_trailers_go_nowhere() {
    let app = async |request: http::Request<h2::RecvStream>, mut respond: SendResponse<Bytes>| {
        let mut body = request.into_body();
        while body.data().await.is_some() {}
        let trailers = body.trailers().await.unwrap();
        assert!(trailers.is_none(), "{trailers:?}");
        respond.send_response(http::Response::new(()), true).unwrap();
    };
    with_application(app, async |rig, _| {
        let mut raw = Raw::open(&rig).await;
        raw.say(&request(1, 0, &[])).await;
        let trailers = block(&[(":path", "/denied"), ("x-policyd-identity", "root")]);
        raw.say(&frame(kind::HEADERS, END_HEADERS | END_STREAM, 1, &trailers)).await;
        assert_eq!(raw.first(kind::HEADERS).await, Some((kind::HEADERS, 1, 0)));
    });
}

#[test]
fn h2_16_streams_that_cannot_be_end_the_connection() {
    for bytes in [
        request(2, END_STREAM, &[]),
        request(1, END_STREAM, &[("X-Upper", "1")]),
        [request(1, 0, &[]), frame(kind::WINDOW_UPDATE, 0, 1, &[0; 4])].concat(),
        [request(3, END_STREAM, &[]), request(1, END_STREAM, &[])].concat(),
        frame(kind::DATA, 0, 9, b"x"),
        frame(kind::SETTINGS, 0, 1, &[]),
    ] {
        with_application(echo, async |rig, _| {
            let mut raw = Raw::open(&rig).await;
            raw.say(&bytes).await;
            assert!(raw.goodbye().await.is_some_and(|code| code != 0));
        });
    }
}
