//! The listening sockets of a proxy, bound before anything runs, so that an address in use is one clear line at the start.

use std::io;
use std::net::{SocketAddr, TcpListener};

use crate::settings::{Inbound, Outbound, Settings};
use crate::sockets;

/// What a listener is for.
#[derive(Debug, Clone)]
pub enum Purpose {
    /// A port of the pod.
    Inbound(Inbound),
    /// A service that the pod calls.
    Outbound(Outbound),
}

/// A bound listener.
#[derive(Debug)]
pub struct Listener {
    /// What it is for.
    pub purpose: Purpose,
    /// Not blocking.
    pub socket: TcpListener,
}

/// An address that can't be listened on.
#[derive(Debug, thiserror::Error)]
#[error("{field}: `{address}`: {problem}{advice}")]
pub struct ListenError {
    field: String,
    address: SocketAddr,
    problem: io::Error,
    advice: &'static str,
}

impl ListenError {
    fn new(field: impl Into<String>, address: SocketAddr, problem: io::Error) -> Self {
        let advice = match problem.kind() {
            io::ErrorKind::AddrInUse => {
                "; another process listens there: stop it, or choose another port"
            }
            io::ErrorKind::AddrNotAvailable => "; no interface of this machine has that address",
            io::ErrorKind::PermissionDenied => "; ports below 1024 need CAP_NET_BIND_SERVICE",
            _ => "",
        };
        Self { field: field.into(), address, problem, advice }
    }
}

/// Binds everything, once for each worker.
pub fn bind(settings: &Settings) -> Result<Vec<Vec<Listener>>, ListenError> {
    let mut workers: Vec<Vec<Listener>> = (0..settings.workers).map(|_| Vec::new()).collect();
    let inbound = settings.inbound.iter().enumerate().map(|(at, port)| {
        (format!("inbound[{at}].listen"), port.listen, Purpose::Inbound(port.clone()))
    });
    let outbound = settings.outbound.iter().enumerate().map(|(at, port)| {
        (format!("outbound[{at}].listen"), port.listen, Purpose::Outbound(port.clone()))
    });
    for (field, address, purpose) in inbound.chain(outbound) {
        let sockets = bind_shared(address, workers.len())
            .map_err(|problem| ListenError::new(field.as_str(), address, problem))?;
        for (worker, socket) in workers.iter_mut().zip(sockets) {
            worker.push(Listener { purpose: purpose.clone(), socket });
        }
    }
    Ok(workers)
}

/// Binds the admin port.
pub fn bind_admin(settings: &Settings) -> Result<TcpListener, ListenError> {
    sockets::listen(settings.admin, false)
        .map_err(|problem| ListenError::new("admin", settings.admin, problem))
}

/// One socket for each worker. Several share the address; that nobody else has it is found out first, for the kernel would
/// let another process of the same user share it, too.
fn bind_shared(address: SocketAddr, workers: usize) -> io::Result<Vec<TcpListener>> {
    if workers == 1 {
        return Ok(vec![sockets::listen(address, false)?]);
    }
    let address = sockets::listen(address, false)?.local_addr()?;
    (0..workers).map(|_| sockets::listen(address, true)).collect()
}
