//! The settings file: what one proxy is, whom it trusts, and where it listens.
//!
//! Every mistake is one line that names the file, the field, the value and what was expected. Nothing has a silent
//! default but `workers` and `memoryMib`; what is redirected to us, and where we dial from, may be left out.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::{env, fs};

use engine::identity::SpiffeId;
use serde::Deserialize;

use crate::limits;
use crate::tls_probe::TlsProbe;

const MOST_BYTES: u64 = 1024 * 1024;
/// What `--config` begins with where the settings are in a variable: `env:NAME` (decision record 14).
const VARIABLE: &str = "env:";
const MOST_WORKERS: usize = 64;
const LEAST_MEMORY_MIB: usize = 16;
const MOST_MEMORY_MIB: usize = 65_536;

/// A settings file that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file can't be read at all.
    #[error("{file}: {problem}")]
    File {
        /// Its path.
        file: String,
        /// What is wrong, and where.
        problem: String,
    },
    /// A field has a value that can't be.
    #[error("{file}: {field}: `{value}`: expected {expected}")]
    Field {
        /// Its path.
        file: String,
        /// The field, as a path into the JSON.
        field: String,
        /// As written.
        value: String,
        /// What belongs there.
        expected: &'static str,
    },
}

/// The settings of `policyd-proxy --config FILE` (decision record 1).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Settings {
    /// Our own trust domain.
    pub trust_domain: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's service account.
    pub service_account: String,
    /// The pod's name, for log lines.
    pub pod_name: String,
    /// Where certificates come from.
    pub identity: ControlPeer,
    /// Where tables come from.
    pub policy: ControlPeer,
    /// The namespace that `identity` and `policyd` run in.
    pub control_plane_namespace: String,
    /// The projected ServiceAccount token, read again for every call.
    pub token_file: PathBuf,
    /// The roots (PEM) by which identity is known before there is a bundle.
    pub roots_file: PathBuf,
    /// Where key, chain, bundle and the last table are kept.
    pub state_dir: PathBuf,
    /// Ports of the pod and the applications behind them.
    pub inbound: Vec<Inbound>,
    /// Local ports and the services behind them.
    pub outbound: Vec<Outbound>,
    /// All TCP of the pod, where it is redirected to us (`policyd-proxy redirect`).
    pub transparent: Option<Transparent>,
    /// The address that connections to other pods come from; none: the kernel's choice.
    pub source_address: Option<IpAddr>,
    /// The admin port.
    pub admin: SocketAddr,
    /// Threads that carry traffic.
    #[serde(default = "one")]
    pub workers: usize,
    /// What traffic may take of memory, tables aside.
    #[serde(default = "memory_mib")]
    pub memory_mib: usize,
    /// Probes by HTTPS that we make for the kubelet.
    #[serde(default)]
    pub probes: Vec<TlsProbe>,
    /// Where the kubelet would have asked: the pod's address. Needed where there are `probes`.
    pub pod_address: Option<IpAddr>,
}

/// A service of the control plane and the service account it must prove.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ControlPeer {
    /// `host:port`.
    pub address: String,
    /// Of `controlPlaneNamespace`.
    pub service_account: String,
}

/// A port of the pod.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Inbound {
    /// Pod address and port; the port is the one that policy speaks of.
    pub listen: SocketAddr,
    /// Where the application listens: loopback only.
    pub application: SocketAddr,
}

/// The two ports to which all TCP of the pod is redirected, for IPv4 and IPv6.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Transparent {
    /// What was sent to the pod, on all its addresses.
    pub inbound: u16,
    /// What the pod sends, on loopback.
    pub outbound: u16,
}

/// A service that the pod calls.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Outbound {
    /// Loopback only.
    pub listen: SocketAddr,
    /// `namespace/name:port`.
    pub service: String,
}

fn one() -> usize {
    1
}

fn memory_mib() -> usize {
    limits::MEMORY_MIB
}

