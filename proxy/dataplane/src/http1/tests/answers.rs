//! What applications answer (G20).

use super::*;

#[tokio::test(start_paused = true)]
async fn h1_20_answers_that_can_be_read_two_ways_are_bad_gateways() {
    for bytes in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\rc\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nA: b\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        "HTTP/1.1 200 OK\r\n folded: a\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nA : b\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nA: \0\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 \u{1}\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 99 No\r\n\r\n",
        "HTTP/1.1 2000 No\r\n\r\n",
        "HTTP/1.1  200 No\r\n\r\n",
        "HTTP/2 200\r\n\r\n",
        "ICY 200 OK\r\n\r\n",
        "\r\n\r\n",
        "junk\r\n\r\n",
    ] {
        let world = World::new(answers(bytes));
        let answer = world.send(get("/") + &get("/next")).await;
        assert!(answer.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{bytes}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{bytes}: {answer}");
        assert_eq!(world.failures(), [Failure::BadAnswer], "{bytes}");
        world.send(get("/again")).await;
        assert_eq!(world.received().len(), 2, "its connection is dropped");
    }
}

#[tokio::test(start_paused = true)]
async fn h1_20_bytes_after_an_answer_are_nobodys_answer() {
    let world =
        World::new(answers(format!("{OK}HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong")));
    let answer = world.send(get("/").repeat(2)).await;
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 2);
    assert!(!answer.contains("wrong"));
    assert_eq!((world.failures(), world.received().len()), (vec![Failure::Desync; 2], 2));
}

#[tokio::test(start_paused = true)]
async fn h1_20_bytes_on_an_idle_connection_are_seen_before_it_is_used() {
    let (ours, mut theirs) = duplex(1024);
    let pool = Pool::default();
    let (reader, writer) = super::super::wire::split(ours);
    pool.put(super::super::pool::Connection { reader, writer, reused: false, proof: () });
    theirs.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    let desync = Cell::new(0);
    assert!(pool.take(|| desync.set(desync.get() + 1)).is_none());
    assert_eq!(desync.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn idle_connections_that_were_closed_or_are_old_are_not_used() {
    let pool = Pool::default();
    let put = || {
        let (ours, theirs) = duplex(1024);
        let (reader, writer) = super::super::wire::split(ours);
        pool.put(super::super::pool::Connection { reader, writer, reused: false, proof: () });
        theirs
    };
    drop(put());
    assert!(pool.take(|| panic!("silent")).is_none());
    let _open = put();
    tokio::time::advance(super::super::limits::POOLED).await;
    assert!(pool.take(|| panic!("silent")).is_none());
    let _open = put();
    assert!(pool.take(|| panic!("silent")).is_some_and(|connection| connection.reused));
    let _open = put();
    pool.clear();
    assert!(pool.take(|| panic!("silent")).is_none());
}

#[tokio::test(start_paused = true)]
async fn h1_20_interim_answers_are_few_and_early_hints_are_dropped() {
    let interim =
        |count: usize| "HTTP/1.1 102 Processing\r\nX-Policyd-A: b\r\n\r\n".repeat(count) + OK;
    let world = World::new(answers(interim(8)));
    let answer = world.send(get("/")).await;
    assert_eq!(answer.matches("HTTP/1.1 102 Processing\r\n\r\n").count(), 8, "{answer}");
    assert!(answer.ends_with("\r\n\r\nok"));
    let old = world.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n").await;
    assert!(!old.contains("102") && old.ends_with("ok"), "{old}");
    let hints = World::new(answers(format!(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n{OK}"
    )));
    assert!(hints.send(get("/")).await.starts_with("HTTP/1.1 200"));
    let flood = World::new(answers(interim(50)));
    let answer = flood.send(get("/")).await;
    assert!(answer.contains("HTTP/1.1 502") && !answer.contains("200 OK"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_a_length_ends_with_its_connection() {
    let world = World::new(answers_and_closes("HTTP/1.1 200 OK\r\n\r\nsome text"));
    let answer = world.send(get("/").repeat(2)).await;
    let expected = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n9\r\nsome text\r\n0\r\n\r\n";
    assert_eq!(answer, expected);
    let old = world.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n").await;
    assert_eq!(old, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nsome text");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_breaks_off_is_not_completed() {
    for bytes in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n",
    ] {
        let world = World::new(answers_and_closes(bytes));
        let answer = world.send(get("/")).await;
        assert!(answer.contains("part") && !answer.ends_with("0\r\n\r\n"), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1);
        assert_eq!(world.failures(), [Failure::BadAnswer]);
    }
    let malformed = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\nx\r\n";
    let world = World::new(answers(malformed));
    let answer = world.send(get("/")).await;
    assert!(
        answer.starts_with("HTTP/1.1 502") && !answer.contains("part"),
        "nothing had left yet: {answer}"
    );
    let world = World::new(answers_and_closes("HTTP/1.1 200 OK\r\nContent-"));
    assert!(world.send(get("/")).await.starts_with("HTTP/1.1 502"));
}

#[tokio::test(start_paused = true)]
async fn answers_without_a_body_have_none() {
    let head = "HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\nEtag: a\r\n\r\n";
    let world = World::new(answers(head));
    let answer = world.send(get("/").repeat(2)).await;
    assert_eq!(
        answer,
        "HTTP/1.1 304 Not Modified\r\nEtag: a\r\ncontent-length: 10\r\n\r\n".repeat(2)
    );
    let world = World::new(answers("HTTP/1.1 204\r\nContent-Length: 10\r\n\r\n"));
    assert_eq!(world.send(get("/")).await, "HTTP/1.1 204 \r\n\r\n");
}

#[tokio::test(start_paused = true)]
async fn what_belongs_to_the_hop_or_to_the_mesh_is_removed() {
    let head = "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nX-Hop: a\r\nKeep-Alive: timeout=5\r\nUpgrade: h2c\r\n\
        X-Policyd-Decision: fake\r\nL5d-Client-Id: b\r\nProxy-Connection: c\r\nTrailer: d\r\nSet-Cookie: e\r\n\
        Set-Cookie: f\r\nContent-Length: 0\r\n\r\n";
    let world = World::new(answers(head));
    let answer = world.send(get("/")).await;
    assert_eq!(
        answer,
        "HTTP/1.1 200 OK\r\nSet-Cookie: e\r\nSet-Cookie: f\r\ncontent-length: 0\r\n\r\n"
    );
}

#[tokio::test(start_paused = true)]
async fn h1_21_trailers_of_an_answer() {
    let body = "2\r\nok\r\n0\r\nEtag: a\r\nSet-Cookie: b\r\nContent-Length: 5\r\nX-Policyd-A: c\r\ngrpc-status: 0\r\n\r\n";
    let plain =
        World::new(answers(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}")));
    assert!(plain.send(get("/")).await.ends_with("0\r\nEtag: a\r\n\r\n"));
    let grpc =
        "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n";
    let grpc = World::new(answers(format!("{grpc}{body}")));
    assert!(grpc.send(get("/")).await.ends_with("0\r\nEtag: a\r\ngrpc-status: 0\r\n\r\n"));
}

#[tokio::test(start_paused = true)]
async fn an_answers_head_has_its_bounds() {
    let many = "A: b\r\n".repeat(201);
    let big = format!("A: {}\r\n", "b".repeat(70 * 1024));
    for fields in [many, big] {
        let world =
            World::new(answers(format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 0\r\n\r\n")));
        let answer = world.send(get("/")).await;
        assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    }
}
