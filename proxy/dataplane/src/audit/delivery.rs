//! The audit stream: hands policyd what is spooled, lets go of what it acknowledges, and comes back when the stream is
//! lost. Records stay in the spool meanwhile.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tracing::{debug, warn};

use super::keeper::Trail;
use crate::clock;
use crate::control::{self, ControlTarget, Show};
use crate::generated::audit_stream_client::AuditStreamClient;
use crate::generated::{AuditAck, AuditMessage};
use crate::keyring::Keyring;
use crate::limits;
use crate::metrics::Metrics;

/// Batches that wait for the stream to take them.
const BATCHES: usize = 2;
/// With these words a stream ends that can't go on with this chain, whoever tries.
const CHAIN_ENDS: [&str; 3] = ["CHAIN_BROKEN", "ROLLED_BACK", "WRONG_WRITER"];
/// policyd says that a message is none that it takes, in words of its own.
const REFUSED: &str = "REFUSED";
/// policyd acknowledges what this spool never sent: the spool lost its end, with the power.
const SPOOL_BEHIND: &str = "SPOOL_BEHIND";

/// What delivering needs.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// policyd.
    pub target: ControlTarget,
    /// Our certificate, and whom we trust.
    pub keyring: Arc<Keyring>,
    /// What is delivered.
    pub trail: Trail,
    /// Counted here.
    pub metrics: Arc<Metrics>,
}

/// Why a stream ended.
#[derive(Debug)]
enum Ended {
    /// It is to be opened anew at once.
    Anew,
    /// The spool's thread has ended.
    Over,
    /// Otherwise.
    Lost(Status),
}

impl From<Status> for Ended {
    fn from(status: Status) -> Self {
        Self::Lost(status)
    }
}

impl Delivery {
    /// Returns when the spool's thread has ended, else never.
    pub async fn deliver(self) {
        let mut changes = self.keyring.watch();
        let mut wait = limits::BACKOFF_FIRST;
        let mut said = String::new();
        loop {
            self.certified(&mut changes).await;
            let began = Instant::now();
            let ended = self.deliver_once(&mut changes).await;
            self.metrics.audit.stream.set(0);
            match ended {
                Ended::Over => return,
                Ended::Anew => {}
                Ended::Lost(status) => self.lost(&status, &mut said).await,
            }
            // A stream that lived earns a quick return.
            let lived = began.elapsed() > limits::BACKOFF_STREAM;
            wait =
                if lived { limits::BACKOFF_FIRST } else { (wait * 2).min(limits::BACKOFF_STREAM) };
            sleep(clock::jittered(wait, 500, 1000)).await;
        }
    }

    /// Waits for a certificate to show: without one there is nobody to whom the records belong.
    async fn certified(&self, changes: &mut watch::Receiver<u64>) {
        while self.keyring.valid_credentials(clock::now_millis()).is_none() {
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Says why once, and begins another chain where this one has come to its end.
    async fn lost(&self, status: &Status, said: &mut String) {
        let problem = status.message();
        if problem == said {
            debug!(problem, "the audit stream is lost");
        } else {
            warn!(problem, "the audit stream is lost");
            problem.clone_into(said);
        }
        if let Some(code) = chain_end(status) {
            let _ = self.trail.begin_chain(code).await;
        }
    }

    /// One stream, to its end.
    async fn deliver_once(&self, changes: &mut watch::Receiver<u64>) -> Ended {
        let shown = self.certificate();
        let channel = match control::connect(&self.target, &self.keyring, Show::Certificate).await {
            Ok(channel) => channel,
            Err(status) => return status.into(),
        };
        let (outgoing, messages) = mpsc::channel(BATCHES);
        self.metrics.audit.stream.set(1);
        tokio::select! {
            Err(ended) = self.receive(channel, messages) => ended,
            Err(ended) = self.send(outgoing) => ended,
            () = self.until_renewed(changes, shown) => Ended::Anew,
        }
    }

    async fn receive(
        &self,
        channel: Channel,
        messages: mpsc::Receiver<AuditMessage>,
    ) -> Result<Infallible, Ended> {
        let mut client = AuditStreamClient::new(channel);
        // Its head may come with the first acknowledgement only, and that after records only.
        let opened = self.awaited(client.deliver(ReceiverStream::new(messages))).await?;
        let mut acks = opened.into_inner();
        loop {
            let ack = self.awaited(acks.message()).await?;
            self.acknowledge(ack).await?;
        }
    }

    async fn send(&self, outgoing: mpsc::Sender<AuditMessage>) -> Result<Infallible, Ended> {
        let hello = self.trail.hello().await.ok_or(Ended::Over)?;
        let mut message = AuditMessage { hello: Some(hello), records: None };
        loop {
            match timeout(limits::AUDIT_SILENCE, outgoing.send(message)).await {
                Ok(Ok(())) => {}
                // Whoever receives knows why.
                Ok(Err(_)) => std::future::pending().await,
                Err(_) => return Err(late().into()),
            }
            let records = self.trail.batch().await.ok_or(Ended::Over)?;
            message = AuditMessage { hello: None, records: Some(records) };
        }
    }

    async fn acknowledge(&self, ack: Option<AuditAck>) -> Result<(), Ended> {
        let Some(AuditAck { sequence }) = ack else {
            return Err(Status::unavailable("policyd ended it").into());
        };
        if self.trail.acknowledged(sequence).await.ok_or(Ended::Over)? {
            return Ok(());
        }
        let _ = self.trail.begin_chain(SPOOL_BEHIND).await;
        Err(Status::failed_precondition("policyd has records that were never sent to it").into())
    }

    /// What policyd says; silence counts only while it owes us an acknowledgement.
    async fn awaited<T>(
        &self,
        saying: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Ended> {
        tokio::pin!(saying);
        loop {
            if let Ok(said) = timeout(limits::AUDIT_SILENCE, &mut saying).await {
                return Ok(said?);
            }
            if self.trail.is_in_flight().await.ok_or(Ended::Over)? {
                return Err(late().into());
            }
        }
    }

    async fn until_renewed(&self, changes: &mut watch::Receiver<u64>, shown: Option<[u8; 32]>) {
        while changes.changed().await.is_ok() {
            if self.certificate() != shown {
                return;
            }
        }
        std::future::pending::<()>().await;
    }

    /// The certificate that we show now.
    fn certificate(&self) -> Option<[u8; 32]> {
        self.keyring.credentials().map(|own| own.leaf.sha256)
    }

    /// At the end of the process: waits until everything is acknowledged, but not long, and not at all while policyd is
    /// away. The rest stays in the state folder.
    pub async fn flush(&self, most: Duration) {
        if self.metrics.audit.stream.get() == 0 {
            return;
        }
        if timeout(most, self.trail.drained()).await.is_err() {
            warn!(records = self.metrics.audit.spooled.get(), "denials wait for the next start");
        }
    }
}

/// The word that a stream of this chain ended with, if it can't be taken up again.
fn chain_end(status: &Status) -> Option<&'static str> {
    let word = status.message().split([':', ' ']).next().unwrap_or_default();
    let known = CHAIN_ENDS.into_iter().find(|known| *known == word);
    // Whatever it is that policyd can't take, it won't take it the next time either.
    known.or_else(|| (status.code() == Code::InvalidArgument).then_some(REFUSED))
}

fn late() -> Status {
    Status::deadline_exceeded("policyd is silent")
}

#[cfg(test)]
mod tests;
