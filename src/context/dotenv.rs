//! PURE: the job's variables as a `.env` file and as BuildKit secrets.

use std::collections::BTreeMap;

use crate::protocol::{EnvVar, safe_line};
use crate::secrets::{ExposeSecret, SecretString};

/// The BuildKit secret that holds the whole file.
const WHOLE_FILE: &str = "env";

pub(super) struct DotEnv {
    /// The file; `None` where the job has no variable that can stand in it.
    pub(super) file: Option<Vec<u8>>,
    /// [`WHOLE_FILE`], and each variable under its own name.
    pub(super) secrets: Vec<(String, SecretString)>,
    /// A line for the log about variables that are left out.
    pub(super) warning: Option<String>,
}

impl DotEnv {
    pub(super) fn new(env: &[EnvVar]) -> Self {
        let mut file = String::new();
        // Of two variables with one name the later counts, as it does to whoever reads the file.
        let mut by_key: BTreeMap<&str, &SecretString> = BTreeMap::new();
        let mut left_out = Vec::new();
        for (i, EnvVar { key, value }) in env.iter().enumerate() {
            if let Some(at) = key.find(is_unfit).or(key.is_empty().then_some(0)) {
                // What follows may be a value that was typed into the wrong field.
                left_out.push(format!("number {} (\"{}…\")", i + 1, safe_line(&key.as_bytes()[..at.min(40)])));
                continue;
            }
            push_line(&mut file, key, value.expose_secret());
            by_key.insert(key, value);
        }
        let mut secrets = vec![(WHOLE_FILE.to_owned(), SecretString::from(file.clone()))];
        secrets.extend(
            by_key.iter().filter(|(key, _)| **key != WHOLE_FILE).map(|(key, value)| ((*key).to_owned(), (*value).clone())),
        );
        let warning = (!left_out.is_empty()).then(|| {
            let named = left_out.iter().take(5).map(String::as_str).collect::<Vec<_>>().join(", ");
            let more = if left_out.len() > 5 { format!(" and {} more", left_out.len() - 5) } else { String::new() };
            format!(
                "Left out of .env, because their names are empty or have a '=', a space or a control character: variable {named}{more}."
            )
        });
        Self { file: (!by_key.is_empty()).then(|| file.into_bytes()), secrets, warning }
    }
}

fn is_unfit(c: char) -> bool {
    c == '=' || c.is_whitespace() || c.is_control()
}

/// `KEY=VALUE` as it is; only a value of several lines is quoted.
fn push_line(file: &mut String, key: &str, value: &str) {
    file.push_str(key);
    file.push('=');
    if value.contains(['\n', '\r']) {
        file.push('"');
        for c in value.chars() {
            match c {
                '\n' => file.push_str("\\n"),
                '\r' => file.push_str("\\r"),
                '"' => file.push_str("\\\""),
                '\\' => file.push_str("\\\\"),
                c => file.push(c),
            }
        }
        file.push('"');
    } else {
        file.push_str(value);
    }
    file.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(env: &[(&str, &str)]) -> DotEnv {
        let env: Vec<EnvVar> =
            env.iter().map(|(key, value)| EnvVar { key: (*key).into(), value: SecretString::from(*value) }).collect();
        DotEnv::new(&env)
    }

    #[test]
    fn values_stand_as_they_are_and_only_several_lines_are_quoted() {
        let dotenv = of(&[("A", "1"), ("B", "a b # \"c\" $d \\"), ("C", ""), ("D", "x\n\"y\"\\z\r\n"), ("ü-1", "é")]);
        let file = String::from_utf8(dotenv.file.unwrap()).unwrap();
        assert_eq!(file, "A=1\nB=a b # \"c\" $d \\\nC=\nD=\"x\\n\\\"y\\\"\\\\z\\r\\n\"\nü-1=é\n");
        assert!(dotenv.warning.is_none());
    }

    #[test]
    fn names_that_no_file_can_hold_are_left_out_and_told_without_what_follows() {
        let dotenv = of(&[("A=hunter22", "x"), ("", "y"), ("B C", "z"), ("OK", "1"), ("N\nL", "w")]);
        assert_eq!(dotenv.file.as_deref(), Some(&b"OK=1\n"[..]));
        let warning = dotenv.warning.unwrap();
        assert!(warning.contains("number 1 (\"A…\"), number 2 (\"…\"), number 3 (\"B…\"), number 5 (\"N…\")"), "{warning}");
        assert!(!warning.contains("hunter22"));
        assert!(of(&[("A B", "x")]).file.is_none());
        assert!(of(&[]).file.is_none());
    }

    #[test]
    fn each_variable_is_a_secret_of_its_own_and_the_file_is_one_too() {
        let dotenv = of(&[("A", "1"), ("env", "2"), ("A", "3")]);
        let secrets: Vec<_> = dotenv.secrets.iter().map(|(id, value)| (id.as_str(), value.expose_secret())).collect();
        assert_eq!(secrets, [("env", "A=1\nenv=2\nA=3\n"), ("A", "3")]);
        assert_eq!(of(&[]).secrets.len(), 1);
    }
}
