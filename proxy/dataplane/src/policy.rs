//! The policy stream: says what is held, takes up what policyd signs, acknowledges or refuses it, and comes back when the
//! stream is lost. What is in force stays in force meanwhile.

use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::{Request, Status};
use tracing::{error, info, warn};

use crate::asks::Asks;
use crate::assignment::{Accepted, Addressee, Holding, Refused, Source};
use crate::cache;
use crate::clock;
use crate::control::{self, ControlTarget, Show};
use crate::enforcement::{Enforced, Enforcement};
use crate::generated::{
    Ack, Assignment, ControllerMessage, Held, Hello, Nack, ProxyMessage, Signed,
};
use crate::keyring::Keyring;
use crate::limits;
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::state_dir::StateDir;

mod codec;

/// The call, as `proto/policyd/v1/stream.proto` names it.
const FOLLOW: &str = "/policyd.v1.PolicyStream/Follow";

fn codec() -> codec::LettingGo<ProxyMessage, ControllerMessage> {
    codec::LettingGo::default()
}

/// Answers waiting for the stream to take them; policyd sends one assignment at a time.
const ANSWERS: usize = 8;

/// What following policy needs.
#[derive(Debug)]
pub struct PolicyClient {
    /// policyd.
    pub target: ControlTarget,
    /// Our namespace; the pod uid comes from our certificate.
    pub namespace: String,
    /// Our trust domain.
    pub trust_domain: String,
    /// `namespace/name:port` of each outbound listener, sorted, unique.
    pub services: Vec<String>,
    /// What the pod has dialled, of which policyd is asked too.
    pub asks: Arc<Asks>,
    /// Our certificate, and whom we trust.
    pub keyring: Arc<Keyring>,
    /// Where what is taken up goes.
    pub enforcement: Arc<Enforcement>,
    /// Where it is kept.
    pub state: StateDir,
    /// Counted here.
    pub metrics: Arc<Metrics>,
    /// Where room for tables is made.
    pub memory: Arc<Memory>,
}

/// Who we are to policyd, and what we enforce of what was kept.
#[derive(Debug)]
pub struct Resumed {
    addressee: Addressee,
    holding: Option<Holding>,
}

impl PolicyClient {
    /// Takes up what was kept, where our kept certificate says which pod we are: before anybody is let in, for whoever was
    /// served a restart ago must not be turned away. What is returned is for [`Self::follow`].
    pub fn resume(&self) -> Option<Resumed> {
        let addressee = self.addressee()?;
        let holding = self.kept(&addressee);
        Some(Resumed { addressee, holding })
    }

    /// Never returns. FAIL-CLOSED: without a certificate of our own nothing is taken up, not even from the state folder,
    /// for it says which pod we are.
    pub async fn follow(self, resumed: Option<Resumed>) {
        let mut changes = self.keyring.watch();
        let Resumed { addressee, mut holding } = match resumed {
            Some(resumed) => resumed,
            None => self.resumed(&mut changes).await,
        };
        let mut wait = limits::BACKOFF_FIRST;
        loop {
            let began = Instant::now();
            match self.follow_once(&addressee, &mut holding, &mut changes).await {
                Ok(why) => info!(why, "the policy stream is opened anew"),
                Err(status) => warn!(problem = status.message(), "the policy stream is lost"),
            }
            self.metrics.policy_stream.set(0);
            // A stream that lived earns a quick return.
            let lived = began.elapsed() > limits::BACKOFF_STREAM;
            wait =
                if lived { limits::BACKOFF_FIRST } else { (wait * 2).min(limits::BACKOFF_STREAM) };
            sleep(clock::jittered(wait, 500, 1000)).await;
        }
    }

