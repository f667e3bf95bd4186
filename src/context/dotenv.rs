//! PURE: the job's variables as a `.env` file and as BuildKit secrets.

use std::collections::BTreeMap;

use super::dotenv_value;
use crate::protocol::{EnvVar, safe_line};
use crate::secrets::{ExposeSecret, SecretString};

/// The BuildKit secret that holds the whole file.
const WHOLE_FILE: &str = "env";
/// Names in one warning.
const NAMED: usize = 5;
/// A longer name is cut where it is shown.
const MAX_NAME: usize = 60;

pub(super) struct DotEnv {
    /// The file; `None` where the job has no variable that can stand in it.
    pub(super) file: Option<Vec<u8>>,
    /// [`WHOLE_FILE`], and each variable under its own name.
    pub(super) secrets: Vec<(String, SecretString)>,
    /// Lines for the log about variables that do not arrive, or not everywhere, as the job has them. They hold no value.
    pub(super) warnings: Vec<String>,
}

impl DotEnv {
    pub(super) fn new(env: &[EnvVar]) -> Self {
        let mut left_out = Vec::new();
        let mut twice = Vec::new();
        let mut fit = Vec::new();
        for (i, EnvVar { key, value }) in env.iter().enumerate() {
            if let Some(at) = key.find(is_unfit).or(key.is_empty().then_some(0)) {
                // What follows may be a value that was typed into the wrong field.
                left_out.push(format!("number {} (\"{}…\")", i + 1, shown(&key[..at])));
                continue;
            }
            // Of two variables with one name the later counts, as it does to whoever reads a file.
            match env[i + 1..].iter().rfind(|later| later.key == *key) {
                None => fit.push((key.as_str(), value)),
                Some(last) if last.value.expose_secret() != value.expose_secret() => twice.push(shown(key)),
                Some(_) => {}
            }
        }
        let File { text, lossy, python_only } = File::of(&fit);
        let by_key: BTreeMap<&str, &SecretString> = fit.into_iter().collect();
        let mut secrets = vec![(WHOLE_FILE.to_owned(), SecretString::from(text.clone()))];
        secrets.extend(
            by_key.iter().filter(|(key, _)| **key != WHOLE_FILE).map(|(key, value)| ((*key).to_owned(), (*value).clone())),
        );
        let warnings = [
            list(&left_out).map(|list| format!(
                "Left out of .env, because their names are empty or have a '=', a '#', a quote, a space or a control character: variable {list}."
            )),
            list(&twice).map(|list| format!("The job has these variables more than once; the last value counts: {list}.")),
            list(&python_only).map(|list| format!(
                "Node's dotenv does not read names with other characters than letters, digits, '_', '.' and '-' from .env: {list}."
            )),
            list(&lossy).map(|list| format!(
                "No form of .env gives these values back to every reader as they are: {list}. RUN --mount=type=secret,id=NAME reads the bytes themselves."
            )),
        ];
        Self {
            file: (!by_key.is_empty()).then(|| text.into_bytes()),
            secrets,
            warnings: warnings.into_iter().flatten().collect(),
        }
    }
}

/// The file, and the names of variables that not every reader takes from it.
#[derive(Default)]
struct File {
    text: String,
    lossy: Vec<String>,
    python_only: Vec<String>,
}

impl File {
    fn of(env: &[(&str, &SecretString)]) -> Self {
        let mut file = Self::default();
        let mut last = None;
        for (key, value) in env {
            let value = value.expose_secret();
            if !key.chars().all(is_known_to_node) {
                file.python_only.push(shown(key));
                file.push(key, &dotenv_value::write_for_python(value));
                continue;
            }
            let written = dotenv_value::write(value);
            if let Some(loss) = written.loss {
                file.lossy.push(format!("{} ({loss})", shown(key)));
            }
            if !written.must_be_last {
                file.push(key, &written.text);
            } else if last.is_none() {
                last = Some((key, written.text));
            } else {
                // Two such lines would swallow each other.
                file.lossy.push(format!("{} (left out, a second value that ends with a backslash)", shown(key)));
            }
        }
        if let Some((key, text)) = last {
            file.push(key, &text);
        }
        file
    }

    fn push(&mut self, key: &str, text: &str) {
        self.text.extend([key, "=", text, "\n"]);
    }
}

