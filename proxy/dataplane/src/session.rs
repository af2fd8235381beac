//! One inbound connection in the eyes of policy: who is at the other end, what each arrival comes to, and what is written
//! down about it.
//!
//! Decided anew on each arrival and on each change of table, bundles or time; nothing is remembered from one table to the
//! next but who the peer proved to be.

use std::cell::{Ref, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use engine::request::CanonicalRequest;
use engine::{Arrival, Connection, Decision, Form, Permit, Reading, Reason, Verdict, decide};
use rustls_pki_types::CertificateDer;
use snapshot::Answer as DecisionAnswer;

use crate::certificate::Leaf;
use crate::clock;
use crate::decision_id::new_id;
use crate::denials::{DenialRecord, Direction, GateRecord, PeerRecord, RequestRecord};
use crate::enforcement::Enforced;
use crate::metrics::Subject;
use crate::shared::Worker;
use crate::shares::Share;
use crate::trust::{Bundles, Role};

/// A peer that proved who it is, and how.
#[derive(Debug, Clone)]
pub struct ProvenPeer {
    /// What its certificate says.
    pub leaf: Leaf,
    /// What it showed; verified again when the bundles change.
    pub chain: Vec<CertificateDer<'static>>,
    /// The bundles under which it was verified.
    pub under: Arc<Bundles>,
}

/// The peers of one worker that have a connection now: those with several are there once.
#[derive(Debug, Default)]
pub struct Peers {
    known: RefCell<HashMap<[u8; 32], Weak<ProvenPeer>>>,
}

impl Peers {
    /// A peer whose certificate verified just now, with the one that is there already where nothing differs.
    pub fn proven(
        &self,
        leaf: Leaf,
        chain: Vec<CertificateDer<'static>>,
        under: Arc<Bundles>,
    ) -> Rc<ProvenPeer> {
        let mut known = self.known.borrow_mut();
        let same = |peer: &Rc<ProvenPeer>| peer.chain == chain && Arc::ptr_eq(&peer.under, &under);
        if let Some(peer) = known.get(&leaf.sha256).and_then(Weak::upgrade).filter(same) {
            return peer;
        }
        // Grows only as the number of peers does, so that this costs little for each.
        if known.len() == known.capacity() {
            known.retain(|_, peer| peer.strong_count() > 0);
        }
        let key = leaf.sha256;
        let peer = Rc::new(ProvenPeer { leaf, chain, under });
        known.insert(key, Rc::downgrade(&peer));
        peer
    }
}

/// An inbound connection.
#[derive(Debug)]
pub struct Session {
    worker: Rc<Worker>,
    port: u16,
    source: IpAddr,
    peer: Option<Rc<ProvenPeer>>,
    judged: RefCell<Option<Judged>>,
    /// Of the requests that are worked on, the peer's.
    pub(crate) share: Share,
    pub(crate) in_flight: RefCell<Weak<CanonicalRequest>>,
    verified_under: RefCell<Option<Arc<Bundles>>>,
}

/// The connection on the table in force.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) enforced: Arc<Enforced>,
    pub(crate) connection: Connection,
}

/// A refusal that has been counted and written down.
#[derive(Debug, Clone)]
pub struct Denial {
    /// Its id.
    pub id: String,
    /// What was decided.
    pub decision: Decision,
}

/// What was decided on, for the record.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct About<'a> {
    pub(crate) request: Option<&'a CanonicalRequest>,
    pub(crate) gate: Option<&'a engine::gate::Refusal>,
    pub(crate) detail: Option<&'a str>,
}

impl Session {
    /// A connection from `source` to `port`; the peer where one was proven.
    pub fn new(
        worker: &Rc<Worker>,
        port: u16,
        source: IpAddr,
        peer: Option<Rc<ProvenPeer>>,
    ) -> Self {
        let share = match &peer {
            Some(proven) => worker.shares.of(&proven.leaf.identity.to_string()),
            None => worker.shares.of(&source.to_canonical().to_string()),
        };
        Self {
            share,
            port,
            source,
            judged: RefCell::default(),
            in_flight: RefCell::default(),
            verified_under: RefCell::new(peer.as_ref().map(|peer| Arc::clone(&peer.under))),
            peer,
            worker: Rc::clone(worker),
        }
    }

    /// The thread that carries it.
    pub fn worker(&self) -> &Rc<Worker> {
        &self.worker
    }

    /// The peer, where it proved who it is.
    pub fn peer(&self) -> Option<&ProvenPeer> {
        self.peer.as_deref()
    }

    /// Decides bytes, silence or foreign TLS, and writes down what is denied.
    pub fn admit(&self, arrival: &Arrival<'_>) -> Result<Permit, Denial> {
        let decision = self.decide(arrival);
        self.settle(Subject::Connection, decision, About::default())
    }

    /// Whether HTTP is looked for: on ports where it is read, where probes may come, and while there is no table to say.
    pub fn reads_http(&self) -> bool {
        self.judged().is_none_or(|judged| {
            let port = judged.connection.port();
            port.reading() == Reading::Http || (self.peer.is_none() && !port.probes().is_empty())
        })
    }

    /// Whether nothing is read on this port (semantics T3).
    pub fn is_opaque(&self) -> bool {
        self.judged().is_some_and(|judged| judged.connection.port().reading() == Reading::Opaque)
    }

    /// Whether HTTP that shows itself after the detection has ended may pass as bytes: on opaque ports, and under an
    /// `audit` default where no enforced rule reads requests (semantics T5).
    pub fn takes_http_as_bytes(&self) -> bool {
        self.judged().is_some_and(|judged| {
            let port = judged.connection.port();
            port.reading() == Reading::Opaque || port.profile().lenient
        })
    }

