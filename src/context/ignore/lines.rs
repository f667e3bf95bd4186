//! PURE: the lines of a .dockerignore file, as moby's ignorefile reader takes them.

use super::IgnoreError;
use super::pattern::clean;

/// A longer line fails the build with BuildKit too.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// The patterns of a .dockerignore: no comments, no blank lines, cleaned paths without a leading slash, `!` in front of exceptions.
pub fn read_patterns(file: &[u8]) -> Result<Vec<String>, IgnoreError> {
    let file = file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file);
    let mut patterns = Vec::new();
    for line in file.split(|b| *b == b'\n') {
        if line.len() >= MAX_LINE_BYTES {
            let pattern = String::from_utf8_lossy(&line[..40]).into_owned();
            return Err(IgnoreError { pattern, reason: "is longer than 64 KiB" });
        }
        if line.starts_with(b"#") {
            continue;
        }
        let line = String::from_utf8_lossy(line);
        let line = line.trim();
        let (mark, path) = match line.strip_prefix('!') {
            Some(path) => ("!", path.trim()),
            None => ("", line),
        };
        if line.is_empty() {
            continue;
        }
        if path.is_empty() {
            patterns.push(mark.to_owned());
            continue;
        }
        let path = clean(path);
        let path = path.strip_prefix('/').filter(|rest| !rest.is_empty()).unwrap_or(&path);
        patterns.push(format!("{mark}{path}"));
    }
    Ok(patterns)
}
