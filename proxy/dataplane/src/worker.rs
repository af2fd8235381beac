//! One thread that carries traffic: it accepts, spawns, and at SIGTERM sees its connections out. Nothing of a connection
//! ever moves to another thread.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{error, warn};

use crate::inbound::{InboundPort, RedirectedInbound};
use crate::limits;
use crate::listen::{Listener, Purpose};
use crate::outbound::{OutboundPort, RedirectedOutbound};
use crate::shared::{Shared, Worker};

/// Runs a worker until it has drained.
pub fn run(shared: Arc<Shared>, listeners: Vec<Listener>) -> io::Result<()> {
    // Tasks that are woken by their sockets need no word to another thread, as they would in a `LocalSet`.
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    let workers = shared.settings.workers;
    let worker = Rc::new(Worker::new(shared, workers));
    runtime.block_on(async {
        let mut accepting = JoinSet::new();
        for listener in listeners {
            accepting.spawn_local(accept_all(Rc::clone(&worker), listener));
        }
        while let Some(ended) = accepting.join_next().await {
            if let Ok(Err(problem)) = ended {
                error!(problem = problem.to_string(), "a listener could not start");
            }
        }
    });
    Ok(())
}

/// One listener to its end, and its connections to theirs.
async fn accept_all(worker: Rc<Worker>, listener: Listener) -> io::Result<()> {
    let socket = TcpListener::from_std(listener.socket)?;
    let mut serving = JoinSet::new();
    match listener.purpose {
        Purpose::Inbound(port) => {
            let port = Rc::new(InboundPort::new(&worker, port));
            serving.spawn_local(Rc::clone(&port).tend());
            let serve = |stream, source| Rc::clone(&port).serve(stream, source);
            accept(&worker, &socket, &mut serving, serve).await;
        }
        Purpose::Outbound(port) => {
            let port = Rc::new(OutboundPort::new(Rc::clone(&worker), port));
            serving.spawn_local(Rc::clone(&port).tend());
            let serve = |stream, source| Rc::clone(&port).serve(stream, source);
            accept(&worker, &socket, &mut serving, serve).await;
        }
        Purpose::RedirectedInbound(listens) => {
            let ports = Rc::new(RedirectedInbound::new(Rc::clone(&worker), listens));
            serving.spawn_local(Rc::clone(&ports).tend());
            let serve = |stream, source| Rc::clone(&ports).serve(stream, source);
            accept(&worker, &socket, &mut serving, serve).await;
        }
        Purpose::RedirectedOutbound => {
            let ports = Rc::new(RedirectedOutbound::new(Rc::clone(&worker)));
            serving.spawn_local(Rc::clone(&ports).tend());
            let serve = |stream, source| Rc::clone(&ports).serve(stream, source);
            accept(&worker, &socket, &mut serving, serve).await;
        }
    }
    // New connections are refused by the kernel from here on; those that are open get their time.
    drop(socket);
    let rest = async { while serving.join_next().await.is_some() {} };
    if timeout(limits::DRAIN, rest).await.is_err() {
        warn!(connections = serving.len(), "cut at the end of the drain");
    }
    Ok(())
}

/// Accepts until SIGTERM.
async fn accept<F>(
    worker: &Worker,
    socket: &TcpListener,
    serving: &mut JoinSet<()>,
    serve: impl Fn(TcpStream, SocketAddr) -> F,
) where
    F: Future<Output = ()> + 'static,
{
    let mut stopping = worker.shared.stopping.subscribe();
    loop {
        tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => return,
            Some(_) = serving.join_next() => {}
            accepted = socket.accept() => match accepted {
                Ok((stream, source)) => {
                    serving.spawn_local(serve(stream, source));
                }
                Err(problem) => {
                    // L4-07: out of descriptors, say. Existing connections go on; accepting rests a little.
                    worker.shared.metrics.accept_failures.add(1);
                    warn!(problem = problem.to_string(), "a connection could not be accepted");
                    sleep(limits::ACCEPT_PAUSE).await;
                }
            },
        }
    }
}
