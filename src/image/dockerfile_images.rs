//! PURE: the images that a Dockerfile names, as far as its text alone tells: whose registries have to answer before its build can go on.
//!
//! Not a parser: BuildKit is. An image that cannot be read here (a variable without a value) is left out, and the build finds out.

use std::collections::BTreeMap;

/// The most images that are told of one Dockerfile.
const MOST: usize = 8;

/// Images of `# syntax=`, `FROM` and `COPY --from=`, in their order, without the Dockerfile's own stages.
pub fn images_of(dockerfile: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(dockerfile).replace("\r\n", "\n");
    let joined = text.replace("\\\n", " ").replace("`\n", " ");
    let (mut images, mut stages, mut arguments) = (Vec::new(), Vec::new(), BTreeMap::new());
    let mut in_directives = true;
    for line in joined.lines().map(str::trim) {
        let directive = line.strip_prefix('#').and_then(|comment| comment.split_once('='));
        match directive {
            Some((name, image)) if in_directives && name.trim().eq_ignore_ascii_case("syntax") => {
                images.push(image.trim().to_owned())
            }
            _ => in_directives &= directive.is_some(),
        }
        let mut words = line.split_whitespace();
        match words.next().unwrap_or_default().to_ascii_uppercase().as_str() {
            // Only those before the first FROM count in a FROM.
            "ARG" if stages.is_empty() => {
                arguments
                    .extend(words.filter_map(|word| word.split_once('=')).map(|(key, value)| (key.to_owned(), unquoted(value))));
            }
            "FROM" => {
                let mut words = words.skip_while(|word| word.starts_with("--"));
                let named = words.next().and_then(|image| expand(image, &arguments));
                let stage = words.next().filter(|word| word.eq_ignore_ascii_case("AS")).and(words.next());
                images.extend(named.filter(|image| !stages.contains(&image.to_ascii_lowercase())));
                stages.push(stage.unwrap_or_default().to_ascii_lowercase());
            }
            "COPY" => {
                let from = words.take_while(|word| word.starts_with("--")).find_map(|word| word.strip_prefix("--from="));
                let is_stage = |from: &str| from.parse::<usize>().is_ok() || stages.contains(&from.to_ascii_lowercase());
                images.extend(from.filter(|from| !is_stage(from) && !from.contains('$')).map(str::to_owned));
            }
            _ => {}
        }
    }
    images.retain(|image| image != "scratch" && !image.is_empty());
    images.truncate(MOST);
    images
}

fn unquoted(value: &str) -> String {
    value.trim_matches(['"', '\'']).to_owned()
}

/// `$NAME`, `${NAME}` and `${NAME:-value}` replaced. `None`: something else is left.
fn expand(image: &str, arguments: &BTreeMap<String, String>) -> Option<String> {
    let mut out = String::new();
    let mut rest = image.trim_matches(['"', '\'']);
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let (name, default, behind) = match after.strip_prefix('{') {
            Some(braced) => {
                let (inside, behind) = braced.split_once('}')?;
                let (name, default) = inside.split_once(":-").map_or((inside, None), |(name, value)| (name, Some(value)));
                (name, default, behind)
            }
            None => {
                let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
                (&after[..end], None, &after[end..])
            }
        };
        out.push_str(arguments.get(name).map(String::as_str).or(default)?);
        rest = behind;
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_read_where_the_text_alone_tells_them() {
        let cases: &[(&str, &[&str])] = &[
            ("FROM node:22\nRUN x", &["node:22"]),
            ("# syntax=dead.example/f:1\nFROM scratch", &["dead.example/f:1"]),
            ("# a comment\n# syntax=no/directive\nFROM a", &["a"]),
            ("FROM --platform=linux/amd64 a.example/x AS Build\nFROM build\nCOPY --from=build /a /b", &["a.example/x"]),
            ("FROM a AS b\nFROM c\nCOPY --chown=1 --from=d.example/e:1 /a /b\nCOPY --from=0 /a /b", &["a", "c", "d.example/e:1"]),
            ("ARG HOST=dead.example\nARG TAG\nFROM ${HOST}/x:${TAG:-1}\n", &["dead.example/x:1"]),
            ("ARG HOST\nFROM $HOST/x", &[]),
            ("FROM \\\n  dead.example/x", &["dead.example/x"]),
            ("from \"q.example/x\"", &["q.example/x"]),
            ("", &[]),
        ];
        for (text, images) in cases {
            assert_eq!(images_of(text.as_bytes()), *images, "{text}");
        }
    }

    #[test]
    fn their_number_is_bounded() {
        assert_eq!(images_of("FROM a.example/x\n".repeat(100).as_bytes()).len(), MOST);
    }
}
