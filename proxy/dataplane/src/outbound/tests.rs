//! Both sides on loopback: an application, its outbound port, mutual TLS, an inbound port, the application behind it.

mod carried;
mod choices;
mod ends;
mod hostile;
mod speaking;
mod streams;

use engine::Facts;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::task::spawn_local;

use super::*;
use crate::assignment::tests::snapshot_bytes;
use crate::clock;
use crate::credentials::Own;
use crate::credentials::tests::stored;
use crate::discovery::Discovery;
use crate::generated;
use crate::inbound::tests::{Rig, enforce, run, shared};
use crate::keyring::Keyring;
use crate::trust::tests::{Authority, authority, bundles, long_lived};

const AUTHORS: &str = "spiffe://cluster.local/ns/books/sa/authors";
const WEBAPP: &str = "spiffe://cluster.local/ns/books/sa/webapp";
const ALL_AUTHENTICATED: u32 = 4;
const ALL_UNAUTHENTICATED: u32 = 3;
const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: authors\r\nconnection: close\r\n\r\n";
/// What of it reaches the other side.
const HEARD: &[u8] = b"GET / HTTP/1.1\r\nhost: authors\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn keyring(identity: &str, root: &Authority) -> Keyring {
    let keyring = Keyring::new(bundles("cluster.local", root));
    let own = Own { identity: identity.to_owned(), server_name: String::new() };
    let stored = stored(&long_lived(identity), root);
    let checked =
        stored.check(&own, &keyring.trust().bundles(), keyring.trust(), clock::now_millis());
    keyring.publish(checked.unwrap());
    keyring
}

/// What is known of the one service: its one endpoint.
fn discovery(endpoint: SocketAddr, identity: &str, plaintext: &str) -> Discovery {
    discovery_of(&[(endpoint, identity)], plaintext)
}

/// The same with several.
fn discovery_of(endpoints: &[(SocketAddr, &str)], plaintext: &str) -> Discovery {
    let endpoint = |(endpoint, identity): &(SocketAddr, &str)| generated::Endpoint {
        address: endpoint.ip().to_string(),
        port: endpoint.port().into(),
        identity: (*identity).to_owned(),
        protocol: "unknown".to_owned(),
        own: false,
    };
    let message = generated::Discovery {
        services: vec![generated::ServicePort {
            service: "books/authors:80".to_owned(),
            endpoints: endpoints.iter().map(endpoint).collect(),
            name: String::new(),
        }],
        outbound_plaintext: plaintext.to_owned(),
    };
    Discovery::read(&message).unwrap()
}

/// The calling side: an outbound listener whose one endpoint is `endpoint`, expected to be `identity`.
async fn caller(
    root: &Authority,
    endpoint: SocketAddr,
    identity: &str,
    plaintext: &str,
) -> (Rc<Worker>, SocketAddr) {
    caller_of(root, discovery(endpoint, identity, plaintext)).await
}

