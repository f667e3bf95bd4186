//! PURE: which names of a tree's entries can be in a build context.

/// Why a name is refused: the end of the sentence "the path … ".
pub(super) fn check(name: &[u8]) -> Result<&str, &'static str> {
    let Ok(name) = std::str::from_utf8(name) else { return Err("is not valid UTF-8") };
    match name {
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
    if is_dot_git(name) {
        return Err("has a segment that is, or that some file systems take for, .git");
    }
    Ok(name)
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
            assert_eq!(check(name.as_bytes()), Ok(name));
        }
    }
    #[test]
    fn names_that_are_no_names_are_refused() {
        for name in [&b""[..], b".", b"..", b"a\0b", b"a/b", b"/", b"\xff\xfe"] {
            assert!(check(name).is_err(), "{name:?}");
        }
    }
}
