//! A small table, as rows and as bytes.

use serde_json::json;
use snapshot::{assemble, encode_cluster, encode_workload};

pub(super) fn cluster() -> Vec<u8> {
    let rows = json!({
        "reader_version": 1, "trust_domain": "cluster.local",
        "pools": {"identities": [{"any_of": ["spiffe://cluster.local/ns/b/sa/b", "spiffe://cluster.local/ns/a/sa/*"]}]},
        "rules": [{"effect": 2, "level": 4, "authorization": "meshdefaults.policyd.dev/default#deny/x", "origin": "o",
                   "scope": 1, "identity": 2, "identities": 0, "anonymous_too": true, "network": 1}],
        "cluster_networks": ["192.168.0.0/16", "10.0.0.0/8"],
    });
    encode_cluster(rows.to_string().as_bytes()).unwrap()
}

pub(super) fn workload_rows() -> serde_json::Value {
    let port = |number: u32| json!({"number": number, "protocol": 1, "access": 1, "path_mode": 1, "cluster_conditions": 1});
    let mut http = port(8080);
    http["server"] = json!("server.policyd.dev/a/web");
    http["rules"] = json!([0, 1]);
    http["routes"] = json!([0]);
    json!({
        "reader_version": 1, "workload_shape": "a",
        "pools": {
            "conditions": [
                {"subject": 3, "test": 1, "values": ["POST", "GET"]},
                {"subject": 1, "name": "x-env", "test": 2, "values": ["prod"]},
            ],
            "networks": [{"any_of": [{"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}]}],
        },
        "rules": [
            {"effect": 1, "level": 1, "authorization": "authorizationpolicy.policyd.dev/a/r", "origin": "o", "scope": 3,
             "route": 0, "identity": 1, "network": 2, "networks": 0, "conditions": [1, 0]},
            {"effect": 3, "level": 2, "authorization": "authorizationpolicy.policyd.dev/a/s", "origin": "o", "scope": 1,
             "identity": 1, "network": 2, "networks": 0},
        ],
        "routes": [{"name": "httproute.policy.linkerd.io/a/r", "origin": "o", "kind": 1, "hosts": ["b.test", "a.test"],
                    "rules": [{"matches": [{"path_test": 2, "path": "/a"}]}]}],
        "ports": [port(9090), http],
        "other": port(0),
    })
}

pub(super) fn workload() -> Vec<u8> {
    encode_workload(workload_rows().to_string().as_bytes()).unwrap()
}

pub(super) fn good() -> Vec<u8> {
    assemble(&cluster(), &workload()).unwrap()
}