    /// The same as soon as there is a certificate.
    async fn resumed(&self, changes: &mut watch::Receiver<u64>) -> Resumed {
        loop {
            if let Some(resumed) = self.resume() {
                return resumed;
            }
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn addressee(&self) -> Option<Addressee> {
        let own = self.keyring.valid_credentials(clock::now_millis())?;
        Some(Addressee {
            signer: self.target.identity.clone(),
            trust_domain: self.trust_domain.clone(),
            namespace: self.namespace.clone(),
            pod_uid: own.leaf.pod_uid.clone().unwrap_or_default(),
        })
    }

    fn kept(&self, addressee: &Addressee) -> Option<Holding> {
        match cache::resume(&self.state, addressee, &self.keyring.trust().bundles()) {
            Ok(None) => None,
            Ok(Some((accepted, vouched))) => {
                self.memory.make_room(accepted.holding.table.bytes);
                let table = accepted.parts.table_version.clone();
                info!(table, vouched = clock::rfc3339(vouched), "the kept table is enforced");
                self.enforcement.replace(Arc::new(Enforced::new(accepted.parts, vouched)));
                Some(accepted.holding)
            }
            Err(problem) => {
                error!(problem, "no kept table");
                None
            }
        }
    }

    /// One stream, to its end.
    async fn follow_once(
        &self,
        addressee: &Addressee,
        holding: &mut Option<Holding>,
        changes: &mut watch::Receiver<u64>,
    ) -> Result<&'static str, Status> {
        let shown = self.certificate();
        let channel = control::connect(&self.target, &self.keyring, Show::Certificate).await?;
        let mut client = Grpc::new(channel).max_decoding_message_size(limits::POLICY_MESSAGE_BYTES);
        let (answers, outgoing) = mpsc::channel(ANSWERS);
        let mut asks = self.asks.watch();
        send(&answers, self.hello(holding.as_ref().map(|holding| holding.held.clone()))).await?;
        let opening = timeout(limits::CONTROL_CALL, async {
            client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
            let outgoing = Request::new(ReceiverStream::new(outgoing));
            client.streaming(outgoing, PathAndQuery::from_static(FOLLOW), codec()).await
        });
        let mut incoming = opening.await.map_err(|_| late())??.into_inner();
        self.metrics.policy_stream.set(1);
        let mut serial = 0;
        let mut heard = Instant::now();
        loop {
            let silent = heard + limits::STREAM_SILENCE;
            let message = tokio::select! {
                message = timeout_at(silent, incoming.message()) => message.map_err(|_| late())??,
                _ = changes.changed() => {
                    if self.certificate() != shown {
                        return Ok("our certificate is a new one");
                    }
                    continue;
                }
                () = new_asks(&mut asks) => {
                    // What is held is only said once: acks say the rest.
                    send(&answers, self.hello(None)).await?;
                    continue;
                }
            };
            heard = Instant::now();
            let Some(ControllerMessage { assignment, confirmation }) = message else {
                return Err(Status::unavailable("policyd ended it"));
            };
            if let Some(assignment) = assignment {
                let answer = self.take_up(addressee, holding, assignment, &mut serial);
                send(&answers, answer).await?;
            }
            if let Some(confirmation) = confirmation {
                self.confirm(addressee, holding, &confirmation);
            }
        }
    }

    /// What we can read, hold and ask for.
    fn hello(&self, held: Option<Held>) -> ProxyMessage {
        let (reader_version, services) = (snapshot::READER_VERSION, self.services.clone());
        let hello = Hello { reader_version, held, services, addresses: self.asks.all() };
        ProxyMessage { hello: Some(hello), ..ProxyMessage::default() }
    }

    /// The certificate that we show now.
    fn certificate(&self) -> Option<[u8; 32]> {
        self.keyring.credentials().map(|own| own.leaf.sha256)
    }

    /// Enforces an assignment, or says why not. Keeping it comes after enforcing and before the acknowledgement.
    fn take_up(
        &self,
        addressee: &Addressee,
        holding: &mut Option<Holding>,
        assignment: Assignment,
        last_serial: &mut u64,
    ) -> ProxyMessage {
        let serial = serial_of(&assignment);
        let bundles = self.keyring.trust().bundles();
        let kept = holding.as_ref().map_or(0, |holding| holding.table.bytes);
        self.memory.make_room(kept + assignment.snapshot.len().max(kept));
        let accepted = if serial > *last_serial {
            addressee.accept(assignment, holding.as_ref(), &bundles, Source::Stream)
        } else {
            Err(Refused {
                code: "OLDER_BASIS",
                detail: format!("serial {serial} after {last_serial}"),
            })
        };
        match accepted {
            Ok(Accepted { parts, holding: accepted, snapshot, issued_millis }) => {
                *last_serial = serial;
                let snapshot_sha256 = accepted.held.snapshot_sha256.clone();
                if self
                    .enforcement
                    .current()
                    .is_none_or(|now| now.table_version != parts.table_version)
                {
                    info!(table = parts.table_version, serial, "table in force");
                }
                self.metrics.tables.add(1);
                self.enforcement.replace(Arc::new(Enforced::new(parts, issued_millis)));
                if let Err(problem) = cache::keep_assignment(&self.state, &accepted, &snapshot) {
                    // FAIL-CLOSED: what is kept is never older than what was enforced; a restart without policyd denies.
                    let forgotten = cache::forget(&self.state).is_ok();
                    error!(
                        problem = problem.to_string(),
                        forgotten, "the table could not be kept for a restart"
                    );
                }
                *holding = Some(accepted);
                ProxyMessage {
                    ack: Some(Ack { serial, snapshot_sha256 }),
                    ..ProxyMessage::default()
                }
            }
            Err(Refused { code, detail }) => {
                error!(code, detail, serial, "table refused, the former stays in force");
                self.metrics.refused_tables.add(1);
                let nack = Nack { serial, code: code.to_owned(), detail };
                ProxyMessage { nack: Some(nack), ..ProxyMessage::default() }
            }
        }
    }

    fn confirm(&self, addressee: &Addressee, holding: &mut Option<Holding>, signed: &Signed) {
        let Some(holding) = holding else { return };
        let bundles = self.keyring.trust().bundles();
        match addressee.confirm(signed, holding, &bundles, Source::Stream) {
            Ok(confirmation) => {
                holding.held.epoch = confirmation.epoch;
                holding.held.basis = confirmation.basis;
                if let Some(enforced) = self.enforcement.current() {
                    enforced.vouch(confirmation.at_millis);
                }
                if let Err(problem) = cache::keep_confirmation(&self.state, signed) {
                    warn!(problem = problem.to_string(), "the confirmation could not be kept");
                }
            }
            // FAIL-CLOSED: the table keeps its age, and becomes stale if that goes on.
            Err(refused) => warn!(problem = refused.to_string(), "confirmation refused"),
        }
    }
}

/// The serial as the envelope claims it, to answer even what is refused.
fn serial_of(assignment: &Assignment) -> u64 {
    use prost::Message as _;
    let payload =
        assignment.envelope.as_ref().map(|signed| signed.payload.as_slice()).unwrap_or_default();
    crate::generated::Envelope::decode(payload).map_or(0, |envelope| envelope.serial)
}

/// There are addresses of which policyd hasn't been asked. What is dialled within the next moment goes along.
async fn new_asks(asks: &mut watch::Receiver<u64>) {
    if asks.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
    // Whoever is called away from here comes back to it.
    asks.mark_changed();
    sleep(limits::ASK_GAP).await;
    asks.mark_unchanged();
}

async fn send(answers: &mpsc::Sender<ProxyMessage>, message: ProxyMessage) -> Result<(), Status> {
    let sent = timeout(Duration::from_secs(10), answers.send(message)).await;
    match sent {
        Ok(Ok(())) => Ok(()),
        _ => Err(Status::unavailable("policyd does not take our answers")),
    }
}

fn late() -> Status {
    Status::deadline_exceeded("policyd is silent")
}
