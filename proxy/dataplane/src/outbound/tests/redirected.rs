//! What policyd says of addresses, and what is done until it has. That connections arrive here is shown in network
//! namespaces (`tests/process/test_interception.py`).

use std::time::Duration;

use tokio::time::{Instant, pause};

use super::*;
use crate::limits;

const DIALLED: &str = "10.96.0.1:80";

fn dialled() -> SocketAddr {
    DIALLED.parse().unwrap()
}

/// What is at the address.
fn at(endpoint: SocketAddr, own: bool, name: &str) -> Discovery {
    let endpoint = generated::Endpoint {
        address: endpoint.ip().to_string(),
        port: endpoint.port().into(),
        own,
        ..generated::Endpoint::default()
    };
    let row = generated::ServicePort {
        service: DIALLED.to_owned(),
        endpoints: vec![endpoint],
        name: name.to_owned(),
    };
    let outbound_plaintext = "Deny".to_owned();
    Discovery::read(&generated::Discovery { services: vec![row], outbound_plaintext }).unwrap()
}

fn redirected() -> (Arc<crate::shared::Shared>, Rc<RedirectedOutbound>) {
    let shared = shared(keyring(WEBAPP, &authority("root")));
    let worker = Rc::new(Worker::new(Arc::clone(&shared), 1));
    (shared, Rc::new(RedirectedOutbound::new(worker)))
}

#[test]
fn an_address_is_asked_for_and_waited_for() {
    run(async {
        let (shared, ports) = redirected();
        enforce(&shared, &snapshot_bytes(1), Facts::default(), Discovery::default());
        let mut asks = shared.asks.watch();
        let answer = async {
            asks.changed().await.unwrap();
            assert_eq!(shared.asks.all(), [DIALLED]);
            // Something else is told first.
            enforce(&shared, &snapshot_bytes(1), Facts::default(), Discovery::default());
            tokio::task::yield_now().await;
            let told = at(dialled(), false, "books/authors:80");
            enforce(&shared, &snapshot_bytes(1), Facts::default(), told);
        };
        let (found, ()) = tokio::join!(ports.known(dialled()), answer);
        assert_eq!(found.unwrap().name, "books/authors:80");
        // Those who come later share what is known of it.
        let (one, other) = (ports.known(dialled()).await, ports.known(dialled()).await);
        assert!(Rc::ptr_eq(&one.unwrap(), &other.unwrap()));
    });
}

#[test]
fn what_policyd_does_not_say_is_nobody() {
    run(async {
        let (shared, ports) = redirected();
        enforce(&shared, &snapshot_bytes(1), Facts::default(), Discovery::default());
        pause();
        let began = Instant::now();
        let port = ports.known(dialled()).await.unwrap();
        assert!(began.elapsed() >= limits::ASKED_WAIT);
        assert_eq!(port.name.as_str(), DIALLED);
        assert!(port.reach(Form::Http, ALPN_HTTP1).await.is_err());
        assert_eq!(port.metrics.failures_of(Trouble::NoEndpoint), 1);
        // It isn't remembered as nobody: policyd may be back.
        let told = at(dialled(), false, "");
        enforce(&shared, &snapshot_bytes(1), Facts::default(), told);
        assert!(!Rc::ptr_eq(&port, &ports.known(dialled()).await.unwrap()));
    });
}

#[test]
fn without_a_table_nothing_is_waited_for() {
    run(async {
        let (_shared, ports) = redirected();
        let port = tokio::time::timeout(Duration::from_secs(1), ports.known(dialled())).await;
        let refused = port.unwrap().unwrap().reach(Form::Http, ALPN_HTTP1).await;
        assert_eq!(refused.unwrap_err().view.status, 503);
    });
}

#[test]
fn a_crawler_finds_no_room() {
    run(async {
        let (shared, ports) = redirected();
        enforce(&shared, &snapshot_bytes(1), Facts::default(), Discovery::default());
        for number in 0..limits::ASKED_ADDRESSES {
            let port = u16::try_from(1_000 + number).unwrap();
            assert!(shared.asks.ask(SocketAddr::from(([10, 0, 0, 1], port))));
        }
        assert!(ports.known(dialled()).await.is_none());
    });
}

#[test]
fn the_pod_itself_is_called_in_plaintext_also_where_that_is_forbidden() {
    run(async {
        let (shared, ports) = redirected();
        let application = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = application.local_addr().unwrap();
        for (own, reached) in [(true, true), (false, false)] {
            let told = at(address, own, "");
            enforce(&shared, &snapshot_bytes(1), Facts::default(), told);
            let port = ports.known(dialled()).await.unwrap();
            assert_eq!(port.reach(Form::Http, ALPN_HTTP1).await.is_ok(), reached, "{own}");
        }
    });
}

#[test]
fn l4_19_what_comes_from_a_port_of_ours_is_a_loop_while_that_is_open() {
    run(async {
        let (shared, ports) = redirected();
        let application = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let told = at(application.local_addr().unwrap(), true, "");
        enforce(&shared, &snapshot_bytes(1), Facts::default(), told);
        let port = ports.known(dialled()).await.unwrap();
        let reached = port.reach(Form::Http, ALPN_HTTP1).await.unwrap();
        let (_accepted, source) = application.accept().await.unwrap();
        assert!(shared.departures.has(source));
        drop(reached);
        assert!(!shared.departures.has(source));
    });
}
