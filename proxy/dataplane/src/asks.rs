//! The addresses that the pod has dialled, of which policyd is asked what is there: bounded, and forgotten when nobody dials
//! them any more.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::time::Instant;

use crate::limits;

/// What is asked; shared by all workers.
#[derive(Debug)]
pub struct Asks {
    dialled: Mutex<HashMap<SocketAddr, Instant>>,
    changed: watch::Sender<u64>,
}

impl Default for Asks {
    fn default() -> Self {
        Self { dialled: Mutex::default(), changed: watch::Sender::new(0) }
    }
}

impl Asks {
    /// Notes that an address is being dialled. False: so many others are, that there is no room for it.
    #[must_use]
    pub fn ask(&self, address: SocketAddr) -> bool {
        let now = Instant::now();
        let mut dialled = self.dialled();
        if let Some(at) = dialled.get_mut(&address) {
            *at = now;
            return true;
        }
        if dialled.len() >= limits::ASKED_ADDRESSES {
            let oldest = dialled.iter().min_by_key(|(_, at)| **at).map(|(known, at)| (*known, *at));
            match oldest {
                Some((known, at)) if at + limits::ASKED_REST < now => drop(dialled.remove(&known)),
                _ => return false,
            }
        }
        dialled.insert(address, now);
        drop(dialled);
        self.changed.send_modify(|generation| *generation = generation.wrapping_add(1));
        true
    }

    /// Whether an address is among them.
    pub fn has(&self, address: SocketAddr) -> bool {
        self.dialled().contains_key(&address)
    }

    /// All addresses, sorted as text; those that nobody has dialled for long are forgotten.
    pub fn all(&self) -> Vec<String> {
        let now = Instant::now();
        let mut dialled = self.dialled();
        dialled.retain(|_, at| *at + limits::ASKED_LIFE > now);
        let mut all: Vec<_> = dialled.keys().map(SocketAddr::to_string).collect();
        all.sort_unstable();
        all
    }

    /// Changes with every address that is new.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn dialled(&self) -> MutexGuard<'_, HashMap<SocketAddr, Instant>> {
        self.dialled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Duration, advance};

    use super::*;

    fn address(number: usize) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], u16::try_from(number).unwrap()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_crawler_is_bounded_and_what_rests_gives_way() {
        let asks = Asks::default();
        assert!((1..=limits::ASKED_ADDRESSES).all(|number| asks.ask(address(number))));
        assert!(!asks.ask(address(60_000)) && asks.ask(address(1)));
        advance(limits::ASKED_REST + Duration::from_secs(1)).await;
        assert!(asks.ask(address(1)) && asks.ask(address(60_000)));
        let all = asks.all();
        assert_eq!(all.len(), limits::ASKED_ADDRESSES);
        assert!(all.is_sorted() && all.contains(&"10.0.0.1:1".to_owned()));
        advance(limits::ASKED_LIFE).await;
        assert!(asks.all().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_is_new_is_told() {
        let asks = Asks::default();
        let mut changes = asks.watch();
        assert!(asks.ask(address(1)));
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        changes.borrow_and_update();
        assert!(asks.ask(address(1)) && !changes.has_changed().unwrap());
    }
}