    /// Decides, without counting or writing.
    pub(crate) fn decide(&self, arrival: &Arrival<'_>) -> Decision {
        Self::decide_on(self.judged().as_deref(), arrival)
    }

    /// The same on one table, where more than one thing is asked of it.
    pub(crate) fn decide_on(judged: Option<&Judged>, arrival: &Arrival<'_>) -> Decision {
        match judged {
            Some(judged) => decide(&judged.connection, arrival, judged.enforced.moment()),
            // INV-1: no table, no passage.
            None => Decision::refusal(Reason::NoPolicyLoaded, form_without_table(arrival)),
        }
    }

    /// The connection on the table in force, linked again where the table has changed.
    pub(crate) fn judged(&self) -> Option<Ref<'_, Judged>> {
        let enforced = self.worker.shared.enforcement.current()?;
        let known = self
            .judged
            .borrow()
            .as_ref()
            .is_some_and(|judged| Arc::ptr_eq(&judged.enforced, &enforced));
        if !known {
            let own = &self.worker.shared.settings.trust_domain;
            let peer = self.peer.as_ref().map(|peer| peer.leaf.peer(own));
            let (table, facts) = (Arc::clone(&enforced.table), Arc::clone(&enforced.facts));
            let connection = Connection::open(table, facts, self.port, self.source, peer);
            *self.judged.borrow_mut() = Some(Judged { enforced, connection });
        }
        Ref::filter_map(self.judged.borrow(), Option::as_ref).ok()
    }

    /// Counts a decision, writes it down where it denies or would, and gives the permit or the denial.
    pub(crate) fn settle(
        &self,
        subject: Subject,
        decision: Decision,
        about: About<'_>,
    ) -> Result<Permit, Denial> {
        let metrics = &self.worker.shared.metrics;
        metrics.decided(subject, decision.verdict(), decision.reason());
        let would_deny = decision.would_be().is_some_and(|other| other.verdict == Verdict::Deny);
        if let Some(permit) = decision.permit() {
            if would_deny {
                metrics.would_deny.add(1);
                self.write(&new_id(), &decision, about, "would_deny");
            }
            return Ok(permit);
        }
        let id = new_id();
        self.write(&id, &decision, about, "denial");
        Err(Denial { id, decision })
    }

    /// Whether the peer is still who it proved to be, under the bundles of this moment.
    pub(crate) fn peer_stands(&self) -> bool {
        let bundles = self.worker.shared.keyring.trust().bundles();
        let Some(peer) = &self.peer else { return true };
        if self.verified_under.borrow().as_ref().is_some_and(|under| Arc::ptr_eq(under, &bundles)) {
            return true;
        }
        let stands = bundles.verify(&peer.chain, Role::Client, clock::now_millis()).is_ok();
        if stands {
            *self.verified_under.borrow_mut() = Some(bundles);
        }
        stands
    }

    fn write(&self, id: &str, decision: &Decision, about: About<'_>, event: &'static str) {
        let shared = &self.worker.shared;
        let judged = self.judged();
        let judged = judged.as_deref();
        let mut answer = judged.map_or_else(
            || DecisionAnswer::without_table(decision),
            |judged| DecisionAnswer::of(&judged.connection, decision),
        );
        answer.id = Some(id.to_owned());
        answer.table = judged.map(|judged| judged.enforced.table_version.clone());
        answer.facts = judged.map(|judged| judged.enforced.facts_version.clone());
        let (headers, keys) = judged.map_or((&[][..], &[][..]), |judged| {
            let port = judged.connection.port();
            (&port.profile().policy_headers, port.query_keys())
        });
        let unread = about.request.and_then(CanonicalRequest::unread);
        shared.denials.write(&DenialRecord {
            time: clock::rfc3339(clock::now_millis()),
            event,
            direction: Direction::Inbound,
            workload: judged.map(|judged| judged.enforced.workload.clone()),
            namespace: shared.settings.namespace.clone(),
            pod: shared.settings.pod_name.clone(),
            port: self.port,
            service: None,
            decision: answer,
            peer: self.peer_record(),
            request: about.request.map(|request| RequestRecord::new(request, headers, keys)),
            gate: about.gate.or(unread).map(GateRecord::from),
            detail: about.detail.map(ToOwned::to_owned),
        });
    }

    fn peer_record(&self) -> PeerRecord {
        let leaf = self.peer.as_ref().map(|peer| &peer.leaf);
        PeerRecord {
            ip: engine_address(self.source).to_string(),
            identity: leaf.map(|leaf| leaf.identity.to_string()),
            pod_uid: leaf.and_then(|leaf| leaf.pod_uid.clone()),
            certificate_sha256: leaf.map(Leaf::sha256_hex),
        }
    }
}

/// An IPv4 address in IPv6's clothes is an IPv4 address (semantics W5).
fn engine_address(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// How a refusal is answered while there is no table to say what the port speaks (semantics T7, D5).
fn form_without_table(arrival: &Arrival<'_>) -> Form {
    match arrival {
        Arrival::Http(request) if request.is_grpc_content_type() => Form::Grpc,
        Arrival::Refused(refusal) if refusal.grpc => Form::Grpc,
        Arrival::Http(_) | Arrival::Refused(_) => Form::Http,
        Arrival::Bytes | Arrival::Silence | Arrival::ForeignTls => Form::Closed,
    }
}
