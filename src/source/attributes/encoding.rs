//! PURE: the encodings that `working-tree-encoding` may name, and how text is written in them.

/// An encoding other than UTF-8, which is what a blob is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Encoding {
    name: String,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// With a byte order mark, or without.
    Utf16 {
        big: bool,
        bom: bool,
    },
    Utf32 {
        big: bool,
        bom: bool,
    },
    Latin1,
    Ascii,
    Other(&'static encoding_rs::Encoding),
}

/// What a name stands for.
pub(super) enum Named {
    Utf8,
    Known(Encoding),
    Unknown,
}

impl Encoding {
    pub(super) fn look_up(name: &str) -> Named {
        let plain: String = name.chars().filter(|c| !matches!(c, '-' | '_')).map(|c| c.to_ascii_uppercase()).collect();
        let kind = match plain.as_str() {
            "UTF8" | "" => return Named::Utf8,
            // What has no order in its name is written as iconv does: little endian, with a mark.
            "UTF16" | "UTF16LEBOM" => Kind::Utf16 { big: false, bom: true },
            "UTF16BEBOM" => Kind::Utf16 { big: true, bom: true },
            "UTF16LE" => Kind::Utf16 { big: false, bom: false },
            "UTF16BE" => Kind::Utf16 { big: true, bom: false },
            "UTF32" | "UTF32LEBOM" => Kind::Utf32 { big: false, bom: true },
            "UTF32BEBOM" => Kind::Utf32 { big: true, bom: true },
            "UTF32LE" => Kind::Utf32 { big: false, bom: false },
            "UTF32BE" => Kind::Utf32 { big: true, bom: false },
            "ISO88591" | "LATIN1" | "L1" => Kind::Latin1,
            "ASCII" | "USASCII" => Kind::Ascii,
            windows if windows.starts_with("CP125") => {
                match encoding_rs::Encoding::for_label(format!("windows-{}", &windows[2..]).as_bytes()) {
                    Some(known) => Kind::Other(known),
                    None => return Named::Unknown,
                }
            }
            _ => match encoding_rs::Encoding::for_label(name.as_bytes()) {
                Some(known) if known.output_encoding() == known => Kind::Other(known),
                _ => return Named::Unknown,
            },
        };
        Named::Known(Encoding { name: name.to_owned(), kind })
    }

    pub(super) fn named(name: &str) -> Option<Encoding> {
        match Self::look_up(name) {
            Named::Known(encoding) => Some(encoding),
            Named::Utf8 | Named::Unknown => None,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// `None`: it is no UTF-8, or has a character that the encoding has not.
    pub(super) fn encode(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let text = std::str::from_utf8(bytes).ok()?;
        match self.kind {
            Kind::Utf16 { big, bom } => {
                let units = bom.then_some(0xfeff).into_iter().chain(text.encode_utf16());
                Some(units.flat_map(|unit| if big { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect())
            }
            Kind::Utf32 { big, bom } => {
                let units = bom.then_some(0xfeff).into_iter().chain(text.chars().map(u32::from));
                Some(units.flat_map(|unit| if big { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect())
            }
            Kind::Latin1 => text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect(),
            Kind::Ascii => text.is_ascii().then(|| bytes.to_vec()),
            Kind::Other(encoding) => {
                let (encoded, _, has_unmappable) = encoding.encode(text);
                (!has_unmappable).then(|| encoded.into_owned())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(name: &str, text: &str) -> Option<Vec<u8>> {
        Encoding::named(name).expect("a known encoding").encode(text.as_bytes())
    }

    #[test]
    fn texts_are_written_as_iconv_writes_them() {
        assert_eq!(encoded("UTF-16LE-BOM", "h€").expect("written"), b"\xff\xfeh\0\xac\x20");
        assert_eq!(encoded("utf-16", "h").expect("written"), b"\xff\xfeh\0");
        assert_eq!(encoded("UTF-16BE", "h").expect("written"), b"\0h");
        assert_eq!(encoded("UTF-16LE", "h").expect("written"), b"h\0");
        assert_eq!(encoded("UTF-32BE", "h").expect("written"), b"\0\0\0h");
        assert_eq!(encoded("ISO-8859-1", "é").expect("written"), b"\xe9");
        assert_eq!(encoded("windows-1252", "€").expect("written"), b"\x80");
        assert_eq!(encoded("cp1252", "€").expect("written"), b"\x80");
        assert_eq!(encoded("Shift_JIS", "あ").expect("written"), b"\x82\xa0");
        assert_eq!(encoded("ISO-8859-1", "€"), None);
        assert_eq!(encoded("ASCII", "é"), None);
    }
    #[test]
    fn utf8_is_what_it_is_already_and_a_strange_name_is_unknown() {
        assert!(matches!(Encoding::look_up("utf8"), Named::Utf8));
        assert!(matches!(Encoding::look_up("KLINGON"), Named::Unknown));
    }
}
