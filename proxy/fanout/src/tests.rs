//! Certificates for tests, and what a certificate must be to be taken up.

use super::*;

fn root() -> (rcgen::Certificate, rcgen::Issuer<'static, rcgen::KeyPair>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    let certificate = params.self_signed(&key).unwrap();
    (certificate, rcgen::Issuer::new(params, key))
}

/// Key, chain and roots, in DER.
type Material = (Vec<u8>, Vec<Vec<u8>>, Vec<Vec<u8>>);

fn material() -> Material {
    let (certificate, issuer) = root();
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["policyd.test".to_owned()]).unwrap();
    let leaf = params.signed_by(&key, &issuer).unwrap();
    (key.serialize_der(), vec![leaf.der().to_vec()], vec![certificate.der().to_vec()])
}

pub(crate) fn credentials() -> Credentials {
    let (key, chain, roots) = material();
    Credentials::new(&key, chain, roots).unwrap()
}

#[test]
fn key_chain_and_roots_belong_together() {
    let (key, chain, roots) = material();
    let (another, ..) = material();
    let fanout = Fanout::new(Times::default()).unwrap();
    assert!(fanout.adopt(&another, chain.clone(), roots.clone()).is_err());
    assert!(fanout.adopt(&key, chain.clone(), Vec::new()).is_err());
    assert!(fanout.adopt(&key, Vec::new(), roots.clone()).is_err());
    assert!(fanout.adopt(&key, chain, roots).is_ok());
}

#[test]
fn a_port_in_use_is_an_error_and_a_closed_one_is_free_again() {
    let fanout = Fanout::new(Times::default()).unwrap();
    let address = fanout.listen("127.0.0.1", 0, 8).unwrap();
    let another = Fanout::new(Times::default()).unwrap();
    let taken = another.listen("127.0.0.1", address.port(), 8).unwrap_err();
    assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
    fanout.close(Duration::from_secs(5));
    assert!(fanout.listen("127.0.0.1", 0, 8).is_err());
    assert!(another.listen("127.0.0.1", address.port(), 8).is_ok());
}
