//! Whole connections on loopback: a client, an inbound port, an application. Plaintext; handshakes are tested with real
//! processes.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use engine::Facts;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::{LocalSet, spawn_local};

use super::*;
use crate::assignment::tests::{snapshot_bytes, snapshot_of};
use crate::clock;
use crate::denials::DenialLog;
use crate::discovery::Discovery;
use crate::enforcement::{Enforced, Parts};
use crate::keyring::Keyring;
use crate::metrics::Moments;
use crate::settings::Settings;
use crate::shared::Shared;
use crate::trust::tests::{authority, bundles};

/// Of a table; all memory in the tests is room for tables.
const PLENTY_BYTES: usize = 1 << 32;
pub(crate) const DENY: u32 = 1;
pub(crate) const AUDIT: u32 = 2;
pub(crate) const ALLOW: u32 = 3;

pub(crate) struct Rig {
    pub(crate) shared: Arc<Shared>,
    pub(crate) proxy: SocketAddr,
    pub(crate) application: TcpListener,
}

impl Rig {
    /// A proxy in front of an application, without a table.
    pub(crate) async fn start() -> Self {
        Self::with(Keyring::new(bundles("cluster.local", &authority("root")))).await
    }

    /// The same, of which the identity is known.
    pub(crate) async fn with(keyring: Keyring) -> Self {
        let application = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = listener.local_addr().unwrap();
        let port = Inbound { listen: proxy, application: application.local_addr().unwrap() };
        let shared = shared(keyring);
        let worker = Rc::new(Worker::new(Arc::clone(&shared), 1));
        tokio::task::spawn_local(crate::revisit::announce(Arc::clone(&shared)));
        let port = Rc::new(InboundPort::new(&worker, port));
        spawn_local(async move {
            while let Ok((stream, source)) = listener.accept().await {
                spawn_local(Rc::clone(&port).serve(stream, source));
            }
        });
        Self { shared, proxy, application }
    }

    /// Every byte that is allocated is one too many, or there is plenty of room.
    fn memory_is_short(&self, short: bool) {
        self.shared.memory.make_room(if short { 0 } else { PLENTY_BYTES });
    }

    pub(crate) fn enforce(&self, access: u32) {
        enforce(&self.shared, &snapshot_bytes(access), Facts::default(), Discovery::default());
    }

    pub(crate) async fn client(&self) -> TcpStream {
        TcpStream::connect(self.proxy).await.unwrap()
    }

    /// What comes back for these bytes, to the end.
    async fn say(&self, bytes: &[u8]) -> String {
        let mut client = self.client().await;
        client.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        // A reset is as good as an end.
        let _ = client.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// The application takes one connection, reads once, answers, closes.
    pub(crate) async fn answer(&self, with: &[u8]) -> Vec<u8> {
        let (mut stream, _) = self.application.accept().await.unwrap();
        let mut bytes = vec![0; 4096];
        let count = stream.read(&mut bytes).await.unwrap();
        bytes.truncate(count);
        stream.write_all(with).await.unwrap();
        bytes
    }

    async fn nobody_called(&self) -> bool {
        tokio::time::timeout(Duration::from_millis(50), self.application.accept()).await.is_err()
    }
}

pub(crate) fn shared(keyring: Keyring) -> Arc<Shared> {
    let metrics = Arc::default();
    let (denials, _writer) = DenialLog::start(Arc::clone(&metrics)).unwrap();
    let shared = Shared::new(settings(), Arc::new(keyring), metrics, denials);
    shared.memory.make_room(PLENTY_BYTES);
    Arc::new(shared)
}

pub(crate) fn enforce(shared: &Shared, bytes: &[u8], facts: Facts, discovery: Discovery) {
    let loaded = snapshot::load(bytes).unwrap();
    let parts = Parts {
        table: Arc::new(loaded.table),
        facts: Arc::new(facts),
        discovery: Arc::new(discovery),
        workload: "deployment/books/authors".to_owned(),
        table_version: snapshot::version_text(&loaded.version),
        facts_version: String::new(),
    };
    shared.enforcement.replace(Arc::new(Enforced::new(parts, clock::now_millis())));
}

fn settings() -> Settings {
    serde_json::from_value(serde_json::json!({
        "trustDomain": "cluster.local", "namespace": "books", "serviceAccount": "authors", "podName": "authors-0",
        "identity": {"address": "127.0.0.1:1", "serviceAccount": "identity"},
        "policy": {"address": "127.0.0.1:1", "serviceAccount": "policyd"},
        "controlPlaneNamespace": "policyd", "tokenFile": "", "rootsFile": "", "stateDir": "",
        "inbound": [], "outbound": [], "sourceAddress": "127.0.0.1", "admin": "127.0.0.1:1", "memoryMib": 0
    }))
    .unwrap()
}

pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(Duration::from_secs(20), test).await.unwrap();
    });
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: authors\r\n\r\n";
const LAST_GET: &[u8] = b"GET / HTTP/1.1\r\nhost: authors\r\nconnection: close\r\n\r\n";

