//! The tables that are made from the source: settings, failure codes. And lists that have to be whole: exit codes, scripts.

use slipway::config::{DEFAULT_TOML, KEYS};
use slipway::exit::Exit;
use slipway::protocol::Code;

use super::repository::{product_files, read, root};

/// Compares the part of a page between its markers, or writes it where UPDATE_DOCS is set.
fn hold(page: &str, name: &str, table: &str) {
    let (begin, end) = (format!("<!-- begin: {name} -->\n"), format!("<!-- end: {name} -->"));
    let text = read(page);
    let (head, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("{page} has no line {begin}"));
    let (now, tail) = rest.split_once(&end).unwrap_or_else(|| panic!("{page} has no line {end}"));
    #[allow(clippy::disallowed_methods, reason = "the one setting of this test; config/ is for the product's")]
    let update = std::env::var_os("UPDATE_DOCS").is_some();
    if update {
        std::fs::write(root().join(page), format!("{head}{begin}{table}{end}{tail}")).unwrap();
    } else if now != table {
        let stale = now.lines().find(|line| !table.contains(line)).unwrap_or("a row is missing");
        panic!("{page} is stale ({stale}). Renew it: UPDATE_DOCS=1 cargo test --locked --test docs");
    }
}

/// The comment above a key in default.toml, in one line, without the variable's name and a default that the table has in a column.
fn meaning(section: &str, key: &str, env: &str) -> String {
    let lines: Vec<&str> = section.lines().collect();
    let at = lines.iter().position(|line| line.starts_with(&format!("{key} = "))).unwrap();
    let from = lines[..at].iter().rposition(|line| !line.starts_with('#')).map_or(0, |before| before + 1);
    let comment: Vec<&str> = lines[from..at].iter().map(|line| line.trim_start_matches('#').trim()).collect();
    let text = comment.join(" ");
    let text =
        text.strip_prefix(&format!("{env}. ")).unwrap_or_else(|| panic!("the comment of {key} does not begin with {env}."));
    without_plain_default(text)
}

/// Without a sentence `Default X.`; one that explains (`Default X: why.`) stays.
fn without_plain_default(text: &str) -> String {
    let Some(from) = text.find("Default ") else { return text.to_owned() };
    let rest = &text[from..];
    let to = rest.find(". ").map_or(rest.len(), |end| end + 2);
    if rest[..to].contains(": ") { text.to_owned() } else { format!("{}{}", &text[..from], &rest[to..]).trim().to_owned() }
}

fn settings() -> String {
    let mut table = String::new();
    let mut of = "";
    for key in KEYS {
        let (section, name) = key.name.split_once('.').unwrap();
        if section != of {
            of = section;
            table += &format!("\n### `[{section}]`\n\n| variable | key | default | meaning |\n|---|---|---|---|\n");
        }
        let text = DEFAULT_TOML.split_once(&format!("\n[{section}]\n")).unwrap().1;
        let text = text.split_once("\n[").map_or(text, |(own, _)| own);
        let meaning = meaning(text, name, key.env);
        assert_eq!(key.secret, meaning.starts_with("Secret"), "the comment of {} says whether it is a secret", key.env);
        let default = text.lines().find_map(|line| line.strip_prefix(&format!("{name} = "))).unwrap().trim_matches('"');
        let default = if matches!(default, "" | "[]") { "–".to_owned() } else { format!("`{default}`") };
        table += &format!("| `{}` | `{}` | {default} | {} |\n", key.env, key.name, meaning.replace('|', "\\|"));
    }
    table + "\n"
}

fn codes() -> String {
    let row = |code: &Code| {
        let kind = serde_json::to_string(&code.kind()).unwrap();
        format!("| `{code}` | {} | {} |\n", kind.trim_matches('"'), code.meaning())
    };
    format!("\n| code | kind | meaning |\n|---|---|---|\n{}\n", Code::ALL.iter().map(row).collect::<String>())
}

#[test]
fn the_table_of_settings_is_the_one_of_default_toml() {
    hold("docs/configuration.md", "settings", &settings());
}

#[test]
fn the_table_of_failure_codes_is_the_one_of_the_source() {
    hold("docs/failure-codes.md", "codes", &codes());
}

#[test]
fn the_page_of_failure_codes_lists_every_exit_code() {
    let page = read("docs/failure-codes.md");
    let section = page.split_once("\n## Exit codes\n").unwrap().1;
    let rows = section.lines().filter(|line| line.starts_with('|')).skip(2);
    let listed: Vec<&str> = rows.map(|row| row.trim_matches('|').split('|').next().unwrap().trim()).collect();
    let codes: Vec<String> = Exit::ALL.iter().map(|exit| exit.code().to_string()).collect();
    assert_eq!(listed, codes);
}

#[test]
fn the_page_of_the_queue_names_every_script_and_every_key() {
    let page = read("docs/queue-protocol.md");
    for script in product_files(".lua") {
        let name = script.rsplit('/').next().unwrap();
        assert!(page.contains(&format!("scripts/{name})")), "docs/queue-protocol.md does not name {name}");
    }
    let keys = slipway::queue::Keys::of("Q").unwrap();
    let fixed = keys.typed().map(|(key, _)| key.to_owned());
    for key in fixed.into_iter().chain([keys.probe]) {
        assert!(page.contains(&format!("\n| `{key}` | ")), "the first table of docs/queue-protocol.md has no row for {key}");
    }
    assert!(page.contains(&format!("`{}`", keys.notices)), "docs/queue-protocol.md does not name the workers' own channel");
}

#[test]
fn the_page_of_security_lists_every_value_that_is_not_masked() {
    let source = read(&product_files("/secrets/public.rs")[0]);
    let values = source.split_once("COMMON_VALUES").unwrap().1.split_once("];").unwrap().0;
    let quoted = regex::Regex::new("\"([^\"]+)\"").unwrap();
    let values: Vec<&str> = quoted.captures_iter(values).map(|found| found.get(1).unwrap().as_str()).collect();
    let page = read("docs/security.md");
    let list = page.split_once("values that are one of:\n").unwrap().1.split_once("\n\n").unwrap().0;
    let missing: Vec<&&str> = values.iter().filter(|value| !list.contains(&format!("`{value}`"))).collect();
    assert!(missing.is_empty(), "docs/security.md does not list {missing:?}");
    assert_eq!(list.matches('`').count() / 2, values.len(), "docs/security.md lists more than the source");
}
