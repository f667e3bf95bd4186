//! PURE: which names of a tree's entries can be in a build context.

use std::borrow::Cow;

/// The name as it is shown and matched: bytes that are no UTF-8 become `\xe9`.
/// `Err`: why it is refused, the end of the sentence "the path … ". git itself checks out no such name.
pub(super) fn check(name: &[u8]) -> Result<Cow<'_, str>, &'static str> {
    let (raw, name) = (name, text(name));
    match &*name {
        "" => return Err("has an empty segment"),
        "." | ".." => return Err("has a segment \".\" or \"..\""),
        _ => {}
    }
    if name.contains('\0') {
        return Err("has a NUL character");
    }
    if name.contains('/') {
        return Err("has a slash inside a name");
    }
    if is_dot_git(&String::from_utf8_lossy(raw)) {
        return Err("has a segment that is, or that some file systems take for, .git");
    }
    Ok(name)
}

fn text(name: &[u8]) -> Cow<'_, str> {
    if let Ok(name) = std::str::from_utf8(name) {
        return Cow::Borrowed(name);
    }
    let mut text = String::new();
    for chunk in name.utf8_chunks() {
        text.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
    }
    Cow::Owned(text)
}

/// `.git` in any case and in the disguises that git itself refuses (path.c, `verify_dotfile`, `is_hfs_dotgit`, `is_ntfs_dotgit`): code points
/// that HFS+ ignores, the NTFS short name, trailing dots and spaces, streams, and a backslash that Windows takes for a separator.
/// A backslash alone is data: the context is built on Linux.
fn is_dot_git(name: &str) -> bool {
    let visible: String = name.chars().filter(|c| !hfs_ignores(*c)).collect();
    visible.split('\\').any(|part| {
        let part = part.split(':').next().unwrap_or_default().trim_end_matches(['.', ' ']);
        part.eq_ignore_ascii_case(".git") || part.eq_ignore_ascii_case("git~1")
    })
}

fn hfs_ignores(c: char) -> bool {
    matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dot_git_is_refused_in_every_disguise() {
        for name in [
            ".git",
            ".GIT",
            ".Git",
            ".git ",
            ".git.",
            ".git. .",
            "git~1",
            "GIT~1",
            ".git::$INDEX_ALLOCATION",
            ".git:x",
            "a\\.git",
            ".git\\config",
            ".g\u{200c}it",
            "\u{feff}.git",
            ".git\u{200d}",
        ] {
            assert!(check(name.as_bytes()).is_err(), "{name:?}");
        }
    }
    #[test]
    fn names_that_only_look_like_it_are_names() {
        for name in [
            ".gitignore",
            ".gitmodules",
            "git",
            ".git-blame",
            "git~2",
            "a.git",
            "x.git ",
            "a\\b",
            "…",
            " ",
            "a:b",
            "CON",
            "...",
            "\u{200c}",
        ] {
            assert_eq!(check(name.as_bytes()), Ok(Cow::Borrowed(name)));
        }
    }
    #[test]
    fn a_name_that_is_no_utf8_is_shown_by_its_bytes() {
        assert_eq!(check(b"caf\xe9.txt").as_deref(), Ok("caf\\xe9.txt"));
    }
    #[test]
    fn names_that_are_no_names_are_refused() {
        for name in [&b""[..], b".", b"..", b"a\0b", b"a/b", b"/", b"\xff/", b".git\x00"] {
            assert!(check(name).is_err(), "{name:?}");
        }
    }
}
