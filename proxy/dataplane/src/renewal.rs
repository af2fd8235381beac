//! Keeps us certified: the first certificate, each next one at half of the former's life, and the bundles as they change.
//!
//! A failure leaves the valid certificate where it is; waits grow and are spread.

use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use tokio::time::sleep;
use tracing::{error, info, warn};

use crate::clock;
use crate::control::{self, Show};
use crate::credentials;
use crate::generated::identity_client::IdentityClient;
use crate::generated::{TrustBundles, WatchBundlesRequest};
use crate::issuance::{Issuance, IssuanceError, Issued};
use crate::keyring::Keyring;
use crate::limits;
use crate::metrics::Metrics;
use crate::state_dir::StateDir;
use crate::trust::Bundles;

const BUNDLES_FILE: &str = "bundles";
/// The wall clock is looked at this often, because it may jump while a timer runs.
const LOOK: Duration = Duration::from_secs(30);

/// Everything that keeping certified needs.
#[derive(Debug, Clone)]
pub struct Renewal {
    /// Where certificates come from.
    pub issuance: Issuance,
    /// What they are published in.
    pub keyring: Arc<Keyring>,
    /// Where they are kept.
    pub state: StateDir,
    /// Failures are counted here.
    pub metrics: Arc<Metrics>,
}

impl Renewal {
    /// Takes up what the state folder holds: bundles first, then the certificate, which must verify under them.
    pub fn resume(&self) {
        match self.kept_bundles() {
            Ok(Some(bundles)) => self.keyring.publish_bundles(bundles),
            Ok(None) => {}
            Err(problem) => {
                self.state.set_aside(BUNDLES_FILE);
                warn!(problem, "the kept trust bundles are not used");
            }
        }
        let trust = self.keyring.trust();
        match credentials::kept(&self.state, &self.issuance.own, trust, clock::now_millis()) {
            Ok(Some(kept)) => {
                info!(
                    not_after = clock::rfc3339(kept.leaf.not_after_millis),
                    "the kept certificate is used"
                );
                self.keyring.publish(kept);
            }
            Ok(None) => {}
            Err(problem) => warn!(problem),
        }
    }

    fn kept_bundles(&self) -> Result<Option<Bundles>, String> {
        let Some(bytes) = self.state.read(BUNDLES_FILE).map_err(|error| error.to_string())? else {
            return Ok(None);
        };
        let message = TrustBundles::decode(bytes.as_slice()).map_err(|error| error.to_string())?;
        Bundles::new(&message, &self.issuance.trust_domain)
            .map(Some)
            .map_err(|error| error.to_string())
    }

    /// Never returns: certifies, waits for half of the certificate's life, certifies again.
    pub async fn keep_certified(self) {
        loop {
            if let Some(own) = self.keyring.credentials() {
                let now = clock::now_millis();
                let half = clock::span(own.leaf.not_after_millis - now) / 2;
                self.wait_until(now, clock::jittered(half, 900, 1100)).await;
            }
            self.certify_at_last().await;
        }
    }

    async fn wait_until(&self, from_millis: i64, wait: Duration) {
        let due = from_millis.saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX));
        loop {
            let left = clock::span(due - clock::now_millis());
            if left.is_zero() {
                return;
            }
            sleep(left.min(LOOK)).await;
        }
    }

    /// Tries until it has one. Every other try goes without our certificate, as a first issuance does: identity may not
    /// believe the one we have.
    async fn certify_at_last(&self) {
        let mut wait = limits::BACKOFF_FIRST;
        let mut show = Show::Certificate;
        loop {
            match self.certify(show).await {
                Ok(()) => return,
                Err(problem) => {
                    self.metrics.certificate_failures.add(1);
                    error!(problem = problem.to_string(), "no new certificate");
                }
            }
            sleep(clock::jittered(wait, 500, 1000)).await;
            show = if show == Show::Certificate { Show::Nothing } else { Show::Certificate };
            wait = (wait * 2).min(self.longest_wait());
        }
    }

    /// A quarter of what our certificate has left, so that several tries fit.
    fn longest_wait(&self) -> Duration {
        let left = self
            .keyring
            .credentials()
            .map(|own| clock::span(own.leaf.not_after_millis - clock::now_millis()) / 4);
        match left {
            Some(quarter) if !quarter.is_zero() => {
                quarter.clamp(limits::BACKOFF_FIRST, limits::BACKOFF_IDENTITY)
            }
            _ => limits::BACKOFF_IDENTITY,
        }
    }

    async fn certify(&self, show: Show) -> Result<(), IssuanceError> {
        let Issued { credentials, stored, bundles: (message, bundles) } =
            self.issuance.request(&self.keyring, show).await?;
        info!(
            not_after = clock::rfc3339(credentials.leaf.not_after_millis),
            certificate = credentials.leaf.sha256_hex(),
            "certified"
        );
        // Bundles first: our certificate may hang on a root that came with it. The stream may already have brought later ones.
        if bundles.sequence() >= self.keyring.trust().bundles().sequence() {
            self.believe(&message, bundles);
        }
        self.keyring.publish(credentials);
        if let Err(problem) = stored.keep(&self.state) {
            warn!(problem = problem.to_string(), "the certificate could not be kept for a restart");
        }
        self.metrics.certificates.add(1);
        Ok(())
    }

    fn believe(&self, message: &TrustBundles, bundles: Bundles) {
        self.keyring.publish_bundles(bundles);
        if let Err(problem) = self.state.write(BUNDLES_FILE, &message.encode_to_vec()) {
            warn!(
                problem = problem.to_string(),
                "the trust bundles could not be kept for a restart"
            );
        }
    }

    /// Never returns: follows the trust bundles.
    pub async fn follow_bundles(self) {
        let mut wait = limits::BACKOFF_FIRST;
        loop {
            match self.follow_once().await {
                Ok(true) => wait = limits::BACKOFF_FIRST,
                Ok(false) => {}
                Err(status) => {
                    warn!(problem = status.message(), "the stream of trust bundles ended");
                }
            }
            sleep(clock::jittered(wait, 500, 1000)).await;
            wait = (wait * 2).min(limits::BACKOFF_STREAM);
        }
    }

    /// One stream, to its end; whether anything came.
    async fn follow_once(&self) -> Result<bool, tonic::Status> {
        let channel =
            control::connect(&self.issuance.target, &self.keyring, Show::Certificate).await?;
        let mut client =
            IdentityClient::new(channel).max_decoding_message_size(limits::IDENTITY_MESSAGE_BYTES);
        let mut stream = client.watch_bundles(WatchBundlesRequest {}).await?.into_inner();
        let mut heard = false;
        while let Some(message) = stream.message().await? {
            heard = true;
            match Bundles::new(&message, &self.issuance.trust_domain) {
                Ok(bundles) => {
                    info!(sequence = bundles.sequence(), "trust bundles");
                    self.believe(&message, bundles);
                }
                // FAIL-CLOSED: what can't be read replaces nothing.
                Err(problem) => error!(problem = problem.to_string(), "trust bundles refused"),
            }
        }
        Ok(heard)
    }
}
