//! How the streams of an application end before their time: refused, cut, said goodbye to.

use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason as Code, RecvStream};
use http::Request;

use super::speaking::{Endpoint, calling, client, plain, text};
use super::*;
use crate::http2::tests::{application, ask, call, echo, get, send};

#[test]
fn h2_17_an_endpoint_that_says_goodbye_ends_what_it_has_and_gets_nothing_new() {
    run(async {
        let endpoint = Endpoint::start(echo).await;
        let (_worker, sender) = calling(&[endpoint.address]).await;
        let mut open = sender.clone().ready().await.unwrap();
        let (response, mut stream) = open.send_request(call("/a/Watch"), false).unwrap();
        let mut body = response.await.unwrap().into_body();
        endpoint.goodbye.notify_waiters();
        // It may take a moment to arrive; what goes out meanwhile is served all the same.
        while endpoint.connections.get() < 2 {
            assert_eq!(ask(&sender, call("/a/Get"), b"x").await.grpc_status(), "0");
        }
        send(&mut stream, b"last", true).await;
        assert_eq!(&body.data().await.unwrap().unwrap()[..], b"last");
        assert!(body.data().await.is_none());
        assert_eq!(body.trailers().await.unwrap().unwrap()["grpc-status"], "0");
    });
}

#[test]
fn h2_17_what_an_endpoint_refused_unread_goes_to_another_once() {
    run(async {
        let refuses = async |_: Request<RecvStream>, mut respond: SendResponse<Bytes>| {
            respond.send_reset(Code::REFUSED_STREAM);
        };
        let (busy, idle) = tokio::join!(Endpoint::start(refuses), Endpoint::start(echo));
        let (worker, sender) = calling(&[busy.address, idle.address]).await;
        while worker.shared.metrics.repeated.get() < 5 {
            assert_eq!(ask(&sender, call("/a/Get"), b"hello").await.body, b"hello");
        }
        assert_eq!(worker.shared.metrics.repeated.get(), busy.streams.get() as u64);
        let (worker, sender) = calling(&[busy.address]).await;
        let before = busy.streams.get();
        assert_eq!(ask(&sender, call("/a/Get"), b"x").await.grpc_status(), "14");
        assert_eq!(ask(&sender, get("/a"), b"").await.status, 502);
        assert_eq!((busy.streams.get() - before, worker.shared.metrics.repeated.get()), (4, 2));
    });
}

#[test]
fn what_an_endpoint_may_have_worked_on_is_not_sent_again() {
    run(async {
        let breaks = async |_: Request<RecvStream>, mut respond: SendResponse<Bytes>| {
            respond.send_reset(Code::INTERNAL_ERROR);
        };
        let (broken, other) = tokio::join!(Endpoint::start(breaks), Endpoint::start(echo));
        let (worker, sender) = calling(&[broken.address, other.address]).await;
        let mut failed = 0;
        for _ in 0..20 {
            failed += usize::from(ask(&sender, call("/a/Get"), b"x").await.grpc_status() == "14");
        }
        assert_eq!((failed, worker.shared.metrics.repeated.get()), (broken.streams.get(), 0));
        assert!(failed > 0);
    });
}

#[test]
fn i8_t7_refusals_of_this_side_are_decisions_in_the_words_of_the_request() {
    run(async {
        let root = authority("root");
        let other = Rig::with(keyring(WEBAPP, &root)).await;
        other.enforce(ALL_UNAUTHENTICATED);
        let unmeshed = Endpoint::start(echo).await;
        let somebody_else = discovery(other.proxy, AUTHORS, "Allow");
        let forbidden = discovery(unmeshed.address, "", "Deny");
        for (discovery, reason) in [(somebody_else, "peer_rejected"), (forbidden, "no_identity")] {
            let (worker, listen) = caller_of(&root, discovery).await;
            let sender = client(listen).await;
            let got = ask(&sender, call("/a/Get"), b"x").await;
            assert_eq!((got.status, got.grpc_status()), (200, "14"), "{reason}");
            assert_eq!(got.headers["grpc-message"], "unavailable");
            assert_eq!(got.headers["x-policyd-decision"].len(), 36);
            assert!(got.body.is_empty());
            let got = ask(&sender, get("/a"), b"").await;
            assert_eq!((got.status, got.headers["x-policyd-decision"].len()), (502, 36));
            let counted =
                format!("subject=\"outbound\",verdict=\"deny\",reason=\"{reason}\"}} 2\n");
            assert!(text(&worker).contains(&counted), "{counted}");
        }
        assert_eq!(unmeshed.connections.get(), 0);
    });
}

