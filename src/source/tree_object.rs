//! PURE: the bytes of a tree object, read into its entries: `mode SP name NUL id`, again and again (gitformat, "tree object").

use std::borrow::Cow;

use git2::Oid;

use super::name;
use crate::source::EntryKind;

const ID_BYTES: usize = 20;

/// One entry as it stands in the tree, its name checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item<'t> {
    pub(super) name: Cow<'t, str>,
    pub(super) is_utf8: bool,
    pub(super) kind: EntryKind,
    pub(super) id: Oid,
}

/// Why a tree cannot be built from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BadEntry {
    /// As far as it can be shown.
    pub(super) name: String,
    pub(super) why: &'static str,
}

/// The entries, sorted by name bytes (git itself sorts a directory as if its name ended with a slash).
pub(super) fn parse(bytes: &[u8]) -> Result<Vec<Item<'_>>, BadEntry> {
    let mut items = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (item, after) = entry(rest)?;
        items.push(item);
        rest = after;
    }
    items.sort_unstable_by(|a: &Item<'_>, b| a.name.as_bytes().cmp(b.name.as_bytes()));
    if let Some(pair) = items.windows(2).find(|pair| pair[0].name == pair[1].name) {
        return Err(BadEntry { name: pair[0].name.to_string(), why: "is there twice" });
    }
    Ok(items)
}

fn entry(bytes: &[u8]) -> Result<(Item<'_>, &[u8]), BadEntry> {
    let torn = || BadEntry { name: String::new(), why: "cannot be read: the tree object is malformed" };
    let space = bytes.iter().take(8).position(|b| *b == b' ').ok_or_else(torn)?;
    let after_mode = &bytes[space + 1..];
    let end = after_mode.iter().position(|b| *b == 0).ok_or_else(torn)?;
    let raw = &after_mode[..end];
    let after_name = &after_mode[end + 1..];
    let (id, after) = after_name.split_at_checked(ID_BYTES).ok_or_else(torn)?;
    let bad = |why| BadEntry { name: String::from_utf8_lossy(raw).into_owned(), why };
    let name = name::check(raw).map_err(bad)?;
    let kind = kind(&bytes[..space]).ok_or_else(|| bad("has a mode that git does not know"))?;
    let id = Oid::from_bytes(id).map_err(|_| torn())?;
    let is_utf8 = std::str::from_utf8(raw).is_ok();
    Ok((Item { name, is_utf8, kind, id }, after))
}

/// The modes that git has ever written; 100664 is of its first days.
fn kind(mode: &[u8]) -> Option<EntryKind> {
    match mode {
        b"40000" | b"040000" => Some(EntryKind::Directory),
        b"100644" | b"100664" => Some(EntryKind::File { executable: false }),
        b"100755" => Some(EntryKind::File { executable: true }),
        b"120000" => Some(EntryKind::Symlink),
        b"160000" => Some(EntryKind::Submodule),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn raw(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (mode, name) in entries {
            out.extend_from_slice(mode.as_bytes());
            out.push(b' ');
            out.extend_from_slice(name);
            out.push(0);
            out.extend_from_slice(&[7; ID_BYTES]);
        }
        out
    }

    #[test]
    fn siblings_come_by_name_bytes_not_in_gits_order() {
        // git writes a.c before the directory a ("a/")
        let bytes = raw(&[("100644", b"a.c"), ("40000", b"a")]);
        let names: Vec<_> = parse(&bytes).expect("a tree").into_iter().map(|i| i.name).collect();
        assert_eq!(names, ["a", "a.c"]);
    }
    #[test]
    fn every_kind_is_told_apart() {
        let bytes = raw(&[("100644", b"a"), ("100755", b"b"), ("120000", b"c"), ("160000", b"d"), ("40000", b"e")]);
        let kinds: Vec<_> = parse(&bytes).expect("a tree").into_iter().map(|i| i.kind).collect();
        use EntryKind::*;
        assert_eq!(kinds, [File { executable: false }, File { executable: true }, Symlink, Submodule, Directory]);
    }
    #[test]
    fn a_name_that_is_there_twice_is_refused_also_as_file_and_directory() {
        for modes in [("100644", "100644"), ("100644", "40000")] {
            let bytes = raw(&[(modes.0, b"a"), ("100644", b"a.c"), (modes.1, b"a")]);
            assert_eq!(parse(&bytes).expect_err("refused").why, "is there twice");
        }
    }
    #[test]
    fn an_unknown_mode_is_refused() {
        for mode in ["100600", "0", "010000", "60000", "140000"] {
            assert!(parse(&raw(&[(mode, b"a")])).is_err(), "{mode}");
        }
    }
    #[test]
    fn a_tree_cut_anywhere_is_refused() {
        let bytes = raw(&[("100644", b"abc")]);
        for end in 1..bytes.len() {
            assert!(parse(&bytes[..end]).is_err(), "{end}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }
        #[test]
        fn what_it_accepts_is_sorted_and_has_no_bad_name(names in proptest::collection::vec("[a-c./\\\\ ]{0,4}", 0..12)) {
            let entries: Vec<(&str, &[u8])> = names.iter().map(|n| ("100644", n.as_bytes())).collect();
            if let Ok(items) = parse(&raw(&entries)) {
                prop_assert!(items.windows(2).all(|w| w[0].name.as_bytes() < w[1].name.as_bytes()));
                prop_assert!(items.iter().all(|i| !matches!(&*i.name, "" | "." | "..") && !i.name.contains('/')));
            }
        }
    }
}
