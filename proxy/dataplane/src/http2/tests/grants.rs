//! Open streams are decided again; and what ends a stream, or a connection, before its time.

use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::Reason;
use h2::server::SendResponse;
use http::{Request, Response};
use tokio::sync::mpsc;

use super::{all_but_denied, ask, call, client, echo, forbid, get, send, whole, with_application};

#[test]
fn p_3_gr_03_only_the_streams_that_lost_their_grant_are_cut() {
    with_application(echo, async |rig, _| {
        let sender = client(&rig).await;
        let mut open = Vec::new();
        for path in ["/a/Watch", "/b/Watch"] {
            let mut sender = sender.clone().ready().await.unwrap();
            let (response, mut stream) = sender.send_request(call(path), false).unwrap();
            let mut body = response.await.unwrap().into_body();
            send(&mut stream, b"1", false).await;
            assert_eq!(&body.data().await.unwrap().unwrap()[..], b"1");
            open.push((stream, body));
        }
        let (mut kept, mut kept_body) = open.pop().unwrap();
        let (_cut, mut cut_body) = open.pop().unwrap();
        let began = Instant::now();
        forbid(&rig, &["/a"]);
        assert!(cut_body.data().await.is_none());
        let trailers = cut_body.trailers().await.unwrap().unwrap();
        assert_eq!(trailers["grpc-status"], "7");
        assert!(trailers.contains_key("x-policyd-decision"));
        assert!(began.elapsed() < Duration::from_secs(5));
        send(&mut kept, b"2", false).await;
        assert_eq!(&kept_body.data().await.unwrap().unwrap()[..], b"2");
        assert_eq!(ask(&sender, call("/a/Get"), b"x").await.grpc_status(), "7");
        assert_eq!(ask(&sender, call("/b/Get"), b"x").await.grpc_status(), "0");
        assert_eq!(rig.shared.metrics.cut.get(), 1);
    });
}

#[test]
fn p_3_an_answer_that_is_not_grpc_is_reset_when_its_grant_is_gone() {
    let slow = async |_: Request<h2::RecvStream>, mut respond: SendResponse<Bytes>| {
        let mut stream = respond.send_response(Response::new(()), false).unwrap();
        stream.send_data(Bytes::from_static(b"begin"), false).unwrap();
        std::future::poll_fn(|context| stream.poll_reset(context)).await.unwrap();
    };
    with_application(slow, async |rig, _| {
        let sender = client(&rig).await;
        let mut sender = sender.ready().await.unwrap();
        let (response, _) = sender.send_request(get("/a"), true).unwrap();
        let mut body = response.await.unwrap().into_body();
        assert_eq!(&body.data().await.unwrap().unwrap()[..], b"begin");
        forbid(&rig, &["/a"]);
        let error = body.data().await.unwrap().unwrap_err();
        assert_eq!(error.reason(), Some(Reason::CANCEL));
    });
}

#[test]
fn a_stream_that_its_client_gives_up_is_given_up_at_the_application() {
    let (told, mut heard) = mpsc::unbounded_channel();
    let app = async move |_: Request<h2::RecvStream>, mut respond: SendResponse<Bytes>| {
        let reason = std::future::poll_fn(|context| respond.poll_reset(context)).await;
        told.send(reason.unwrap()).unwrap();
    };
    with_application(app, async |rig, heads| {
        let sender = client(&rig).await;
        let mut sender = sender.ready().await.unwrap();
        let (response, mut stream) = sender.send_request(call("/a/Get"), false).unwrap();
        send(&mut stream, b"x", false).await;
        while heads.borrow().is_empty() {
            tokio::task::yield_now().await;
        }
        stream.send_reset(Reason::CANCEL);
        drop(response);
        assert_eq!(heard.recv().await, Some(Reason::CANCEL));
    });
}

