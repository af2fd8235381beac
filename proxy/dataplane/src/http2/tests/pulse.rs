//! Time without a word: who is still there, and who isn't. Time is paused: waiting costs nothing and is exact.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Duration, Instant};

use super::{call, send};
use crate::http2::frames::{PREFACE, kind};
use crate::http2::{self, limits};
use crate::inbound::tests::{ALLOW, Rig};
use crate::onward::Onward;
use crate::session::Session;
use crate::shared::Worker;

/// An application that takes every stream and says nothing.
#[derive(Debug)]
struct Mute;

impl crate::exchange::Upstream for Mute {
    type Io = DuplexStream;

    async fn connect(&self) -> std::io::Result<DuplexStream> {
        let (ours, theirs) = duplex(64 * 1024);
        spawn_local(async move {
            let mut connection = h2::server::handshake(theirs).await.unwrap();
            let mut kept = Vec::new();
            while let Some(Ok(stream)) = connection.accept().await {
                kept.push(stream);
            }
        });
        Ok(ours)
    }
}

/// Runs a client on a connection that is served.
fn served(client: impl AsyncFnOnce(DuplexStream)) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, async {
        let rig = Rig::start().await;
        rig.enforce(ALLOW);
        let worker = Rc::new(Worker::new(Arc::clone(&rig.shared), 1));
        let session = Session::new(&worker, 80, std::net::Ipv4Addr::LOCALHOST.into(), None);
        let (ours, theirs) = duplex(64 * 1024);
        spawn_local(http2::serve(theirs, Rc::new(session), Rc::new(Onward::new(Mute))));
        client(ours).await;
    });
}

#[test]
fn a_stream_may_be_silent_for_long_while_its_client_answers() {
    served(async |io| {
        let (sender, connection) = h2::client::handshake(io).await.unwrap();
        spawn_local(async move {
            let _ = connection.await;
        });
        let mut sender = sender.ready().await.unwrap();
        let (mut response, mut stream) = sender.send_request(call("/a/Watch"), false).unwrap();
        send(&mut stream, b"x", false).await;
        let silent = tokio::time::timeout(Duration::from_secs(600), &mut response).await;
        assert!(silent.is_err(), "{silent:?}");
    });
}

#[test]
fn a_client_that_does_not_answer_is_given_up() {
    served(async |mut io| {
        io.write_all(PREFACE).await.unwrap();
        io.write_all(&[0, 0, 0, kind::SETTINGS, 0, 0, 0, 0, 0]).await.unwrap();
        // A GET of the static table: method, scheme, path; and an authority.
        io.write_all(&[0, 0, 6, kind::HEADERS, 5, 0, 0, 0, 1, 0x82, 0x86, 0x84, 0x41, 1, b'a'])
            .await
            .unwrap();
        let began = Instant::now();
        io.read_to_end(&mut Vec::new()).await.unwrap();
        assert_eq!(
            began.elapsed().as_secs(),
            (limits::KEEP_ALIVE + limits::KEEP_ALIVE_ANSWER).as_secs()
        );
    });
}

#[test]
fn a_connection_without_streams_is_given_up() {
    served(async |io| {
        let (sender, connection) = h2::client::handshake(io).await.unwrap();
        let began = Instant::now();
        let _kept: h2::client::SendRequest<Bytes> = sender;
        connection.await.unwrap();
        assert_eq!(began.elapsed().as_secs(), limits::IDLE.as_secs());
    });
}

#[test]
fn h2_07_a_preface_alone_is_not_waited_for() {
    for begun in [PREFACE, PREFACE.get(..20).unwrap()] {
        served(async |mut io| {
            io.write_all(begun).await.unwrap();
            let began = Instant::now();
            let _ = io.read_to_end(&mut Vec::new()).await;
            assert_eq!(began.elapsed().as_secs(), limits::PREFACE.as_secs());
        });
    }
}
