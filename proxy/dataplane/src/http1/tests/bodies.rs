//! Bodies of requests.

use super::*;

#[tokio::test(start_paused = true)]
async fn bodies_go_through_in_their_own_framing() {
    let world = World::new(answers(OK));
    let length = post("Content-Length: 5", "hello");
    let chunks = post(
        "Transfer-Encoding: chunked",
        "5;a=b\r\nhello\r\n003\r\n, w\r\n0\r\nEtag: x\r\nHost: evil\r\n\r\n",
    );
    let answer = world.send(length + &chunks + &get("/next")).await;
    assert_eq!(answer.matches("200 OK").count(), 3, "{answer}");
    let expected = "POST /p HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello\
        POST /p HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n3\r\n, w\r\n0\r\nEtag: x\r\n\r\n\
        GET /next HTTP/1.1\r\nhost: a\r\n\r\n";
    assert_eq!(world.received().concat(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_big_body_goes_through_in_both_directions() {
    let big = "x".repeat(1_000_000);
    let world = World::new(answers(format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{big}",
        big.len()
    )));
    let answer = world.send(post(&format!("Content-Length: {}", big.len()), &big)).await;
    assert!(answer.ends_with(&big) && world.received()[0].ends_with(&big));
}

#[tokio::test(start_paused = true)]
async fn h1_04_malformed_chunks_abort_both_sides() {
    let long = format!("1;{}\r\na\r\n", "e".repeat(64 * 1024));
    for (body, rule) in [
        ("0x1\r\na\r\n", "G10"),
        ("+1\r\na\r\n", "G10"),
        ("-1\r\na\r\n", "G10"),
        ("1_0\r\na\r\n", "G10"),
        (" 1\r\na\r\n", "G10"),
        ("1 \r\na\r\n", "G10"),
        ("00000000000000001\r\na\r\n", "G10"),
        ("\r\na\r\n", "G10"),
        ("1;a\rb\r\na\r\n", "G9"),
        ("1;a\nb\r\na\r\n", "G9"),
        (&long, "G10"),
        ("1\r\nab\r\n", "G10"),
        ("1\r\na\n0\r\n\r\n", "G9"),
        ("1\na\r\n", "G9"),
        ("ffffffffffffffff\r\na", "G10"),
        ("1; a=b\r\na\r\n", "G10"),
        ("1\r\na\r\n0\r\nA: b\n\r\n", "G9"),
        ("1\r\na\r\n0\r\n A: b\r\n\r\n", "G11"),
        ("1\r\na\r\n0\r\nA : b\r\n\r\n", "G11"),
        ("1\r\na\r\n0\r\nA: \0\r\n\r\n", "G12"),
        ("1\r\na\r\n\n", "G10"),
        ("g\r\n", "G10"),
    ] {
        let world = World::new(answers(OK));
        world.send("GET /warm HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        let answer = world.send(post("Transfer-Encoding: chunked", body) + &get("/next")).await;
        let expected = format!("x-policyd-decision: {rule}\r\n");
        assert!(
            answer.starts_with("HTTP/1.1 400") && answer.contains(&expected),
            "{}: {answer}",
            body.escape_debug()
        );
        assert_eq!(answer.matches("HTTP/1.1").count(), 1);
        let received = world.received().concat();
        assert!(!received.contains("/next") && !received.ends_with("0\r\n\r\n"), "{received}");
        world.send(get("/after")).await;
        assert_eq!(world.received().len(), 2, "the aborted connection isn't used again");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_ends_early_is_not_completed() {
    let world = World::new(answers(OK));
    for body in
        [post("Content-Length: 50", "short"), post("Transfer-Encoding: chunked", "5\r\nhel")]
    {
        let before = world.received().len();
        world
            .serve(async |mut io| {
                io.write_all(body.as_bytes()).await.unwrap();
                io.shutdown().await.unwrap();
                let mut answer = Vec::new();
                io.read_to_end(&mut answer).await.unwrap();
                assert!(answer.is_empty());
            })
            .await;
        let received = world.received();
        assert_eq!(received.len(), before + 1);
        assert!(!received[before].ends_with("\r\n0\r\n\r\n"), "{received:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn h1_12_the_body_of_a_get_is_not_the_next_request() {
    let world = World::new(answers(OK));
    let inner = get("/inner");
    for method in ["GET", "OPTIONS", "DELETE"] {
        let head = format!(
            "{method} /outer HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
            inner.len()
        );
        let answer = world.send(head + &inner + &get("/next")).await;
        assert_eq!(answer.matches("200 OK").count(), 2, "{answer}");
    }
    assert_eq!(
        world.received().concat().matches("GET /inner HTTP/1.1\r\nHost: a").count(),
        3,
        "as data only"
    );
}

#[tokio::test(start_paused = true)]
async fn h1_12_an_early_answer_ends_both_connections() {
    let script: Script = Rc::new(|pending| {
        let head = pending.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        Some(Reply {
            taken: head,
            bytes: b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n".to_vec(),
            close: false,
        })
    });
    let world = World::new(script);
    let answer = world
        .serve(async |mut io| {
            io.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf")
                .await
                .unwrap();
            let answer = read_until(&mut io, "\r\n\r\n").await;
            let _ = io.write_all(format!("GET /x{}", get("/next")).as_bytes()).await;
            let mut rest = Vec::new();
            io.read_to_end(&mut rest).await.unwrap();
            assert!(rest.is_empty());
            answer
        })
        .await;
    assert_eq!(answer, "HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    assert!(!world.received().concat().contains("next"));
    world.send(get("/other")).await;
    assert_eq!(world.received().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn h1_12_the_proxy_itself_invites_the_body_after_it_allowed_the_request() {
    let world = World::new(answers(OK));
    let head = "POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n";
    world
        .serve(async |mut io| {
            io.write_all(head.as_bytes()).await.unwrap();
            assert_eq!(read_until(&mut io, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
            io.write_all(b"hello").await.unwrap();
            assert!(read_until(&mut io, "ok").await.starts_with("HTTP/1.1 200 OK\r\n"));
        })
        .await;
    assert!(!world.received()[0].contains("xpect"));
    let denied = world.send(head.replace("/p", "/denied")).await;
    assert!(denied.starts_with("HTTP/1.1 403"), "{denied}");
    let immediate = world.send(head.to_owned() + "hello").await;
    assert!(immediate.starts_with("HTTP/1.1 200"), "{immediate}");
    let unknown = world.send(head.replace("100-continue", "y 100-continue")).await;
    assert!(unknown.contains("decision: G19"), "{unknown}");
}
