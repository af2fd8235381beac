//! Denied requests: which of them end their connection, and that nothing of them becomes another request (H1-11).

use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::time::{Instant, sleep};

use super::super::limits;
use super::*;

const DENIED: &str = "{\"decision\":\"denied\",\"reason\":\"denied\"}";

fn denied(fields: &str, body: &str) -> String {
    format!("POST /denied HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{body}")
}

/// What comes back to these bytes, and then to an allowed request, which is sent only after the first answer.
async fn then_another(world: &World, bytes: &str) -> (String, String) {
    world
        .serve(async |mut io| {
            io.write_all(bytes.as_bytes()).await.unwrap();
            let first = read_until(&mut io, DENIED).await;
            let _ = io.write_all(get("/next").as_bytes()).await;
            (first, read_until(&mut io, "ok").await)
        })
        .await
}

#[tokio::test(start_paused = true)]
async fn h1_11_a_denial_leaves_the_connection_where_all_of_the_request_was_read() {
    let inner = get("/smuggled");
    let length = format!("Content-Length: {}", inner.len());
    let chunks = format!("{:x}\r\n{inner}\r\n0\r\nA: b\r\n\r\n", inner.len());
    let most = "x".repeat(limits::DENIED_BODY_BYTES);
    for request in [
        get("/denied"),
        denied("Content-Length: 0", ""),
        denied(&length, &inner),
        denied("Transfer-Encoding: chunked", &chunks),
        denied(&format!("Content-Length: {}", most.len()), &most),
        denied("Expect: 100-continue", ""),
    ] {
        let world = World::new(answers(OK));
        let (first, second) = then_another(&world, &request).await;
        assert!(first.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{request}: {first}");
        assert!(!first.contains("connection:"), "{request}: {first}");
        assert_eq!(second, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", "{request}");
        assert_eq!(world.received(), ["GET /next HTTP/1.1\r\nhost: a\r\n\r\n"], "{request}");
    }
}

#[tokio::test(start_paused = true)]
async fn h1_11_a_denial_ends_the_connection_where_it_is_in_doubt_what_follows() {
    let too_much = "x".repeat(limits::DENIED_BODY_BYTES + 1);
    let chunk = format!("{:x}\r\n{too_much}\r\n0\r\n\r\n", too_much.len());
    for request in [
        denied("Content-Length: 5\r\nExpect: 100-continue", ""),
        denied("Content-Length: 5\r\nExpect: 100-continue", "hello"),
        denied(&format!("Content-Length: {}", too_much.len()), &too_much),
        denied("Transfer-Encoding: chunked", &chunk),
        denied("Transfer-Encoding: chunked", "5 \r\nhello\r\n0\r\n\r\n"),
        denied("Transfer-Encoding: chunked", "0\r\nA : b\r\n\r\n"),
        denied("Connection: close", ""),
        "GET /denied HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n".to_owned(),
        // What is behind it has come before the answer: a client that waits for answers doesn't do that.
        get("/denied") + "G",
        denied("Content-Length: 5", "hello") + &get("/pipelined"),
    ] {
        let world = World::new(answers(OK));
        let (first, second) = then_another(&world, &request).await;
        assert!(first.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{request}: {first}");
        assert!(first.contains("\r\nconnection: close\r\n"), "{request}: {first}");
        assert_eq!((second, world.received().len()), (String::new(), 0), "{request}");
    }
}

#[tokio::test(start_paused = true)]
async fn h1_11_a_denied_request_to_leave_http_ends_the_connection() {
    let profile = GateProfile { websocket: true, ..GateProfile::default() };
    let world = World::guarded(Guard { profile, ..Guard::default() }, answers(OK));
    let handshake = "GET /denied HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let (first, second) = then_another(&world, handshake).await;
    assert!(first.contains("403 Forbidden") && first.contains("connection: close"), "{first}");
    assert_eq!(second, "");
}

#[tokio::test(start_paused = true)]
async fn h1_11_a_body_that_comes_later_is_waited_for_and_not_for_long() {
    for (pause, stays) in [(limits::DENIED_BODY / 2, true), (limits::DENIED_BODY * 2, false)] {
        let world = World::new(answers(OK));
        let (first, waited) = world
            .serve(async move |mut io| {
                let begun = Instant::now();
                io.write_all(denied("Content-Length: 6", "abc").as_bytes()).await.unwrap();
                let (mut read, mut write) = tokio::io::split(io);
                let later = async {
                    sleep(pause).await;
                    let _ = write.write_all(b"def").await;
                    std::future::pending::<()>().await;
                };
                tokio::select! {
                    first = read_until(&mut read, DENIED) => (first, begun.elapsed()),
                    () = later => unreachable!(),
                }
            })
            .await;
        assert_eq!(first.contains("connection: close"), !stays, "{first}");
        assert!(waited <= pause.min(limits::DENIED_BODY) + Duration::from_millis(10), "{waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_denial_of_an_ending_connection_is_its_last_answer() {
    let world = World::new(answers(OK));
    world.guard.ending.set(true);
    let (first, second) = then_another(&world, &get("/denied")).await;
    assert!(first.contains("connection: close") && second.is_empty(), "{first}{second}");
}

#[tokio::test(start_paused = true)]
async fn h1_11_a_denied_head_request_has_no_body_and_leaves_the_connection() {
    let world = World::new(answers(OK));
    let answer = world
        .serve(async |mut io| {
            io.write_all(b"HEAD /denied HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            read_until(&mut io, "\r\n\r\n").await;
            io.write_all(get("/next").as_bytes()).await.unwrap();
            read_until(&mut io, "ok").await
        })
        .await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_client_may_be_denied_as_often_as_it_asks() {
    let world = World::new(answers(OK));
    world
        .serve(async |mut io| {
            for _ in 0..1_000 {
                io.write_all(get("/denied").as_bytes()).await.unwrap();
                assert!(read_until(&mut io, DENIED).await.starts_with("HTTP/1.1 403 "));
            }
            io.shutdown().await.unwrap();
            let mut rest = Vec::new();
            io.read_to_end(&mut rest).await.unwrap();
            assert!(rest.is_empty());
        })
        .await;
}