#[test]
fn gr_04_the_deadline_of_a_call_ends_it() {
    let never = async |_: Request<h2::RecvStream>, respond: SendResponse<Bytes>| {
        let _respond = respond;
        std::future::pending::<()>().await;
    };
    with_application(never, async |rig, heads| {
        let sender = client(&rig).await;
        let mut head = call("/a/Get");
        head.headers_mut().insert("grpc-timeout", "100m".parse().unwrap());
        let got = ask(&sender, head, b"x").await;
        assert_eq!((got.status, got.grpc_status()), (200, "4"));
        assert!(heads.borrow()[0].contains("grpc-timeout: 100m\n"));
    });
}

#[test]
fn h2_17_what_the_application_refused_unread_is_sent_once_more() {
    let tries = Rc::new(std::cell::Cell::new(0));
    let seen = Rc::clone(&tries);
    let app = async move |request: Request<h2::RecvStream>, mut respond: SendResponse<Bytes>| {
        seen.set(seen.get() + 1);
        if request.uri().path() == "/always" || seen.get() == 1 {
            return respond.send_reset(Reason::REFUSED_STREAM);
        }
        respond.send_response(Response::new(()), true).unwrap();
    };
    with_application(app, async move |rig, _| {
        let sender = client(&rig).await;
        assert_eq!(ask(&sender, get("/once"), b"").await.status, 200);
        assert_eq!(tries.get(), 2);
        assert_eq!(ask(&sender, get("/always"), b"").await.status, 502);
        assert_eq!(tries.get(), 4);
    });
}

#[test]
fn h2_17_a_broken_answer_is_not_taken_for_the_whole() {
    let app = async |request: Request<h2::RecvStream>, mut respond: SendResponse<Bytes>| {
        if request.uri().path() == "/early" {
            return respond.send_reset(Reason::INTERNAL_ERROR);
        }
        let mut stream = respond.send_response(Response::new(()), false).unwrap();
        stream.send_data(Bytes::from_static(b"half"), false).unwrap();
        tokio::task::yield_now().await;
        stream.send_reset(Reason::INTERNAL_ERROR);
    };
    with_application(app, async |rig, _| {
        let sender = client(&rig).await;
        assert_eq!(ask(&sender, get("/early"), b"").await.status, 502);
        assert_eq!(ask(&sender, call("/early"), b"x").await.grpc_status(), "14");
        let got = ask(&sender, get("/late"), b"").await;
        assert_eq!(got.broken.unwrap().reason(), Some(Reason::INTERNAL_ERROR));
    });
}

#[test]
fn sigterm_lets_open_streams_end_and_takes_no_new_ones() {
    with_application(echo, async |rig, _| {
        let sender = client(&rig).await;
        let mut open = sender.clone().ready().await.unwrap();
        let (response, mut stream) = open.send_request(call("/a/Watch"), false).unwrap();
        let mut answer = response.await.unwrap().into_body();
        rig.shared.stopping.send_replace(true);
        while sender.clone().ready().await.is_ok() {
            tokio::task::yield_now().await;
        }
        send(&mut stream, b"last", true).await;
        assert_eq!(&answer.data().await.unwrap().unwrap()[..], b"last");
        assert!(answer.data().await.is_none());
        assert_eq!(answer.trailers().await.unwrap().unwrap()["grpc-status"], "0");
    });
}

#[test]
fn an_early_answer_ends_the_request() {
    let app = async |_: Request<h2::RecvStream>, mut respond: SendResponse<Bytes>| {
        respond.send_response(Response::builder().status(413).body(()).unwrap(), true).unwrap();
    };
    with_application(app, async |rig, _| {
        let mut sender = client(&rig).await.ready().await.unwrap();
        let (response, mut stream) = sender.send_request(call("/a/Put"), false).unwrap();
        let big = vec![0; 1_000_000];
        let (got, ()) = tokio::join!(whole(response), send(&mut stream, &big, true));
        assert_eq!(got.unwrap().status, 413);
        all_but_denied(&rig);
    });
}
