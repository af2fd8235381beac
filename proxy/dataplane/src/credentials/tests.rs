use rcgen::{CertificateParams, SanType};

use super::*;
use crate::clock;
use crate::trust::tests::{Authority, ID, authority, bundles, issue, leaf_params, long_lived};

pub(crate) fn own(identity: &str) -> Own {
    Own { identity: identity.to_owned(), server_name: "authors.books.sa.cluster.local".to_owned() }
}

pub(crate) fn stored(params: &CertificateParams, authority: &Authority) -> KeyAndChain {
    let (chain, key) = issue(params, authority);
    let chain = chain.iter().map(|certificate| certificate.to_vec()).collect();
    KeyAndChain { key: key.serialize_der(), chain }
}

fn check(stored: &KeyAndChain, authority: &Authority) -> Result<Credentials, InvalidCredentials> {
    let bundles = bundles("cluster.local", authority);
    let trust = Arc::new(Trust::new(Bundles::default()));
    stored.check(&own(ID), &bundles, &trust, clock::now_millis())
}

#[test]
fn a_certificate_of_ours_is_used() {
    let root = authority("root");
    let mut named = long_lived(ID);
    named
        .subject_alt_names
        .push(SanType::DnsName("authors.books.sa.cluster.local".try_into().unwrap()));
    assert_eq!(check(&stored(&named, &root), &root).unwrap().leaf.identity.as_str(), ID);
}

#[test]
fn tls_18_what_is_not_ours_is_refused() {
    let root = authority("root");
    let good = stored(&long_lived(ID), &root);
    let another_key = KeyAndChain { key: stored(&long_lived(ID), &root).key, ..good.clone() };
    let another_root = stored(&long_lived(ID), &authority("root"));
    let another_identity = stored(&long_lived("spiffe://cluster.local/ns/books/sa/webapp"), &root);
    let expired = stored(&leaf_params(ID), &root);
    let mut wider = long_lived(ID);
    wider
        .subject_alt_names
        .push(SanType::DnsName("webapp.books.sa.cluster.local".try_into().unwrap()));
    let mut addressed = long_lived(ID);
    addressed.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
    let no_key = KeyAndChain { key: Vec::new(), ..good.clone() };
    let no_chain = KeyAndChain { chain: Vec::new(), ..good };
    let cases = [
        ("another key", another_key),
        ("another root", another_root),
        ("another identity", another_identity),
        ("expired", expired),
        ("another name", stored(&wider, &root)),
        ("an address", stored(&addressed, &root)),
        ("no key", no_key),
        ("no chain", no_chain),
    ];
    for (what, stored) in cases {
        let error = check(&stored, &root).expect_err(what).to_string();
        assert!(error.starts_with("ISSUED_CERT_INVALID: "), "{what}: {error}");
    }
}

#[test]
fn what_was_kept_is_used_again_and_what_is_broken_is_set_aside() {
    let root = authority("root");
    let folder = std::env::temp_dir().join(format!("policyd-svid-{}", uuid::Uuid::now_v7()));
    let state = StateDir::open(&folder).unwrap();
    let trust = Arc::new(Trust::new(bundles("cluster.local", &root)));
    let kept_now = || kept(&state, &own(ID), &trust, clock::now_millis());
    assert!(kept_now().unwrap().is_none());
    stored(&long_lived(ID), &root).keep(&state).unwrap();
    assert!(kept_now().unwrap().is_some());
    state.write("svid", b"\xff\xff").unwrap();
    assert!(kept_now().is_err());
    assert!(kept_now().unwrap().is_none());
    std::fs::remove_dir_all(folder).unwrap();
}
