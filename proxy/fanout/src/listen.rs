//! The port. A connection is closed at once where there are too many; a machine that refuses one gets a pause.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::sleep;

use crate::connection;
use crate::guarded;
use crate::hub::Hub;
use crate::limits;

/// Binds, on the runtime of the caller's context.
pub(crate) fn bind(host: &str, port: u16) -> io::Result<TcpListener> {
    let mut problem = io::Error::new(io::ErrorKind::AddrNotAvailable, "no address");
    for address in (host, port).to_socket_addrs()? {
        match bind_one(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => problem = error,
        }
    }
    Err(problem)
}

fn bind_one(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(limits::LISTEN_BACKLOG)
}

/// Accepts until the fan-out stops. `most`: open connections.
pub(crate) async fn accept(hub: Arc<Hub>, listener: TcpListener, most: usize) {
    let all = Arc::new(Semaphore::new(most));
    let mut ending = hub.ending();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = ending.wait_for(|ending| *ending) => return,
        };
        let Ok((tcp, _)) = accepted else {
            sleep(limits::ACCEPT_PAUSE).await;
            continue;
        };
        let places = (all.clone().try_acquire_owned(), hub.unproven.clone().try_acquire_owned());
        let (Ok(place), Ok(unproven)) = places else {
            hub.counts.connections_refused.add();
            continue;
        };
        if prepare(&tcp, &hub).is_ok() {
            guarded::spawn(connection::serve(Arc::clone(&hub), tcp, place, unproven));
        }
    }
}

/// A peer that vanished, or whose window stays shut, is found out by the kernel.
fn prepare(tcp: &TcpStream, hub: &Hub) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let socket = SockRef::from(tcp);
    let quiet = limits::KEEPALIVE;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(quiet).with_interval(quiet / 3))?;
    socket.set_tcp_user_timeout(Some(hub.times.slow))
}
