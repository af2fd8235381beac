use std::io::Write as _;

use super::*;

fn whole() -> serde_json::Value {
    serde_json::json!({
        "trustDomain": "cluster.local", "namespace": "books", "serviceAccount": "authors", "podName": "authors-0",
        "identity": {"address": "127.0.0.1:9443", "serviceAccount": "identity"},
        "policy": {"address": "127.0.0.1:9444", "serviceAccount": "policyd"},
        "controlPlaneNamespace": "policyd",
        "tokenFile": "token", "rootsFile": "roots.pem", "stateDir": "state",
        "inbound": [{"listen": "127.1.0.5:8080", "application": "127.2.0.5:8080"}],
        "outbound": [{"listen": "127.2.0.5:20001", "service": "books/authors:8080"}],
        "sourceAddress": "127.1.0.5", "admin": "127.2.0.5:4191"
    })
}

fn read(value: &serde_json::Value) -> Result<Settings, String> {
    let mut path = std::env::temp_dir();
    path.push(format!("policyd-settings-{}.json", uuid::Uuid::now_v7()));
    let mut file = fs::File::create(&path).unwrap();
    file.write_all(value.to_string().as_bytes()).unwrap();
    let read = Settings::read(&path).map_err(|error| error.to_string());
    fs::remove_file(&path).unwrap();
    read
}

#[test]
fn the_documented_settings_are_read() {
    let settings = read(&whole()).unwrap();
    assert_eq!(settings.own_identity(), "spiffe://cluster.local/ns/books/sa/authors");
    assert_eq!(settings.own_server_name(), "authors.books.sa.cluster.local");
    assert_eq!((settings.workers, settings.memory_mib), (1, 64));
}

/// A process's own variable can't be set here without `unsafe`; cargo sets this one, which is no JSON.
#[test]
fn settings_in_a_variable_are_read_from_there() {
    let found = |name: &str| Settings::read(Path::new(name)).unwrap_err().to_string();
    let broken = found("env:CARGO_PKG_NAME");
    assert!(
        broken.starts_with("env:CARGO_PKG_NAME: expected value at line 1 column 1"),
        "{broken}"
    );
    let missing = found("env:POLICYD_NO_SUCH_VARIABLE");
    assert_eq!(missing, "env:POLICYD_NO_SUCH_VARIABLE: environment variable not found");
}

#[test]
fn probes_by_tls_need_an_address_to_ask() {
    let mut value = whole();
    let get = serde_json::json!({"port": "tls", "scheme": "HTTPS", "host": "", "path": "no path"});
    value["probes"] = serde_json::json!([
        {"path": "/probes/app/livenessProbe", "port": 8443, "timeoutSeconds": 1, "httpGet": get}
    ]);
    assert!(read(&value).unwrap_err().ends_with("podAddress: `nothing`: expected an IP address"));
    value["podAddress"] = serde_json::json!("10.0.0.5");
    let settings = read(&value).unwrap();
    assert!(settings.probe("/probes/app/livenessProbe").is_some());
    assert!(settings.probe("/probes/app/startupProbe").is_none());
    value["probes"][0]["path"] = serde_json::json!("/metrics");
    let found = read(&value).unwrap_err();
    assert!(
        found.ends_with("probes[0]: `/metrics`: expected a path that begins with /probes/"),
        "{found}"
    );
}

#[test]
fn a_mistake_names_field_value_and_what_was_expected() {
    let cases = [
        (
            "/inbound/0/application",
            serde_json::json!("10.0.0.1:80"),
            "inbound[0].application: `10.0.0.1:80`",
        ),
        (
            "/inbound/0/application",
            serde_json::json!("127.1.0.5:8080"),
            "an address this proxy doesn't listen on",
        ),
        (
            "/outbound/0/listen",
            serde_json::json!("10.0.0.1:80"),
            "outbound[0].listen: `10.0.0.1:80`",
        ),
        ("/outbound/0/service", serde_json::json!("authors"), "outbound[0].service: `authors`"),
        ("/outbound/0/listen", serde_json::json!("127.2.0.5:4191"), "admin: `127.2.0.5:4191`"),
        ("/admin", serde_json::json!("0.0.0.0:4191"), "admin: `0.0.0.0:4191`"),
        ("/trustDomain", serde_json::json!("Cluster"), "trustDomain: `Cluster`"),
        ("/namespace", serde_json::json!("../x"), "namespace: `../x`"),
        ("/identity/address", serde_json::json!("127.0.0.1"), "identity.address: `127.0.0.1`"),
        ("/workers", serde_json::json!(0), "workers: `0`: expected 1 to 64"),
        ("/memoryMib", serde_json::json!(8), "memoryMib: `8`: expected 16 to 65536"),
    ];
    for (pointer, value, expected) in cases {
        let mut changed = whole();
        // These aren't written in the whole one.
        changed.as_object_mut().unwrap().entry("workers").or_insert(1.into());
        changed.as_object_mut().unwrap().entry("memoryMib").or_insert(64.into());
        *changed.pointer_mut(pointer).unwrap() = value;
        let message = read(&changed).unwrap_err();
        assert!(message.contains(expected), "{pointer}: {message}");
        assert!(!message.contains('\n'), "{message}");
    }
}

#[test]
fn unknown_keys_are_refused() {
    let mut changed = whole();
    changed["inbound"][0]["aplication"] = "127.2.0.5:1".into();
    assert!(read(&changed).unwrap_err().contains("unknown field `aplication`"));
}

#[test]
fn a_transparent_proxy_names_two_ports_of_its_own() {
    let with = |transparent: serde_json::Value| {
        let mut changed = whole();
        changed["transparent"] = transparent;
        changed.as_object_mut().unwrap().remove("sourceAddress");
        read(&changed)
    };
    let settings = with(serde_json::json!({"inbound": 4143, "outbound": 4140})).unwrap();
    assert_eq!(
        settings.transparent.map(|ports| (ports.inbound, ports.outbound)),
        Some((4143, 4140))
    );
    for (ports, expected) in [
        (serde_json::json!({"inbound": 4143, "outbound": 4143}), "transparent.inbound: `4143`"),
        (serde_json::json!({"inbound": 4143, "outbound": 4191}), "transparent.outbound: `4191`"),
        (serde_json::json!({"inbound": 0, "outbound": 4140}), "transparent.inbound: `0`"),
        (serde_json::Value::Null, "sourceAddress: `nothing`"),
    ] {
        let message = with(ports).unwrap_err();
        assert!(message.contains(expected), "{message}");
    }
}