impl Settings {
    /// Reads and checks settings: a file's, or with `env:NAME` a variable's, as an injected pod has them.
    pub fn read(path: &Path) -> Result<Self, SettingsError> {
        let file = path.display().to_string();
        let broken = |problem: String| SettingsError::File { file: file.clone(), problem };
        let text = match file.strip_prefix(VARIABLE) {
            Some(name) => env::var(name).map(String::into_bytes).map_err(|error| error.to_string()),
            None => text_of(path),
        };
        let text = text.map_err(broken)?;
        let settings: Self =
            serde_json::from_slice(&text).map_err(|error| broken(error.to_string()))?;
        match settings.problem() {
            None => Ok(settings),
            Some((field, value, expected)) => {
                Err(SettingsError::Field { file, field, value, expected })
            }
        }
    }

    /// Our own identity, `spiffe://<td>/ns/<namespace>/sa/<service account>`.
    pub fn own_identity(&self) -> String {
        spiffe(&self.trust_domain, &self.namespace, &self.service_account)
    }

    /// The identity that a service of the control plane must prove.
    pub fn control_identity(&self, peer: &ControlPeer) -> String {
        spiffe(&self.trust_domain, &self.control_plane_namespace, &peer.service_account)
    }

    /// The name by which an ordinary TLS client asks for us (design §7).
    pub fn own_server_name(&self) -> String {
        format!("{}.{}.sa.{}", self.service_account, self.namespace, self.trust_domain)
    }

    /// The probe that the kubelet asks for by this path.
    pub fn probe(&self, path: &str) -> Option<&TlsProbe> {
        self.probes.iter().find(|probe| probe.path == path)
    }

    /// The first field that can't be: its path, its value and what was expected.
    fn problem(&self) -> Option<(String, String, &'static str)> {
        self.names()
            .or_else(|| self.addresses())
            .or_else(|| self.redirected())
            .or_else(|| self.services())
            .or_else(|| self.probed())
    }

    fn names(&self) -> Option<(String, String, &'static str)> {
        let parts = [
            ("namespace", &self.namespace),
            ("serviceAccount", &self.service_account),
            ("podName", &self.pod_name),
            ("controlPlaneNamespace", &self.control_plane_namespace),
            ("identity.serviceAccount", &self.identity.service_account),
            ("policy.serviceAccount", &self.policy.service_account),
        ];
        if let Some((field, value)) = parts.into_iter().find(|(_, value)| !is_object_name(value)) {
            return Some((
                field.to_owned(),
                value.clone(),
                "a Kubernetes name (a-z, 0-9, `-`, `.`)",
            ));
        }
        if SpiffeId::parse(&self.own_identity()).is_err() {
            return Some((
                "trustDomain".to_owned(),
                self.trust_domain.clone(),
                "a SPIFFE trust domain",
            ));
        }
        None
    }

    fn addresses(&self) -> Option<(String, String, &'static str)> {
        let mut seen = HashSet::new();
        let listens =
            (self.inbound.iter().enumerate().map(|(at, port)| ("inbound", at, port.listen))).chain(
                self.outbound.iter().enumerate().map(|(at, port)| ("outbound", at, port.listen)),
            );
        for (list, at, listen) in listens {
            let field = format!("{list}[{at}].listen");
            if list == "outbound" && !listen.ip().is_loopback() {
                return Some((field, listen.to_string(), "a loopback address"));
            }
            if list == "inbound" && listen.port() == 0 {
                return Some((
                    field,
                    listen.to_string(),
                    "a port that is not 0: policy speaks of it",
                ));
            }
            if listen.port() != 0 && !seen.insert(listen) {
                return Some((field, listen.to_string(), "an address that no other listener has"));
            }
        }
        for (at, port) in self.inbound.iter().enumerate() {
            let field = format!("inbound[{at}].application");
            if !port.application.ip().is_loopback() || port.application.port() == 0 {
                return Some((
                    field,
                    port.application.to_string(),
                    "a loopback address and a port",
                ));
            }
            // FAIL-CLOSED: a proxy that dials itself is a loop that no policy ends (L4-19).
            if seen.contains(&port.application) || port.application == self.admin {
                return Some((
                    field,
                    port.application.to_string(),
                    "an address this proxy doesn't listen on",
                ));
            }
        }
        if !self.admin.ip().is_loopback() || seen.contains(&self.admin) {
            let expected = "a loopback address that no other listener has";
            return Some(("admin".to_owned(), self.admin.to_string(), expected));
        }
        None
    }

