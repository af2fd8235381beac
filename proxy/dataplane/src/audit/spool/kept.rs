//! The spool in the state folder: taken up at the start, written down in between.

use std::io;

use prost::Message as _;
use tracing::warn;

use super::{Disk, Spool};
use crate::audit::chain::{Chain, KeptChain};
use crate::audit::lost::{Counts, Reason};
use crate::audit::segments::Segments;
use crate::state_dir::StateDir;

pub(super) const CHAIN: &str = "audit-chain";
pub(super) const FOLDER: &str = "audit";

impl Spool {
    /// Takes up what is on disk.
    pub(in crate::audit) fn attach(&mut self) -> io::Result<()> {
        let Some(state) = self.state.clone() else { return Ok(()) };
        let mut segments = Segments::recover(state.folder(FOLDER)?, self.bounds)?;
        match kept_chain(&state) {
            Some((chain, lost)) => (self.chain, self.lost) = (chain, lost),
            None => self.chain = Chain::new(segments.first().map_or(0, |first| first - 1)),
        }
        let acknowledged = self.chain.acknowledged_position();
        segments.release(acknowledged);
        if let Some(first) = segments.first().filter(|first| *first > acknowledged + 1) {
            self.lose(Reason::Damaged, first - acknowledged - 1);
            self.follow(first - 1, "SPOOL_DAMAGED");
        }
        self.is_losing = self.has_untold();
        self.head = segments.last().max(self.chain.acknowledged_position());
        self.written = self.head;
        self.segments = Some(segments);
        self.is_saved = false;
        self.save()
    }

    /// The folder could not be used at the start. What it holds from before stays as it is until the next start.
    pub(in crate::audit) fn reattach(&mut self) {
        let Some(state) = &self.state else { return };
        let opened = state.folder(FOLDER).and_then(|folder| Segments::recover(folder, self.bounds));
        match opened {
            Ok(segments) if segments.last() == 0 && matches!(state.read(CHAIN), Ok(None)) => {
                self.segments = Some(segments);
            }
            Ok(_) => self.disk = Disk::Absent,
            Err(error) => self.failed(&error),
        }
    }

    /// Keeps chain and counts in the state folder, if they have changed.
    pub(in crate::audit) fn save(&mut self) -> io::Result<()> {
        let is_due = self.segments.is_some() && !self.is_saved;
        if let Some(state) = self.state.as_ref().filter(|_| is_due) {
            state.write(CHAIN, &KeptChain::of(&self.chain, &self.lost).encode_to_vec())?;
        }
        self.is_saved = true;
        Ok(())
    }
}

fn kept_chain(state: &StateDir) -> Option<(Chain, Counts)> {
    let bytes = match state.read(CHAIN) {
        Ok(bytes) => bytes?,
        Err(error) => {
            warn!(problem = error.to_string(), "the kept audit chain is not used");
            state.set_aside(CHAIN);
            return None;
        }
    };
    let kept = KeptChain::decode(bytes.as_slice()).ok().and_then(KeptChain::read);
    if kept.is_none() {
        warn!("the kept audit chain is not used: it can't be read");
        state.set_aside(CHAIN);
    }
    kept
}
