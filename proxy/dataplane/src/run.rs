//! Puts a proxy together and runs it: workers carry traffic, one control thread does everything else.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::timeout;
use tracing::{info, warn};

use crate::admin;
use crate::audit::delivery::Delivery;
use crate::audit::{self, Beginning, Trail, Writer};
use crate::control::ControlTarget;
use crate::credentials::Own;
use crate::issuance::Issuance;
use crate::keyring::Keyring;
use crate::limits;
use crate::listen::{self, ListenError, Listener};
use crate::metrics::Metrics;
use crate::policy::{PolicyClient, Resumed};
use crate::renewal::Renewal;
use crate::revisit;
use crate::settings::{ControlPeer, Settings, SettingsError};
use crate::shared::Shared;
use crate::state_dir::StateDir;
use crate::trust::{BundleError, Bundles};
use crate::worker;

/// Why a proxy doesn't start. One line each.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings file.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The roots file.
    #[error("rootsFile: {path}: {problem}")]
    Roots {
        /// Its path.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// The state folder.
    #[error("stateDir: {path}: {problem}")]
    State {
        /// Its path.
        path: String,
        /// What is wrong.
        problem: io::Error,
    },
    /// An address.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Threads, signals, the runtime.
    #[error("starting: {0}")]
    System(#[from] io::Error),
}

/// Reads the settings and the roots they name: all that can be checked without starting.
pub fn check(config: &Path) -> Result<(Settings, Bundles), StartError> {
    let settings = Settings::read(config)?;
    let bundles = roots(&settings)?;
    Ok((settings, bundles))
}

/// Runs until SIGTERM or SIGINT, and until open work is done.
pub fn run(config: &Path) -> Result<(), StartError> {
    let (settings, bundles) = check(config)?;
    let state = StateDir::open(&settings.state_dir).map_err(|problem| StartError::State {
        path: settings.state_dir.display().to_string(),
        problem,
    })?;
    let listeners = listen::bind(&settings)?;
    let admin = listen::bind_admin(&settings)?;
    let metrics = Arc::<Metrics>::default();
    let (denials, trail, keeper) =
        audit::start(beginning_of_trail(&settings, &state), Arc::clone(&metrics))?;
    let keyring = Arc::new(Keyring::new(bundles));
    let shared = Arc::new(Shared::new(settings, keyring, metrics, denials));
    say_where(&shared.settings, &listeners, &admin);
    // What was kept comes first: workers must not turn away what a restart ago was served.
    let renewal = renewal(&shared, &state);
    renewal.resume();
    let policy = policy_client(&shared, state);
    let resumed = policy.resume();
    let workers = start_workers(&shared, listeners)?;
    let following = Following { policy, resumed, renewal, trail };
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(control(&shared, following, admin, workers))?;
    shared.denials.end();
    if keeper.join().is_err() {
        warn!("the thread that keeps denials had failed");
    }
    Ok(())
}

fn beginning_of_trail(settings: &Settings, state: &StateDir) -> Beginning {
    let writer = Writer {
        namespace: settings.namespace.clone(),
        pod: settings.pod_name.clone(),
        workload: None,
    };
    Beginning { state: Some(state.clone()), writer, ..Beginning::default() }
}

fn roots(settings: &Settings) -> Result<Bundles, StartError> {
    let path = &settings.roots_file;
    let broken = |problem: String| StartError::Roots { path: path.display().to_string(), problem };
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| broken(error.to_string()))?;
    Bundles::from_roots(&settings.trust_domain, &certificates).map_err(|error: BundleError| {
        let empty = certificates.is_empty();
        broken(if empty {
            "no certificate in it: expected PEM".to_owned()
        } else {
            error.to_string()
        })
    })
}

fn say_where(settings: &Settings, listeners: &[Vec<Listener>], admin: &std::net::TcpListener) {
    let of = |purpose: fn(&listen::Purpose) -> bool| -> Vec<String> {
        let first = listeners.iter().take(1).flatten();
        first
            .filter(|listener| purpose(&listener.purpose))
            .filter_map(|listener| listener.socket.local_addr().ok())
            .map(|address| address.to_string())
            .collect()
    };
    info!(
        identity = settings.own_identity(),
        inbound = of(listen::Purpose::is_inbound).join(" "),
        outbound = of(|purpose| !purpose.is_inbound()).join(" "),
        admin = admin.local_addr().map(|address| address.to_string()).unwrap_or_default(),
        "listening"
    );
}

