//! Upgrades (§4.5): HTTP is left only after a valid 101.

use super::*;

const REQUEST: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const ACCEPT: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

fn world(answer: &str) -> World {
    let guard = Guard {
        profile: GateProfile { websocket: true, ..GateProfile::default() },
        ..Guard::default()
    };
    World::guarded(guard, echo_after(answer))
}

/// Answers the first request, then echoes whatever comes.
fn echo_after(answer: &str) -> Script {
    let answer = answer.to_owned();
    Rc::new(move |pending| {
        if pending.is_empty() {
            return None;
        }
        if pending.starts_with(b"GET ") {
            return whole(pending).map(|taken| Reply {
                taken,
                bytes: answer.clone().into_bytes(),
                close: false,
            });
        }
        Some(Reply { taken: pending.len(), bytes: pending.to_ascii_uppercase(), close: false })
    })
}

#[tokio::test(start_paused = true)]
async fn h1_17_a_valid_101_makes_a_tunnel() {
    let world = world(ACCEPT);
    world
        .serve(async |mut io| {
            io.write_all(REQUEST.as_bytes()).await.unwrap();
            let head = read_until(&mut io, "\r\n\r\n").await;
            assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
            assert!(head.ends_with("upgrade: websocket\r\nconnection: upgrade\r\n\r\n"), "{head}");
            io.write_all(b"hello").await.unwrap();
            assert_eq!(read_until(&mut io, "HELLO").await, "HELLO");
            io.shutdown().await.unwrap();
            assert_eq!(read_until(&mut io, "more").await, "");
        })
        .await;
    assert!(world.received()[0].contains("upgrade: websocket\r\nconnection: upgrade\r\n"));
}

#[tokio::test(start_paused = true)]
async fn h1_17_bytes_before_the_101_wait_for_it() {
    let world = world(ACCEPT);
    world
        .serve(async |mut io| {
            io.write_all(format!("{REQUEST}early").as_bytes()).await.unwrap();
            assert!(read_until(&mut io, "EARLY").await.ends_with("\r\n\r\nEARLY"));
        })
        .await;
    let too_much = world.send(format!("{REQUEST}{}", "x".repeat(3000).repeat(3))).await;
    assert_eq!(too_much, "");
}

#[tokio::test(start_paused = true)]
async fn h1_17_any_other_answer_keeps_http_and_ends_the_connection() {
    for status in ["200 OK", "400 Bad Request", "426 Upgrade Required"] {
        let world = world(&format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nno"));
        let answer = world.send(format!("{REQUEST}{}", get("/admin"))).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}\r\n")) && answer.ends_with("\r\n\r\nno"),
            "{answer}"
        );
        assert!(answer.contains("connection: close\r\n"));
        assert!(!world.received().concat().contains("admin"), "nothing goes through unread");
    }
}

#[tokio::test(start_paused = true)]
async fn h1_17_a_101_that_proves_nothing_is_a_bad_answer() {
    for bad in [
        ACCEPT.replace("s3pP", "s3pQ"),
        ACCEPT.replace("Upgrade: websocket\r\n", ""),
        ACCEPT.replace("Upgrade: websocket", "Upgrade: h2c"),
        ACCEPT.replace("Connection: Upgrade\r\n", ""),
        ACCEPT
            .replace("\r\n\r\n", "\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"),
    ] {
        let world = world(&bad);
        let answer = world.send(format!("{REQUEST}{}", get("/admin"))).await;
        assert!(answer.starts_with("HTTP/1.1 502"), "{bad}: {answer}");
        assert!(!world.received().concat().contains("admin"));
    }
}

#[tokio::test(start_paused = true)]
async fn h1_17_an_upgrade_that_is_not_enabled_is_refused() {
    let world = World::new(echo_after(ACCEPT));
    let answer = world.send(REQUEST).await;
    assert!(answer.contains("decision: G14") && world.received().is_empty(), "{answer}");
    let h2c = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n";
    let world = World::new(answers(OK));
    assert!(world.send(h2c).await.ends_with("ok"));
    assert_eq!(world.received(), ["GET / HTTP/1.1\r\nhost: a\r\n\r\n"]);
}
