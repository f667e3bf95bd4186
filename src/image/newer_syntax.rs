//! PURE: a Dockerfile that is right, and newer than the frontend that reads it.

use crate::context::Instructions;

/// Flags that came after BuildKit 0.8, or still come: an instruction that has another one is misspelled.
const FLAGS: [&str; 12] = [
    "link",
    "exclude",
    "parents",
    "checksum",
    "keep-git-dir",
    "unpack",
    "chmod",
    "network",
    "security",
    "device",
    "start-interval",
    "mount",
];
/// Options of `RUN --mount` that came later.
const MOUNT_OPTIONS: [&str; 2] = ["env", "size"];

/// The way out, where `message` complains of something that newer frontends read.
pub(super) fn cure(message: &str, dockerfile: &[u8]) -> Option<&'static str> {
    let lower = message.to_lowercase();
    let word_after = |words: &str| {
        let (_, after) = lower.split_once(words)?;
        after.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').next().map(str::to_owned)
    };
    let is_flag = word_after("unknown flag: ").is_some_and(|flag| FLAGS.contains(&flag.trim_start_matches('-')));
    let is_option = word_after("unexpected key '").is_some_and(|option| MOUNT_OPTIONS.contains(&option.as_str()));
    let is_heredoc = lower.contains("unknown instruction") && line_of(&lower).is_some_and(|line| in_heredoc(dockerfile, line));
    let is_newer = is_flag || is_option || is_heredoc || is_substitution(&lower);
    is_newer.then(|| way_out(dockerfile))
}

/// `ADD --checksum` and the like need a newer frontend: whose it is decides who can change it.
pub(super) fn way_out(dockerfile: &[u8]) -> &'static str {
    match Instructions::read(dockerfile).names_a_frontend() {
        false => "Put # syntax=docker/dockerfile:1 into its first line: this Engine's own frontend is older.",
        true => "Its # syntax= line names an older frontend: docker/dockerfile:1 reads it (or docker/dockerfile:1-labs).",
    }
}

/// `… parse error line 3: …`, `… parse error on line 3: …`
fn line_of(message: &str) -> Option<usize> {
    let (_, after) = message.split_once("parse error")?;
    let (_, after) = after.split_once("line ")?;
    after.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Whether a `<<WORD` before the line still waits for its end there.
fn in_heredoc(dockerfile: &[u8], line: usize) -> bool {
    let text = String::from_utf8_lossy(dockerfile);
    let mut open: Vec<String> = Vec::new();
    for (text, number) in text.lines().zip(1..) {
        if number == line {
            return !open.is_empty();
        }
        match open.first() {
            Some(end) if text.trim_start_matches('\t') == end => drop(open.remove(0)),
            Some(_) => {}
            None => open = heredocs(text),
        }
    }
    false
}

/// The words that end the heredocs of an instruction.
fn heredocs(line: &str) -> Vec<String> {
    let takes_them = ["RUN", "COPY", "ADD"]
        .iter()
        .any(|word| line.trim_start().get(..word.len()).is_some_and(|w| w.eq_ignore_ascii_case(word)));
    if !takes_them {
        return Vec::new();
    }
    let after = line.split("<<").skip(1).map(|after| after.trim_start_matches('-').trim_start_matches(['"', '\'']));
    let words = after.map(|after| after.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>());
    words.filter(|word| !word.is_empty()).collect()
}

/// `failed to process "${A#x}": missing ':' in substitution`: `#`, `%` and `/` came later.
fn is_substitution(message: &str) -> bool {
    let after = message.split_once("failed to process ").map(|(_, after)| after);
    after.is_some_and(|after| {
        after.contains("missing ':' in substitution")
            && after.split("${").skip(1).any(|inner| {
                let name = inner.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_');
                name.starts_with(['#', '%', '/'])
            })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLDER: &str = "this Engine's own frontend is older";

    fn cure_of(error: &str, dockerfile: &str) -> Option<&'static str> {
        cure(&format!("failed to create LLB definition: {error}"), dockerfile.as_bytes())
    }

    #[test]
    fn what_a_newer_frontend_reads_names_the_syntax_line() {
        for (error, dockerfile) in [
            ("dockerfile parse error line 2: Unknown flag: link", "FROM x\nCOPY --link a b"),
            ("dockerfile parse error on line 2: unknown flag: --parents", "FROM x\nCOPY --parents a b"),
            ("dockerfile parse error line 2: Unknown flag: checksum", "FROM x\nADD --checksum=x a b"),
            ("dockerfile parse error line 2: Unknown flag: start-interval", "FROM x\nHEALTHCHECK --start-interval=5s CMD x"),
            ("dockerfile parse error line 3: unknown instruction: SET", "FROM x\nRUN <<EOF\nset -e\nEOF"),
            ("dockerfile parse error line 4: unknown instruction: [GLOBAL]", "FROM x\nCOPY <<-\"E\" <<F /x\n\tE\n[global]\nF"),
            ("dockerfile parse error line 4: unknown instruction: EOF", "FROM x\nrun cat <<EOF > /x\nRUN y\nEOF"),
            ("dockerfile parse error line 2: unexpected key 'env' in 'env=A'", "FROM x\nRUN --mount=type=secret,id=A,env=A x"),
            ("failed to process \"${A#a}\": missing ':' in substitution", "FROM x\nENV B=${A#a}"),
        ] {
            assert!(cure_of(error, dockerfile).is_some_and(|cure| cure.contains(OLDER)), "{error}");
            let named = format!("# syntax=docker/dockerfile:1.2\n{dockerfile}");
            let error =
                error.replace("line 2", "line 3").replace("line 4", "line 5").replace("line 3: unknown", "line 4: unknown");
            assert!(cure_of(&error, &named).is_some_and(|cure| cure.contains("names an older frontend")), "{error}");
        }
    }

    #[test]
    fn what_no_frontend_reads_has_no_such_way_out() {
        for (error, dockerfile) in [
            ("dockerfile parse error line 2: unknown instruction: RUM", "FROM x\nRUM y"),
            ("dockerfile parse error line 5: unknown instruction: RUM", "FROM x\nRUN <<EOF\nx\nEOF\nRUM y"),
            ("dockerfile parse error line 3: unknown instruction: RUM", "FROM x\nLABEL a=\"<<EOF\"\nRUM y"),
            ("dockerfile parse error line 2: Unknown flag: nope", "FROM x\nCOPY --nope a b"),
            ("failed to process \"${A\": missing ':' in substitution", "FROM x\nENV B=${A"),
        ] {
            assert_eq!(cure_of(error, dockerfile), None, "{error}");
        }
    }
}