/// The calling side, which knows this.
async fn caller_of(root: &Authority, discovery: Discovery) -> (Rc<Worker>, SocketAddr) {
    let shared = shared(keyring(WEBAPP, root));
    enforce(&shared, &snapshot_bytes(1), Facts::default(), discovery);
    spawn_local(crate::revisit::announce(Arc::clone(&shared)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listen = listener.local_addr().unwrap();
    let worker = Rc::new(Worker::new(shared, 1));
    let port = Outbound { listen, service: "books/authors:80".to_owned() };
    let port = Rc::new(OutboundPort::new(Rc::clone(&worker), port));
    spawn_local(Rc::clone(&port).tend());
    spawn_local(async move {
        while let Ok((stream, source)) = listener.accept().await {
            spawn_local(Rc::clone(&port).serve(stream, source));
        }
    });
    (worker, listen)
}

async fn say(to: SocketAddr, bytes: &[u8]) -> String {
    let mut client = TcpStream::connect(to).await.unwrap();
    client.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let _ = client.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn a_meshed_call_arrives_with_its_identity() {
    run(async {
        let root = authority("root");
        let callee = Rig::with(keyring(AUTHORS, &root)).await;
        callee.enforce(ALL_AUTHENTICATED);
        let (_caller, listen) = caller(&root, callee.proxy, AUTHORS, "Deny").await;
        let (answer, _) = tokio::join!(say(listen, GET), callee.answer(OK));
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let (answer, bytes) = tokio::join!(say(listen, b"*1\r\n"), callee.answer(b"+OK\r\n"));
        assert_eq!((answer.as_str(), bytes.as_slice()), ("+OK\r\n", &b"*1\r\n"[..]));
        // Without TLS the same port asks for an identity.
        assert!(say(callee.proxy, GET).await.starts_with("HTTP/1.1 403 "));
    });
}

#[test]
fn tls_12_a_call_resumes_until_something_changes_at_either_end() {
    run(async {
        let root = authority("root");
        let callee = Rig::with(keyring(AUTHORS, &root)).await;
        callee.enforce(ALL_AUTHENTICATED);
        let known = || discovery(callee.proxy, AUTHORS, "Deny");
        let (worker, listen) = caller_of(&root, known()).await;
        let shared = &worker.shared;
        let changes: [&dyn Fn(); 4] = [
            &|| {},
            &|| enforce(shared, &snapshot_bytes(2), Facts::default(), known()),
            &|| callee.enforce(ALL_UNAUTHENTICATED),
            &|| shared.keyring.publish_bundles(bundles("cluster.local", &root)),
        ];
        for (number, change) in (1..).zip(changes) {
            change();
            for _ in 0..3 {
                let (answer, _) = tokio::join!(say(listen, b"*1\r\n"), callee.answer(b"+OK\r\n"));
                assert_eq!(answer, "+OK\r\n");
            }
            for counted in
                [&shared.metrics.outbound_handshakes, &callee.shared.metrics.inbound_handshakes]
            {
                let both = (counted.full.get(), counted.resumed.get());
                assert_eq!(both, (number, 2 * number));
            }
        }
    });
}

#[test]
fn i8_an_endpoint_that_is_somebody_else_is_refused() {
    run(async {
        let root = authority("root");
        let callee = Rig::with(keyring(AUTHORS, &root)).await;
        callee.enforce(ALL_UNAUTHENTICATED);
        let (worker, listen) = caller(&root, callee.proxy, WEBAPP, "Allow").await;
        let answer = say(listen, GET).await;
        assert!(
            answer.starts_with("HTTP/1.1 502 ") && answer.contains("x-policyd-decision"),
            "{answer}"
        );
        assert_eq!(say(listen, b"*1\r\n").await, "");
        let counted = "subject=\"outbound\",verdict=\"deny\",reason=\"peer_rejected\"} 2\n";
        assert!(worker.shared.metrics.text(crate::metrics::Moments::default()).contains(counted));
    });
}

#[test]
fn tls_02_a_caller_of_another_authority_is_turned_away() {
    run(async {
        let callee = Rig::with(keyring(AUTHORS, &authority("root"))).await;
        callee.enforce(ALL_UNAUTHENTICATED);
        let (_caller, listen) = caller(&authority("root"), callee.proxy, AUTHORS, "Allow").await;
        assert!(say(listen, GET).await.starts_with("HTTP/1.1 502 "));
    });
}

#[test]
fn t7_a_meshed_endpoint_is_never_tried_in_plaintext() {
    run(async {
        let root = authority("root");
        let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (_caller, listen) = caller(&root, plain.local_addr().unwrap(), AUTHORS, "Allow").await;
        let accept = async {
            let (mut stream, _) = plain.accept().await.unwrap();
            let mut first = [0; 1];
            stream.read_exact(&mut first).await.unwrap();
            first
        };
        let (answer, first) = tokio::join!(say(listen, GET), accept);
        assert_eq!(first, [0x16]);
        assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    });
}

#[test]
fn unmeshed_endpoints_are_called_where_that_is_allowed() {
    run(async {
        let root = authority("root");
        let callee = Rig::with(keyring(AUTHORS, &root)).await;
        callee.enforce(ALL_UNAUTHENTICATED);
        let (_caller, listen) = caller(&root, callee.proxy, "", "Allow").await;
        let (answer, _) = tokio::join!(say(listen, GET), callee.answer(OK));
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let (worker, listen) = caller(&root, callee.proxy, "", "Deny").await;
        assert!(say(listen, GET).await.starts_with("HTTP/1.1 502 "));
        let counted = "subject=\"outbound\",verdict=\"deny\",reason=\"no_identity\"} 1\n";
        assert!(worker.shared.metrics.text(crate::metrics::Moments::default()).contains(counted));
    });
}

/// An endpoint takes a connection, hears a request and resets it.
async fn break_off(endpoint: &TcpListener) -> Vec<u8> {
    let (stream, bytes) = heard(endpoint).await;
    stream.set_zero_linger().unwrap();
    bytes
}

async fn heard(endpoint: &TcpListener) -> (TcpStream, Vec<u8>) {
    let (mut stream, _) = endpoint.accept().await.unwrap();
    let mut bytes = vec![0; 4096];
    let count = stream.read(&mut bytes).await.unwrap();
    bytes.truncate(count);
    (stream, bytes)
}

/// A caller of an endpoint without TLS, which is the test's.
async fn plain_caller() -> (TcpListener, Rc<Worker>, SocketAddr) {
    let endpoint = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = endpoint.local_addr().unwrap();
    let (worker, listen) = caller(&authority("root"), address, "", "Allow").await;
    (endpoint, worker, listen)
}

#[test]
fn a_request_that_nobody_heard_goes_out_once_more() {
    run(async {
        let (endpoint, worker, listen) = plain_caller().await;
        let (answer, ()) = tokio::join!(say(listen, GET), async {
            assert_eq!(break_off(&endpoint).await, HEARD);
            let (mut stream, bytes) = heard(&endpoint).await;
            assert_eq!(bytes, HEARD);
            stream.write_all(OK).await.unwrap();
        });
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        // Once, and no more.
        let (answer, ()) = tokio::join!(say(listen, GET), async {
            break_off(&endpoint).await;
            break_off(&endpoint).await;
        });
        assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
        assert_eq!(worker.shared.metrics.repeated.get(), 2);
    });
}

#[test]
fn what_may_have_had_an_effect_goes_out_once() {
    const POST: &[u8] = b"POST / HTTP/1.1\r\nhost: authors\r\ncontent-length: 1\r\n\r\nx";
    run(async {
        let (endpoint, worker, listen) = plain_caller().await;
        let (answer, _) = tokio::join!(say(listen, POST), break_off(&endpoint));
        assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
        assert_eq!(worker.shared.metrics.repeated.get(), 0);
    });
}

#[test]
fn after_the_first_byte_of_an_answer_nothing_goes_out_again() {
    run(async {
        let (endpoint, worker, listen) = plain_caller().await;
        let (answer, ()) = tokio::join!(say(listen, GET), async {
            let (mut stream, _) = heard(&endpoint).await;
            stream.write_all(b"H").await.unwrap();
            stream.shutdown().await.unwrap();
        });
        assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
        assert_eq!(worker.shared.metrics.repeated.get(), 0);
    });
}

#[test]
fn the_table_of_the_first_words_counts_not_that_of_the_connection() {
    run(async {
        let root = authority("root");
        let callee = Rig::with(keyring(AUTHORS, &root)).await;
        callee.enforce(ALL_UNAUTHENTICATED);
        // Nobody listens where the first table says.
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (worker, listen) = caller(&root, gone.local_addr().unwrap(), "", "Allow").await;
        drop(gone);
        let mut client = TcpStream::connect(listen).await.unwrap();
        while worker.shared.metrics.outbound_open.get() == 0 {
            tokio::task::yield_now().await;
        }
        enforce(
            &worker.shared,
            &snapshot_bytes(1),
            Facts::default(),
            discovery(callee.proxy, "", "Allow"),
        );
        let (answer, _) = tokio::join!(
            async {
                client.write_all(GET).await.unwrap();
                let mut answer = String::new();
                client.read_to_string(&mut answer).await.unwrap();
                answer
            },
            callee.answer(OK)
        );
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    });
}
