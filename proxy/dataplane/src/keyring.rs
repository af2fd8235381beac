//! Our own key and certificate, and whom we trust, as they are now. Each is replaced whole; readers never wait.

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use tokio::sync::watch;

use crate::certificate::Leaf;
use crate::tls::ServerConfigs;
use crate::trust::Bundles;

/// The trust bundles in force.
#[derive(Debug)]
pub struct Trust {
    bundles: ArcSwap<Bundles>,
}

impl Trust {
    /// Begins with these.
    pub fn new(bundles: Bundles) -> Self {
        Self { bundles: ArcSwap::from_pointee(bundles) }
    }

    /// Those of this moment.
    pub fn bundles(&self) -> Arc<Bundles> {
        self.bundles.load_full()
    }
}

/// One certificate of ours with its key, ready to be shown.
#[derive(Debug)]
pub struct Credentials {
    /// What the certificate says.
    pub leaf: Leaf,
    /// Leaf first, no root.
    pub chain: Vec<CertificateDer<'static>>,
    /// Chain and key, for the dialling end.
    pub key: Arc<CertifiedKey>,
    /// For the accepting end.
    pub server: ServerConfigs,
}

/// What one proxy is and whom it believes.
#[derive(Debug)]
pub struct Keyring {
    trust: Arc<Trust>,
    credentials: ArcSwapOption<Credentials>,
    changed: watch::Sender<u64>,
}

impl Keyring {
    /// No certificate yet: no handshake can complete.
    pub fn new(bundles: Bundles) -> Self {
        let trust = Arc::new(Trust::new(bundles));
        Self { trust, credentials: ArcSwapOption::empty(), changed: watch::Sender::new(0) }
    }

    /// Whom we trust.
    pub fn trust(&self) -> &Arc<Trust> {
        &self.trust
    }

    /// Our certificate, whatever its age.
    pub fn credentials(&self) -> Option<Arc<Credentials>> {
        self.credentials.load_full()
    }

    /// Our certificate, if it is valid at this time. FAIL-CLOSED: an expired one is none (TLS-16).
    pub fn valid_credentials(&self, now_millis: i64) -> Option<Arc<Credentials>> {
        self.credentials().filter(|own| now_millis <= own.leaf.not_after_millis)
    }

    /// Shows this certificate from now on.
    pub fn publish(&self, credentials: Credentials) {
        self.credentials.store(Some(Arc::new(credentials)));
        self.announce();
    }

    /// Believes these bundles from now on.
    pub fn publish_bundles(&self, bundles: Bundles) {
        self.trust.bundles.store(Arc::new(bundles));
        self.announce();
    }

    /// Changes whenever certificate or bundles do.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn announce(&self) {
        self.changed.send_modify(|generation| *generation = generation.wrapping_add(1));
    }
}