    /// FAIL-CLOSED: a port of ours that something else listens on, too, would take what was meant for the other.
    fn redirected(&self) -> Option<(String, String, &'static str)> {
        let Some(Transparent { inbound, outbound }) = self.transparent else {
            let missing = || ("sourceAddress".to_owned(), "nothing".to_owned(), "an IP address");
            return self.source_address.is_none().then(missing);
        };
        let taken: Vec<_> = (self.inbound.iter().map(|port| port.listen))
            .chain(self.outbound.iter().map(|port| port.listen))
            .chain([self.admin])
            .map(|listen| listen.port())
            .collect();
        let ports = [("transparent.inbound", inbound), ("transparent.outbound", outbound)];
        let broken = |port: u16| port == 0 || taken.contains(&port) || inbound == outbound;
        let (field, port) = ports.into_iter().find(|(_, port)| broken(*port))?;
        Some((field.to_owned(), port.to_string(), "a port that is not 0 and no other listener has"))
    }

    fn services(&self) -> Option<(String, String, &'static str)> {
        for (at, port) in self.outbound.iter().enumerate() {
            if !is_service_port(&port.service) {
                let expected = "`namespace/name:port`";
                return Some((format!("outbound[{at}].service"), port.service.clone(), expected));
            }
        }
        for (field, peer) in
            [("identity.address", &self.identity), ("policy.address", &self.policy)]
        {
            let port = peer.address.rsplit_once(':').filter(|(host, _)| !host.is_empty());
            if !port.is_some_and(|(_, port)| is_port(port)) {
                return Some((field.to_owned(), peer.address.clone(), "`host:port`"));
            }
        }
        if self.workers == 0 || self.workers > MOST_WORKERS {
            return Some(("workers".to_owned(), self.workers.to_string(), "1 to 64"));
        }
        if !(LEAST_MEMORY_MIB..=MOST_MEMORY_MIB).contains(&self.memory_mib) {
            return Some(("memoryMib".to_owned(), self.memory_mib.to_string(), "16 to 65536"));
        }
        None
    }

    fn probed(&self) -> Option<(String, String, &'static str)> {
        if !self.probes.is_empty() && self.pod_address.is_none() {
            return Some(("podAddress".to_owned(), "nothing".to_owned(), "an IP address"));
        }
        if self.probes.len() > limits::TLS_PROBES {
            return Some(("probes".to_owned(), self.probes.len().to_string(), "at most 256"));
        }
        let mut problems = self.probes.iter().map(TlsProbe::problem).enumerate();
        let (at, (value, expected)) = problems.find_map(|(at, found)| Some((at, found?)))?;
        Some((format!("probes[{at}]"), value, expected))
    }
}

fn text_of(path: &Path) -> Result<Vec<u8>, String> {
    let length = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if length > MOST_BYTES {
        return Err(format!("{length} bytes: expected at most {MOST_BYTES}"));
    }
    fs::read(path).map_err(|error| error.to_string())
}

fn spiffe(trust_domain: &str, namespace: &str, service_account: &str) -> String {
    format!("spiffe://{trust_domain}/ns/{namespace}/sa/{service_account}")
}

fn is_object_name(name: &str) -> bool {
    let legal =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    name.len() <= 253 && name.bytes().all(legal) && ends(bytes.first()) && ends(bytes.last())
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok_and(|port| port != 0)
}

fn is_service_port(service: &str) -> bool {
    service
        .split_once('/')
        .and_then(|(namespace, rest)| Some((namespace, rest.rsplit_once(':')?)))
        .is_some_and(|(namespace, (name, port))| {
            is_object_name(namespace) && is_object_name(name) && is_port(port)
        })
}

#[cfg(test)]
mod tests;
