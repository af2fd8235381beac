//! The streams of an application, each to an endpoint of its own.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::server::SendResponse;
use h2::{Reason as Code, RecvStream};
use http::{Request, Response};
use tokio::sync::mpsc;

use super::speaking::{Endpoint, calling, client, plain, text};
use super::*;
use crate::http2::limits::{SHARED_WINDOW_BYTES, STREAM_WINDOW_BYTES};
use crate::http2::tests::{application, ask, call, echo, get, send, whole};

/// All of them take about as long, so that chance alone spreads the calls.
async fn steady(request: Request<RecvStream>, respond: SendResponse<Bytes>) {
    tokio::time::sleep(Duration::from_millis(20)).await;
    echo(request, respond).await;
}

/// So many calls, ten at a time.
async fn calls(sender: &SendRequest<Bytes>, count: usize) {
    for _ in 0..count / 10 {
        let mut some = tokio::task::JoinSet::new();
        for _ in 0..10 {
            let sender = sender.clone();
            some.spawn_local(async move { ask(&sender, call("/a/Get"), b"x").await });
        }
        while let Some(got) = some.join_next().await {
            assert_eq!(got.unwrap().grpc_status(), "0");
        }
    }
}

#[test]
fn the_streams_of_one_connection_go_to_all_endpoints_and_one_that_dies_is_passed_over() {
    run(async {
        let (one, two, three) =
            tokio::join!(Endpoint::start(steady), Endpoint::start(steady), Endpoint::start(steady));
        let (worker, sender) = calling(&[one.address, two.address, three.address]).await;
        calls(&sender, 150).await;
        let shares = [&one, &two, &three].map(|endpoint| endpoint.streams.get());
        assert_eq!(shares.iter().sum::<usize>(), 150);
        assert!(shares.iter().all(|share| *share > 15), "{shares:?}");
        assert!([&one, &two, &three].iter().all(|endpoint| endpoint.connections.get() == 1));
        assert_eq!(worker.shared.metrics.shared_open.get(), 3);
        one.dies().await;
        calls(&sender, 150).await;
        assert_eq!(two.streams.get() + three.streams.get(), shares[1] + shares[2] + 150);
        let text = text(&worker);
        for line in [
            "policyd_outbound_calls_total{service=\"books/authors:80\"} 300\n",
            "policyd_outbound_in_flight{service=\"books/authors:80\"} 0\n",
            "policyd_outbound_resting_endpoints{service=\"books/authors:80\"} 1\n",
            "policyd_outbound_shared_open 2\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    });
}

#[test]
fn streams_of_all_applications_reach_a_meshed_endpoint_on_one_connection_with_their_identity() {
    run(async {
        let root = authority("root");
        let mut callee = Rig::with(keyring(AUTHORS, &root)).await;
        callee.enforce(ALL_AUTHENTICATED);
        let unused = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let heads = application(std::mem::replace(&mut callee.application, unused), echo);
        let (_worker, listen) = caller(&root, callee.proxy, AUTHORS, "Deny").await;
        let (one, two) = (client(listen).await, client(listen).await);
        let calls: Vec<_> = (0..60)
            .map(|at| {
                let sender = if at % 2 == 0 { one.clone() } else { two.clone() };
                spawn_local(async move { ask(&sender, call("/a/Get"), b"hello").await })
            })
            .collect();
        for call in calls {
            let got = call.await.unwrap();
            assert_eq!((got.grpc_status(), got.body.as_slice()), ("0", &b"hello"[..]));
            assert_eq!(got.trailers["my-bin"], "AAE=");
            assert!(!got.trailers.contains_key("x-policyd-decision"), "{:?}", got.trailers);
        }
        assert_eq!(callee.shared.metrics.inbound_connections.get(), 1);
        assert!(!heads.borrow()[0].contains("x-policyd"), "{}", heads.borrow()[0]);
        // What the other proxy refuses is answered in its words.
        callee.enforce(1);
        let got = ask(&one, call("/a/Get"), b"x").await;
        assert_eq!((got.status, got.grpc_status()), (200, "7"));
        assert_eq!(got.headers["x-policyd-decision"].len(), 36);
        assert_eq!(ask(&one, get("/a"), b"").await.status, 403);
    });
}

#[test]
fn a_slow_reader_costs_its_window_and_holds_up_nobody_else() {
    /// Each of two connections has a window and a buffer, and the kernel its sockets.
    const MOST: usize = 6 * STREAM_WINDOW_BYTES as usize;
    const SLOW: usize = 40;
    run(async {
        let (sent, piece) = (Rc::new(Cell::new(0)), Bytes::from(vec![0; 4096]));
        let counted = Rc::clone(&sent);
        let pours = async move |request: Request<RecvStream>, mut respond: SendResponse<Bytes>| {
            if request.uri().path() == "/quick" {
                return echo(request, respond).await;
            }
            let mut stream = respond.send_response(Response::new(()), false).unwrap();
            loop {
                send(&mut stream, &piece, false).await;
                counted.set(counted.get() + piece.len());
            }
        };
        let endpoint = Endpoint::start(pours).await;
        let (_worker, listen) = caller_of(&authority("root"), plain(&[endpoint.address])).await;
        let slow = client(listen).await;
        let mut bodies = Vec::new();
        for _ in 0..SLOW {
            let (response, _) =
                slow.clone().ready().await.unwrap().send_request(get("/"), true).unwrap();
            bodies.push(response.await.unwrap().into_body());
        }
        let mut before = 0;
        while before == 0 || before != sent.get() {
            before = sent.get();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(before < SLOW * MOST, "{before}");
        // More than all of the window that HTTP/2 has by default for a connection lies there.
        assert!(before > 20 * 65_535 && SLOW * 65_536 < SHARED_WINDOW_BYTES as usize, "{before}");
        let body = vec![7; 200_000];
        let got = ask(&client(listen).await, call("/quick"), &body).await;
        assert!(got.body == body && got.grpc_status() == "0");
        assert_eq!(endpoint.connections.get(), 1);
    });
}

#[test]
fn an_endpoint_that_takes_nothing_holds_up_its_own_stream_only() {
    const MOST: usize = 6 * STREAM_WINDOW_BYTES as usize;
    run(async {
        let deaf = async move |request: Request<RecvStream>, respond: SendResponse<Bytes>| {
            if request.uri().path() == "/quick" {
                return echo(request, respond).await;
            }
            std::future::pending::<()>().await;
            drop((request, respond));
        };
        let endpoint = Endpoint::start(deaf).await;
        let (_worker, listen) = caller_of(&authority("root"), plain(&[endpoint.address])).await;
        let mut sender = client(listen).await.ready().await.unwrap();
        let (_response, mut stream) = sender.send_request(call("/deaf"), false).unwrap();
        let (taken, counted) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let told = Rc::clone(&taken);
        let writing = spawn_local(async move {
            loop {
                send(&mut stream, &[0; 4096], false).await;
                told.set(told.get() + 4096);
            }
        });
        while counted.get() == 0 || counted.get() != taken.get() {
            counted.set(taken.get());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(taken.get() < MOST, "{}", taken.get());
        assert_eq!(ask(&client(listen).await, call("/quick"), b"x").await.grpc_status(), "0");
        writing.abort();
    });
}

#[test]
fn a_stream_that_is_given_up_on_one_side_is_given_up_on_the_other() {
    run(async {
        let (told, mut heard) = mpsc::unbounded_channel();
        let script = async move |request: Request<RecvStream>, mut respond: SendResponse<Bytes>| {
            if request.uri().path() == "/breaks" {
                let mut stream = respond.send_response(Response::new(()), false).unwrap();
                stream.send_data(Bytes::from_static(b"half"), false).unwrap();
                tokio::task::yield_now().await;
                return stream.send_reset(Code::INTERNAL_ERROR);
            }
            told.send(None).unwrap();
            let code = poll_fn(|task| respond.poll_reset(task)).await;
            told.send(Some(code.unwrap())).unwrap();
        };
        let endpoint = Endpoint::start(script).await;
        let (worker, sender) = calling(&[endpoint.address]).await;
        let mut open = sender.clone().ready().await.unwrap();
        let (response, mut stream) = open.send_request(call("/a/Watch"), false).unwrap();
        send(&mut stream, b"x", false).await;
        assert_eq!(heard.recv().await, Some(None));
        stream.send_reset(Code::CANCEL);
        drop(response);
        assert_eq!(heard.recv().await, Some(Some(Code::CANCEL)));
        let got = ask(&sender, get("/breaks"), b"").await;
        assert_eq!(got.broken.unwrap().reason(), Some(Code::INTERNAL_ERROR));
        let mut deadline = call("/a/Get");
        deadline.headers_mut().insert("grpc-timeout", "100m".parse().unwrap());
        let got = ask(&sender, deadline, b"x").await;
        assert_eq!((got.status, got.grpc_status()), (200, "4"));
        assert_eq!(
            (heard.recv().await, heard.recv().await),
            (Some(None), Some(Some(Code::CANCEL)))
        );
        // The connection of the application is gone, and all that it asked with it.
        let (response, _) =
            sender.clone().ready().await.unwrap().send_request(get("/"), true).unwrap();
        assert_eq!(heard.recv().await, Some(None));
        drop((sender, open, response));
        assert_eq!(heard.recv().await, Some(Some(Code::CANCEL)));
        while worker.exchanges.flights() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!((endpoint.connections.get(), worker.shared.metrics.repeated.get()), (1, 0));
    });
}

#[test]
fn interim_answers_pass_but_for_those_that_the_proxy_itself_gives() {
    run(async {
        let script = async |_: Request<RecvStream>, mut respond: SendResponse<Bytes>| {
            for status in [100, 103, 150] {
                let head = Response::builder().status(status).header("x", "1").body(()).unwrap();
                respond.send_informational(head).unwrap();
            }
            respond.send_response(Response::new(()), true).unwrap();
        };
        let endpoint = Endpoint::start(script).await;
        let (_worker, sender) = calling(&[endpoint.address]).await;
        let mut head = call("/a/Put");
        head.headers_mut().insert("expect", "100-continue".parse().unwrap());
        let (mut response, _stream) =
            sender.clone().ready().await.unwrap().send_request(head, false).unwrap();
        let mut interim = Vec::new();
        let answer = loop {
            let found = poll_fn(|task| {
                if let std::task::Poll::Ready(Some(head)) = response.poll_informational(task) {
                    return std::task::Poll::Ready(Err(head.unwrap().status().as_u16()));
                }
                std::pin::Pin::new(&mut response).poll(task).map(Ok)
            });
            match found.await {
                Ok(answer) => break answer.unwrap(),
                Err(status) => interim.push(status),
            }
        };
        assert_eq!((interim.as_slice(), answer.status().as_u16()), (&[100, 150][..], 200));
    });
}

#[test]
fn two_services_with_one_endpoint_share_its_connection() {
    run(async {
        let endpoint = Endpoint::start(echo).await;
        let (worker, sender) = calling(&[endpoint.address]).await;
        assert_eq!(ask(&sender, call("/a/Get"), b"x").await.grpc_status(), "0");
        let endpoints = vec![generated::Endpoint {
            address: endpoint.address.ip().to_string(),
            port: endpoint.address.port().into(),
            identity: String::new(),
            protocol: "gRPC".to_owned(),
            own: false,
        }];
        let of = |service: &str| generated::ServicePort {
            service: service.to_owned(),
            endpoints: endpoints.clone(),
            name: String::new(),
        };
        let message = generated::Discovery {
            services: vec![of("books/authors:80"), of("books/writers:80")],
            outbound_plaintext: "Allow".to_owned(),
        };
        let discovered = Discovery::read(&message).unwrap();
        enforce(&worker.shared, &snapshot_bytes(1), Facts::default(), discovered);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listen = listener.local_addr().unwrap();
        let port = Outbound { listen, service: "books/writers:80".to_owned() };
        let port = Rc::new(OutboundPort::new(Rc::clone(&worker), port));
        spawn_local(async move {
            while let Ok((stream, source)) = listener.accept().await {
                spawn_local(Rc::clone(&port).serve(stream, source));
            }
        });
        assert_eq!(ask(&client(listen).await, call("/a/Get"), b"x").await.grpc_status(), "0");
        assert_eq!((endpoint.connections.get(), endpoint.streams.get()), (1, 2));
    });
}

#[test]
fn an_answer_may_come_before_the_request_is_whole() {
    run(async {
        let early = async |_: Request<RecvStream>, mut respond: SendResponse<Bytes>| {
            let head = Response::builder().status(413).body(()).unwrap();
            respond.send_response(head, true).unwrap();
        };
        let endpoint = Endpoint::start(early).await;
        let (_worker, sender) = calling(&[endpoint.address]).await;
        let mut sender = sender.ready().await.unwrap();
        let (response, mut stream) = sender.send_request(call("/a/Put"), false).unwrap();
        let big = vec![0; 1_000_000];
        let (got, ()) = tokio::join!(whole(response), send(&mut stream, &big, true));
        assert_eq!(got.unwrap().status, 413);
    });
}