#[test]
fn t4_a_stream_that_cannot_be_read_is_refused_here() {
    run(async {
        let endpoint = Endpoint::start(echo).await;
        let (worker, sender) = calling(&[endpoint.address]).await;
        let mut odd = call("/a/Get");
        odd.headers_mut().append("host", "somebody.else".parse().unwrap());
        let got = ask(&sender, odd, b"x").await;
        assert_eq!((got.status, got.grpc_status()), (200, "3"));
        assert!(text(&worker).contains("reason=\"invalid_request\"} 1\n"));
        // What only policies would mind goes on: refusing is the other side's.
        assert_eq!(ask(&sender, call("/a/../b//%2f?q=1"), b"x").await.grpc_status(), "0");
        assert_eq!(endpoint.streams.get(), 1);
    });
}

#[test]
fn p_3_open_streams_end_when_their_endpoint_may_no_longer_be_talked_to() {
    run(async {
        let root = authority("root");
        let mut callee = Rig::with(keyring(AUTHORS, &root)).await;
        callee.enforce(ALL_AUTHENTICATED);
        let unused = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _heads = application(std::mem::replace(&mut callee.application, unused), echo);
        let unmeshed = Endpoint::start(echo).await;
        let meshed = discovery(callee.proxy, AUTHORS, "Deny");
        for (meshed, discovered) in [(true, meshed), (false, plain(&[unmeshed.address]))] {
            let (worker, listen) = caller_of(&root, discovered).await;
            let sender = client(listen).await;
            let mut open = sender.clone().ready().await.unwrap();
            let (response, mut stream) = open.send_request(call("/a/Watch"), false).unwrap();
            let mut body = response.await.unwrap().into_body();
            send(&mut stream, b"1", false).await;
            assert_eq!(&body.data().await.unwrap().unwrap()[..], b"1");
            let began = Instant::now();
            if meshed {
                let others = bundles("cluster.local", &authority("another root"));
                worker.shared.keyring.publish_bundles(others);
            } else {
                let deny = discovery(unmeshed.address, "", "Deny");
                enforce(&worker.shared, &snapshot_bytes(1), Facts::default(), deny);
            }
            assert!(body.data().await.is_none());
            let trailers = body.trailers().await.unwrap().unwrap();
            assert_eq!(trailers["grpc-status"], "14");
            assert!(began.elapsed() < Duration::from_secs(5));
            let id = trailers["x-policyd-decision"].to_str().unwrap().to_owned();
            assert_eq!((id.len(), worker.shared.metrics.cut.get()), (36, 1));
            // Nothing new goes there either, on the connection that was open or any other.
            let got = ask(&sender, call("/a/Get"), b"x").await;
            assert_eq!(got.grpc_status(), "14");
            assert_ne!(got.headers["x-policyd-decision"], id.as_str());
        }
    });
}

#[test]
fn l4_13_sigterm_lets_open_streams_end() {
    run(async {
        let endpoint = Endpoint::start(echo).await;
        let (worker, sender) = calling(&[endpoint.address]).await;
        let mut open = sender.clone().ready().await.unwrap();
        let (response, mut stream) = open.send_request(call("/a/Watch"), false).unwrap();
        let mut body = response.await.unwrap().into_body();
        worker.shared.stopping.send_replace(true);
        while sender.clone().ready().await.is_ok() {
            tokio::task::yield_now().await;
        }
        send(&mut stream, b"last", true).await;
        assert_eq!(&body.data().await.unwrap().unwrap()[..], b"last");
        assert!(body.data().await.is_none());
        assert_eq!(body.trailers().await.unwrap().unwrap()["grpc-status"], "0");
    });
}
