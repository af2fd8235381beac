//! What is allowed, what is refused, and that neither is the other's business.

use std::cell::Cell;
use std::rc::Rc;

use bytes::Bytes;

use super::{ask, call, client, echo, get, send, whole, with_application};

#[test]
fn a_unary_call_goes_through_with_its_trailers() {
    with_application(echo, async |rig, heads| {
        let sender = client(&rig).await;
        let got = ask(&sender, call("/books.Authors/Get"), b"\0\0\0\0\x02hi").await;
        assert_eq!((got.status, got.body.as_slice()), (200, &b"\0\0\0\0\x02hi"[..]));
        assert_eq!(got.grpc_status(), "0");
        assert_eq!(got.trailers.get("my-bin").unwrap(), "AAE=");
        assert!(!got.trailers.contains_key("x-policyd-decision"), "{:?}", got.trailers);
        let head = heads.borrow()[0].clone();
        assert!(head.starts_with("POST http://authors:8080/books.Authors/Get\n"), "{head}");
        assert!(head.contains("te: trailers\n"), "{head}");
    });
}

#[test]
fn a_stream_flows_in_both_directions_at_once() {
    with_application(echo, async |rig, _| {
        let mut sender = client(&rig).await.ready().await.unwrap();
        let (response, mut stream) =
            sender.send_request(call("/books.Authors/Watch"), false).unwrap();
        let mut body = response.await.unwrap().into_body();
        for message in [&b"one"[..], b"two", b"three"] {
            send(&mut stream, message, false).await;
            assert_eq!(&body.data().await.unwrap().unwrap()[..], message);
        }
        stream.send_data(bytes::Bytes::new(), true).unwrap();
        assert!(body.data().await.is_none());
        assert_eq!(body.trailers().await.unwrap().unwrap()["grpc-status"], "0");
    });
}

#[test]
fn gr_02_a_refused_stream_is_answered_and_the_others_go_on() {
    with_application(echo, async |rig, heads| {
        let sender = client(&rig).await;
        let mut open = sender.clone().ready().await.unwrap();
        let (response, mut stream) =
            open.send_request(call("/books.Authors/Watch"), false).unwrap();
        let got = ask(&sender, call("/denied/Get"), b"x").await;
        assert_eq!((got.status, got.grpc_status()), (200, "7"));
        assert_eq!(got.headers["grpc-message"], "denied");
        assert_eq!(got.headers["x-policyd-decision"].len(), 36);
        assert!(got.body.is_empty());
        let got = ask(&sender, get("/denied"), b"").await;
        let id = got.headers["x-policyd-decision"].to_str().unwrap();
        assert_eq!(got.status, 403);
        assert_eq!(
            String::from_utf8(got.body).unwrap(),
            format!("{{\"decision\":\"{id}\",\"reason\":\"denied\"}}")
        );
        let malformed = ask(&sender, get("/a//b"), b"").await;
        assert_eq!(malformed.status, 400);
        send(&mut stream, b"still here", true).await;
        assert_eq!(whole(response).await.unwrap().body, b"still here");
        assert_eq!(heads.borrow().len(), 1);
    });
}

#[test]
fn a_body_larger_than_all_windows_passes_whole() {
    with_application(echo, async |rig, _| {
        let sender = client(&rig).await;
        let body: Vec<u8> = (0..3_000_000_u32).map(|at| at.to_le_bytes()[0]).collect();
        let mut sender = sender.ready().await.unwrap();
        let (response, mut stream) =
            sender.send_request(call("/books.Authors/Put"), false).unwrap();
        let (got, ()) = tokio::join!(whole(response), send(&mut stream, &body, true));
        assert!(got.unwrap().body == body);
    });
}

#[test]
fn h2_08_a_client_that_takes_nothing_holds_windows_and_no_more() {
    // Each of the two connections has windows and buffers of its own, and the kernel its sockets.
    const MOST: usize = 6 * 64 * 1024;
    let (sent, whole) = (Rc::new(Cell::new(0)), Bytes::from(vec![0; 1024]));
    let counted = Rc::clone(&sent);
    let pours = async move |_: http::Request<h2::RecvStream>,
                            mut respond: h2::server::SendResponse<Bytes>| {
        let mut stream = respond.send_response(http::Response::new(()), false).unwrap();
        loop {
            send(&mut stream, &whole, false).await;
            counted.set(counted.get() + whole.len());
        }
    };
    with_application(pours, async move |rig, _| {
        let mut sender = client(&rig).await.ready().await.unwrap();
        let (response, _) = sender.send_request(get("/a"), true).unwrap();
        let _body = response.await.unwrap().into_body();
        let mut before = 0;
        while before == 0 || before != sent.get() {
            before = sent.get();
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        assert!(before < MOST, "{before}");
    });
}
