//! Denials on their way to the store: [`crate::denials`] → a bounded queue → the spool, in memory and on disk, with a thread
//! of its own → [`delivery`] to policyd, which acknowledges what it keeps.
//!
//! A request never waits for any of it. What finds no room is counted, and the count is a record itself: records kept and
//! counts add up to what was denied.

mod chain;
mod counts;
pub mod delivery;
mod keeper;
mod lost;
mod segments;
mod spool;

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread::JoinHandle;

use tokio::runtime::Builder;
use tokio::sync::mpsc;

pub use chain::{ChainId, Hash, NO_PREVIOUS, record_hash};
pub use counts::AuditCounts;
pub(crate) use keeper::Message;
pub use keeper::Trail;
pub use lost::{Reason, Writer};
pub use spool::Bounds;

use crate::denials::DenialLog;
use crate::limits;
use crate::lines::Lines;
use crate::metrics::Metrics;
use crate::state_dir::StateDir;
use keeper::Keeper;
use spool::Spool;

/// What a trail begins with.
#[derive(Debug, Clone, Default)]
pub struct Beginning {
    /// Where it is kept; without, in memory only.
    pub state: Option<StateDir>,
    /// Whose it is.
    pub writer: Writer,
    /// What it may take up.
    pub bounds: Bounds,
}

/// Starts the spool's thread and that of stdout; both end after [`DenialLog::end`].
pub fn start(
    beginning: Beginning,
    metrics: Arc<Metrics>,
) -> io::Result<(DenialLog, Trail, JoinHandle<()>)> {
    start_writing(io::stdout(), beginning, metrics)
}

/// The same, with lines written to `out`.
fn start_writing(
    out: impl io::Write + Send + 'static,
    beginning: Beginning,
    metrics: Arc<Metrics>,
) -> io::Result<(DenialLog, Trail, JoinHandle<()>)> {
    let (lines, writing) = Lines::start(out, Arc::clone(&metrics))?;
    let (sender, records) = mpsc::channel(limits::DENIAL_LINES);
    let queued = Arc::<AtomicUsize>::default();
    let (keeper, trail) = Keeper::new(records, Arc::clone(&queued), lines, Arc::clone(&metrics));
    let log = DenialLog::new(sender, queued, Arc::clone(&metrics));
    let runtime = Builder::new_current_thread().enable_time().build()?;
    let thread = std::thread::Builder::new().name("audit".to_owned()).spawn(move || {
        let Beginning { state, writer, bounds } = beginning;
        let spool = Spool::open(state, bounds, writer, metrics);
        runtime.block_on(keeper.keep(spool));
        // It failed, or is done: nothing is left to be written.
        let _ = writing.join();
    })?;
    Ok((log, trail, thread))
}

#[cfg(test)]
mod tests;
