//! Listening and dialling, with the options that each of our sockets has.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::limits;

const KEEPALIVE: Duration = Duration::from_secs(60);

/// Listens. With `shared` several workers may listen on one address, and the kernel spreads connections over them.
pub fn listen(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(limits::LISTEN_BACKLOG)?;
    Ok(socket.into())
}

/// Whether this machine knows IPv6 at all.
pub fn has_ipv6() -> bool {
    Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP)).is_ok()
}

/// No waiting to fill packets, and a look now and then whether the other end is still there. A socket that takes neither
/// works nevertheless.
pub fn tune(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(stream)
        .set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4));
}

/// Dials within bounded time, from an address of ours where one is given. What is being dialled from is noted down before
/// the other end can see it.
pub async fn dial(
    from: Option<IpAddr>,
    to: SocketAddr,
    note: impl FnOnce(SocketAddr),
) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    let any =
        if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    socket.bind(SocketAddr::new(from.unwrap_or(any), 0))?;
    note(socket.local_addr()?);
    let stream = timeout(limits::CONNECT, socket.connect(to)).await??;
    tune(&stream);
    Ok(stream)
}
