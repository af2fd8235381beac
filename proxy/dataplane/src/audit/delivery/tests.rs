//! Against a server of the stream that does what a test says, over real sockets and TLS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tonic::codegen::BoxFuture;
use tonic::server::StreamingService;
use tonic::{Request, Response, Streaming};
use tonic_prost::ProstCodec;

use super::super::spool::tests::{Folder, Store};
use super::super::{Beginning, start_writing};
use super::*;
use crate::credentials::Own;
use crate::credentials::tests::stored;
use crate::denials::{DenialLog, DenialRecord, Direction, PeerRecord};
use crate::keyring::Keyring;
use crate::tls::ALPN_GRPC;
use crate::trust::tests::{Authority, authority, bundles, long_lived};

const POLICYD: &str = "spiffe://cluster.local/ns/policyd/sa/policyd";
const AUTHORS: &str = "spiffe://cluster.local/ns/books/sa/authors";

type Acks = ReceiverStream<Result<AuditAck, Status>>;

/// One stream, as the server has it.
struct Stream {
    messages: Streaming<AuditMessage>,
    acks: mpsc::Sender<Result<AuditAck, Status>>,
    /// The answer's head is sent when this is; a server may wait for its first message.
    begin: Option<oneshot::Sender<()>>,
}

impl Stream {
    async fn message(&mut self) -> AuditMessage {
        self.messages.message().await.unwrap().unwrap()
    }

    async fn greet(&mut self, store: &mut Store) {
        store.greet(self.message().await.hello.unwrap());
    }

    /// Takes records until there are so many denials.
    async fn take(&mut self, store: &mut Store, denials: usize) {
        while store.ids().len() < denials {
            store.take(self.message().await.records.unwrap());
        }
    }

    async fn answer(&mut self, answer: Result<u64, Status>) {
        if let Some(begin) = self.begin.take() {
            begin.send(()).unwrap();
        }
        self.acks.send(answer.map(|sequence| AuditAck { sequence })).await.unwrap();
    }
}

struct Handler(mpsc::Sender<Stream>);

impl StreamingService<AuditMessage> for Handler {
    type Response = AuditAck;
    type ResponseStream = Acks;
    type Future = BoxFuture<Response<Acks>, Status>;

    fn call(&mut self, request: Request<Streaming<AuditMessage>>) -> Self::Future {
        let opened = self.0.clone();
        Box::pin(async move {
            let (acks, answers) = mpsc::channel(16);
            let (begin, begun) = oneshot::channel();
            let stream = Stream { messages: request.into_inner(), acks, begin: Some(begin) };
            opened.send(stream).await.map_err(|_| Status::unavailable("stopping"))?;
            begun.await.map_err(|_| Status::unavailable("stopping"))?;
            Ok(Response::new(ReceiverStream::new(answers)))
        })
    }
}

struct Server {
    address: SocketAddr,
    config: Arc<ServerConfig>,
    opened: mpsc::Receiver<Stream>,
    serving: JoinHandle<()>,
}

impl Server {
    async fn start(root: &Authority) -> Self {
        let keyring = keyring(POLICYD, root);
        let mut config = ServerConfig::clone(&keyring.credentials().unwrap().server.unnamed);
        config.alpn_protocols = vec![ALPN_GRPC.to_vec()];
        Self::on("127.0.0.1:0".parse().unwrap(), Arc::new(config)).await
    }

    async fn on(address: SocketAddr, config: Arc<ServerConfig>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, opened) = mpsc::channel(4);
        let acceptor = TlsAcceptor::from(Arc::clone(&config));
        let serving = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, sender) = (acceptor.clone(), sender.clone());
                connections.spawn(async move {
                    let Ok(tls) = acceptor.accept(tcp).await else { return };
                    let service = service_fn(move |request| {
                        let handler = Handler(sender.clone());
                        async move {
                            let codec = ProstCodec::<AuditAck, AuditMessage>::default();
                            let mut grpc = tonic::server::Grpc::new(codec);
                            Ok::<_, Infallible>(grpc.streaming(handler, request).await)
                        }
                    });
                    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(tls), service)
                        .await;
                });
            }
        });
        Self { address, config, opened, serving }
    }

    async fn stream(&mut self) -> Stream {
        self.opened.recv().await.unwrap()
    }

    /// Gone with all its connections, and back at the same address.
    async fn restarted(self) -> Self {
        self.serving.abort();
        let _ = self.serving.await;
        Self::on(self.address, self.config).await
    }
}

fn keyring(identity: &str, root: &Authority) -> Keyring {
    let keyring = Keyring::new(bundles("cluster.local", root));
    let own = Own { identity: identity.to_owned(), server_name: String::new() };
    let stored = stored(&long_lived(identity), root);
    let trust = keyring.trust();
    let checked = stored.check(&own, &trust.bundles(), trust, clock::now_millis()).unwrap();
    keyring.publish(checked);
    keyring
}

/// A proxy's trail with its delivery.
struct Proxy {
    log: DenialLog,
    delivery: Delivery,
    delivering: JoinHandle<()>,
    _folder: Folder,
}

impl Proxy {
    fn start(root: &Authority, server: &Server) -> Self {
        let folder = Folder::new();
        let beginning = Beginning { state: Some(folder.state()), ..Beginning::default() };
        let metrics = Arc::<Metrics>::default();
        let (log, trail, _) =
            start_writing(std::io::sink(), beginning, Arc::clone(&metrics)).unwrap();
        let target =
            ControlTarget { address: server.address.to_string(), identity: POLICYD.to_owned() };
        let keyring = Arc::new(keyring(AUTHORS, root));
        let delivery = Delivery { target, keyring, trail, metrics };
        let delivering = tokio::spawn(delivery.clone().deliver());
        Self { log, delivery, delivering, _folder: folder }
    }

