//! PURE: an incremental reader of Redis' protocol (RESP2) that keeps no more of a value than it is told to.
//!
//! The blocking move and the subscription have connections of their own with this reader instead of the library's: the reply of
//! a wake-up is a whole queue element, which nobody needs (a 100 MiB one cost 207 MB), and a flood of messages waits in the
//! socket rather than in memory.

/// One reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    Nil,
    Simple(String),
    Error(String),
    Integer(i64),
    /// The first bytes of a value, and its whole length.
    Bulk {
        head: Vec<u8>,
        length: u64,
    },
    Array(Vec<Reply>),
}

impl Reply {
    /// The bytes of a value.
    pub(super) fn bytes(&self) -> Option<&[u8]> {
        match self {
            Reply::Bulk { head, .. } => Some(head),
            _ => None,
        }
    }
}

/// What came is not RESP2, or a line of it is too long.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotRedis;

/// Reads replies from bytes as they come. Arrays may hold simple replies, not further arrays: what we ask for answers with no other.
#[derive(Debug)]
pub(super) struct Reader {
    keep: usize,
    line: Vec<u8>,
    bulk: Option<Bulk>,
    array: Option<(usize, Vec<Reply>)>,
}

#[derive(Debug)]
struct Bulk {
    head: Vec<u8>,
    length: u64,
    /// Bytes still to come, the closing new line included.
    left: u64,
}

const LINE_LIMIT: usize = 4096;
const ARRAY_LIMIT: usize = 16;

impl Reader {
    /// `keep`: how many bytes of a value are kept.
    pub(super) fn new(keep: usize) -> Self {
        Self { keep, line: Vec::new(), bulk: None, array: None }
    }
    /// Takes from `bytes` up to the end of one reply. The rest stays in `bytes` for the next call; `None`: more is needed.
    pub(super) fn read(&mut self, bytes: &mut &[u8]) -> Result<Option<Reply>, NotRedis> {
        while !bytes.is_empty() {
            let Some(reply) = self.one(bytes)? else { continue };
            match &mut self.array {
                None => return Ok(Some(reply)),
                Some((size, items)) => {
                    items.push(reply);
                    if items.len() < *size {
                        continue;
                    }
                }
            }
            if let Some((_, items)) = self.array.take() {
                return Ok(Some(Reply::Array(items)));
            }
        }
        Ok(None)
    }
    fn one(&mut self, bytes: &mut &[u8]) -> Result<Option<Reply>, NotRedis> {
        if let Some(bulk) = &mut self.bulk {
            let n = bytes.len().min(usize::try_from(bulk.left).unwrap_or(usize::MAX));
            let (now, rest) = bytes.split_at(n);
            let whole = self.keep.min(usize::try_from(bulk.length).unwrap_or(usize::MAX));
            let wanted = whole.saturating_sub(bulk.head.len()).min(n);
            bulk.head.extend_from_slice(&now[..wanted]);
            bulk.left -= n as u64;
            *bytes = rest;
            if bulk.left > 0 {
                return Ok(None);
            }
            return Ok(self.bulk.take().map(|b| Reply::Bulk { head: b.head, length: b.length }));
        }
        let Some(end) = bytes.iter().position(|b| *b == b'\n') else {
            self.line.extend_from_slice(bytes);
            *bytes = &[];
            return if self.line.len() > LINE_LIMIT { Err(NotRedis) } else { Ok(None) };
        };
        self.line.extend_from_slice(&bytes[..end]);
        *bytes = &bytes[end + 1..];
        let mut line = std::mem::take(&mut self.line);
        if line.len() > LINE_LIMIT || line.pop() != Some(b'\r') || line.is_empty() {
            return Err(NotRedis);
        }
        let text = String::from_utf8_lossy(&line[1..]).into_owned();
        let number = || text.parse::<i64>().map_err(|_| NotRedis);
        match line[0] {
            b'+' => Ok(Some(Reply::Simple(text))),
            b'-' => Ok(Some(Reply::Error(text))),
            b':' => Ok(Some(Reply::Integer(number()?))),
            b'$' | b'*' if number()? == -1 => Ok(Some(Reply::Nil)),
            b'$' => {
                let length = u64::try_from(number()?).map_err(|_| NotRedis)?;
                self.bulk = Some(Bulk { head: Vec::new(), length, left: length.saturating_add(2) });
                Ok(None)
            }
            b'*' => {
                let size = usize::try_from(number()?).map_err(|_| NotRedis)?;
                if self.array.is_some() || size > ARRAY_LIMIT {
                    return Err(NotRedis);
                }
                if size == 0 {
                    return Ok(Some(Reply::Array(Vec::new())));
                }
                self.array = Some((size, Vec::new()));
                Ok(None)
            }
            _ => Err(NotRedis),
        }
    }
}

/// A command as the server wants it.
pub(super) fn command(parts: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", parts.len()).into_bytes();
    for part in parts {
        out.extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
        out.extend_from_slice(part);
        out.extend_from_slice(b"\r\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bulk(head: &[u8], length: u64) -> Reply {
        Reply::Bulk { head: head.to_vec(), length }
    }

    #[test]
    fn of_a_huge_value_only_the_first_bytes_are_kept() {
        let mut reader = Reader::new(3);
        let mut text: &[u8] = b"$10\r\n0123456789\r\n:7\r\n";
        assert_eq!(reader.read(&mut text), Ok(Some(bulk(b"012", 10))));
        assert_eq!(reader.read(&mut text), Ok(Some(Reply::Integer(7))));
    }

    #[test]
    fn what_is_not_redis_is_refused_and_not_stored() {
        assert_eq!(Reader::new(0).read(&mut &b"HTTP/1.1 400 Bad Request\r\n"[..]), Err(NotRedis));
        assert_eq!(Reader::new(0).read(&mut &vec![b'+'; LINE_LIMIT + 1][..]), Err(NotRedis));
        assert_eq!(Reader::new(0).read(&mut &b"*99999999\r\n"[..]), Err(NotRedis));
        assert_eq!(Reader::new(0).read(&mut &b"$-7\r\n"[..]), Err(NotRedis));
    }

    proptest! {
        #[test]
        fn replies_are_the_same_however_the_bytes_are_cut(values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..6), cut in 1usize..9) {
            let mut text = Vec::new();
            let mut expected = Vec::new();
            for value in &values {
                text.extend(command(&[b"message", b"ch", value]));
                text.extend(b"+PONG\r\n$-1\r\n");
                expected.push(Reply::Array(vec![bulk(b"message", 7), bulk(b"ch", 2), bulk(value, value.len() as u64)]));
                expected.push(Reply::Simple("PONG".into()));
                expected.push(Reply::Nil);
            }
            let (mut reader, mut got) = (Reader::new(1000), Vec::new());
            for mut chunk in text.chunks(cut) {
                while let Some(reply) = reader.read(&mut chunk).unwrap() {
                    got.push(reply);
                }
            }
            prop_assert_eq!(got, expected);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut rest = &bytes[..];
            let mut reader = Reader::new(8);
            while !rest.is_empty() && reader.read(&mut rest).is_ok() {}
        }
    }
}
