//! Both ends in one process: what is resumed, and what a ticket is no longer good for.

use std::time::Duration;

use engine::Facts;
use rcgen::{CertificateParams, date_time_ymd};
use rustls::{ClientConfig, HandshakeKind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::*;
use crate::assignment::tests::snapshot_bytes;
use crate::credentials::Own;
use crate::credentials::tests::stored;
use crate::discovery::Discovery;
use crate::inbound::tests::{Rig, enforce, run};
use crate::keyring::Keyring;
use crate::tls::{self, ALPN_HTTP1, server_name};
use crate::trust::tests::{Authority, authority, bundles, long_lived};

const AUTHORS: &str = "spiffe://cluster.local/ns/books/sa/authors";
const WEBAPP: &str = "spiffe://cluster.local/ns/books/sa/webapp";
const ALL_AUTHENTICATED: u32 = 4;
const ALL_UNAUTHENTICATED: u32 = 3;
const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: authors\r\nconnection: close\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

fn certified(keyring: &Keyring, identity: &str, root: &Authority) {
    let own = Own { identity: identity.to_owned(), server_name: String::new() };
    let stored = stored(&long_lived(identity), root);
    let bundles = keyring.trust().bundles();
    keyring.publish(stored.check(&own, &bundles, keyring.trust(), clock::now_millis()).unwrap());
}

async fn callee(root: &Authority) -> Rig {
    let keyring = Keyring::new(bundles("cluster.local", root));
    certified(&keyring, AUTHORS, root);
    let rig = Rig::with(keyring).await;
    rig.enforce(ALL_AUTHENTICATED);
    rig
}

/// A client of ours that keeps what it is given.
fn caller(root: &Authority) -> Arc<ClientConfig> {
    caller_with(&long_lived(WEBAPP), root)
}

fn caller_with(params: &CertificateParams, root: &Authority) -> Arc<ClientConfig> {
    let keyring = Keyring::new(bundles("cluster.local", root));
    let own = Own { identity: WEBAPP.to_owned(), server_name: String::new() };
    let stored = stored(params, root);
    let bundles = keyring.trust().bundles();
    let own = stored.check(&own, &bundles, keyring.trust(), clock::now_millis()).unwrap();
    let new = || tls::client_config(Some(&own.key), keyring.trust(), AUTHORS, ALPN_HTTP1);
    let call = Calls::default().to(([127, 0, 0, 1], 1).into(), AUTHORS, ALPN_HTTP1, new).unwrap();
    call.proven(i64::MAX);
    Arc::clone(&call.config)
}

/// One request on a connection of its own: how its handshake went, and what came back.
async fn ask(rig: &Rig, config: &Arc<ClientConfig>) -> (Option<HandshakeKind>, String) {
    let connector = TlsConnector::from(Arc::clone(config));
    let stream = TcpStream::connect(rig.proxy).await.unwrap();
    let asking = async {
        let mut stream = connector.connect(server_name(AUTHORS).unwrap(), stream).await.unwrap();
        stream.write_all(GET).await.unwrap();
        let mut answer = Vec::new();
        // Where the peer is rejected the connection ends without a word.
        let _ = stream.read_to_end(&mut answer).await;
        (stream.get_ref().1.handshake_kind(), String::from_utf8_lossy(&answer).into_owned())
    };
    tokio::select! {
        asked = asking => asked,
        () = async { loop { rig.answer(OK).await; } } => unreachable!(),
    }
}

/// The next one is resumed, and the one after it as well.
async fn resumes(rig: &Rig, config: &Arc<ClientConfig>) {
    for _ in 0..2 {
        let (kind, answer) = ask(rig, config).await;
        assert_eq!(kind, Some(HandshakeKind::Resumed));
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
}

fn is_full(kind: Option<HandshakeKind>) -> bool {
    matches!(kind, Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest))
}

#[test]
fn a_resumed_peer_is_who_it_was() {
    run(async {
        let root = authority("root");
        let (rig, config) = (callee(&root).await, caller(&root));
        let (kind, answer) = ask(&rig, &config).await;
        assert!(is_full(kind) && answer.starts_with("HTTP/1.1 200 "), "{answer}");
        resumes(&rig, &config).await;
        let counted = &rig.shared.metrics.inbound_handshakes;
        assert_eq!((counted.full.get(), counted.resumed.get()), (1, 2));
    });
}

#[test]
fn tls_12_a_ticket_is_of_one_table_one_certificate_and_one_set_of_bundles() {
    run(async {
        let root = authority("root");
        let (rig, config) = (callee(&root).await, caller(&root));
        let table = |access| {
            let bytes = snapshot_bytes(access);
            enforce(&rig.shared, &bytes, Facts::default(), Discovery::default());
        };
        let changes: [&dyn Fn(); 4] = [
            &|| {},
            &|| table(ALL_UNAUTHENTICATED),
            &|| certified(&rig.shared.keyring, AUTHORS, &root),
            &|| rig.shared.keyring.publish_bundles(bundles("cluster.local", &root)),
        ];
        for (number, change) in changes.iter().enumerate() {
            change();
            let (kind, answer) = ask(&rig, &config).await;
            assert!(is_full(kind) && answer.starts_with("HTTP/1.1 200 "), "{number}: {answer}");
            resumes(&rig, &config).await;
        }
        // The same table, vouched for again, is no other.
        table(ALL_UNAUTHENTICATED);
        resumes(&rig, &config).await;
    });
}

#[test]
fn a_ticket_of_another_proxy_is_none() {
    run(async {
        let root = authority("root");
        let (one, other, config) = (callee(&root).await, callee(&root).await, caller(&root));
        assert!(is_full(ask(&one, &config).await.0));
        assert!(is_full(ask(&other, &config).await.0));
        assert_eq!(ask(&other, &config).await.0, Some(HandshakeKind::Resumed));
    });
}

#[test]
fn without_a_table_there_are_no_tickets() {
    run(async {
        let root = authority("root");
        let keyring = Keyring::new(bundles("cluster.local", &root));
        certified(&keyring, AUTHORS, &root);
        let (rig, config) = (Rig::with(keyring).await, caller(&root));
        for _ in 0..2 {
            assert!(is_full(ask(&rig, &config).await.0));
        }
    });
}

#[test]
fn tls_12_nobody_resumes_whose_root_is_gone() {
    run(async {
        let root = authority("root");
        let (rig, config) = (callee(&root).await, caller(&root));
        ask(&rig, &config).await;
        resumes(&rig, &config).await;
        rig.shared.keyring.publish_bundles(bundles("cluster.local", &authority("another")));
        let (kind, answer) = ask(&rig, &config).await;
        assert!(is_full(kind) && answer.is_empty(), "{answer}");
        assert_eq!(rig.shared.metrics.handshake_failures.get(), 1);
    });
}

#[test]
fn tls_16_a_ticket_ends_with_the_certificate() {
    run(async {
        let root = authority("root");
        let rig = callee(&root).await;
        let (mut params, begin) = (long_lived(WEBAPP), date_time_ymd(2020, 1, 1));
        let end = u64::try_from(clock::now_millis()).unwrap() / 1000 + 2;
        params.not_after = begin + Duration::from_secs(end) - Duration::from_secs(1_577_836_800);
        let config = caller_with(&params, &root);
        ask(&rig, &config).await;
        resumes(&rig, &config).await;
        // It is the end of the certificate that is waited for.
        let left = i64::try_from(end).unwrap() * 1000 - clock::now_millis();
        tokio::time::sleep(Duration::from_millis(u64::try_from(left).unwrap() + 1_000)).await;
        let (kind, answer) = ask(&rig, &config).await;
        assert!(is_full(kind) && answer.is_empty(), "{answer}");
        assert_eq!(rig.shared.metrics.handshake_failures.get(), 1);
    });
}

#[test]
fn a_ticket_lives_as_long_as_its_proof_however_often_it_is_renewed() {
    run(with_tickets(async {
        let tickets = Tickets::new().unwrap();
        assert_eq!(tickets.encrypt(b"session"), None);
        let now = clock::now_millis();
        let life = i64::try_from(limits::TICKET_LIFE.as_millis()).unwrap();
        proven(now, now + 10 * life);
        assert!((3_590..=3_600).contains(&tickets.lifetime()));
        proven(now, now + 30_000);
        let first = tickets.encrypt(b"session").unwrap();
        assert!((20..=30).contains(&tickets.lifetime()));
        // What is sealed after it was opened ends no later.
        proven(now, i64::MAX);
        assert_eq!(tickets.decrypt(&first).as_deref(), Some(&b"session"[..]));
        assert!((20..=30).contains(&tickets.lifetime()));
        proven(now - 2 * life, now + life);
        let ended = tickets.encrypt(b"session").unwrap();
        assert_eq!((tickets.decrypt(&ended), tickets.lifetime()), (None, 0));
        assert_eq!(Tickets::new().unwrap().decrypt(&first), None);
        for at in 0..first.len() {
            let mut changed = first.clone();
            changed[at] ^= 1;
            assert_eq!(tickets.decrypt(&changed), None, "{at}");
        }
    }));
}

#[test]
fn early_data_is_never_taken_or_sent() {
    let root = authority("root");
    let keyring = Keyring::new(bundles("cluster.local", &root));
    certified(&keyring, AUTHORS, &root);
    let tickets: Arc<dyn ProducesTickets> = Arc::new(Tickets::new().unwrap());
    let configs = keyring.credentials().unwrap().server.with_tickets(&tickets);
    for config in [&configs.mesh, &configs.http1, &configs.http2, &configs.unnamed] {
        assert_eq!((config.max_early_data_size, config.send_tls13_tickets), (0, 1));
        assert!(!config.session_storage.can_cache());
    }
    assert!(!caller(&root).enable_early_data);
}

#[test]
fn the_sessions_that_are_kept_are_bounded() {
    let root = authority("root");
    let trust = Arc::new(crate::keyring::Trust::new(bundles("cluster.local", &root)));
    let calls = Calls::default();
    let to = |port, identity: &str| {
        let new = || tls::client_config(None, &trust, identity, ALPN_HTTP1);
        calls.to(([127, 0, 0, 1], port).into(), identity, ALPN_HTTP1, new).unwrap()
    };
    let first = to(1, AUTHORS);
    assert!(Arc::ptr_eq(&first, &to(1, AUTHORS)));
    // Another identity is expected there: nothing of what was there before is used.
    assert!(!Arc::ptr_eq(&first.config, &to(1, WEBAPP).config));
    for port in 0..u16::try_from(2 * limits::RESUMED_ENDPOINTS).unwrap() {
        to(port, AUTHORS);
    }
    assert_eq!(calls.len(), limits::RESUMED_ENDPOINTS);
}
