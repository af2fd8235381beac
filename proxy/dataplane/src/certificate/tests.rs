use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};

use super::*;

const ID: &str = "spiffe://cluster.local/ns/books/sa/authors";

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn params(names: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = names.iter().map(|name| uri(name)).collect();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    params
}

fn read(params: &CertificateParams) -> Result<Leaf, LeafError> {
    let key = KeyPair::generate().unwrap();
    Leaf::read(params.self_signed(&key).unwrap().der())
}

#[test]
fn tls_03_exactly_one_uri_that_is_a_spiffe_id() {
    assert_eq!(read(&params(&[ID])).unwrap().identity.as_str(), ID);
    assert_eq!(read(&params(&[])).unwrap_err(), LeafError::UriCount(0));
    assert_eq!(read(&params(&[ID, ID])).unwrap_err(), LeafError::UriCount(2));
    for bad in [
        "https://cluster.local/ns/books/sa/authors",
        "spiffe://cluster.local",
        "spiffe://cluster.local/",
    ] {
        assert!(matches!(read(&params(&[bad])), Err(LeafError::SpiffeId(_))), "{bad}");
    }
}

#[test]
fn tls_04_spiffe_ids_are_read_strictly() {
    for bad in [
        "spiffe://cluster.local/ns/%2e/sa/a",
        "spiffe://cluster.local/ns/../sa/a",
        "spiffe://cluster.local//a",
        "spiffe://cluster.local/a/",
        "spiffe://Cluster.local/a",
        "spiffe://cluster.local:1/a",
        "spiffe://u@cluster.local/a",
        "spiffe://cluster.local/a?b",
        "spiffe://cluster.local/a#b",
    ] {
        assert!(matches!(read(&params(&[bad])), Err(LeafError::SpiffeId(_))), "{bad}");
    }
}

#[test]
fn tls_05_a_leaf_signs_handshakes_and_nothing_else() {
    let mut ca = params(&[ID]);
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    assert!(matches!(read(&ca), Err(LeafError::Usage(_))));
    for usages in [
        vec![],
        vec![KeyUsagePurpose::KeyEncipherment],
        vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign],
        vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::CrlSign],
    ] {
        let mut wrong = params(&[ID]);
        wrong.key_usages.clone_from(&usages);
        assert!(matches!(read(&wrong), Err(LeafError::Usage(_))), "{usages:?}");
    }
}

#[test]
fn names_that_are_neither_uri_nor_dns_are_counted() {
    let mut more = params(&[ID]);
    more.subject_alt_names
        .push(SanType::DnsName("authors.books.sa.cluster.local".try_into().unwrap()));
    more.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
    let leaf = read(&more).unwrap();
    assert_eq!((leaf.dns_names.len(), leaf.other_names), (1, 1));
}

/// Made by an independent library: the extension 2.25.64835558526198205057169089973453751425 with a uid.
const WITH_POD_UID: &str = "\
     3082017c30820122a003020102020101300a06082a8648ce3d0403023000301e170d3236303130313030303030305a170d3236303230 \
     313030303030305a30003059301306072a8648ce3d020106082a8648ce3d030107034200043d789b4f9bc8807f96bf2c00ba36c13fa1 \
     2444bc7494c0671ac1f6750bbdfd6014fdc078804fad794550fd61ab622f3ee597bbb3aee2c08cdb80a709afe532f6a3818c30818930 \
     380603551d110101ff042e302c862a7370696666653a2f2f636c75737465722e6c6f63616c2f6e732f626f6f6b732f73612f61757468 \
     6f7273300e0603551d0f0101ff040403020780303d061369e1c6eff5c7b5b2baed90d6f5e0f9e1ba890104260c243062376536613363 \
     2d316630652d346335362d396135372d336332623861366631643031300a06082a8648ce3d0403020348003045022100b5c1a10480f2 \
     4045c112dc80fb0aa82a05db7c23238e14b4378c3b6b22bb1639022019764329a5818a27d2840ed050fd7a3500a639ea0352f0d2fd84 \
     faa5d9ebaf09 \
    ";

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect()
}

#[test]
fn the_pod_uid_is_read_from_its_extension() {
    let der = unhex(WITH_POD_UID);
    let leaf = Leaf::read(&der).unwrap();
    assert_eq!(leaf.pod_uid.as_deref(), Some("0b7e6a3c-1f0e-4c56-9a57-3c2b8a6f1d01"));
    // Honoured from our own issuers only.
    assert!(leaf.peer("cluster.local").pod_uid.is_some());
    assert!(leaf.peer("other.example").pod_uid.is_none());
    // One byte off is another extension, and says nothing.
    let at = der.windows(19).position(|window| window == POD_UID_OID).unwrap();
    let mut other = der.clone();
    other[at + 18] ^= 2;
    assert_eq!(Leaf::read(&other).unwrap().pod_uid, None);
}

#[test]
fn a_pod_uid_is_a_short_text() {
    assert_eq!(utf8_string(&[0x0c, 2, b'a', b'-']), Some("a-"));
    for bad in [
        &[][..],
        &[0x0c],
        &[0x0c, 0],
        &[0x0c, 2, b'a'],
        &[0x13, 1, b'a'],
        &[0x0c, 1, b' '],
        &[0x0c, 1, b'a', b'b'],
    ] {
        assert_eq!(utf8_string(bad), None, "{bad:?}");
    }
}

#[test]
fn what_is_no_certificate_is_refused() {
    assert_eq!(Leaf::read(b"").unwrap_err(), LeafError::Malformed);
    let key = KeyPair::generate().unwrap();
    let mut der = params(&[ID]).self_signed(&key).unwrap().der().to_vec();
    der.push(0);
    assert_eq!(Leaf::read(&der).unwrap_err(), LeafError::Malformed);
    for length in 0..der.len() - 1 {
        assert!(Leaf::read(&der[..length]).is_err());
    }
}
