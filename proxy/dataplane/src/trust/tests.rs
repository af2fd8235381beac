use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};

use super::*;
use crate::generated::TrustBundle;

pub(crate) const ID: &str = "spiffe://cluster.local/ns/books/sa/authors";
/// 2026-01-10, within the life of every certificate below but those that say otherwise.
pub(crate) const NOW: i64 = 1_768_003_200_000;

pub(crate) type Authority = CertifiedIssuer<'static, KeyPair>;

/// A root of its own.
pub(crate) fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

pub(crate) fn leaf_params(id: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    params.not_before = date_time_ymd(2026, 1, 9);
    params.not_after = date_time_ymd(2026, 1, 20);
    params
}

/// For what is verified as of the real now.
pub(crate) fn long_lived(id: &str) -> CertificateParams {
    let mut params = leaf_params(id);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2120, 1, 1);
    params
}

pub(crate) fn issue(
    params: &CertificateParams,
    authority: &Authority,
) -> (Vec<CertificateDer<'static>>, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let der = params.signed_by(&key, authority).unwrap().der().clone();
    (vec![der], key)
}

pub(crate) fn bundles(trust_domain: &str, authority: &Authority) -> Bundles {
    Bundles::from_roots(trust_domain, &[authority.der().clone()]).unwrap()
}

#[test]
fn a_chain_verifies_under_its_own_trust_domain_only() {
    let (ours, theirs) = (authority("ours"), authority("theirs"));
    let (chain, _) = issue(&leaf_params(ID), &ours);
    let trusted = bundles("cluster.local", &ours);
    assert_eq!(trusted.verify(&chain, Role::Client, NOW).unwrap().identity.as_str(), ID);
    // TLS-02: another authority.
    let (stranger, _) = issue(&leaf_params(ID), &theirs);
    let error = trusted.verify(&stranger, Role::Client, NOW).unwrap_err();
    assert!(
        matches!(error, TrustError::Chain { problem: webpki::Error::UnknownIssuer, .. }),
        "{error}"
    );
    // TLS-06: our root vouches for nobody else's trust domain.
    let (foreign, _) = issue(&leaf_params("spiffe://other.example/ns/a/sa/b"), &ours);
    let error = trusted.verify(&foreign, Role::Client, NOW).unwrap_err();
    assert_eq!(error, TrustError::UnknownTrustDomain("other.example".to_owned()));
}

#[test]
fn i8_it_must_be_the_one_expected() {
    let ours = authority("ours");
    let (chain, _) = issue(&leaf_params(ID), &ours);
    let trusted = bundles("cluster.local", &ours);
    assert!(trusted.verify_as(&chain, Role::Server, NOW, ID).is_ok());
    let error = trusted.verify_as(&chain, Role::Server, NOW, &format!("{ID}x")).unwrap_err();
    assert!(matches!(error, TrustError::Unexpected { .. }));
}

#[test]
fn tls_07_expiry_is_exact_and_the_beginning_forgives_a_minute() {
    let ours = authority("ours");
    let (chain, _) = issue(&leaf_params(ID), &ours);
    let trusted = bundles("cluster.local", &ours);
    let begin = 1_767_916_800_000; // 2026-01-09
    let end = 1_768_867_200_000; // 2026-01-20
    assert!(trusted.verify(&chain, Role::Client, begin - 30_000).is_ok());
    assert!(trusted.verify(&chain, Role::Client, begin - 600_000).is_err());
    assert!(trusted.verify(&chain, Role::Client, end - 1_000).is_ok());
    let error = trusted.verify(&chain, Role::Client, end + 1_000).unwrap_err();
    assert!(
        matches!(error, TrustError::Chain { problem: webpki::Error::CertExpired { .. }, .. }),
        "{error}"
    );
}

#[test]
fn tls_05_a_certificate_for_the_other_end_is_refused() {
    let ours = authority("ours");
    let mut server_only = leaf_params(ID);
    server_only.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let (chain, _) = issue(&server_only, &ours);
    let trusted = bundles("cluster.local", &ours);
    assert!(trusted.verify(&chain, Role::Server, NOW).is_ok());
    assert!(trusted.verify(&chain, Role::Client, NOW).is_err());
}

#[test]
fn tls_08_long_chains_are_not_even_looked_at() {
    let ours = authority("ours");
    let (chain, _) = issue(&leaf_params(ID), &ours);
    let long = vec![chain[0].clone(); 5];
    let error = bundles("cluster.local", &ours).verify(&long, Role::Client, NOW).unwrap_err();
    assert!(matches!(error, TrustError::ChainTooLong { certificates: 5, .. }));
    let big = vec![chain[0].clone(), CertificateDer::from(vec![0; 16 * 1024])];
    let error = bundles("cluster.local", &ours).verify(&big, Role::Client, NOW).unwrap_err();
    assert!(matches!(error, TrustError::ChainTooLong { certificates: 2, .. }));
}

