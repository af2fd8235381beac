//! The contract: never a panic, accepted means that what is forwarded reads back as the same request, and an
//! independent parser sees the same.

use proptest::prelude::*;

use super::super::{CanonicalRequest, GateProfile, PathMode, fold_path, http1, http2, normal_path};

fn profiles() -> impl Strategy<Value = GateProfile> {
    let mode = prop_oneof![Just(PathMode::Strict), Just(PathMode::Merge), Just(PathMode::Opaque)];
    (mode, any::<bool>(), any::<bool>()).prop_map(|(path_mode, websocket, lenient)| GateProfile {
        path_mode,
        websocket,
        lenient,
        policy_headers: vec!["x-env".to_owned()],
    })
}

/// Targets: mostly of pieces that pass, now and then of all that is odd.
fn target() -> impl Strategy<Value = String> {
    let good = ["/a", "/B", "/%41", "/%c3", "/.x", "/a;b", "/-", "/%25", "%7e", "c"];
    let odd = [
        "/", "//", "..", "/.", ";", "%2e", "%2F", "%25", "%zz", "%5C", "?", "x=1", "&", "#", " ",
        "\\", "http://a", "http://h", "*", "\u{e4}", "[", "+", "/a",
    ];
    let pieces = |from: Vec<&'static str>| prop::collection::vec(prop::sample::select(from), 0..8);
    prop_oneof![
        6 => pieces(good.to_vec()).prop_map(|pieces| format!("/{}", pieces.concat().trim_start_matches('/'))),
        1 => pieces(good.to_vec()).prop_map(|pieces| format!("/?{}", pieces.concat())),
        1 => pieces(odd.to_vec()).prop_map(|pieces| pieces.concat()),
        2 => pieces(odd.to_vec()).prop_map(|pieces| format!("/{}", pieces.concat())),
    ]
}

fn field() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "Host",
        "Content-Length",
        "Transfer-Encoding",
        "Connection",
        "TE",
        "Expect",
        "Upgrade",
        "Cookie",
        "X-Env",
        "x_env",
        "X-Policyd-A",
        "Content-Type",
        "A",
        "a b",
        "Sec-WebSocket-Key",
        "X-Forwarded-Client-Cert",
        "Keep-Alive",
        "Trailer",
    ]);
    let value = prop::sample::select(vec![
        "h",
        "H.:80",
        "5",
        "0",
        "05",
        "chunked",
        "close",
        "keep-alive, A",
        "upgrade",
        "trailers",
        "100-continue",
        "websocket",
        "h2c",
        "a=b",
        "",
        " x ",
        "\u{e4}",
        "application/grpc",
        "x-env",
        "TE, close",
    ]);
    (name, value).prop_map(|(name, value)| format!("{name}: {value}\r\n"))
}

/// Heads that are nearly right, so that many are accepted.
fn heads() -> impl Strategy<Value = String> {
    let method = prop::sample::select(vec![
        "GET", "POST", "PUT", "GET", "HEAD", "OPTIONS", "get", "TRACE", "BREW",
    ]);
    let version =
        prop::sample::select(vec!["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0"]);
    (method, target(), version, prop::collection::vec(field(), 0..4)).prop_map(
        |(method, target, version, fields)| {
            format!(
                "{method} {target} {version}\r\nHost: h\r\n{}\r\n",
                fields.concat().replace("Host: h\r\n", "")
            )
        },
    )
}

fn written(request: &CanonicalRequest) -> Vec<u8> {
    let mut out = Vec::new();
    request.write_http1_head(&mut out);
    out
}

/// What `httparse` makes of a head: method, target and fields without blanks around the values.
fn oracle(head: &[u8]) -> (String, String, Vec<(String, Vec<u8>)>) {
    let mut fields = [httparse::EMPTY_HEADER; 128];
    let mut request = httparse::Request::new(&mut fields);
    assert_eq!(request.parse(head), Ok(httparse::Status::Complete(head.len())));
    let pair =
        |field: &httparse::Header<'_>| (field.name.to_owned(), field.value.trim_ascii().to_owned());
    let fields = request.headers.iter().map(pair).collect();
    (request.method.unwrap().to_owned(), request.path.unwrap().to_owned(), fields)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_the_gate_panic(head in prop::collection::vec(any::<u8>(), 0..200), profile in profiles()) {
        let _ = http1(&head, &profile);
        let fields: Vec<_> = head.chunks(7).map(|chunk| chunk.split_at(chunk.len() / 2)).collect();
        let _ = http2(&fields, &profile);
        let text = String::from_utf8_lossy(&head);
        let _ = (normal_path(&text), fold_path(&text));
    }

    #[test]
    fn accepted_means_that_what_is_forwarded_reads_back_the_same(head in heads(), profile in profiles()) {
        if let Ok(request) = http1(head.as_bytes(), &profile) {
            let once = written(&request);
            let again = http1(&once, &profile);
            prop_assert_eq!(again.as_ref(), Ok(&request), "{}", once.escape_ascii());
            prop_assert_eq!(written(&again.unwrap()), once);
        }
    }

    #[test]
    fn an_independent_parser_reads_the_same_request(head in heads(), profile in profiles()) {
        if let Ok(request) = http1(head.as_bytes(), &profile) && request.unread().is_none() {
            let (method, target, fields) = oracle(&written(&request));
            prop_assert_eq!(method, request.method());
            prop_assert_eq!(target, request.target());
            let hop = ["host", "te", "connection", "upgrade", "transfer-encoding"];
            let (own, rest): (Vec<_>, Vec<_>) = fields.into_iter().partition(|(name, _)| hop.contains(&name.as_str()));
            prop_assert_eq!(&own[0], &("host".to_owned(), request.authority().as_bytes().to_vec()));
            let expected: Vec<_> = request.fields().map(|(name, value)| (name.to_owned(), value.to_vec())).collect();
            prop_assert_eq!(rest, expected);
        }
    }

    #[test]
    fn normal_forms_are_their_own_normal_form(path in target()) {
        if let Ok(normal) = normal_path(&path) {
            let again = normal_path(&normal);
            prop_assert_eq!(again.as_deref(), Ok(normal.as_ref()));
            let folded = fold_path(&normal);
            prop_assert_eq!(&fold_path(&folded), &folded);
        }
    }

    #[test]
    fn a_lenient_gate_accepts_what_a_strict_one_accepts(head in heads()) {
        let strict = http1(head.as_bytes(), &GateProfile::default());
        let lenient = http1(head.as_bytes(), &GateProfile { lenient: true, ..GateProfile::default() });
        match (strict, lenient) {
            (Ok(strict), Ok(lenient)) if lenient.unread().is_none() => {
                let forwarded = |name: &str| name != "x-forwarded-client-cert";
                let fields = |request: &CanonicalRequest| {
                    request.fields().filter(|(name, _)| forwarded(name)).map(|(name, value)| (name.to_owned(), value.to_vec())).collect::<Vec<_>>()
                };
                prop_assert_eq!(strict.target(), lenient.target());
                prop_assert_eq!(fields(&strict), fields(&lenient));
            }
            (Ok(_), Err(refusal)) => prop_assert!(false, "{refusal}"),
            _ => {}
        }
    }
}

#[test]
fn the_generator_makes_heads_that_are_accepted() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut accepted = 0;
    for _ in 0..1000 {
        let head = heads().new_tree(&mut runner).unwrap().current();
        accepted += usize::from(http1(head.as_bytes(), &GateProfile::default()).is_ok());
    }
    assert!(accepted > 200, "{accepted} of 1000");
}
