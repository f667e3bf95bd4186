//! PURE: what can be told from a Dockerfile's text. Not a parser: BuildKit is. Where it is in doubt it says yes.

use super::ignore::{Effort, PatternMatcher, clean};

/// A Dockerfile's lines, continued ones joined.
pub struct Instructions {
    lines: Vec<String>,
    names_a_frontend: bool,
}

impl Instructions {
    pub fn read(dockerfile: &[u8]) -> Self {
        let text = String::from_utf8_lossy(dockerfile).replace("\r\n", "\n");
        // The escape character is a backslash, or a backtick where a directive says so.
        let joined = text.replace("\\\n", "").replace("`\n", "");
        let lines = joined.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect();
        Self { lines, names_a_frontend: names_a_frontend(&text) }
    }

    /// Whether a step may mount a secret: it says so, or says it in a way that cannot be read here (a variable, another frontend).
    pub(super) fn mounts_secrets(&self) -> bool {
        self.lines.iter().map(|line| line.to_ascii_lowercase()).any(|line| {
            line.contains("type=secret")
                || (line.contains("syntax") && line.contains('='))
                || line.split("--mount").skip(1).any(|mount| !is_plain_mount(mount))
        })
    }

    /// Whether the build wants the history: `.git` as a path, or git asked about the commit.
    pub(super) fn wants_git(&self) -> bool {
        const QUESTIONS: [&str; 4] = ["git rev-parse", "git describe", "git log", "git rev-list"];
        let mut code = self.lines.iter().filter(|line| !line.starts_with('#'));
        code.any(|line| uses_git_folder(line) || QUESTIONS.iter().any(|question| line.contains(question)))
    }

    /// Whether COPY or ADD takes `path` from the context.
    pub(super) fn copies(&self, path: &str) -> bool {
        self.lines.iter().any(|line| {
            sources(line).iter().any(|source| {
                let source = clean(source.trim_start_matches('/'));
                source == "."
                    || PatternMatcher::new(&[&source]).is_ok_and(|matcher| matcher.matches(path, &Effort::free()) == Ok(true))
            })
        })
    }

    /// Whether a RUN mounts an SSH agent.
    pub(super) fn mounts_ssh(&self) -> bool {
        let mut mounts = self.lines.iter().flat_map(|line| line.split("--mount=").skip(1));
        mounts.any(|mount| mount.split_whitespace().next().is_some_and(|options| options.split(',').any(|o| o == "type=ssh")))
    }

    /// The secrets that RUN steps mount, as far as they name them plainly.
    pub(super) fn secret_names(&self) -> impl Iterator<Item = &str> {
        let steps = self.lines.iter().filter(|line| !line.starts_with('#'));
        let mounts = steps.flat_map(|line| line.split("--mount=").skip(1));
        mounts.filter_map(|mount| {
            let options = || mount.split_whitespace().next().unwrap_or_default().split(',');
            let is_secret = options().any(|option| option == "type=secret");
            options().find_map(|option| option.strip_prefix("id=")).filter(|_| is_secret)
        })
    }

    /// Whether a RUN mounts the secret of this name.
    pub(super) fn mounts_secret(&self, name: &str) -> bool {
        self.secret_names().any(|mounted| mounted == name)
    }

    /// What COPY and ADD take from the context, without `./` and `/` in front; the root is `.`.
    pub(super) fn sources(&self) -> impl Iterator<Item = String> {
        self.lines.iter().flat_map(|line| sources(line)).map(|source| clean(source.trim_start_matches('/')))
    }

    pub(super) fn lines(&self) -> &[String] {
        &self.lines
    }

    /// Whether a `# syntax=` line names a frontend.
    pub fn names_a_frontend(&self) -> bool {
        self.names_a_frontend
    }

    /// The names of the stages, in order; `None` for one that has none.
    pub fn stages(&self) -> Vec<Option<&str>> {
        let froms = self.lines.iter().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let froms = froms.filter(|words| words.first().is_some_and(|word| word.eq_ignore_ascii_case("FROM")));
        froms.map(|words| words.windows(2).find(|pair| pair[0].eq_ignore_ascii_case("AS")).map(|pair| pair[1])).collect()
    }
}

/// Directives are the comments of the first lines, as long as each of them is one.
fn names_a_frontend(text: &str) -> bool {
    let mut directives = text.lines().map_while(|line| line.trim().strip_prefix('#')?.split_once('='));
    directives.any(|(key, value)| key.trim().eq_ignore_ascii_case("syntax") && !value.trim().is_empty())
}

/// `=type=cache,…`: a type, or none, that is no secret, in plain letters.
fn is_plain_mount(after: &str) -> bool {
    let Some(options) = after.strip_prefix('=') else { return false };
    let options = options.split_whitespace().next().unwrap_or_default();
    let plain = !options.contains(['$', '"', '\'', '\\', '`']);
    let kind = options.split(',').find_map(|option| option.strip_prefix("type="));
    plain && matches!(kind, None | Some("bind" | "cache" | "tmpfs" | "ssh"))
}

/// `word` with nothing of a name right before or behind it.
/// Whether `.git` stands in a line otherwise than to leave it out of something, or to remove it.
fn uses_git_folder(line: &str) -> bool {
    const TESTS_A_NAME: [&str; 7] = ["-path", "-wholename", "-ipath", "-name", "-iname", "-regex", "-not"];
    const LEAVES_OUT: [&str; 4] = ["--exclude", "--exclude-dir", "--ignore", "-prune"];
    let mut commands = line.split([';', '|', '&']);
    commands.any(|command| {
        let words: Vec<&str> = command.split_whitespace().collect();
        let removes = words.iter().any(|word| matches!(*word, "rm" | "rmdir" | "unlink"));
        let mut before = "";
        words.into_iter().any(|word| {
            let is_an_option = LEAVES_OUT.iter().any(|option| word.starts_with(option));
            let is_a_name = TESTS_A_NAME.contains(&before) || LEAVES_OUT.contains(&before);
            before = word;
            has_word(word, ".git") && !removes && !is_an_option && !is_a_name
        })
    })
}

