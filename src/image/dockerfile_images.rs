//! PURE: the images that a Dockerfile names, as far as its text alone tells: whose registries have to answer before its build can go on.
//!
//! Not a parser: BuildKit is. An image that cannot be read here (a variable without a value) is left out, and the build finds out.

use std::collections::{BTreeMap, BTreeSet};

use super::dockerfile_text::{directives, expand, flags, instructions, unquoted, value_of};
use crate::peer::image_host;

/// The most registries that are read from one Dockerfile.
const MOST_REGISTRIES: usize = 32;
/// The most images of one registry: the first that the Engine does not have is enough to ask for.
const MOST_IMAGES: usize = 16;

/// The images of a Dockerfile that come from one registry, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryImages {
    pub host: String,
    pub images: Vec<String>,
}

/// The registries of a Dockerfile's images, in the order in which it names them.
pub fn registries_of(dockerfile: &[u8]) -> Vec<RegistryImages> {
    let mut registries: Vec<RegistryImages> = Vec::new();
    for image in images_of(dockerfile) {
        let host = image_host(&image);
        let at = registries.iter().position(|registry| registry.host == host).unwrap_or(registries.len());
        if at == registries.len() && at < MOST_REGISTRIES {
            registries.push(RegistryImages { host, images: Vec::new() });
        }
        if let Some(RegistryImages { images, .. }) = registries.get_mut(at)
            && images.len() < MOST_IMAGES
            && !images.contains(&image)
        {
            images.push(image);
        }
    }
    registries
}

/// Images of `# syntax=`, `FROM`, `COPY --from=` and `RUN --mount=…,from=`, in their order, as far as the last stage needs them.
fn images_of(dockerfile: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(dockerfile);
    let (mut stages, mut arguments) = (Vec::<Stage>::new(), BTreeMap::new());
    let directives = directives(&text);
    let frontend = directives.iter().find(|(name, _)| name == "syntax").map(|(_, image)| image.clone());
    let is_backtick = directives.iter().any(|(name, value)| name == "escape" && value == "`");
    for line in instructions(&text, if is_backtick { '`' } else { '\\' }) {
        let mut words = line.split_whitespace();
        let instruction = words.next().unwrap_or_default().to_ascii_uppercase();
        match (instruction.as_str(), stages.is_empty()) {
            // Only those before the first FROM count in a FROM.
            ("ARG", true) => {
                for (name, value) in words.filter_map(|word| word.split_once('=')) {
                    if let Some(value) = expand(&unquoted(value), &arguments) {
                        arguments.insert(name.to_owned(), value);
                    }
                }
            }
            ("FROM", _) => {
                let mut words = words.skip_while(|word| word.starts_with("--"));
                let named = words.next().and_then(|image| expand(&unquoted(image), &arguments));
                let name = words.next().filter(|word| word.eq_ignore_ascii_case("AS")).and(words.next());
                let from = named.map(|name| Source::of(name, &stages, false)).into_iter().collect();
                stages.push(Stage { name: name.map(str::to_ascii_lowercase), from });
            }
            ("COPY", false) => add_sources(&mut stages, flags(words).filter_map(|flag| value_of(flag, "--from")).map(unquoted)),
            ("RUN", false) => {
                let fields = flags(words).filter_map(|flag| value_of(flag, "--mount")).flat_map(|mount| mount.split(','));
                add_sources(&mut stages, fields.map(unquoted).filter_map(|field| value_of(&field, "from").map(unquoted)));
            }
            _ => {}
        }
    }
    let mut images: Vec<String> = frontend.into_iter().collect();
    let needed = needed(&stages);
    let of_needed = stages.into_iter().enumerate().filter(|(at, _)| needed.contains(at)).flat_map(|(_, stage)| stage.from);
    images.extend(of_needed.filter_map(|from| match from {
        Source::Image(image) => Some(image),
        Source::Stage(_) => None,
    }));
    images.retain(|image| image != "scratch" && !image.is_empty());
    images
}

/// What begins with a FROM.
struct Stage {
    /// In small letters.
    name: Option<String>,
    from: Vec<Source>,
}

enum Source {
    Image(String),
    /// An earlier stage.
    Stage(usize),
}

impl Source {
    /// `or_number`: whether a stage may be meant by its number.
    fn of(written: String, stages: &[Stage], or_number: bool) -> Self {
        let number = written.parse().ok().filter(|at| or_number && *at < stages.len());
        let name = written.to_ascii_lowercase();
        let named = || stages.iter().rposition(|stage| stage.name.as_ref() == Some(&name));
        number.or_else(named).map_or(Self::Image(written), Self::Stage)
    }
}

