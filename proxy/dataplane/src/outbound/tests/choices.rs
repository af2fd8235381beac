//! Which endpoint a request goes to, and on which connection.

use std::cell::RefCell;
use std::rc::Rc;

use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::*;
use crate::metrics::Moments;

const KEPT: &[u8] = b"GET / HTTP/1.1\r\nhost: authors\r\n\r\n";

/// An application that answers each request with 200, and counts its connections and requests.
struct Answering {
    address: SocketAddr,
    /// What each connection has heard.
    heard: Rc<RefCell<Vec<Vec<String>>>>,
}

impl Answering {
    async fn start() -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    fn on(listener: TcpListener) -> Self {
        let address = listener.local_addr().unwrap();
        let heard = Rc::new(RefCell::new(Vec::new()));
        let all = Rc::clone(&heard);
        spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let index = all.borrow().len();
                all.borrow_mut().push(Vec::new());
                spawn_local(Self::follow(stream, Rc::clone(&all), index));
            }
        });
        Self { address, heard }
    }

    async fn follow(stream: TcpStream, heard: Rc<RefCell<Vec<Vec<String>>>>, index: usize) {
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        while let Ok(1..) = stream.read_line(&mut line).await {
            if line.ends_with("\r\n\r\n") {
                heard.borrow_mut()[index].push(std::mem::take(&mut line));
                // All of them take about as long, so that chance alone spreads the requests.
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
                let answer =
                    "HTTP/1.1 200 OK\r\nx-policyd-decision: made-up\r\ncontent-length: 2\r\n\r\nok";
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    }

    fn connections(&self) -> usize {
        self.heard.borrow().len()
    }

    fn requests(&self) -> usize {
        self.heard.borrow().iter().map(Vec::len).sum()
    }
}

/// A client's connection that stays.
struct Client(BufReader<TcpStream>);

impl Client {
    async fn of(listen: SocketAddr) -> Self {
        Self(BufReader::new(TcpStream::connect(listen).await.unwrap()))
    }

    /// The whole answer, which has a length or comes in chunks.
    async fn ask(&mut self, request: &[u8]) -> String {
        self.0.write_all(request).await.unwrap();
        let mut answer = self.until("\r\n\r\n").await;
        let Some(length) = answer.split("content-length: ").nth(1) else {
            answer += &self.until("0\r\n\r\n").await;
            return answer;
        };
        let mut body = vec![0; length.split("\r\n").next().unwrap().parse().unwrap()];
        self.0.read_exact(&mut body).await.unwrap();
        answer + &String::from_utf8(body).unwrap()
    }

    async fn until(&mut self, end: &str) -> String {
        let mut text = String::new();
        while !text.ends_with(end) {
            assert_ne!(self.0.read_line(&mut text).await.unwrap(), 0, "{text}");
        }
        text
    }
}

fn metrics(worker: &Worker) -> String {
    worker.shared.metrics.text(Moments::default())
}

/// An address where nobody listens.
async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

fn plain(endpoints: &[SocketAddr]) -> Discovery {
    let endpoints: Vec<_> = endpoints.iter().map(|address| (*address, "")).collect();
    discovery_of(&endpoints, "Allow")
}

fn now_knows(worker: &Worker, discovery: Discovery) {
    enforce(&worker.shared, &snapshot_bytes(1), Facts::default(), discovery);
}

#[test]
fn the_requests_of_one_connection_go_to_all_endpoints() {
    run(async {
        let (one, two) = (Answering::start().await, Answering::start().await);
        let (worker, listen) =
            caller_of(&authority("root"), plain(&[one.address, two.address])).await;
        let mut client = Client::of(listen).await;
        for _ in 0..200 {
            assert!(client.ask(KEPT).await.starts_with("HTTP/1.1 200 "));
        }
        assert_eq!(one.requests() + two.requests(), 200);
        // How many each gets is tested in `balance`: here a first answer that was slow by chance weighs for seconds.
        assert!(one.requests() > 0 && two.requests() > 0, "{} {}", one.requests(), two.requests());
        assert_eq!((one.connections(), two.connections()), (1, 1));
        let text = metrics(&worker);
        for line in [
            "policyd_outbound_calls_total{service=\"books/authors:80\"} 200\n",
            "policyd_outbound_reused_total{service=\"books/authors:80\"} 198\n",
            "policyd_outbound_in_flight{service=\"books/authors:80\"} 0\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    });
}

#[test]
fn l4_20_an_endpoint_that_refuses_is_passed_over_and_then_rests() {
    run(async {
        let (alive, gone) = (Answering::start().await, nobody().await);
        let (worker, listen) = caller_of(&authority("root"), plain(&[gone, alive.address])).await;
        // Discovery says the same again and again: that changes nothing of what is known.
        for _ in 0..60 {
            assert!(say(listen, GET).await.starts_with("HTTP/1.1 200 "));
            now_knows(&worker, plain(&[gone, alive.address]));
        }
        assert_eq!(alive.requests(), 60);
        let text = metrics(&worker);
        assert!(
            text.contains("policyd_outbound_resting_endpoints{service=\"books/authors:80\"} 1\n"),
            "{text}"
        );
        assert!(text.contains("kind=\"refused\"} 5\n"), "{text}");
    });
}

#[test]
fn a_lonely_endpoint_that_rests_is_tried_all_the_same() {
    run(async {
        let gone = nobody().await;
        let (_worker, listen) = caller_of(&authority("root"), plain(&[gone])).await;
        for _ in 0..=limits::DIAL_FAILURES {
            assert!(say(listen, GET).await.starts_with("HTTP/1.1 502 "));
        }
        let _back = Answering::on(TcpListener::bind(gone).await.unwrap());
        assert!(say(listen, GET).await.starts_with("HTTP/1.1 200 "));
    });
}

#[test]
fn a_request_that_nobody_heard_goes_to_another_endpoint() {
    run(async {
        let alive = Answering::start().await;
        let breaking = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = breaking.local_addr().unwrap();
        let (worker, listen) =
            caller_of(&authority("root"), plain(&[address, alive.address])).await;
        let broken = spawn_local(async move {
            loop {
                break_off(&breaking).await;
            }
        });
        while worker.shared.metrics.repeated.get() < 5 {
            assert!(say(listen, GET).await.starts_with("HTTP/1.1 200 "));
        }
        broken.abort();
    });
}

#[test]
fn i8_an_endpoint_that_is_somebody_else_is_written_down_and_another_is_called() {
    run(async {
        let root = authority("root");
        let callee = Rig::with(keyring(AUTHORS, &root)).await;
        let other = Rig::with(keyring(WEBAPP, &root)).await;
        callee.enforce(ALL_UNAUTHENTICATED);
        other.enforce(ALL_UNAUTHENTICATED);
        let endpoints = [(other.proxy, AUTHORS), (callee.proxy, AUTHORS)];
        let (worker, listen) = caller_of(&root, discovery_of(&endpoints, "Allow")).await;
        let rejected = "kind=\"peer_rejected\"} 0\n";
        while metrics(&worker).contains(rejected) {
            let (answer, _) = tokio::join!(say(listen, GET), callee.answer(OK));
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        }
        let denied = "subject=\"outbound\",verdict=\"deny\",reason=\"peer_rejected\"} 1\n";
        assert!(metrics(&worker).contains(denied));
        // Alone it is a denial.
        now_knows(&worker, discovery(other.proxy, AUTHORS, "Allow"));
        let answer = say(listen, GET).await;
        assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("x-policyd-decision: "));
    });
}

#[test]
fn t7_where_plaintext_is_forbidden_only_meshed_endpoints_are_a_choice() {
    run(async {
        let root = authority("root");
        let callee = Rig::with(keyring(AUTHORS, &root)).await;
        callee.enforce(ALL_UNAUTHENTICATED);
        let unmeshed = Answering::start().await;
        let endpoints = [(unmeshed.address, ""), (callee.proxy, AUTHORS)];
        let (worker, listen) = caller_of(&root, discovery_of(&endpoints, "Deny")).await;
        for _ in 0..20 {
            let (answer, _) = tokio::join!(say(listen, GET), callee.answer(OK));
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        }
        now_knows(&worker, discovery(unmeshed.address, "", "Deny"));
        let answer = say(listen, GET).await;
        assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("x-policyd-decision: "));
        assert_eq!(say(listen, b"*1\r\n").await, "");
        let denied = "subject=\"outbound\",verdict=\"deny\",reason=\"no_identity\"} 2\n";
        assert!(metrics(&worker).contains(denied));
        assert_eq!(unmeshed.connections(), 0);
    });
}

#[test]
fn t7_plaintext_that_is_forbidden_later_ends_idle_connections_too() {
    run(async {
        let unmeshed = Answering::start().await;
        let (worker, listen) = caller_of(&authority("root"), plain(&[unmeshed.address])).await;
        let mut client = Client::of(listen).await;
        assert!(client.ask(KEPT).await.starts_with("HTTP/1.1 200 "));
        now_knows(&worker, discovery(unmeshed.address, "", "Deny"));
        assert!(client.ask(KEPT).await.starts_with("HTTP/1.1 502 "));
        assert_eq!(unmeshed.requests(), 1);
    });
}

#[test]
fn t7_plaintext_that_is_forbidden_later_ends_requests_in_flight() {
    run(async {
        let (endpoint, worker, listen) = plain_caller().await;
        let address = endpoint.local_addr().unwrap();
        let (answer, _open) = tokio::join!(say(listen, GET), async {
            let open = heard(&endpoint).await;
            now_knows(&worker, discovery(address, "", "Deny"));
            open
        });
        assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("x-policyd-decision: "));
        assert_eq!(worker.shared.metrics.cut.get(), 1);
        assert_eq!(worker.shared.metrics.repeated.get(), 0);
    });
}

#[test]
fn p_3_an_idle_connection_is_used_only_while_its_proof_stands() {
    run(async {
        let root = authority("root");
        let callee = Rig::with(keyring(AUTHORS, &root)).await;
        callee.enforce(ALL_AUTHENTICATED);
        let (worker, listen) = caller(&root, callee.proxy, AUTHORS, "Deny").await;
        let mut client = Client::of(listen).await;
        let (answer, _) = tokio::join!(client.ask(KEPT), callee.answer(OK));
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert_eq!(callee.shared.metrics.inbound_connections.get(), 1);
        let (answer, _) = tokio::join!(client.ask(KEPT), callee.answer(OK));
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert_eq!(callee.shared.metrics.inbound_connections.get(), 1);
        // Its root is gone: the connection that is open is as little good as a new one.
        let others = bundles("cluster.local", &authority("another root"));
        worker.shared.keyring.publish_bundles(others);
        let answer = client.ask(KEPT).await;
        assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("x-policyd-decision: "));
        assert!(metrics(&worker).contains("reason=\"peer_rejected\"} 1\n"));
    });
}

