//! Bounds of time, each crossed.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::super::limits;
use super::*;

/// Sends `pieces`, one every `pause`, and says what came back and when the connection ended.
async fn drip(world: &World, pieces: Vec<Vec<u8>>, pause: Duration) -> (String, Duration) {
    world
        .serve(async move |io| {
            let begin = Instant::now();
            let (mut read, mut write) = tokio::io::split(io);
            let mut answer = Vec::new();
            let dripping = async {
                for piece in pieces {
                    if write.write_all(&piece).await.is_err() {
                        break;
                    }
                    sleep(pause).await;
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = dripping => {}
                result = read.read_to_end(&mut answer) => { result.unwrap(); }
            }
            (String::from_utf8(answer).unwrap(), begin.elapsed())
        })
        .await
}

fn bytes_of(text: &str) -> Vec<Vec<u8>> {
    text.bytes().map(|byte| vec![byte]).collect()
}

/// Within the bound and the second that a refused client gets to read its answer.
#[track_caller]
fn about(elapsed: Duration, bound: Duration) {
    assert!(
        elapsed >= bound && elapsed <= bound + Duration::from_secs(2),
        "{elapsed:?}, bound {bound:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn h1_16_a_connection_without_a_byte() {
    let (answer, elapsed) = drip(&World::new(answers(OK)), Vec::new(), Duration::ZERO).await;
    assert_eq!(answer, "");
    about(elapsed, limits::FIRST_HEAD);
}

#[tokio::test(start_paused = true)]
async fn h1_16_a_head_byte_by_byte() {
    let world = World::new(answers(OK));
    let (answer, elapsed) = drip(&world, bytes_of(&get("/")), Duration::from_millis(900)).await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("decision: limits"), "{answer}");
    about(elapsed, limits::HEAD);
}

#[tokio::test(start_paused = true)]
async fn h1_16_an_idle_connection_after_a_request() {
    let (answer, elapsed) =
        drip(&World::new(answers(OK)), vec![get("/").into_bytes()], Duration::ZERO).await;
    assert!(answer.ends_with("ok"));
    about(elapsed, limits::IDLE);
}

#[tokio::test(start_paused = true)]
async fn h1_16_a_body_that_stalls_or_trickles() {
    let head = post("Content-Length: 500", "").into_bytes();
    let world = World::new(answers(OK));
    let (answer, elapsed) =
        drip(&world, vec![head.clone(), b"a".to_vec()], Duration::from_secs(1)).await;
    assert!(answer.contains("decision: limits"), "{answer}");
    about(elapsed, limits::BODY_IDLE);
    let mut pieces = vec![head];
    pieces.extend(bytes_of(&"b".repeat(100)));
    let (answer, elapsed) = drip(&world, pieces, Duration::from_secs(1)).await;
    assert!(answer.contains("decision: limits"), "{answer}");
    about(elapsed, limits::BODY_RATE_WINDOW);
    assert_eq!(*world.guard.refusals.borrow(), ["invalid_request:limits at byte 0 (body)"; 2]);
}

#[tokio::test(start_paused = true)]
async fn t7_a_chunked_body_may_take_its_time() {
    let world = World::new(answers(OK));
    let mut pieces = vec![post("Transfer-Encoding: chunked\r\nConnection: close", "").into_bytes()];
    pieces.extend((0..5).map(|_| b"1\r\na\r\n".to_vec()));
    pieces.push(b"0\r\n\r\n".to_vec());
    let (answer, elapsed) = drip(&world, pieces, Duration::from_secs(100)).await;
    assert!(answer.ends_with("ok"), "{answer}");
    about(elapsed, Duration::from_secs(600));
}

#[tokio::test(start_paused = true)]
async fn an_application_that_says_nothing_is_a_gateway_timeout() {
    let world = World::new(Rc::new(|_| None));
    let (answer, elapsed) = drip(&world, vec![get("/").into_bytes()], Duration::ZERO).await;
    assert!(answer.starts_with("HTTP/1.1 504 Gateway Timeout\r\n"), "{answer}");
    about(elapsed, limits::ANSWER);
    assert_eq!(world.failures(), [Failure::Silent]);
}

#[tokio::test(start_paused = true)]
async fn h1_16_a_client_that_never_reads() {
    let big = "x".repeat(1_000_000);
    let world = World::new(answers(format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{big}",
        big.len()
    )));
    let elapsed = world
        .serve(async |mut io| {
            let begin = Instant::now();
            io.write_all(get("/").as_bytes()).await.unwrap();
            while world.guard.in_flight.get() == 0 {
                tokio::task::yield_now().await;
            }
            while world.guard.in_flight.get() > 0 {
                sleep(Duration::from_secs(1)).await;
            }
            begin.elapsed()
        })
        .await;
    about(elapsed, limits::WRITE_STALL);
}

#[tokio::test(start_paused = true)]
async fn h1_15_a_head_that_is_too_long() {
    let world = World::new(answers(OK));
    let endless = format!("GET / HTTP/1.1\r\nHost: a\r\nA: {}", "b".repeat(70 * 1024));
    assert!(world.send(endless).await.contains("decision: limits"));
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n", "b".repeat(20 * 1024));
    assert!(world.send(long).await.contains("decision: limits"));
}
