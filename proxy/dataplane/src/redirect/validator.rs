//! Whether a connection of one's own is redirected: before the application starts, and whatever other tables there may be.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::destination;
use super::{RedirectError, Redirection};

/// Addresses that are nobody's (RFC 5737, RFC 3849): what is sent there arrives nowhere, unless it is redirected.
const NOBODY: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];
/// Any port will do but those of the proxy.
const PORT: u16 = 20_001;
/// A redirected connection is there at once; one that isn't may wait for ever.
const PATIENCE: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(2);

/// How a family does.
enum Found {
    Redirected,
    /// Nothing can leave by this family, so there is nothing to redirect.
    NoRoute,
}

/// Dials out over both families, and looks whether it arrives at the outbound port.
pub(super) fn validate(redirection: Redirection) -> Result<(), RedirectError> {
    let mut redirected = false;
    for nobody in NOBODY {
        let to = SocketAddr::new(nobody, PORT);
        match dial(to, redirection.outbound) {
            Ok(Found::Redirected) => redirected = true,
            Ok(Found::NoRoute) => {}
            Err(problem) => {
                let what =
                    format!("a connection to {to} didn't arrive at the proxy's port: {problem}");
                return Err(RedirectError::NotInPlace(what));
            }
        }
    }
    if redirected {
        return Ok(());
    }
    let what = "no route leads out of here over IPv4 or IPv6, so that nothing could be tried";
    Err(RedirectError::NotInPlace(what.to_owned()))
}

fn dial(to: SocketAddr, port: u16) -> io::Result<Found> {
    let loopback =
        if to.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    let listener = match TcpListener::bind(SocketAddr::new(loopback, port)) {
        Ok(listener) => Some(listener),
        // The proxy is there already: it is enough that somebody answers for an address that is nobody's.
        Err(error) if error.kind() == ErrorKind::AddrInUse => None,
        Err(error) if is_no_route(&error) => return Ok(Found::NoRoute),
        Err(error) => return Err(error),
    };
    let dialled = match TcpStream::connect_timeout(&to, PATIENCE) {
        Ok(stream) => stream,
        Err(error) if is_no_route(&error) => return Ok(Found::NoRoute),
        Err(error) => return Err(error),
    };
    let Some(listener) = listener else { return Ok(Found::Redirected) };
    let arrived = accept_from(&listener, dialled.local_addr()?)?;
    match destination::original(&SockRef::from(&arrived))? {
        found if found == to => Ok(Found::Redirected),
        found => Err(io::Error::other(format!("it arrived as one to {found}"))),
    }
}

fn is_no_route(error: &io::Error) -> bool {
    // Not EHOSTUNREACH: that is also what a gateway's silence becomes, after the packet has left. The last is EAFNOSUPPORT.
    [ErrorKind::NetworkUnreachable, ErrorKind::AddrNotAvailable].contains(&error.kind())
        || error.raw_os_error() == Some(97)
}

/// The connection that came from `source`; others that come meanwhile are dropped.
fn accept_from(listener: &TcpListener, source: SocketAddr) -> io::Result<TcpStream> {
    listener.set_nonblocking(true)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match listener.accept() {
            Ok((stream, from)) if from.port() == source.port() => return Ok(stream),
            Ok(_) => {}
            Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
            Err(_) if Instant::now() > deadline => {
                return Err(io::Error::other("somebody else took it"));
            }
            Err(_) => std::thread::sleep(LOOK),
        }
    }
}