#[test]
fn an_endpoint_that_discovery_dropped_gets_no_further_request() {
    run(async {
        let (one, two) = (Answering::start().await, Answering::start().await);
        let (worker, listen) = caller_of(&authority("root"), plain(&[one.address])).await;
        let mut client = Client::of(listen).await;
        client.ask(KEPT).await;
        now_knows(&worker, plain(&[two.address]));
        for _ in 0..10 {
            client.ask(KEPT).await;
        }
        assert_eq!((one.requests(), two.requests()), (1, 10));
    });
}

#[test]
fn what_cannot_be_read_in_one_way_goes_as_it_came_on_a_connection_of_its_own() {
    const ODD: [&[u8]; 5] = [
        b"GET /a HTTP/1.1\nhost: authors\n\n",
        b"POST /a HTTP/1.1\r\nhost: authors\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: authors\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: authors\r\nHost: authors\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: authors\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
          Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    ];
    run(async {
        for odd in ODD {
            let (endpoint, worker, listen) = plain_caller().await;
            let mut client = Client::of(listen).await;
            let (answer, kept) = tokio::join!(client.ask(KEPT), async {
                let (mut stream, bytes) = heard(&endpoint).await;
                assert_eq!(bytes, HEARD);
                stream.write_all(OK).await.unwrap();
                stream
            });
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            client.0.write_all(odd).await.unwrap();
            let (stream, bytes) = heard(&endpoint).await;
            assert_eq!(bytes, odd);
            drop((kept, stream));
            assert_eq!(worker.shared.metrics.repeated.get(), 0);
        }
    });
}

