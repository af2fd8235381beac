//! `policyd-proxy`: enforces in one pod. Denials go to stdout, one JSON object a line; what happens to the proxy itself
//! goes to stderr, likewise.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

/// Usage or unreadable settings.
const UNUSABLE: u8 = 2;
/// An error of ours.
const INTERNAL: i32 = 70;
/// It could not start: an address in use, no thread.
const FAILED: u8 = 1;

/// The data plane of policyd: mutual TLS and authorization in front of one pod.
#[derive(Debug, Parser)]
#[command(name = "policyd-proxy", version)]
struct Arguments {
    /// The settings file (JSON).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Check the settings and the roots they name, and exit.
    #[arg(long)]
    check_config: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // POLICYD_LOG has the syntax of tracing's filters; by default what an operator must see.
    let filter = EnvFilter::try_from_env("POLICYD_LOG")
        .unwrap_or_else(|_| EnvFilter::new("warn,dataplane=info"));
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .init();
    // A thread that fails takes the process with it: half a proxy would enforce half a policy. It is restarted
    // and takes up what it kept.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let what = text
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or_default();
        eprintln!("policyd-proxy: internal error at {place}: {what}");
        std::process::exit(INTERNAL);
    }));
    let outcome = if arguments.check_config {
        dataplane::run::check(&arguments.config).map(drop)
    } else {
        dataplane::run::run(&arguments.config)
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("policyd-proxy: {error}");
            ExitCode::from(exit_code(&error))
        }
    }
}

fn exit_code(error: &dataplane::run::StartError) -> u8 {
    use dataplane::run::StartError;
    match error {
        StartError::Settings(_) | StartError::Roots { .. } | StartError::State { .. } => UNUSABLE,
        StartError::Listen(_) | StartError::System(_) => FAILED,
    }
}