/// Neither reader finds such a name's end, or its beginning.
fn is_unfit(c: char) -> bool {
    matches!(c, '=' | '#' | '\'' | '"' | '`' | '\u{feff}') || c.is_whitespace() || c.is_control()
}

fn is_known_to_node(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')
}

fn shown(key: &str) -> String {
    safe_line(key.as_bytes()).chars().take(MAX_NAME).collect()
}

fn list(names: &[String]) -> Option<String> {
    let first = names.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len() {
        0 => None,
        1..=NAMED => Some(first),
        n => Some(format!("{first} and {} more", n - NAMED)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(env: &[(&str, &str)]) -> DotEnv {
        let env: Vec<EnvVar> =
            env.iter().map(|(key, value)| EnvVar { key: (*key).into(), value: SecretString::from(*value) }).collect();
        DotEnv::new(&env)
    }

    fn file(dotenv: &DotEnv) -> &str {
        std::str::from_utf8(dotenv.file.as_deref().unwrap()).unwrap()
    }

    #[test]
    fn plain_values_stand_as_they_are_and_the_others_in_quotes() {
        let dotenv = of(&[("A", "1"), ("B", "a b # \"c\" $d"), ("C", ""), ("D.d-d", "x\n\"y\"\n"), ("E", "é")]);
        assert_eq!(file(&dotenv), "A=1\nB='a b # \"c\" $d'\nC=\nD.d-d='x\n\"y\"\n'\nE=é\n");
        assert!(dotenv.warnings.is_empty(), "{:?}", dotenv.warnings);
    }

    #[test]
    fn names_that_no_file_can_hold_are_left_out_and_told_without_what_follows() {
        let dotenv = of(&[("A=hunter22", "x"), ("", "y"), ("B C", "z"), ("OK", "1"), ("N\nL", "w")]);
        assert_eq!(dotenv.file.as_deref(), Some(&b"OK=1\n"[..]));
        let warning = &dotenv.warnings[0];
        assert!(warning.contains("number 1 (\"A…\"), number 2 (\"…\"), number 3 (\"B…\"), number 5 (\"N…\")"), "{warning}");
        assert!(!warning.contains("hunter22"));
        assert!(of(&[("A B", "x")]).file.is_none());
        assert!(of(&[]).file.is_none());
    }

    #[test]
    fn a_name_that_node_does_not_read_takes_one_line_and_is_told() {
        let dotenv = of(&[("ü-1", "a\nFORGED=1"), ("OK", "1")]);
        assert_eq!(file(&dotenv), "ü-1=\"a\\nFORGED=1\"\nOK=1\n");
        assert!(dotenv.warnings[0].contains("ü-1") && dotenv.warnings.len() == 1, "{:?}", dotenv.warnings);
    }

    #[test]
    fn a_value_that_no_form_carries_is_told_by_its_name_and_never_by_itself() {
        let dotenv = of(&[("ODD", "hunter22#'\"`"), ("LAST", "x#\\"), ("SECOND", "y#\\"), ("OK", "1")]);
        assert_eq!(file(&dotenv), "ODD=\"hunter22#'\\\"`\"\nOK=1\nLAST='x#\\'\n");
        let warning = &dotenv.warnings[0];
        assert!(warning.contains("ODD (") && warning.contains("LAST (") && warning.contains("SECOND (left out"), "{warning}");
        assert!(dotenv.warnings.len() == 1 && !warning.contains("hunter22"), "{warning}");
    }

    #[test]
    fn each_variable_is_a_secret_of_its_own_and_the_file_is_one_too() {
        let dotenv = of(&[("A", "1"), ("env", "2"), ("A", "3")]);
        let secrets: Vec<_> = dotenv.secrets.iter().map(|(id, value)| (id.as_str(), value.expose_secret())).collect();
        assert_eq!(secrets, [("env", "env=2\nA=3\n"), ("A", "3")]);
        assert!(dotenv.warnings[0].contains("more than once") && dotenv.warnings[0].ends_with(": A."), "{:?}", dotenv.warnings);
        assert!(of(&[("A", "1"), ("A", "1")]).warnings.is_empty());
        assert_eq!(of(&[]).secrets.len(), 1);
    }
}
