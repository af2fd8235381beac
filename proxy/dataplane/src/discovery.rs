//! Where the services are that this pod calls, and who each endpoint must prove to be.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use engine::identity::SpiffeId;

use crate::generated;

/// A discovery message that can't be used. FAIL-CLOSED: it is refused whole, because an endpoint without its identity
/// would be dialled in plaintext.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("discovery: {service}: `{value}` is not {expected}")]
pub struct DiscoveryError {
    service: String,
    value: String,
    expected: &'static str,
}

/// What an endpoint's Server says it speaks, as far as it matters to who dials it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// To be seen from what the client sends.
    Unknown,
    /// HTTP, of either version.
    Http,
    /// Anything that is not read.
    Bytes,
}

/// One place where a service runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Where.
    pub address: SocketAddr,
    /// Who it must prove to be; none: it isn't meshed.
    pub identity: Option<Box<str>>,
    /// What it speaks.
    pub speaks: Speaks,
    /// It is this very pod: what goes there doesn't leave it, and isn't redirected to us.
    pub own: bool,
}

/// A port of a Service.
#[derive(Debug, Default)]
pub struct Service {
    name: Option<String>,
    endpoints: Vec<Endpoint>,
}

impl Service {
    /// What its first endpoint speaks.
    pub fn speaks(&self) -> Option<Speaks> {
        self.endpoints.first().map(|endpoint| endpoint.speaks)
    }

    /// `namespace/name:port` where it was asked for by address and is a Service's.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// All endpoints, in policyd's order.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }
}

/// Everything that was discovered for this pod.
#[derive(Debug, Default)]
pub struct Discovery {
    services: HashMap<String, Service>,
    plaintext: bool,
}

impl Discovery {
    /// Reads policyd's message.
    pub fn read(message: &generated::Discovery) -> Result<Self, DiscoveryError> {
        let mut services = HashMap::new();
        for service in &message.services {
            let endpoints =
                service.endpoints.iter().map(|endpoint| read_endpoint(&service.service, endpoint));
            let endpoints = endpoints.collect::<Result<_, _>>()?;
            let name = (!service.name.is_empty()).then(|| service.name.clone());
            let before = services.insert(service.service.clone(), Service { name, endpoints });
            if before.is_some() {
                let value = service.service.clone();
                return Err(DiscoveryError {
                    service: value.clone(),
                    value,
                    expected: "named once",
                });
            }
        }
        // FAIL-CLOSED: anything but a plain `Allow` forbids.
        Ok(Self { services, plaintext: message.outbound_plaintext == "Allow" })
    }

    /// A service by `namespace/name:port`, or what is at an address.
    pub fn service(&self, name: &str) -> Option<&Service> {
        self.services.get(name)
    }

    /// Whether unmeshed endpoints may be dialled.
    pub fn plaintext(&self) -> bool {
        self.plaintext
    }
}

fn read_endpoint(
    service: &str,
    endpoint: &generated::Endpoint,
) -> Result<Endpoint, DiscoveryError> {
    let broken = |value: &str, expected| DiscoveryError {
        service: service.to_owned(),
        value: value.chars().take(200).collect(),
        expected,
    };
    let ip: IpAddr =
        endpoint.address.parse().map_err(|_| broken(&endpoint.address, "an IP address"))?;
    let port = u16::try_from(endpoint.port).ok().filter(|port| *port != 0);
    let port = port.ok_or_else(|| broken(&endpoint.port.to_string(), "a port"))?;
    let identity = match endpoint.identity.as_str() {
        "" => None,
        id => Some(SpiffeId::parse(id).map_err(|_| broken(id, "a SPIFFE ID"))?.as_str().into()),
    };
    let speaks = match endpoint.protocol.as_str() {
        "unknown" | "" => Speaks::Unknown,
        "HTTP/1" | "HTTP/2" | "gRPC" => Speaks::Http,
        "opaque" | "TLS" => Speaks::Bytes,
        other => return Err(broken(other, "a protocol")),
    };
    let own = endpoint.own;
    // FAIL-CLOSED: who is asked for an identity is asked through our TLS.
    if own && identity.is_some() {
        return Err(broken(&endpoint.identity, "nobody: it is the pod itself"));
    }
    Ok(Endpoint { address: SocketAddr::new(ip, port), identity, speaks, own })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(identity: &str, plaintext: &str) -> generated::Discovery {
        let endpoint = |port| generated::Endpoint {
            address: "127.1.0.5".to_owned(),
            port,
            identity: identity.to_owned(),
            protocol: "HTTP/1".to_owned(),
            own: false,
        };
        generated::Discovery {
            services: vec![generated::ServicePort {
                service: "books/authors:80".to_owned(),
                endpoints: vec![endpoint(1), endpoint(2)],
                name: String::new(),
            }],
            outbound_plaintext: plaintext.to_owned(),
        }
    }

    #[test]
    fn a_service_has_its_endpoints() {
        let read = Discovery::read(&message("spiffe://td/ns/books/sa/authors", "Allow")).unwrap();
        let service = read.service("books/authors:80").unwrap();
        let ports: Vec<_> = service.endpoints().iter().map(|each| each.address.port()).collect();
        assert_eq!(ports, [1, 2]);
        assert_eq!(service.speaks(), Some(Speaks::Http));
        assert!(read.plaintext() && read.service("books/x:80").is_none());
    }

    #[test]
    fn an_identity_that_cannot_be_read_refuses_everything() {
        assert!(Discovery::read(&message("spiffe://TD/x", "Allow")).is_err());
        assert!(!Discovery::read(&message("", "")).unwrap().plaintext());
    }
}
