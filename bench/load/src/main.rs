//! The two ends around a proxy that is measured: `run` and `hold` are the client, `serve` is the application behind it.
//!
//! A client says `{"ready": true}` on stdout when it is warm, waits for a line on stdin, works, prints its report as one
//! JSON line, and keeps its connections until stdin ends. So whoever drives it reads CPU and memory of the proxy exactly
//! around the work. One thread; loopback is all it is meant for.

mod cue;
mod dial;
mod http1;
mod http2;
mod report;
mod run;
mod serve;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tokio::runtime::Builder;
use tokio::task::LocalSet;

/// Load and upstream for comparing proxies.
#[derive(Debug, Parser)]
#[command(name = "load")]
struct Arguments {
    #[command(subcommand)]
    work: Work,
}

#[derive(Debug, Subcommand)]
enum Work {
    /// Closed loop: each client asks again as soon as it has its answer.
    Run(RunArguments),
    /// Opens connections, asks once on each, and holds them.
    Hold(TargetArguments),
    /// Answers every request with 200 and a fixed body, over HTTP/1.1 or HTTP/2 with prior knowledge.
    Serve {
        /// Where.
        #[arg(long)]
        listen: SocketAddr,
        /// Bytes of the body.
        #[arg(long, default_value_t = 1024)]
        body: usize,
    },
}

/// Whom to call, and how.
#[derive(Debug, Clone, Args)]
struct TargetArguments {
    /// Address of the proxy.
    #[arg(long)]
    address: SocketAddr,
    /// File with the paths to ask for, one a line, taken in turn.
    #[arg(long)]
    paths: PathBuf,
    /// A further header of each request, `name: value`.
    #[arg(long)]
    header: Vec<String>,
    /// Connections.
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// Roots (PEM) of the proxy's certificate; without them the load is plaintext.
    #[arg(long)]
    roots: Option<PathBuf>,
    /// Our chain (PEM), leaf first.
    #[arg(long, requires = "roots")]
    chain: Option<PathBuf>,
    /// Our key (PEM).
    #[arg(long, requires = "roots")]
    key: Option<PathBuf>,
    /// Name to ask for, and to find in the proxy's certificate.
    #[arg(long, requires = "roots")]
    server_name: Option<String>,
    /// Protocol names to offer.
    #[arg(long)]
    alpn: Vec<String>,
    /// Key exchange.
    #[arg(long, value_enum, default_value_t = Group::X25519)]
    group: Group,
    /// Resume the session of an earlier connection where the proxy lets us.
    #[arg(long)]
    resume: bool,
}

#[derive(Debug, Clone, Args)]
struct RunArguments {
    #[command(flatten)]
    target: TargetArguments,
    /// HTTP version.
    #[arg(long, default_value_t = 1)]
    http: u8,
    /// Streams at a time on each connection (HTTP/2).
    #[arg(long, default_value_t = 1)]
    streams: usize,
    /// A new connection for each request (HTTP/1.1).
    #[arg(long)]
    fresh: bool,
    /// How long to work.
    #[arg(long, value_parser = seconds)]
    seconds: Duration,
    /// How long to work before that, uncounted.
    #[arg(long, value_parser = seconds, default_value = "1")]
    warm_up: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Group {
    X25519,
    X25519mlkem768,
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse().map(Duration::from_secs_f64).map_err(|_| "expected seconds".to_owned())
}

fn main() -> ExitCode {
    let work = Arguments::parse().work;
    match work_through(work) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{}", serde_json::json!({ "error": error.to_string() }));
            ExitCode::FAILURE
        }
    }
}

fn work_through(work: Work) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let tasks = LocalSet::new();
    tasks.block_on(&runtime, async {
        match work {
            Work::Run(arguments) => run::run(arguments).await,
            Work::Hold(arguments) => run::hold(arguments).await,
            Work::Serve { listen, body } => serve::serve(listen, body).await,
        }
    })
}