/// Adds what the last stage takes files from. No variable is expanded there.
fn add_sources(stages: &mut [Stage], written: impl Iterator<Item = String>) {
    let Some((last, earlier)) = stages.split_last_mut() else { return };
    last.from.extend(written.filter(|from| !from.contains('$')).map(|from| Source::of(from, earlier, true)));
}

/// The stages that the last one is made from, and itself: BuildKit loads nothing for the others.
fn needed(stages: &[Stage]) -> BTreeSet<usize> {
    let mut needed: BTreeSet<usize> = stages.len().checked_sub(1).into_iter().collect();
    // A stage is made from earlier ones only.
    for at in (0..stages.len()).rev() {
        if needed.contains(&at) {
            needed.extend(stages[at].from.iter().filter_map(|from| match from {
                Source::Stage(earlier) => Some(*earlier),
                Source::Image(_) => None,
            }));
        }
    }
    needed
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
            ("ARG HOST=dead.example\nARG BASE=\"$HOST/x\"\nFROM $BASE\n", &["dead.example/x"]),
            ("ARG HOST\nFROM $HOST/x", &[]),
            ("FROM \\\n  dead.example/x", &["dead.example/x"]),
            ("FROM dead.exam\\\r\nple/x", &["dead.example/x"]),
            ("# escape=`\nFROM `\n  dead.example/x", &["dead.example/x"]),
            ("FROM a\nRUN echo `date`\nCOPY --from=dead.example/x /a /b", &["a", "dead.example/x"]),
            ("from \"q.example/x\"", &["q.example/x"]),
            ("FROM a.example/x@sha256:00", &["a.example/x@sha256:00"]),
            ("FROM unused.example/x\nRUN --mount=from=unused.example/y x\nFROM a", &["a"]),
            ("FROM a.example/x AS a\nFROM a AS b\nFROM scratch\nCOPY --from=1 /a /b", &["a.example/x"]),
            ("FROM 0", &["0"]),
            ("", &[]),
        ];
        for (text, images) in cases {
            assert_eq!(images_of(text.as_bytes()), *images, "{text}");
        }
    }

    #[test]
    fn the_images_of_mounts_are_read_and_the_stages_of_mounts_are_not() {
        let cases: &[(&str, &[&str])] = &[
            ("RUN --mount=type=bind,from=dead.example/x:1,target=/m true", &["dead.example/x:1"]),
            (
                "RUN --network=none --mount=from=a.example/x --mount=type=cache,From=b.example/y x",
                &["a.example/x", "b.example/y"],
            ),
            (
                "RUN --mount=type=cache,target=/c \\\n # words\n\n  --mount=from=\"a.example/x\",target=/m \\\n  true",
                &["a.example/x"],
            ),
            ("RUN --mount=type=bind,from=BASE,target=/m --mount=from=0,target=/n true", &[]),
            ("RUN --mount=type=bind,from=$HOST/x,target=/m true", &[]),
            ("RUN --mount=type=cache,target=/c tool --mount=from=a.example/x", &[]),
        ];
        for (run, images) in cases {
            let text = format!("FROM scratch AS base\nFROM scratch\n{run}");
            assert_eq!(images_of(text.as_bytes()), *images, "{run}");
        }
    }

    #[test]
    fn a_registry_is_one_however_many_of_its_images_are_named() {
        let copy = |n| format!("COPY --from=a.example/x:{n} /a /b\nCOPY --from=a.example/x:0 /a /b\n");
        let copies: String = (0..100).map(copy).collect();
        let registries = registries_of(format!("FROM scratch\n{copies}COPY --from=dead.example/x /a /b").as_bytes());
        let hosts: Vec<&str> = registries.iter().map(|registry| registry.host.as_str()).collect();
        assert_eq!(hosts, ["a.example", "dead.example"]);
        let first: Vec<String> = (0..MOST_IMAGES).map(|n| format!("a.example/x:{n}")).collect();
        assert_eq!(registries[0].images, first);
    }

    #[test]
    fn the_number_of_registries_is_bounded() {
        let copies: String = (0..100).map(|n| format!("COPY --from=a{n}.example/x /a /b\n")).collect();
        assert_eq!(registries_of(format!("FROM scratch\n{copies}").as_bytes()).len(), MOST_REGISTRIES);
    }
}