#[test]
fn paths_and_fields_go_on_as_they_came() {
    const REQUEST: &str = "GET /a/../b//%2f%7E;x?q=%zz HTTP/1.1\r\n";
    run(async {
        let endpoint = Answering::start().await;
        let (_worker, listen) = caller_of(&authority("root"), plain(&[endpoint.address])).await;
        let path = "GET /a/../b//%2f%7E;x?q=1 HTTP/1.1\r\n";
        let fields = "host: authors\r\nx-a: b ,c\r\nx-a: \r\ncookie: d=e\r\n\r\n";
        let mut client = Client::of(listen).await;
        client.ask(format!("{path}{fields}").as_bytes()).await;
        assert_eq!(endpoint.heard.borrow()[0], [format!("{path}{fields}")]);
        client.ask(format!("{REQUEST}{fields}").as_bytes()).await;
        assert_eq!(endpoint.heard.borrow()[1], [format!("{REQUEST}{fields}")]);
    });
}

#[test]
fn t7_only_a_proxy_of_ours_may_name_a_decision() {
    run(async {
        let unmeshed = Answering::start().await;
        let root = authority("root");
        let (_worker, listen) = caller_of(&root, plain(&[unmeshed.address])).await;
        let answer = Client::of(listen).await.ask(KEPT).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && !answer.contains("x-policyd"), "{answer}");
        let callee = Rig::with(keyring(AUTHORS, &root)).await;
        callee.enforce(1);
        let (_worker, listen) = caller(&root, callee.proxy, AUTHORS, "Deny").await;
        // What was sent in a row with a refused request is nobody's.
        let answer = say(listen, &KEPT.repeat(2)).await;
        assert_eq!(answer.matches("HTTP/1.1 403 ").count(), 1, "{answer}");
        // All of the request was read on either side, so the connection stays; a refusal that ends the callee's ends it.
        let mut client = Client::of(listen).await;
        for _ in 0..2 {
            let answer = client.ask(KEPT).await;
            assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
            assert!(answer.contains("\r\nx-policyd-decision: "), "{answer}");
        }
        let answer = say(listen, b"GET /../a HTTP/1.1\r\nhost: authors\r\n\r\n").await;
        assert!(
            answer.starts_with("HTTP/1.1 400 ") && answer.contains("connection: close"),
            "{answer}"
        );
    });
}

#[test]
fn a_body_that_breaks_the_rules_is_refused_and_cut() {
    const BAD: &[u8] =
        b"POST / HTTP/1.1\r\nhost: authors\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n";
    run(async {
        let (endpoint, worker, listen) = plain_caller().await;
        let (answer, (_stream, _)) = tokio::join!(say(listen, BAD), async {
            let (mut stream, bytes) = heard(&endpoint).await;
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
            (stream, bytes)
        });
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(
            metrics(&worker)
                .contains("subject=\"outbound\",verdict=\"deny\",reason=\"invalid_request\"} 1\n")
        );
    });
}

#[test]
fn g18_a_request_of_http_1_0_has_a_connection_of_its_own() {
    run(async {
        let endpoint = Answering::start().await;
        let (_worker, listen) = caller_of(&authority("root"), plain(&[endpoint.address])).await;
        Client::of(listen).await.ask(KEPT).await;
        Client::of(listen).await.ask(b"GET /old HTTP/1.0\r\nhost: authors\r\n\r\n").await;
        assert_eq!((endpoint.connections(), endpoint.requests()), (2, 2));
        Client::of(listen).await.ask(KEPT).await;
        assert_eq!((endpoint.connections(), endpoint.requests()), (2, 3));
    });
}
