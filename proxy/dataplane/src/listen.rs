//! The listening sockets of a proxy, bound before anything runs, so that an address in use is one clear line at the start.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use crate::settings::{Inbound, Outbound, Settings, Transparent};
use crate::sockets;

/// What a listener is for.
#[derive(Debug, Clone)]
pub enum Purpose {
    /// A port of the pod.
    Inbound(Inbound),
    /// A service that the pod calls.
    Outbound(Outbound),
    /// All that is sent to the pod, redirected to this port.
    RedirectedInbound(u16),
    /// All that the pod sends, redirected.
    RedirectedOutbound,
}

impl Purpose {
    /// Whether it is for what comes to the pod.
    pub fn is_inbound(&self) -> bool {
        matches!(self, Self::Inbound(_) | Self::RedirectedInbound(_))
    }
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
    let redirected = settings.transparent.map(redirected).unwrap_or_default();
    for (field, address, purpose) in inbound.chain(outbound).chain(redirected) {
        let sockets = match bind_shared(address, workers.len()) {
            // Where IPv6 is off, nothing is redirected to its loopback.
            Err(problem) if is_without(&problem, address, &purpose) => continue,
            bound => bound.map_err(|problem| ListenError::new(field.as_str(), address, problem))?,
        };
        for (worker, socket) in workers.iter_mut().zip(sockets) {
            worker.push(Listener { purpose: purpose.clone(), socket });
        }
    }
    Ok(workers)
}

/// Where what is redirected arrives: what was sent to the pod on the address of the interface that it came in by, what the
/// pod sends on loopback.
fn redirected(ports: Transparent) -> Vec<(String, SocketAddr, Purpose)> {
    let inbound = |ip| {
        let purpose = Purpose::RedirectedInbound(ports.inbound);
        ("transparent.inbound".to_owned(), SocketAddr::new(ip, ports.inbound), purpose)
    };
    let outbound = |ip| {
        let address = SocketAddr::new(ip, ports.outbound);
        ("transparent.outbound".to_owned(), address, Purpose::RedirectedOutbound)
    };
    if !sockets::has_ipv6() {
        let [any, loopback] = [Ipv4Addr::UNSPECIFIED, Ipv4Addr::LOCALHOST];
        return vec![inbound(any.into()), outbound(loopback.into())];
    }
    vec![
        // This one takes both families.
        inbound(Ipv6Addr::UNSPECIFIED.into()),
        outbound(Ipv4Addr::LOCALHOST.into()),
        outbound(Ipv6Addr::LOCALHOST.into()),
    ]
}

fn is_without(problem: &io::Error, address: SocketAddr, purpose: &Purpose) -> bool {
    matches!(purpose, Purpose::RedirectedOutbound)
        && address.is_ipv6()
        && problem.kind() == io::ErrorKind::AddrNotAvailable
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