#[test]
fn bundles_without_our_own_trust_domain_are_refused() {
    let ours = authority("ours");
    let bundle = |trust_domain: &str, roots: Vec<Vec<u8>>| TrustBundle {
        trust_domain: trust_domain.to_owned(),
        roots,
    };
    let message = |bundles: Vec<TrustBundle>| TrustBundles { sequence: 3, bundles };
    let root = ours.der().to_vec();
    let good =
        message(vec![bundle("cluster.local", vec![root.clone()]), bundle("gone.example", vec![])]);
    assert_eq!(Bundles::new(&good, "cluster.local").unwrap().sequence(), 3);
    for bad in [
        message(vec![]),
        message(vec![bundle("other.example", vec![root.clone()])]),
        message(vec![bundle("cluster.local", vec![])]),
        message(vec![
            bundle("cluster.local", vec![root.clone()]),
            bundle("cluster.local", vec![root]),
        ]),
        message(vec![bundle("cluster.local", vec![b"no certificate".to_vec()])]),
    ] {
        assert!(Bundles::new(&bad, "cluster.local").is_err());
    }
}

/// Under `root`, with an end of its own.
fn intermediate(root: &Authority) -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "intermediate");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2026, 1, 15);
    CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), root).unwrap()
}

#[test]
fn a_verified_chain_is_known_by_its_bytes_its_role_and_its_time() {
    let root = authority("root");
    let middle = intermediate(&root);
    let (mut chain, _) = issue(&leaf_params(ID), &middle);
    chain.push(middle.der().clone());
    let trusted = bundles("cluster.local", &root);
    let known = |chain: &[CertificateDer<'_>], role, at| {
        trusted.verified.get(&mark(chain, role), at).map(|leaf| leaf.identity.to_string())
    };
    assert_eq!(known(&chain, Role::Client, NOW), None);
    for _ in 0..2 {
        trusted.verify(&chain, Role::Client, NOW).unwrap();
        assert_eq!(known(&chain, Role::Client, NOW), Some(ID.to_owned()));
    }
    assert_eq!(known(&chain, Role::Server, NOW), None);
    assert_eq!(known(&chain[..1], Role::Client, NOW), None);
    assert!(trusted.verify(&chain[..1], Role::Client, NOW).is_err());
    // The intermediate has ended, the leaf hasn't.
    let late = 1_768_550_400_000; // 2026-01-16
    assert_eq!(known(&chain, Role::Client, late), None);
    assert!(trusted.verify(&chain, Role::Client, late).is_err());
    assert!(trusted.verify(&chain, Role::Client, NOW).is_ok());
    // Other roots know nothing of it.
    let other = bundles("cluster.local", &authority("another root"));
    assert!(other.verify(&chain, Role::Client, NOW).is_err());
}

#[test]
fn no_bit_of_a_verified_chain_may_change() {
    let root = authority("root");
    let middle = intermediate(&root);
    let (mut chain, _) = issue(&leaf_params(ID), &middle);
    chain.push(middle.der().clone());
    let trusted = bundles("cluster.local", &root);
    trusted.verify(&chain, Role::Client, NOW).unwrap();
    for certificate in 0..chain.len() {
        for byte in (0..chain[certificate].len()).step_by(7) {
            let mut bytes = chain[certificate].to_vec();
            bytes[byte] ^= 1;
            let mut changed = chain.clone();
            changed[certificate] = CertificateDer::from(bytes);
            let believed = trusted.verify(&changed, Role::Client, NOW).is_ok();
            assert!(!believed, "certificate {certificate}, byte {byte}");
        }
    }
}

#[test]
fn p_13_as_many_chains_are_remembered_as_the_bound_says() {
    let root = authority("root");
    let (chain, _) = issue(&leaf_params(ID), &root);
    let leaf = Leaf::read(&chain[0]).unwrap();
    let verified = verified::Verified::default();
    for number in 0..=limits::VERIFIED_CHAINS {
        let mut mark = verified::Mark::default();
        mark[..8].copy_from_slice(&number.to_be_bytes());
        verified.put(mark, &chain, &leaf);
        assert!(verified.get(&mark, NOW).is_some());
        assert!(verified.len() <= limits::VERIFIED_CHAINS);
    }
}
