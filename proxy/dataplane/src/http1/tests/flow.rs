//! Requests in a row: reuse, order, denials, ends.

use tokio::io::AsyncReadExt;

use super::*;

#[tokio::test(start_paused = true)]
async fn requests_follow_one_another_on_one_connection_to_the_application() {
    let world = World::new(answers(OK));
    let answer = world.send(get("/a").repeat(3)).await;
    assert_eq!(answer, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".repeat(3));
    assert_eq!(world.received(), ["GET /a HTTP/1.1\r\nhost: a\r\n\r\n".repeat(3)]);
}

#[tokio::test(start_paused = true)]
async fn clients_share_idle_connections_one_after_the_other() {
    let world = World::new(answers(OK));
    for _ in 0..3 {
        assert!(
            world
                .send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                .await
                .ends_with("ok")
        );
    }
    assert_eq!(world.received().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn h1_11_pipelining_stops_at_the_denied_request() {
    let world = World::new(answers(OK));
    let requests = get("/a").repeat(40) + &get("/denied") + &get("/after").repeat(59);
    let answer = world.send(requests).await;
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 40);
    assert_eq!(answer.matches("HTTP/1.1 403 Forbidden").count(), 1);
    assert!(answer.ends_with("{\"decision\":\"denied\",\"reason\":\"denied\"}"), "{answer}");
    assert!(!world.received().concat().contains("after"));
}

#[tokio::test(start_paused = true)]
async fn h1_11_a_request_in_the_body_of_a_denied_one_goes_nowhere() {
    let world = World::new(answers(OK));
    let inner = get("/smuggled");
    let head =
        format!("POST /denied HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", inner.len());
    let answer = world.send(head + &inner + &get("/next")).await;
    assert!(
        answer.starts_with("HTTP/1.1 403") && answer.matches("HTTP/1.1").count() == 1,
        "{answer}"
    );
    assert!(answer.contains("connection: close\r\n") && world.received().is_empty());
}

#[tokio::test(start_paused = true)]
async fn h1_01_a_refused_head_reaches_nobody_and_ends_the_connection() {
    let world = World::new(answers(OK));
    let both = post("Content-Length: 5\r\nTransfer-Encoding: chunked", "0\r\n\r\n");
    let answer = world.send(both + &get("/next")).await;
    assert!(
        answer.starts_with("HTTP/1.1 400 Bad Request\r\n")
            && answer.contains("x-policyd-decision: G8"),
        "{answer}"
    );
    assert_eq!(answer.matches("HTTP/1.1").count(), 1);
    assert!(world.received().is_empty());
}

#[tokio::test(start_paused = true)]
async fn h1_05_bare_line_ends_are_refused_at_once() {
    for head in [
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\n\r\nHost: a\r\n\r\n",
        "\r\n\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    ] {
        let world = World::new(answers(OK));
        let answer = world.send(head).await;
        assert!(answer.contains("x-policyd-decision: G9"), "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_request_gets_no_body_even_in_a_refusal() {
    let world = World::new(answers("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"));
    let head = "HEAD /a HTTP/1.1\r\nHost: a\r\n\r\n";
    let answer = world.send(head.repeat(2) + &head.replace("/a", "/denied")).await;
    assert_eq!(answer.matches("content-length: 500\r\n").count(), 2);
    assert!(answer.contains("403 Forbidden") && answer.ends_with("\r\n\r\n"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn the_last_answer_of_an_ending_connection_says_so() {
    let world = World::new(answers(OK));
    world.guard.ending.set(true);
    let answer = world.send(get("/").repeat(2)).await;
    assert_eq!(answer, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_ends_when_the_proxy_does() {
    let world = World::new(answers(OK));
    world
        .serve(async |mut io| {
            io.write_all(get("/").as_bytes()).await.unwrap();
            read_until(&mut io, "ok").await;
            world.guard.ending.set(true);
            world.guard.changed.notify_one();
            let begin = tokio::time::Instant::now();
            assert_eq!(read_until(&mut io, "x").await, "");
            assert_eq!(begin.elapsed(), std::time::Duration::ZERO);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn g18_http_1_0_has_a_connection_of_its_own_and_no_chunks() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    let world = World::new(answers(chunked));
    world.send("GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    let answer = world.send("GET /b HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n").await;
    assert_eq!(answer, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nok");
    world.send("GET /c HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    let received = world.received();
    assert_eq!(received.len(), 2);
    assert_eq!(received[1], "GET /b HTTP/1.0\r\nhost: a\r\nconnection: close\r\n\r\n");
    let known = World::new(answers(OK));
    let answer = known.send("GET /b HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n").await;
    assert_eq!(answer, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: keep-alive\r\n\r\nok");
}

#[tokio::test(start_paused = true)]
async fn an_application_that_cannot_be_reached_is_a_bad_gateway() {
    let world = World::new(answers(OK));
    world.application.refuses.set(true);
    let answer = world.send(get("/")).await;
    assert!(
        answer.starts_with("HTTP/1.1 502 Bad Gateway\r\n") && answer.contains("connection: close"),
        "{answer}"
    );
    assert_eq!(world.failures(), [Failure::Unreachable]);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_went_stale_is_replaced_for_a_request_that_may_be_repeated() {
    // The application answers the first request of a connection, and drops the connection at the second.
    let script: Script = Rc::new(|pending| {
        let taken = whole(pending)?;
        let stale = pending.starts_with(b"GET /second") || pending.starts_with(b"POST");
        let bytes = if stale { Vec::new() } else { OK.into() };
        Some(Reply { taken, bytes, close: stale })
    });
    let world = World::new(script);
    let answer = world.send(get("/first") + &get("/second")).await;
    assert!(answer.contains("502"), "the new connection is dropped, too: {answer}");
    assert_eq!(world.received().len(), 2);
    let answer = world.send(get("/first") + &post("Content-Length: 0", "")).await;
    assert!(answer.contains("200 OK") && answer.contains("502"), "{answer}");
    assert_eq!(world.received().len(), 3, "a POST isn't repeated");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_answered_with_an_interim_answer_is_not_repeated() {
    let script: Script = Rc::new(|pending| {
        let taken = whole(pending)?;
        let second = pending.starts_with(b"GET /second");
        let bytes = if second { "HTTP/1.1 103 Early Hints\r\n\r\n" } else { OK };
        Some(Reply { taken, bytes: bytes.into(), close: second })
    });
    let world = World::new(script);
    let answer = world.send(get("/first") + &get("/second")).await;
    assert!(answer.contains("200 OK") && answer.contains("502"), "{answer}");
    assert_eq!(world.received().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_session_cuts_both_ends() {
    let world = World::new(Rc::new(|_| None));
    let (ours, theirs) = duplex(1024);
    let local = LocalSet::new();
    local
        .run_until(async {
            let mut client = ours;
            client.write_all(get("/").as_bytes()).await.unwrap();
            let serving = serve_pooled(theirs, &*world.guard, &*world.application, &world.pool);
            let cut = tokio::time::sleep(std::time::Duration::from_secs(1));
            tokio::select! { () = serving => panic!("nobody answered"), () = cut => {} }
            let mut rest = Vec::new();
            client.read_to_end(&mut rest).await.unwrap();
            assert!(rest.is_empty());
            assert_eq!(world.guard.in_flight.get(), 0);
        })
        .await;
}
