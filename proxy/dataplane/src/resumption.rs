//! TLS 1.3 session resumption, as narrow as what a proof of identity stands on (design §7).
//!
//! Tickets live in a [`Sessions`] generation, which is of one certificate of ours, one set of bundles and one table: when
//! any of them changes the next handshake makes a new generation, with keys and stores of its own, and nothing issued or
//! kept before is good any more. A ticket ends an hour after the other end last proved that it has its key, or with its
//! certificate, whichever is first; being resumed doesn't prolong it. There is no early data, ever.
//!
//! A session that was resumed is believed as little as one that wasn't: whoever opens a connection verifies the chain it
//! brings, under the bundles of that moment, and decides on the table of that moment.

use std::cell::Cell;
use std::future::Future;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::crypto::{GetRandomFailed, aws_lc_rs};
use rustls::server::ProducesTickets;
use rustls::{Error, HandshakeKind, TicketRotator};

use crate::clock;
use crate::enforcement::Enforced;
use crate::keyring::Credentials;
use crate::limits;
use crate::metrics::Counter;
use crate::tls::ServerConfigs;
use crate::trust::Bundles;

mod calls;

pub use calls::{Call, Calls};

tokio::task_local! {
    /// Until when the proof of the handshake that this task runs may be used again, in milliseconds since the epoch.
    static GOOD_UNTIL: Cell<Option<i64>>;
}

/// Runs a handshake of the accepting end. Only within it tickets are made and read.
pub(crate) async fn with_tickets<F: Future>(handshake: F) -> F::Output {
    GOOD_UNTIL.scope(Cell::new(None), handshake).await
}

/// The client proved at `now_millis` that it has the key of a certificate that ends at `not_after_millis`.
pub(crate) fn proven(now_millis: i64, not_after_millis: i64) {
    let end = good_until(now_millis, not_after_millis);
    // Outside of a handshake that may end in a ticket there is nothing to remember.
    let _ = GOOD_UNTIL.try_with(|until| until.set(Some(end)));
}

fn good_until(now_millis: i64, not_after_millis: i64) -> i64 {
    let life = i64::try_from(limits::TICKET_LIFE.as_millis()).unwrap_or(0);
    not_after_millis.min(now_millis.saturating_add(life))
}

/// How handshakes of one direction came to their end.
#[derive(Debug, Default)]
pub struct Handshakes {
    /// With certificates.
    pub full: Counter,
    /// With a ticket.
    pub resumed: Counter,
}

impl Handshakes {
    /// Counts one.
    pub fn count(&self, kind: Option<HandshakeKind>) {
        let resumed = kind == Some(HandshakeKind::Resumed);
        let counter = if resumed { &self.resumed } else { &self.full };
        counter.add(1);
    }
}

/// The sessions of one proxy that may be resumed.
#[derive(Debug, Default)]
pub struct Sessions {
    current: ArcSwapOption<Generation>,
}

impl Sessions {
    /// Those that are good under all of these; a new and empty generation where any of them is another than before.
    pub fn under(
        &self,
        own: &Arc<Credentials>,
        bundles: &Arc<Bundles>,
        enforced: &Enforced,
    ) -> Result<Arc<Generation>, Error> {
        let current = self.current.load();
        if let Some(current) = current.as_ref().filter(|it| it.is_of(own, bundles, enforced)) {
            return Ok(Arc::clone(current));
        }
        let new = Arc::new(Generation::new(own, bundles, enforced)?);
        self.current.store(Some(Arc::clone(&new)));
        Ok(new)
    }
}

/// Sessions of one certificate of ours, one set of bundles and one table.
#[derive(Debug)]
pub struct Generation {
    own: Arc<Credentials>,
    bundles: Arc<Bundles>,
    table_version: String,
    /// For the accepting end: with tickets.
    pub server: ServerConfigs,
    /// For the dialling end.
    pub calls: Calls,
}

impl Generation {
    fn new(
        own: &Arc<Credentials>,
        bundles: &Arc<Bundles>,
        enforced: &Enforced,
    ) -> Result<Self, Error> {
        let tickets: Arc<dyn ProducesTickets> = Arc::new(Tickets::new()?);
        Ok(Self {
            own: Arc::clone(own),
            bundles: Arc::clone(bundles),
            table_version: enforced.table_version.clone(),
            server: own.server.with_tickets(&tickets),
            calls: Calls::default(),
        })
    }

    fn is_of(&self, own: &Arc<Credentials>, bundles: &Arc<Bundles>, enforced: &Enforced) -> bool {
        Arc::ptr_eq(&self.own, own)
            && Arc::ptr_eq(&self.bundles, bundles)
            && self.table_version == enforced.table_version
    }
}

/// Makes and reads tickets. Their contents, rustls' session with the client's chain, are sealed together with their end.
#[derive(Debug)]
struct Tickets {
    keys: TicketRotator,
}

impl Tickets {
    fn new() -> Result<Self, Error> {
        let life = u32::try_from(limits::TICKET_KEY_LIFE.as_secs()).unwrap_or(0);
        Ok(Self { keys: TicketRotator::new(life, one_key)? })
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    /// Seconds, of the ticket made last in this handshake.
    fn lifetime(&self) -> u32 {
        let end = GOOD_UNTIL.try_with(Cell::get).ok().flatten().unwrap_or(0);
        let left = end.saturating_sub(clock::now_millis()) / 1000;
        u32::try_from(left).unwrap_or(0)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        // FAIL-CLOSED: without a proof there is no ticket.
        let end = GOOD_UNTIL.try_with(Cell::get).ok().flatten()?;
        let sealed = [&end.to_be_bytes()[..], plain].concat();
        self.keys.encrypt(&sealed)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        let sealed = self.keys.decrypt(cipher)?;
        let (end, plain) = sealed.split_first_chunk()?;
        let end = i64::from_be_bytes(*end);
        // FAIL-CLOSED: a ticket that has ended is none; the certificate is asked for.
        if clock::now_millis() >= end {
            return None;
        }
        // What is issued in its stead ends when it would have. A full handshake after all sets its own end.
        GOOD_UNTIL.try_with(|until| until.set(Some(end))).ok()?;
        Some(plain.to_vec())
    }
}

/// rustls' own sealing, of a key that is new. That it would turn its key after hours never matters: it is gone by then.
#[derive(Debug)]
struct OneKey(Arc<dyn ProducesTickets>);

fn one_key() -> Result<Box<dyn ProducesTickets>, GetRandomFailed> {
    let key = aws_lc_rs::Ticketer::new().map_err(|_| GetRandomFailed)?;
    Ok(Box::new(OneKey(key)))
}

impl ProducesTickets for OneKey {
    fn enabled(&self) -> bool {
        self.0.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.0.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.0.encrypt(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.0.decrypt(cipher)
    }
}

#[cfg(test)]
mod tests;