    fn deny(&self, ids: std::ops::Range<usize>) {
        for id in ids {
            let decision = engine::Decision::refusal(engine::Reason::NoRoute, engine::Form::Http);
            let mut decision = snapshot::Answer::without_table(&decision);
            decision.id = Some(id.to_string());
            self.log.write(&DenialRecord {
                time: String::new(),
                event: "denial",
                direction: Direction::Outbound,
                workload: None,
                namespace: "books".to_owned(),
                pod: "authors-0".to_owned(),
                port: 80,
                service: None,
                decision,
                peer: PeerRecord::default(),
                request: None,
                gate: None,
                detail: None,
            });
        }
    }

    async fn drained(&self) {
        self.delivery.trail.drained().await.unwrap();
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(40), test).await.unwrap() });
}

fn upto(count: usize) -> Vec<usize> {
    (0..count).collect()
}

#[test]
fn p_12_records_arrive_once_though_acknowledgements_are_late_and_servers_go() {
    run(async {
        let root = authority("root");
        let mut server = Server::start(&root).await;
        let proxy = Proxy::start(&root, &server);
        let mut store = Store::default();
        // A server that says nothing before it has records, and answers late, again, and in the wrong order.
        proxy.deny(0..30);
        let mut stream = server.stream().await;
        stream.greet(&mut store).await;
        stream.take(&mut store, 30).await;
        for sequence in [4, 20, 11, 20] {
            stream.answer(Ok(sequence)).await;
        }
        proxy.deny(30..40);
        stream.take(&mut store, 40).await;
        // It goes without a word; what it kept and didn't acknowledge comes again.
        let mut server = server.restarted().await;
        proxy.deny(40..50);
        let mut stream = server.stream().await;
        let hello = stream.message().await.hello.unwrap();
        assert_eq!(hello.acknowledged, 20);
        store.greet(hello);
        stream.take(&mut store, 50).await;
        stream.answer(Ok(store.sequence)).await;
        proxy.drained().await;
        assert_eq!((store.ids(), store.lost()), (upto(50), 0));
        assert_eq!(proxy.delivery.metrics.audit.acknowledged.get(), 50);
        proxy.delivering.abort();
    });
}

#[test]
fn a_chain_that_the_store_refuses_is_followed_by_another() {
    run(async {
        let root = authority("root");
        let mut server = Server::start(&root).await;
        let proxy = Proxy::start(&root, &server);
        let (mut store, mut reasons) = (Store::default(), Vec::new());
        proxy.deny(0..3);
        for code in ["CHAIN_BROKEN", "ROLLED_BACK", "WRONG_WRITER", "REFUSED"] {
            let mut stream = server.stream().await;
            stream.greet(&mut store).await;
            let some = stream.message().await.records.unwrap();
            // One is taken, so that the chain has begun.
            let sequence = store.take(generated_first(some));
            stream.answer(Ok(sequence)).await;
            let status = match code {
                "REFUSED" => Status::invalid_argument("SOMETHING_ELSE"),
                code => Status::failed_precondition(format!("{code}: as the test says")),
            };
            stream.answer(Err(status)).await;
            reasons.push(code);
        }
        let mut stream = server.stream().await;
        stream.greet(&mut store).await;
        stream.take(&mut store, 3).await;
        stream.answer(Ok(store.sequence)).await;
        proxy.drained().await;
        assert_eq!((store.ids(), store.lost()), (upto(3), 0));
        let chains: Vec<_> =
            store.records.iter().filter(|record| record["event"] == "chain").collect();
        assert_eq!(chains.iter().map(|chain| &chain["reason"]).collect::<Vec<_>>(), reasons);
        proxy.delivering.abort();
    });
}

/// The first of these records.
fn generated_first(mut records: crate::generated::AuditRecords) -> crate::generated::AuditRecords {
    records.records.truncate(1);
    records
}

#[test]
fn a_store_that_knows_more_than_was_sent_gets_another_chain() {
    run(async {
        let root = authority("root");
        let mut server = Server::start(&root).await;
        let proxy = Proxy::start(&root, &server);
        proxy.deny(0..1);
        let mut stream = server.stream().await;
        let first = stream.message().await.hello.unwrap();
        stream.message().await;
        stream.answer(Ok(7)).await;
        let mut stream = server.stream().await;
        let mut store = Store::default();
        let second = stream.message().await.hello.unwrap();
        assert_ne!(first.chain, second.chain);
        store.greet(second);
        stream.take(&mut store, 1).await;
        assert_eq!(store.records[0]["reason"], SPOOL_BEHIND);
        proxy.delivering.abort();
    });
}

#[test]
fn other_errors_change_nothing() {
    run(async {
        let root = authority("root");
        let mut server = Server::start(&root).await;
        let proxy = Proxy::start(&root, &server);
        proxy.deny(0..5);
        let mut chains = Vec::new();
        for status in [Status::internal("CHAIN_BROKENLY"), Status::unimplemented("")] {
            let mut stream = server.stream().await;
            chains.push(stream.message().await.hello.unwrap().chain);
            stream.answer(Err(status)).await;
        }
        assert_eq!(chains[0], chains[1]);
        let mut stream = server.stream().await;
        let mut store = Store::default();
        stream.greet(&mut store).await;
        stream.take(&mut store, 5).await;
        // SIGTERM: what is acknowledged in time is waited for.
        let flushing = proxy.delivery.flush(Duration::from_secs(10));
        let ((), ()) = tokio::join!(flushing, stream.answer(Ok(5)));
        assert_eq!(proxy.delivery.metrics.audit.spooled.get(), 0);
        proxy.delivering.abort();
    });
}
