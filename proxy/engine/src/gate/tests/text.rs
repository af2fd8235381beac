//! Normal forms of what policies say.

use super::super::{fold_path, normal_host, normal_path};

#[test]
fn v5_a_policys_path_is_borrowed_where_it_is_in_normal_form() {
    use std::borrow::Cow;
    for path in ["/", "/a/b", "/a/", "/a;x", "/%C3%A4", "/a:b@c!$&'()*+,="] {
        assert!(matches!(normal_path(path), Ok(Cow::Borrowed(same)) if same == path), "{path}");
    }
    assert_eq!(normal_path("/%41/%c3").as_deref(), Ok("/A/%C3"));
    for path in
        ["", "a", "*", "/a b", "/..", "//", "/%2f", "/a?b", "/a#b", "/%0", "/\u{e4}", "/%252f"]
    {
        assert!(normal_path(path).is_err(), "{path}");
    }
}

#[test]
fn v6_a_policys_host() {
    assert_eq!(normal_host("A.b.").as_deref(), Ok("a.b"));
    assert_eq!(normal_host("[::0:1]").as_deref(), Ok("[::1]"));
    for host in ["", "a:80", "*.a", "a b", "a/b", "[::1]:80"] {
        assert!(normal_host(host).is_err(), "{host}");
    }
}

#[test]
fn v5_folded_paths() {
    for (path, folded) in [
        ("/", "/"),
        ("/A/B", "/a/b"),
        ("/a/", "/a"),
        ("/a;x/b;y=1", "/a/b"),
        ("/;x", "/"),
        ("/a/;x", "/a"),
        ("*", "*"),
        ("/%C3;%41", "/%c3"),
        ("/a;/", "/a"),
        ("", ""),
    ] {
        assert_eq!(fold_path(path), folded, "{path}");
    }
}