fn has_word(line: &str, word: &str) -> bool {
    let of_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(of_name) && !after.is_some_and(of_name)
    })
}

/// What a COPY or ADD takes from the context; empty for all else.
fn sources(line: &str) -> Vec<String> {
    let mut words = line.split_whitespace().peekable();
    while words.next_if(|word| word.eq_ignore_ascii_case("ONBUILD")).is_some() {}
    if !words.next().is_some_and(|word| word.eq_ignore_ascii_case("COPY") || word.eq_ignore_ascii_case("ADD")) {
        return Vec::new();
    }
    let mut paths = Vec::new();
    for word in words {
        if word.starts_with("--from=") {
            return Vec::new();
        }
        if !word.starts_with("--") {
            paths.push(word);
        }
    }
    let list = paths.join(" ");
    let mut paths: Vec<String> = match serde_json::from_str(&list) {
        Ok(paths) => paths,
        Err(_) => paths.into_iter().map(|path| path.trim_matches('"').to_owned()).collect(),
    };
    paths.pop();
    paths.retain(|path| !path.contains("://") && !path.starts_with("<<"));
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Instructions {
        Instructions::read(text.as_bytes())
    }

    #[test]
    fn a_secret_mount_is_seen_however_it_is_written() {
        for text in [
            "FROM x\nRUN --mount=type=secret,id=env cat /run/secrets/env",
            "FROM x\nRUN --mount=id=a,type=secret,required true",
            "FROM x\nRUN --mount=type=\\\nsecret true",
            "FROM x\r\nRUN --mount=ty\\\r\npe=secret true",
            "# escape=`\nFROM x\nRUN --mo`\nunt=type=secret true",
            "FROM x\nARG T=secret\nRUN --mount=type=$T true",
            "FROM x\nRUN --mount=\"type=cache\" true",
            "FROM x\nRUN --mount type=cache true",
            "# syntax=docker/dockerfile:1\nFROM x",
            "#syntax = other/frontend\nFROM x",
            "FROM x\nRUN --mount=TYPE=SECRET true",
        ] {
            assert!(of(text).mounts_secrets(), "{text}");
        }
        for text in [
            "FROM x\nRUN make",
            "FROM x\nRUN --mount=type=cache,target=/c --mount=target=/s make",
            "FROM x\n# a secret\nENV type=x",
        ] {
            assert!(!of(text).mounts_secrets(), "{text}");
        }
    }

    #[test]
    fn a_build_that_wants_the_history_is_recognised() {
        for text in [
            "COPY .git .git",
            "COPY ./.git /src/.git",
            "RUN cat .git/HEAD",
            "RUN V=$(git describe --tags) make",
            "ADD [\".git\", \"x\"]",
            "RUN rm -rf build && cat .git/HEAD",
            "RUN find .git -name HEAD",
        ] {
            assert!(of(text).wants_git(), "{text}");
        }
        for text in [
            "COPY .gitignore .",
            "RUN git clone https://host/x.git",
            "# .git is big",
            "COPY .github/x .",
            "RUN find . -path ./.git -prune -o -name '*.md' -print | xargs rm",
            "RUN find . -type f -not -path './.git/*' -exec chmod 644 {} +",
            "RUN find /app -name .git -type d -exec rm -rf {} +",
            "RUN tar c --exclude=.git . | tar x -C /app && grep -r --exclude-dir .git TODO /app",
            "RUN npm ci && rm -rf .git node_modules",
        ] {
            assert!(!of(text).wants_git(), "{text}");
        }
    }

    #[test]
    fn what_is_copied_from_the_context_is_recognised() {
        for text in [
            "COPY . .",
            "copy --chown=1:1 ./ /app/",
            "ADD [\".\", \"/app\"]",
            "COPY / /app",
            "COPY .env* ./",
            "ONBUILD COPY * ./",
            "COPY a \\\n  .env /app/",
        ] {
            assert!(of(text).copies(".env"), "{text}");
        }
        for text in
            ["COPY --from=build . .", "COPY src .", "ADD https://x/. .", "RUN cp . /", "COPY <<EOF .env", "COPY package*.json ./"]
        {
            assert!(!of(text).copies(".env"), "{text}");
        }
    }

    #[test]
    fn stages_mounts_and_the_frontend_are_read() {
        let file = of(
            "FROM x AS Build\nFROM --platform=linux/amd64 y\nfrom z as c\nRUN --mount=type=ssh,id=k --mount=id=K,type=secret x",
        );
        assert_eq!(file.stages(), [Some("Build"), None, Some("c")]);
        assert!(file.mounts_ssh() && file.mounts_secret("K") && !file.mounts_secret("k"));
        for text in ["# syntax=docker/dockerfile:1\nFROM x", "# escape=`\n#Syntax = x/y\nFROM x"] {
            assert!(of(text).names_a_frontend(), "{text}");
        }
        for text in ["FROM x\n# syntax=x", "# A word first\n# syntax=x\nFROM x", "# syntax=\nFROM x"] {
            assert!(!of(text).names_a_frontend(), "{text}");
        }
    }
}
