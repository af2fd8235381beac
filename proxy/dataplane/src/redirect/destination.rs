//! Where a redirected connection was going, and whether it was redirected at all.

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::SockRef;
use tokio::net::TcpStream;

/// A connection at a port for redirected ones that must not be carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stray {
    /// It was made to the port itself, so that nothing says whom it is for: a way around, or a loop.
    Direct,
    /// The kernel knows nothing of it.
    Untold,
    /// It is one that we made: our own user's connections are redirected, which never ends.
    Own,
}

/// Whom a connection that was sent to the pod is for; `listens` is the port where it arrived.
pub fn inbound(accepted: &TcpStream, listens: u16) -> Result<SocketAddr, Stray> {
    let found = original(&SockRef::from(accepted)).map_err(|_| Stray::Untold)?;
    // On whichever of the pod's addresses: nobody but us has that port there.
    if found.port() == listens { Err(Stray::Direct) } else { Ok(found) }
}

/// Whom a connection is for that the pod made.
pub fn outbound(accepted: &TcpStream) -> Result<SocketAddr, Stray> {
    let accepted = SockRef::from(accepted);
    match (original(&accepted), here(&accepted)) {
        (Ok(found), Ok(here)) if found == here => Err(Stray::Direct),
        (Ok(found), Ok(_)) => Ok(found),
        _ => Err(Stray::Untold),
    }
}

/// The address that whoever dialled an accepted connection dialled (`SO_ORIGINAL_DST`), an IPv4 one in IPv4's form. Of a
/// connection that nobody redirected it is the accepting end's own.
pub fn original(accepted: &SockRef<'_>) -> io::Result<SocketAddr> {
    // An IPv4 peer of a listener for both families is known to the kernel's tables under IPv4 alone.
    let found = match here(accepted)?.ip() {
        IpAddr::V4(_) => accepted.original_dst_v4()?,
        IpAddr::V6(_) => accepted.original_dst_v6()?,
    };
    canonical(&found)
}

fn here(accepted: &SockRef<'_>) -> io::Result<SocketAddr> {
    canonical(&accepted.local_addr()?)
}

fn canonical(address: &socket2::SockAddr) -> io::Result<SocketAddr> {
    let address = address.as_socket().ok_or_else(|| io::Error::other("not an IP address"))?;
    Ok(SocketAddr::new(address.ip().to_canonical(), address.port()))
}
