//! `policyd-proxy`: enforces in one pod. Denials go to stdout, one JSON object a line; what happens to the proxy itself
//! goes to stderr, likewise.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use dataplane::redirect::{INBOUND_PORT, OUTBOUND_PORT, PROXY_UID, Redirection};
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
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Arguments {
    /// The settings file (JSON).
    #[arg(long, value_name = "FILE", required = true)]
    config: Option<PathBuf>,
    /// Check the settings and the roots they name, and exit.
    #[arg(long)]
    check_config: bool,
    #[command(subcommand)]
    command: Option<Work>,
}

#[derive(Debug, Subcommand)]
enum Work {
    Redirect(Redirect),
}

/// Send all TCP of this pod to the proxy's two ports, and exit. Needs `CAP_NET_ADMIN`; twice is the same as once.
#[derive(Debug, Args)]
struct Redirect {
    /// The user as whom the proxy runs, whose own connections aren't redirected.
    #[arg(long, value_name = "UID", default_value_t = PROXY_UID)]
    uid: u32,
    /// Where the proxy takes what is sent to the pod.
    #[arg(long, value_name = "PORT", default_value_t = INBOUND_PORT)]
    inbound_port: u16,
    /// Where the proxy takes what the pod sends.
    #[arg(long, value_name = "PORT", default_value_t = OUTBOUND_PORT)]
    outbound_port: u16,
    /// Use the programs `iptables` and `ip6tables`, also where the kernel has `nf_tables`.
    #[arg(long)]
    iptables: bool,
    /// Change nothing; say whether the rules are in place and a connection of one's own is redirected.
    #[arg(long, conflicts_with = "remove")]
    check: bool,
    /// Take the rules away.
    #[arg(long)]
    remove: bool,
}

impl Redirect {
    fn run(&self) -> ExitCode {
        let to = Redirection {
            uid: self.uid,
            inbound: self.inbound_port,
            outbound: self.outbound_port,
            iptables: self.iptables,
        };
        let (done, outcome) = match (self.check, self.remove) {
            (true, _) => ("redirected", to.check()),
            (_, true) => ("no longer redirected", to.remove()),
            _ => ("redirected", to.install()),
        };
        match outcome {
            Ok(means) => {
                println!("{done} ({means})");
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("policyd-proxy redirect: {error}");
                ExitCode::from(if error.is_usage() { UNUSABLE } else { FAILED })
            }
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(Work::Redirect(redirect)) = &arguments.command {
        return redirect.run();
    }
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
    // clap asks for it where there is no subcommand.
    let config = arguments.config.unwrap_or_default();
    let outcome = if arguments.check_config {
        dataplane::run::check(&config).map(drop)
    } else {
        dataplane::run::run(&config)
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
