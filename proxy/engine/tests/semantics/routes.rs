//! Semantics R2, R3, V2 and V5: how matches read a request, and which route is selected.

use engine::{
    Reason,
    condition::Rigour,
    gate::PathMode,
    pattern::Pattern,
    route::{Match, NamedMatch, PathTest, PathText, Route, RouteKind, ValueTest},
    rows::Access,
};

use super::*;

fn of(path: PathTest) -> Match {
    Match { path, method: None, headers: Box::default(), query: Box::default() }
}

fn route(kind: RouteKind, hosts: &[&str], matches: Vec<Match>) -> Route {
    Route {
        name: "r".into(),
        origin: "o".into(),
        kind,
        hosts: hosts.iter().map(|host| Box::from(*host)).collect(),
        rules: vec![matches.into_boxed_slice()].into_boxed_slice(),
    }
}

pub(super) fn one(matched: Match) -> Route {
    route(RouteKind::Http, &[], vec![matched])
}

pub(super) fn prefix(path: &str) -> Route {
    one(of(PathTest::Prefix(PathText::new(path))))
}

fn regex(text: &str) -> PathTest {
    PathTest::Regex(Pattern::parse(text).unwrap())
}

fn last(method: &str) -> PathTest {
    PathTest::LastSegment(PathText::new(method))
}

#[test]
fn v5_a_grant_needs_the_normal_form_and_a_refusal_takes_the_folded_one() {
    let exact = PathTest::Exact(PathText::new("/S/m"));
    let prefix = PathTest::Prefix(PathText::new("/S"));
    for (test, same, folded, other) in [
        (&exact, "/S/m", "/s/M;x", "/s/m/n"),
        (&prefix, "/S/m", "/s;x/y", "/sx"),
        (&regex("/S/m|/s/m"), "/S/m", "/s/M", "/s/n"),
        (&regex("/S/.*"), "/S/m", "/S/m;x", "/t/m"),
        (&last("Get"), "/a/Get", "/a/gET", "/a/Get/x"),
    ] {
        let holds = |path: &str, rigour| test.holds(&request(&format!("GET {path}")), rigour);
        assert!(holds(same, Rigour::EveryValue) && holds(same, Rigour::AnyValue), "{same}");
        assert!(holds(folded, Rigour::AnyValue), "{folded}");
        assert!(!holds(other, Rigour::EveryValue) && !holds(other, Rigour::AnyValue), "{other}");
    }
    for (test, folded) in [(exact, "/s/M;x"), (prefix, "/s;x/y"), (last("Get"), "/a/gET")] {
        assert!(!test.holds(&request(&format!("GET {folded}")), Rigour::EveryValue), "{folded}");
    }
}

#[test]
fn r2_a_method_of_any_service_is_the_last_of_two_segments() {
    let opaque = GateProfile { path_mode: PathMode::Opaque, ..GateProfile::default() };
    let holds = |path: &str| {
        let head = format!("GET {path} HTTP/1.1\r\nhost: h\r\n\r\n");
        last("m").holds(&gate::http1(head.as_bytes(), &opaque).unwrap(), Rigour::EveryValue)
    };
    assert!(holds("/s/m"));
    for path in ["//m", "/m", "/s/m/", "/s/n/m", "/s/"] {
        assert!(!holds(path), "{path}");
    }
}

/// The routes attached in order of age; which one the request selects.
fn selected(routes: Vec<Route>, request: &CanonicalRequest) -> Option<u32> {
    let attached = (0..u32::try_from(routes.len()).unwrap()).collect();
    let port =
        PortRow { access: Access::AllUnauthenticated, routes: attached, ..PortRow::default() };
    let mut rows = workload(vec![], port);
    rows.routes = routes;
    let decision = ask(&as_x(rows), &Arrival::Http(request));
    assert_eq!(decision.route().is_none(), decision.reason() == Reason::NoRoute);
    decision.route()
}

#[test]
fn r3_the_path_decides_before_age() {
    let http = |path| route(RouteKind::Http, &[], vec![of(path)]);
    let exact = || http(PathTest::Exact(PathText::new("/a/b")));
    let get = request("GET /a/b");
    assert_eq!(selected(vec![prefix("/a/b"), http(regex("/a/.")), exact()], &get), Some(2));
    assert_eq!(selected(vec![prefix("/a/b"), http(regex("/a/."))], &get), Some(1));
    assert_eq!(selected(vec![http(regex("/.*")), http(regex("/a/.*"))], &get), Some(1));
    assert_eq!(selected(vec![http(regex("/a/.")), http(regex("/./b"))], &get), Some(0));
    assert_eq!(selected(vec![prefix("/"), prefix("/a"), prefix("/a")], &get), Some(1));
    assert_eq!(selected(vec![prefix("/c")], &get), None);
}

#[test]
fn r2_a_method_of_any_service_ranks_as_a_pattern_of_its_length() {
    let head = "POST /s/abc HTTP/1.1\r\nhost: h\r\ncontent-type: application/grpc\r\n\r\n";
    let call = gate::http1(head.as_bytes(), &GateProfile::default()).unwrap();
    let grpc = || route(RouteKind::Grpc, &[], vec![of(last("abc"))]);
    let http = |text: &str| route(RouteKind::Http, &[], vec![of(regex(text))]);
    let posted = |text: &str| one(Match { method: Some("POST".into()), ..of(regex(text)) });
    // Longer first, whoever is older.
    assert_eq!(selected(vec![grpc(), http("/s/.*")], &call), Some(1));
    assert_eq!(selected(vec![http(".*"), grpc()], &call), Some(1));
    // As long: a GRPCRoute counts as one that gives a method; then age.
    assert_eq!(selected(vec![http("/.*"), grpc()], &call), Some(1));
    assert_eq!(selected(vec![posted("/.*"), grpc()], &call), Some(0));
    assert_eq!(selected(vec![grpc(), posted("/.*")], &call), Some(0));
    assert_eq!(selected(vec![prefix("/s/abc"), grpc()], &call), Some(1));
}

#[test]
fn v2_a_match_asks_for_all_it_names() {
    let named = |name: &str| NamedMatch { name: name.into(), test: ValueTest::Exact("a".into()) };
    let path = || of(PathTest::Prefix(PathText::new("/")));
    let method = Match { method: Some("GET".into()), ..path() };
    let header = Match { headers: [named("x")].into(), ..path() };
    let query = Match { query: [named("k")].into(), ..path() };
    for (matched, holds, fails) in [
        (method, "GET / HTTP/1.1\r\n", "HEAD / HTTP/1.1\r\n"),
        (header, "GET / HTTP/1.1\r\nx: a\r\n", "GET / HTTP/1.1\r\nx: b\r\n"),
        (query, "GET /?k=a HTTP/1.1\r\n", "GET /?k=b HTTP/1.1\r\n"),
    ] {
        for (lines, expected) in [(holds, true), (fails, false)] {
            let head = format!("{lines}host: h\r\n\r\n");
            let read = gate::http1(head.as_bytes(), &GateProfile::default()).unwrap();
            let chosen = selected(vec![one(matched.clone())], &read);
            assert_eq!(chosen, expected.then_some(0), "{lines}");
            // A5: a Deny of the route refuses what its match matches, and nothing else.
            let port = PortRow { access: Access::AllUnauthenticated, ..PortRow::default() };
            let mut rows = workload(vec![on_route(0, rule(Effect::Deny))], port);
            rows.routes = vec![one(matched.clone())];
            let reason = ask(&as_x(rows), &Arrival::Http(&read)).reason();
            assert_eq!(reason == Reason::ExplicitDeny, expected, "{lines}");
        }
    }
}
