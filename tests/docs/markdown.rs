//! What these tests read in a Markdown file: fenced blocks, inline code, headings, links. No more of the language than the documents use.

use regex::Regex;

use super::repository::{files_below, read};

/// One document.
pub struct Document {
    /// From the repository's root.
    pub path: String,
    pub text: String,
}

/// A fenced block.
pub struct Block {
    /// `file:line` of its first line.
    pub place: String,
    pub language: String,
    pub text: String,
}

/// Every document that this repository shows to people.
pub fn documents() -> Vec<Document> {
    let mut paths: Vec<String> = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"].map(str::to_owned).into();
    paths.extend(files_below("docs", ".md"));
    paths.into_iter().map(|path| Document { text: read(&path), path }).collect()
}

impl Document {
    pub fn blocks(&self) -> Vec<Block> {
        let mut blocks: Vec<Block> = Vec::new();
        let mut inside = false;
        for (number, line) in self.text.lines().enumerate() {
            match line.trim_start().strip_prefix("```") {
                Some(_) if inside => inside = false,
                Some(language) => {
                    inside = true;
                    let place = format!("{}:{}", self.path, number + 1);
                    blocks.push(Block { place, language: language.trim().to_owned(), text: String::new() });
                }
                None if inside => {
                    let text = &mut blocks.last_mut().unwrap().text;
                    text.push_str(line);
                    text.push('\n');
                }
                None => {}
            }
        }
        assert!(!inside, "{}: a fenced block has no end", self.path);
        blocks
    }

    /// The lines outside of fenced blocks, with their numbers.
    pub fn prose(&self) -> Vec<(usize, &str)> {
        let mut inside = false;
        let mut lines = Vec::new();
        for (number, line) in self.text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                inside = !inside;
            } else if !inside {
                lines.push((number + 1, line));
            }
        }
        lines
    }

    /// Inline code with its place. One that goes over the end of a line is not seen.
    pub fn spans(&self) -> Vec<(String, String)> {
        let span = Regex::new("`([^`]+)`").unwrap();
        let of_line = |(number, line): (usize, &str)| -> Vec<(String, String)> {
            let place = format!("{}:{number}", self.path);
            span.captures_iter(line).map(|found| (place.clone(), found[1].to_owned())).collect()
        };
        self.prose().into_iter().flat_map(of_line).collect()
    }

    /// The anchors that headings get, as GitHub makes them.
    pub fn anchors(&self) -> Vec<String> {
        let headings = self.prose().into_iter().filter(|(_, line)| line.starts_with('#'));
        headings.map(|(_, line)| anchor(line.trim_start_matches('#').trim())).collect()
    }

    /// Link targets with their place, images among them.
    pub fn links(&self) -> Vec<(String, String)> {
        let (link, code) = (Regex::new(r"\[[^\]]*\]\(([^)]+)\)").unwrap(), Regex::new("`[^`]*`").unwrap());
        let mut links = Vec::new();
        for (number, line) in self.prose() {
            let plain = code.replace_all(line, "code");
            links.extend(link.captures_iter(&plain).map(|found| (format!("{}:{number}", self.path), found[1].to_owned())));
        }
        links
    }
}

fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect::<String>().to_lowercase()
}

#[test]
fn an_anchor_is_made_as_github_makes_it() {
    assert_eq!(
        anchor("What a build can reach, and the rules that close it"),
        "what-a-build-can-reach-and-the-rules-that-close-it"
    );
    assert_eq!(anchor("Stages × faults: `--matrix`"), "stages--faults---matrix");
}
