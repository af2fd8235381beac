//! The dialling end: for each endpoint the configuration it was dialled with and the tickets it gave.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::client::{
    ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls12Resumption,
    Tls13ClientSessionValue,
};
use rustls::{ClientConfig, Error, NamedGroup};
use rustls_pki_types::ServerName;

use super::good_until;
use crate::clock;
use crate::limits;

/// What calls of one kind to one endpoint share. A configuration is of one expected identity, and rustls gives a ticket to
/// no other configuration than the one it came with.
#[derive(Debug)]
pub struct Call {
    identity: String,
    /// To dial with.
    pub config: Arc<ClientConfig>,
    kept: Arc<Kept>,
}

impl Call {
    /// The endpoint's certificate was verified, and ends then: so do the tickets.
    pub fn proven(&self, not_after_millis: i64) {
        self.kept.lock().ends_millis = not_after_millis;
    }

    /// Nothing it gave is used again: something was wrong with the endpoint.
    pub fn forget(&self) {
        self.kept.lock().tickets.clear();
    }
}

/// An endpoint, and the ALPN name of what is inside.
type Kind = (SocketAddr, &'static [u8]);

/// The calls of one generation.
#[derive(Debug, Default)]
pub struct Calls {
    known: Mutex<HashMap<Kind, Arc<Call>>>,
}

impl Calls {
    /// What to dial an endpoint with that must prove to be `identity`, for what `alpn` names. `new` makes a configuration.
    pub fn to(
        &self,
        endpoint: SocketAddr,
        identity: &str,
        alpn: &'static [u8],
        new: impl FnOnce() -> Result<ClientConfig, Error>,
    ) -> Result<Arc<Call>, Error> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (endpoint, alpn);
        if let Some(call) = known.get(&key).filter(|call| call.identity == identity) {
            return Ok(Arc::clone(call));
        }
        let kept = Arc::<Kept>::default();
        let mut config = new()?;
        config.resumption = Resumption::store(Arc::clone(&kept) as Arc<dyn ClientSessionStore>)
            .tls12_resumption(Tls12Resumption::Disabled);
        let call = Arc::new(Call { identity: identity.to_owned(), config: Arc::new(config), kept });
        if known.len() >= limits::RESUMED_ENDPOINTS
            && !known.contains_key(&key)
            && let Some(any) = known.keys().next().copied()
        {
            known.remove(&any);
        }
        known.insert(key, Arc::clone(&call));
        Ok(call)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// What one endpoint gave.
#[derive(Default)]
struct Kept(Mutex<Given>);

#[derive(Default)]
struct Given {
    /// The newest last, each with the time until which it may be used.
    tickets: VecDeque<(i64, Tls13ClientSessionValue)>,
    /// When the endpoint's certificate ends, as far as it was verified.
    ends_millis: i64,
    group: Option<NamedGroup>,
}

impl Kept {
    fn lock(&self) -> MutexGuard<'_, Given> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tickets are secrets.
impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").finish_non_exhaustive()
    }
}

impl ClientSessionStore for Kept {
    fn set_kx_hint(&self, _server: ServerName<'static>, group: NamedGroup) {
        self.lock().group = Some(group);
    }

    fn kx_hint(&self, _server: &ServerName<'_>) -> Option<NamedGroup> {
        self.lock().group
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _server: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _server: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _server: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        let mut given = self.lock();
        let until = good_until(clock::now_millis(), given.ends_millis);
        while given.tickets.len() >= limits::TICKETS_PER_ENDPOINT {
            given.tickets.pop_front();
        }
        given.tickets.push_back((until, ticket));
    }

    fn take_tls13_ticket(&self, _server: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        let now = clock::now_millis();
        let mut given = self.lock();
        let Given { tickets, ends_millis, .. } = &mut *given;
        tickets.retain(|(until, _)| now < *until && now < *ends_millis);
        tickets.pop_back().map(|(_, ticket)| ticket)
    }
}