#[test]
fn inv_1_without_a_table_everything_is_denied_and_says_so() {
    run(async {
        let rig = Rig::start().await;
        let answer = rig.say(LAST_GET).await;
        assert!(
            answer.starts_with("HTTP/1.1 503 ") && answer.contains("\"reason\":\"unavailable\""),
            "{answer}"
        );
        assert!(answer.contains("x-policyd-decision: "), "{answer}");
        assert_eq!(rig.say(b"*1\r\n").await, "");
        assert!(rig.nobody_called().await);
    });
}

#[test]
fn d5_http_is_answered_and_bytes_are_closed() {
    run(async {
        let rig = Rig::start().await;
        rig.enforce(DENY);
        let answer = rig.say(LAST_GET).await;
        assert!(
            answer.starts_with("HTTP/1.1 403 ") && answer.contains("\"reason\":\"denied\""),
            "{answer}"
        );
        let malformed = rig.say(b"GET / HTTP/1.1\nhost: a\r\n\r\n").await;
        assert!(malformed.starts_with("HTTP/1.1 400 "), "{malformed}");
        assert_eq!(rig.say(b"*1\r\n").await, "");
        assert!(rig.nobody_called().await);
    });
}

#[test]
fn what_is_allowed_reaches_the_application() {
    run(async {
        let rig = Rig::start().await;
        rig.enforce(ALLOW);
        let (answer, request) = tokio::join!(
            rig.say(
                b"GET /a HTTP/1.1\r\nhost: authors\r\nx-policyd-x: 1\r\nconnection: close\r\n\r\n"
            ),
            rig.answer(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        );
        let request = String::from_utf8(request).unwrap();
        assert!(request.starts_with("GET /a HTTP/1.1\r\nhost: authors\r\n"), "{request}");
        assert!(!request.contains("x-policyd"), "{request}");
        assert!(
            answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nok"),
            "{answer}"
        );
        let (answer, bytes) = tokio::join!(rig.say(b"*1\r\n"), rig.answer(b"+OK\r\n"));
        assert_eq!((answer.as_str(), bytes.as_slice()), ("+OK\r\n", &b"*1\r\n"[..]));
    });
}

#[test]
fn t1_http_after_the_detection_ended_is_closed() {
    run(async {
        let rig = Rig::start().await;
        rig.enforce(ALLOW);
        let mut client = rig.client().await;
        let (mut application, _) = rig.application.accept().await.unwrap();
        application.write_all(b"hello").await.unwrap();
        let mut hello = [0; 5];
        client.read_exact(&mut hello).await.unwrap();
        client.write_all(b"GET / HT").await.unwrap();
        client.write_all(b"TP/1.1\r\n").await.unwrap();
        let mut got = Vec::new();
        let _ = application.read_to_end(&mut got).await;
        assert!(!String::from_utf8_lossy(&got).contains("HTTP/"), "{got:?}");
        let mut rest = Vec::new();
        let _ = client.read_to_end(&mut rest).await;
        assert!(rest.is_empty());
    });
}

#[test]
fn p_3_an_open_connection_is_cut_when_its_grant_is_gone() {
    run(async {
        let rig = Rig::start().await;
        rig.enforce(ALLOW);
        let mut client = rig.client().await;
        client.write_all(b"*1\r\n").await.unwrap();
        let (mut application, _) = rig.application.accept().await.unwrap();
        let mut bytes = [0; 4];
        application.read_exact(&mut bytes).await.unwrap();
        let began = std::time::Instant::now();
        rig.enforce(DENY);
        let mut rest = Vec::new();
        let _ = client.read_to_end(&mut rest).await;
        assert!(began.elapsed() < Duration::from_secs(5));
        assert_eq!(rig.shared.metrics.cut.get(), 1);
    });
}

#[test]
fn p_3_a_request_in_flight_is_cut_when_its_grant_is_gone() {
    run(async {
        let rig = Rig::start().await;
        rig.enforce(ALLOW);
        let mut client = rig.client().await;
        client.write_all(GET).await.unwrap();
        let (mut application, _) = rig.application.accept().await.unwrap();
        let mut bytes = [0; 16];
        application.read_exact(&mut bytes).await.unwrap();
        rig.enforce(DENY);
        let mut rest = Vec::new();
        let _ = client.read_to_end(&mut rest).await;
        assert_eq!(rig.shared.metrics.cut.get(), 1);
        // The next one finds the table that is in force now.
        assert!(rig.say(LAST_GET).await.starts_with("HTTP/1.1 403 "));
    });
}

#[test]
fn a_new_table_does_not_cut_http_between_requests() {
    const ONE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    run(async {
        let rig = Rig::start().await;
        rig.enforce(ALLOW);
        let mut client = rig.client().await;
        let mut answer = [0; ONE.len()];
        client.write_all(GET).await.unwrap();
        let (mut application, _) = rig.application.accept().await.unwrap();
        let mut bytes = [0; 4096];
        for access in [DENY, AUDIT, ALLOW] {
            assert!(application.read(&mut bytes).await.unwrap() > 0);
            application.write_all(ONE).await.unwrap();
            client.read_exact(&mut answer).await.unwrap();
            // Each is a table of its own, and the connection is looked at again for each.
            let mut seen = rig.shared.revisit.subscribe();
            rig.enforce(access);
            seen.changed().await.unwrap();
            rig.enforce(ALLOW);
            seen.changed().await.unwrap();
            client.write_all(GET).await.unwrap();
        }
        assert_eq!(rig.shared.metrics.cut.get(), 0);
        // Each request is decided by itself.
        assert!(application.read(&mut bytes).await.unwrap() > 0);
        application.write_all(ONE).await.unwrap();
        client.read_exact(&mut answer).await.unwrap();
        rig.enforce(DENY);
        client.write_all(GET).await.unwrap();
        client.read_exact(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 403 "), "{}", answer.escape_ascii());
        client.shutdown().await.unwrap();
        client.read_to_end(&mut Vec::new()).await.unwrap();
        assert_eq!(rig.shared.metrics.cut.get(), 0);
    });
}

#[test]
fn h1_11_a_denial_leaves_the_connection_and_other_refusals_end_it() {
    const ONE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    run(async {
        let rig = Rig::start().await;
        let mut client = rig.client().await;
        let mut bytes = [0; 4096];
        for table in [None, Some(DENY), Some(DENY)] {
            if let Some(access) = table {
                rig.enforce(access);
            }
            client.write_all(GET).await.unwrap();
            let count = client.read(&mut bytes).await.unwrap();
            let answer = String::from_utf8_lossy(&bytes[..count]).into_owned();
            let status = if table.is_some() { "403" } else { "503" };
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
            assert!(!answer.contains("connection:"), "{answer}");
        }
        rig.enforce(ALLOW);
        client.write_all(GET).await.unwrap();
        rig.answer(ONE).await;
        let mut answer = [0; ONE.len()];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, ONE);
        client.write_all(b"GET /../a HTTP/1.1\r\nhost: authors\r\n\r\n").await.unwrap();
        let mut refusal = String::new();
        client.read_to_string(&mut refusal).await.unwrap();
        assert!(
            refusal.starts_with("HTTP/1.1 400 ") && refusal.contains("\r\nconnection: close\r\n"),
            "{refusal}"
        );
    });
}

#[test]
fn where_memory_is_short_connections_and_requests_are_refused() {
    const ONE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    run(async {
        let rig = Rig::start().await;
        rig.enforce(ALLOW);
        let mut idle = rig.client().await;
        idle.write_all(GET).await.unwrap();
        rig.answer(ONE).await;
        let mut answer = [0; ONE.len()];
        idle.read_exact(&mut answer).await.unwrap();
        rig.memory_is_short(true);
        // Between two requests: it may get an answer, or just end; but it doesn't get through.
        let _ = idle.write_all(GET).await;
        let mut rest = String::new();
        let _ = idle.read_to_string(&mut rest).await;
        assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 503 "), "{rest}");
        assert_eq!(rig.say(GET).await, "");
        assert!(rig.nobody_called().await);
        assert!(rig.shared.metrics.text(Moments::default()).contains(
            "policyd_decisions_total{subject=\"connection\",verdict=\"deny\",reason=\"overloaded\"} 1"
        ));
        rig.memory_is_short(false);
        let mut again = rig.client().await;
        again.write_all(GET).await.unwrap();
        rig.answer(ONE).await;
        again.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, ONE);
    });
}

