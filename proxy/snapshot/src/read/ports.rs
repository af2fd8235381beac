//! Ports: what a port speaks, its default, its probes.

use engine::{gate::PathMode, rows};

use super::{Result, lookup, unspecified};
use crate::{SnapshotError, generated as wire};

const PROTOCOLS: &[(i32, rows::Protocol)] = &[
    (wire::Protocol::Unknown as i32, rows::Protocol::Unknown),
    (wire::Protocol::Http1 as i32, rows::Protocol::Http1),
    (wire::Protocol::Http2 as i32, rows::Protocol::Http2),
    (wire::Protocol::Grpc as i32, rows::Protocol::Grpc),
    (wire::Protocol::Opaque as i32, rows::Protocol::Opaque),
    (wire::Protocol::Tls as i32, rows::Protocol::Tls),
];

const ACCESSES: &[(i32, rows::Access)] = &[
    (wire::Access::Deny as i32, rows::Access::Deny),
    (wire::Access::Audit as i32, rows::Access::Audit),
    (wire::Access::AllUnauthenticated as i32, rows::Access::AllUnauthenticated),
    (wire::Access::AllAuthenticated as i32, rows::Access::AllAuthenticated),
    (wire::Access::ClusterUnauthenticated as i32, rows::Access::ClusterUnauthenticated),
    (wire::Access::ClusterAuthenticated as i32, rows::Access::ClusterAuthenticated),
];

const PATH_MODES: &[(i32, PathMode)] = &[
    (wire::PathMode::Strict as i32, PathMode::Strict),
    (wire::PathMode::Merge as i32, PathMode::Merge),
    (wire::PathMode::Opaque as i32, PathMode::Opaque),
];

const CLUSTER_CONDITIONS: &[(i32, rows::ClusterConditions)] = &[
    (wire::ClusterConditions::Evaluate as i32, rows::ClusterConditions::Evaluate),
    (wire::ClusterConditions::Satisfied as i32, rows::ClusterConditions::Satisfied),
    (wire::ClusterConditions::PassOver as i32, rows::ClusterConditions::PassOver),
];

pub(super) fn port(port: wire::Port) -> Result<rows::PortRow> {
    let wire::Port {
        number,
        protocol,
        server,
        server_origin,
        access,
        path_mode,
        websocket,
        cluster_conditions,
        rules,
        routes,
        probes,
    } = port;
    let place = |field: &str| format!("port {number}.{field}");
    Ok(rows::PortRow {
        number: u16::try_from(number)
            .map_err(|_| SnapshotError::invalid(place("number"), "it is above 65535"))?,
        protocol: lookup(protocol, &place("protocol"), PROTOCOLS)?,
        server: (!server.is_empty()).then(|| server.into()),
        server_origin: server_origin.into(),
        access: lookup(access, &place("access"), ACCESSES)?,
        path_mode: lookup(path_mode, &place("path_mode"), PATH_MODES)?,
        websocket,
        cluster_conditions: lookup(
            cluster_conditions,
            &place("cluster_conditions"),
            CLUSTER_CONDITIONS,
        )?,
        rules,
        routes,
        probes: probes.into_iter().map(probe).collect::<Result<_>>()?,
    })
}

fn probe(probe: wire::Probe) -> Result<rows::Probe> {
    let wire::Probe { kind, target, headers, service } = probe;
    match wire::ProbeKind::try_from(kind) {
        Ok(wire::ProbeKind::Http) => Ok(rows::Probe::Http {
            target: target.into(),
            headers: headers.into_iter().map(Into::into).collect(),
        }),
        Ok(wire::ProbeKind::Tcp) => Ok(rows::Probe::Tcp),
        Ok(wire::ProbeKind::Grpc) => Ok(rows::Probe::Grpc { service: service.into() }),
        _ => Err(unspecified("probe.kind")),
    }
}
