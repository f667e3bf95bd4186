//! What BuildKit is sent of a context, and what it is refused.

use super::*;

fn metadata(pairs: &[(&'static str, &[u8])]) -> MetadataMap {
    let mut headers = http::HeaderMap::new();
    for (key, value) in pairs {
        headers.append(*key, http::HeaderValue::from_bytes(value).expect("a header"));
    }
    MetadataMap::from_headers(headers)
}

#[test]
fn patterns_are_read_as_raw_bytes_from_old_engines() {
    let sent = metadata(&[("exclude-patterns", "geheim-ä".as_bytes()), ("exclude-patterns", b"a+b %41")]);
    assert_eq!(values(&sent, "exclude-patterns").expect("readable"), ["geheim-ä", "a+b %41"]);
    assert!(values(&sent, "include-patterns").expect("none").is_empty());
}

#[test]
fn patterns_are_decoded_where_new_engines_say_that_they_encoded_them() {
    let sent =
        metadata(&[("exclude-patterns", b"geheim-%C3%A4"), ("exclude-patterns", b"a%2Bb+c"), ("exclude-patterns-encoded", b"1")]);
    assert_eq!(values(&sent, "exclude-patterns").expect("readable"), ["geheim-ä", "a+b c"]);
}

#[test]
fn patterns_that_are_no_text_are_refused() {
    let sent = metadata(&[("exclude-patterns", b"\xff\xfe")]);
    assert_eq!(values(&sent, "exclude-patterns").expect_err("no text").code(), tonic::Code::InvalidArgument);
}

#[test]
fn entries_have_one_owner_and_one_of_four_modes() {
    let entry = |content: Content| stat(&ContextEntry { path: "p".into(), size: 3, mtime_ns: 7, content });
    let bytes = || Arc::new(b"abc".to_vec());
    let cases = [
        (Content::Directory, MODE_DIRECTORY | 0o755),
        (Content::Inline { bytes: bytes(), executable: false }, 0o644),
        (Content::Inline { bytes: bytes(), executable: true }, 0o755),
        (Content::Symlink { target: "abc".into() }, MODE_SYMLINK | 0o777),
    ];
    for (content, mode) in cases {
        let stat = entry(content).stat.expect("a stat");
        assert_eq!((stat.mode, stat.uid, stat.gid, stat.size, stat.mod_time), (mode, 0, 0, 3, 7));
    }
    let link = entry(Content::Symlink { target: "abc".into() }).stat.expect("a stat");
    assert_eq!(link.linkname, "abc");
}