#[test]
fn our_own_tls_is_not_ended_without_a_certificate_of_our_own() {
    run(async {
        let rig = Rig::start().await;
        rig.enforce(ALLOW);
        let config = tls::client_config(
            None,
            rig.shared.keyring.trust(),
            "spiffe://cluster.local/ns/a/sa/b",
            tls::ALPN_TCP,
        );
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config.unwrap()));
        let name = tls::server_name("spiffe://cluster.local/ns/a/sa/b").unwrap();
        assert!(connector.connect(name, rig.client().await).await.is_err());
        assert!(rig.nobody_called().await);
        assert_eq!(rig.shared.metrics.handshake_failures.get(), 1);
    });
}

#[test]
fn t6_a_probe_reaches_the_application_without_policy_and_without_other_headers() {
    run(async {
        let rig = Rig::start().await;
        let probe = serde_json::json!({"kind": 1, "target": "/healthz", "headers": ["x-probe"]});
        let port = serde_json::json!({
            "protocol": 6, "access": DENY, "path_mode": 1, "cluster_conditions": 1, "probes": [probe]
        });
        for protocol in [1, 5] {
            let mut port = port.clone();
            port["protocol"] = protocol.into();
            let facts =
                Facts { probe_addresses: vec!["127.0.0.1".parse().unwrap()], ..Facts::default() };
            enforce(&rig.shared, &snapshot_of(&port), facts, Discovery::default());
            let (answer, request) = tokio::join!(
                rig.say(b"GET /healthz HTTP/1.1\r\nhost: a\r\nx-probe: 1\r\ncookie: 1\r\nuser-agent: k\r\n\r\n"),
                rig.answer(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            );
            let request = String::from_utf8(request).unwrap();
            assert!(
                request.contains("x-probe: 1") && request.contains("user-agent: k"),
                "{request}"
            );
            assert!(!request.contains("cookie"), "{request}");
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        }
        // Nothing else is exempt.
        assert_eq!(rig.say(b"GET /healthz?x HTTP/1.1\r\nhost: a\r\n\r\n").await, "");
        let facts = Facts::default();
        enforce(&rig.shared, &snapshot_of(&port), facts, Discovery::default());
        assert_eq!(rig.say(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await, "");
        assert!(rig.nobody_called().await);
    });
}

/// What a connection takes of its task, whatever it carries: the rest is in boxes, of which it has one at a time.
const TASK_BYTES: usize = 1_056;
/// Of HTTP/1.1, the way that most connections are.
const HTTP1_BYTES: usize = 3_584;

#[test]
fn a_connection_has_no_room_for_what_it_does_not_do() {
    run(async {
        let rig = Rig::start().await;
        let worker = Rc::new(Worker::new(Arc::clone(&rig.shared), 1));
        let port = Inbound { listen: rig.proxy, application: rig.proxy };
        let port = Rc::new(InboundPort::new(&worker, port));
        let stream = rig.client().await;
        let source = stream.local_addr().unwrap();
        let session = port.session(source, None);
        let inside: Box<dyn crate::endpoint::Duplex> = Box::new(rig.client().await);
        let http1 = size_of_val(&port.carry_http(&session, Prefixed::new(Vec::new(), inside)));
        let task = size_of_val(&Rc::clone(&port).serve(stream, source));
        eprintln!("bytes of a task: {task}, of HTTP/1.1: {http1}");
        assert!(task <= TASK_BYTES && http1 <= HTTP1_BYTES, "{task} {http1}");
    });
}