fn start_workers(
    shared: &Arc<Shared>,
    listeners: Vec<Vec<Listener>>,
) -> io::Result<Vec<JoinHandle<()>>> {
    let start = |(number, listeners): (usize, Vec<Listener>)| {
        let shared = Arc::clone(shared);
        std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
            if let Err(problem) = worker::run(shared, listeners) {
                warn!(problem = problem.to_string(), "a worker could not start");
            }
        })
    };
    listeners.into_iter().enumerate().map(start).collect()
}

fn target(settings: &Settings, peer: &ControlPeer) -> ControlTarget {
    ControlTarget { address: peer.address.clone(), identity: settings.control_identity(peer) }
}

fn renewal(shared: &Arc<Shared>, state: &StateDir) -> Renewal {
    let settings = &shared.settings;
    Renewal {
        issuance: Issuance {
            target: target(settings, &settings.identity),
            own: Own::new(settings),
            trust_domain: settings.trust_domain.clone(),
            token_file: settings.token_file.clone(),
        },
        keyring: Arc::clone(&shared.keyring),
        state: state.clone(),
        metrics: Arc::clone(&shared.metrics),
    }
}

fn policy_client(shared: &Arc<Shared>, state: StateDir) -> PolicyClient {
    let settings = &shared.settings;
    let mut services: Vec<_> = settings.outbound.iter().map(|port| port.service.clone()).collect();
    services.sort_unstable();
    services.dedup();
    PolicyClient {
        target: target(settings, &settings.policy),
        namespace: settings.namespace.clone(),
        trust_domain: settings.trust_domain.clone(),
        services,
        asks: Arc::clone(&shared.asks),
        keyring: Arc::clone(&shared.keyring),
        enforcement: Arc::clone(&shared.enforcement),
        state,
        metrics: Arc::clone(&shared.metrics),
        memory: Arc::clone(&shared.memory),
    }
}

fn delivery(shared: &Arc<Shared>, trail: Trail) -> Delivery {
    Delivery {
        target: target(&shared.settings, &shared.settings.policy),
        keyring: Arc::clone(&shared.keyring),
        trail,
        metrics: Arc::clone(&shared.metrics),
    }
}

/// What the control thread sees to.
struct Following {
    policy: PolicyClient,
    /// What it has taken up already.
    resumed: Option<Resumed>,
    renewal: Renewal,
    trail: Trail,
}

/// The control thread, to its end.
async fn control(
    shared: &Arc<Shared>,
    Following { policy, resumed, renewal, trail }: Following,
    admin: std::net::TcpListener,
    workers: Vec<JoinHandle<()>>,
) -> io::Result<()> {
    let mut tasks = JoinSet::new();
    let delivery = delivery(shared, trail);
    tasks.spawn(delivery.clone().deliver());
    tasks.spawn(policy.follow(resumed));
    tasks.spawn(renewal.clone().follow_bundles());
    tasks.spawn(renewal.keep_certified());
    tasks.spawn(admin::serve(Arc::clone(shared), TcpListener::from_std(admin)?));
    tasks.spawn(revisit::announce(Arc::clone(shared)));
    tasks.spawn(say_when_ready(Arc::clone(shared)));
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    info!("stopping");
    shared.stopping.send_replace(true);
    let drained = spawn_blocking(move || workers.into_iter().all(|worker| worker.join().is_ok()));
    tokio::select! {
        // Somewhat longer than the workers allow themselves.
        drained = timeout(limits::DRAIN * 2, drained) => {
            delivery.flush(limits::AUDIT_FLUSH).await;
            if matches!(drained, Ok(Ok(true))) {
                info!("stopped");
            } else {
                warn!("a worker had failed or did not end");
            }
        }
        // A second signal: at once.
        _ = terminate.recv() => warn!("stopped without draining"),
        _ = interrupt.recv() => warn!("stopped without draining"),
    }
    Ok(())
}

/// One line as soon as identity and table are there for the first time.
async fn say_when_ready(shared: Arc<Shared>) {
    let mut tables = shared.enforcement.watch();
    let mut keys = shared.keyring.watch();
    while admin::missing(&shared).is_some() {
        let again = tokio::select! {
            changed = tables.changed() => changed.is_ok(),
            changed = keys.changed() => changed.is_ok(),
        };
        if !again {
            return;
        }
    }
    let table = shared.enforcement.current().map(|enforced| enforced.table_version.clone());
    info!(table, "ready");
}
