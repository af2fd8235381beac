//! A connection: who is at the other end, and what the table says of them before any request.

use std::{cell::RefCell, net::IpAddr, rc::Rc, sync::Arc};

use hashbrown::HashMap;

use crate::{
    identity::SpiffeId,
    network::canonical_address,
    ports::{Port, View},
    rows::{Revocation, Revoked, RouteId},
    rules::{Rules, Standing},
    subject::Peering,
    table::Table,
    time::Timestamp,
};

/// What differs from pod to pod of one workload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The pod's uid.
    pub uid: Box<str>,
    /// The pod's addresses.
    pub addresses: Vec<IpAddr>,
    /// Where the kubelet's probes come from (T6).
    pub probe_addresses: Vec<IpAddr>,
}

/// The authenticated other end. That its certificate verified is whoever made this one's promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its SPIFFE ID.
    pub identity: SpiffeId,
    /// From the private extension of our own issuers' certificates.
    pub pod_uid: Option<Box<str>>,
    /// SHA-256 of the leaf's DER.
    pub certificate_sha256: [u8; 32],
    /// From the certificate.
    pub not_before: Timestamp,
    /// From the certificate: the identity ends then (I9).
    pub not_after: Timestamp,
}

/// One connection on one table. A new table makes a new one of these from the same facts.
#[derive(Debug)]
pub struct Connection {
    table: Arc<Table>,
    facts: Arc<Facts>,
    number: u16,
    port: Arc<Port>,
    source: IpAddr,
    peer: Option<Peer>,
    enforced: Resolved,
    would_be: Option<Resolved>,
}

/// LIMIT: of how many routes a connection keeps what they come to for its peer; it begins anew beyond. Without it a peer
/// that asks for each of ten thousand routes would take a megabyte for each of its connections.
const MOST_STANDINGS: usize = 256;

type Standings = HashMap<RouteId, Rc<Standing>, foldhash::fast::RandomState>;

/// Standings, the port's at once and a route's when it is first asked for.
#[derive(Debug, Default)]
struct Resolved {
    at_port: Standing,
    selected: RefCell<Standings>,
    matched: RefCell<Standings>,
}

impl Connection {
    /// A connection to the port `number` from `source`, with the peer's identity where it proved one.
    pub fn open(
        table: Arc<Table>,
        facts: Arc<Facts>,
        number: u16,
        source: IpAddr,
        peer: Option<Peer>,
    ) -> Self {
        let source = canonical_address(source);
        let port = Arc::clone(table.port(number));
        let resolve = |view| {
            let peering = Peering { identity: peer.as_ref().map(|peer| &peer.identity), source };
            Resolved {
                at_port: port.at_port.rules().standing(&table, &port, &peering, view),
                ..Resolved::default()
            }
        };
        let enforced = resolve(View::Enforced);
        let would_be = port.differs().then(|| resolve(View::WouldBe));
        Self { table, facts, number, port, source, peer, enforced, would_be }
    }

    /// The same connection judged by another table.
    #[must_use]
    pub fn on(self, table: Arc<Table>, facts: Arc<Facts>) -> Self {
        Self::open(table, facts, self.number, self.source, self.peer)
    }

    /// The table it is judged by.
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// The port's row.
    pub fn port(&self) -> &Port {
        &self.port
    }

    /// The port's number.
    pub fn port_number(&self) -> u16 {
        self.number
    }

    /// The peer's address.
    pub fn source(&self) -> IpAddr {
        self.source
    }

    /// The authenticated peer.
    pub fn peer(&self) -> Option<&Peer> {
        self.peer.as_ref()
    }

    pub(crate) fn peering(&self) -> Peering<'_> {
        Peering { identity: self.peer.as_ref().map(|peer| &peer.identity), source: self.source }
    }

    /// Whether the peer's certificate has ended or is revoked (I9).
    pub(crate) fn peer_rejected(&self, now: Timestamp) -> bool {
        self.peer.as_ref().is_some_and(|peer| {
            peer.not_after <= now
                || self.table.revoked.iter().any(|revocation| names(revocation, peer))
        })
    }

    /// Whether the connection comes from where the kubelet is (T6).
    pub(crate) fn is_from_prober(&self) -> bool {
        self.peer.is_none()
            && (self
                .facts
                .probe_addresses
                .iter()
                .any(|address| canonical_address(*address) == self.source)
                || self.table.probe_networks.contains(self.source))
    }

    /// Whether the connection comes from the cluster networks (W5).
    pub(crate) fn is_from_cluster(&self) -> bool {
        self.table.cluster_networks.contains(self.source)
    }

    /// Whether the peer has an identity of our own trust domain (I2).
    pub(crate) fn is_of_ours(&self) -> bool {
        self.peer
            .as_ref()
            .is_some_and(|peer| peer.identity.trust_domain() == self.table.trust_domain())
    }

    pub(crate) fn at_port(&self, view: View) -> &Standing {
        &self.resolved(view).at_port
    }

    /// What the rules come to that count for requests which selected the route.
    pub(crate) fn selected(&self, route: RouteId, view: View) -> Rc<Standing> {
        let cache = &self.resolved(view).selected;
        self.cached(cache, route, view, |port| port.by_selected.of(route))
    }

    /// What the rules come to that count for requests which the route matches.
    pub(crate) fn matched(&self, route: RouteId, view: View) -> Rc<Standing> {
        let cache = &self.resolved(view).matched;
        self.cached(cache, route, view, |port| port.by_matched.of(route))
    }

    fn resolved(&self, view: View) -> &Resolved {
        match (view, &self.would_be) {
            (View::WouldBe, Some(resolved)) => resolved,
            _ => &self.enforced,
        }
    }

    fn cached<'c>(
        &'c self,
        cache: &RefCell<Standings>,
        route: RouteId,
        view: View,
        list: impl Fn(&'c Port) -> Option<Rules<'c>>,
    ) -> Rc<Standing> {
        if let Some(known) = cache.borrow().get(&route) {
            return Rc::clone(known);
        }
        let standing = list(&self.port)
            .map(|list| Rc::new(list.standing(&self.table, &self.port, &self.peering(), view)))
            .unwrap_or_default();
        let mut cache = cache.borrow_mut();
        if cache.len() >= MOST_STANDINGS {
            cache.clear();
        }
        cache.insert(route, Rc::clone(&standing));
        standing
    }
}

fn names(revocation: &Revocation, peer: &Peer) -> bool {
    let hit = match &revocation.whom {
        Revoked::Identity(identity) => *identity == peer.identity,
        Revoked::PodUid(uid) => peer.pod_uid.as_ref() == Some(uid),
        Revoked::Certificate(sha256) => *sha256 == peer.certificate_sha256,
    };
    hit && revocation.issued_before.is_none_or(|before| peer.not_before < before)
}
