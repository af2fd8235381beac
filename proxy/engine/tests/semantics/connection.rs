//! Semantics I9, W5 and D1: who is at the other end.

use engine::{
    Reason,
    rows::{Access, Revocation, Revoked},
};

use super::*;

fn reason(revoked: Revocation, peer: Peer) -> Reason {
    let port = PortRow { access: Access::AllUnauthenticated, ..PortRow::default() };
    let rows = ClusterRows { revoked: vec![revoked], ..cluster() };
    ask(&connect(rows, workload(vec![], port), "10.0.0.1", Some(peer)), &Arrival::Bytes).reason()
}

#[test]
fn i9_a_revocation_names_an_identity_a_pod_or_a_certificate() {
    let of = |whom| Revocation { whom, issued_before: None };
    let pod = |uid: &str| Peer { pod_uid: Some(uid.into()), ..peer(X) };
    let certificate = |byte| Peer { certificate_sha256: [byte; 32], ..peer(X) };
    let identity = || Revoked::Identity(SpiffeId::parse(X).unwrap());
    for (whom, hit, miss) in [
        (identity(), peer(X), peer("spiffe://td/ns/a/sa/y")),
        (Revoked::PodUid("u".into()), pod("u"), pod("v")),
        (Revoked::PodUid("u".into()), pod("u"), peer(X)),
        (Revoked::Certificate([7; 32]), certificate(7), certificate(8)),
    ] {
        assert_eq!(reason(of(whom.clone()), hit), Reason::PeerRejected, "{whom:?}");
        assert_eq!(reason(of(whom.clone()), miss), Reason::Allowed, "{whom:?}");
    }
}

#[test]
fn i9_issued_before_is_strict() {
    let whom = Revoked::Identity(SpiffeId::parse(X).unwrap());
    let revoked = Revocation { whom, issued_before: Some(Timestamp(500)) };
    for (not_before, expected) in
        [(499, Reason::PeerRejected), (500, Reason::Allowed), (501, Reason::Allowed)]
    {
        let peer = Peer { not_before: Timestamp(not_before), ..peer(X) };
        assert_eq!(reason(revoked.clone(), peer), expected, "{not_before}");
    }
}

#[test]
fn i9_an_identity_ends_at_not_after() {
    let whom = Revoked::PodUid("another".into());
    let other = Revocation { whom, issued_before: None };
    for (not_after, expected) in [
        (NOW.0 - 1, Reason::PeerRejected),
        (NOW.0, Reason::PeerRejected),
        (NOW.0 + 1, Reason::Allowed),
    ] {
        let peer = Peer { not_after: Timestamp(not_after), ..peer(X) };
        assert_eq!(reason(other.clone(), peer), expected, "{not_after}");
    }
}

#[test]
fn w8_a_new_table_judges_the_same_connection() {
    let open = PortRow { access: Access::AllUnauthenticated, ..PortRow::default() };
    let closed = Arc::new(Table::new(cluster(), workload(vec![], PortRow::default())).unwrap());
    let connection = connect(cluster(), workload(vec![], open), "::ffff:10.0.0.1", Some(peer(X)));
    assert_eq!(ask(&connection, &Arrival::Bytes).reason(), Reason::Allowed);
    let connection = connection.on(Arc::clone(&closed), Arc::new(Facts::default()));
    assert_eq!(ask(&connection, &Arrival::Bytes).reason(), Reason::NoMatchingRule);
    assert!(Arc::ptr_eq(connection.table(), &closed));
    assert_eq!(connection.port_number(), 8080);
    assert_eq!(connection.source(), IpAddr::from([10, 0, 0, 1]));
    assert_eq!(connection.peer().map(|peer| peer.identity.as_str()), Some(X));
}
