//! Whether TLS that begins here is ours: by its `ClientHello` alone, before a byte is answered (design §7).

use rustls::server::Acceptor;

use crate::tls::{ALPN_GRPC, ALPN_HTTP1, ALPN_HTTP2, ALPN_PLAIN_HTTP1, ALPN_TCP};

const HANDSHAKE_RECORD: u8 = 0x16;

/// What a `ClientHello` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hello {
    /// It isn't whole yet.
    Incomplete,
    /// One of our ALPN names: a proxy.
    Mesh,
    /// Our own server name, from an ordinary client that offers `http/1.1`.
    OwnHttp1,
    /// Our own server name, from an ordinary client that offers `h2` and not `http/1.1`: one of gRPC.
    OwnHttp2,
    /// Our own server name, from an ordinary client that offers nothing we speak.
    OwnUnnamed,
    /// For somebody else: the application, if policy lets it.
    Foreign,
}

/// Whether the bytes begin a TLS record that could hold a `ClientHello`.
pub fn begins_tls(bytes: &[u8]) -> bool {
    bytes.first() == Some(&HANDSHAKE_RECORD)
}

/// Reads a `ClientHello` from the first bytes of a connection, which stay where they are.
pub fn read(bytes: &[u8], own_server_name: &str) -> Hello {
    let mut acceptor = Acceptor::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        match acceptor.read_tls(&mut rest) {
            Ok(0) => break,
            Ok(_) => {}
            Err(_) => return Hello::Foreign,
        }
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => {
                let hello = accepted.client_hello();
                let offers = |name: &[u8]| {
                    hello.alpn().is_some_and(|mut offered| offered.any(|protocol| protocol == name))
                };
                if [ALPN_HTTP1, ALPN_TCP, ALPN_HTTP2].into_iter().any(offers) {
                    return Hello::Mesh;
                }
                let own = hello
                    .server_name()
                    .is_some_and(|name| name.eq_ignore_ascii_case(own_server_name));
                return match own {
                    false => Hello::Foreign,
                    true if offers(ALPN_PLAIN_HTTP1) => Hello::OwnHttp1,
                    true if offers(ALPN_GRPC) => Hello::OwnHttp2,
                    true => Hello::OwnUnnamed,
                };
            }
            // What can't be read is nothing we would terminate: it is foreign, and has no identity.
            Err(_) => return Hello::Foreign,
        }
    }
    Hello::Incomplete
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::{ClientConfig, ClientConnection, RootCertStore};
    use rustls_pki_types::ServerName;

    use super::*;
    use crate::tls;

    const OWN: &str = "authors.books.sa.cluster.local";

    fn hello(name: &'static str, alpn: &[&[u8]]) -> Vec<u8> {
        let mut config = ClientConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let name = ServerName::try_from(name).unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn our_own_tls_is_known_by_alpn_or_by_name() {
        assert_eq!(read(&hello("db.example", &[ALPN_TCP]), OWN), Hello::Mesh);
        assert_eq!(read(&hello(OWN, &[]), OWN), Hello::OwnUnnamed);
        assert_eq!(read(&hello(OWN, &[b"h2"]), OWN), Hello::OwnHttp2);
        assert_eq!(
            read(&hello("Authors.Books.SA.cluster.local", &[b"h2", b"http/1.1"]), OWN),
            Hello::OwnHttp1
        );
        assert_eq!(read(&hello("db.example", &[b"http/1.1"]), OWN), Hello::Foreign);
        assert_eq!(read(&hello("x.books.sa.cluster.local", &[]), OWN), Hello::Foreign);
    }

    #[test]
    fn a_hello_is_incomplete_at_each_length_until_it_is_whole() {
        let whole = hello(OWN, &[ALPN_HTTP1]);
        for length in 0..whole.len() {
            assert_eq!(read(&whole[..length], OWN), Hello::Incomplete, "{length}");
        }
        assert_eq!(read(&whole, OWN), Hello::Mesh);
    }

    #[test]
    fn what_cannot_be_read_is_foreign() {
        assert_eq!(read(&[0x16, 3, 1, 0xff, 0xff, 1, 2, 3, 4, 5], OWN), Hello::Foreign);
        assert_eq!(read(&[0x16, 3, 1, 0, 5, 9, 0, 0, 1, 0], OWN), Hello::Foreign);
    }
}
