//! Fits a sentence into a number of characters, so that what it says stays readable.

/// Words are not cut to less while the sentence itself can still be kept whole.
const WORD: usize = 24;
/// A cut moves by at most so many characters to the border of a word.
const BORDER: usize = 8;

/// `text` in at most `max` characters. Long words (names, URLs, digests) lose their middle first, and only then the text its own: the
/// beginning of a sentence says what failed, and its end how (an exit code, the innermost error).
pub fn shorten(text: &str, max: usize) -> String {
    let count = text.chars().count();
    if count <= max {
        return text.to_owned();
    }
    let mut words: Vec<(usize, String)> = text.split(' ').map(|word| (word.chars().count(), word.to_owned())).collect();
    let mut excess = count - max;
    while excess > 0 {
        let Some((len, word)) = words.iter_mut().max_by_key(|(len, _)| *len).filter(|(len, _)| *len > WORD) else { break };
        let kept = len.saturating_sub(excess).max(WORD);
        excess -= *len - kept;
        (*len, *word) = (kept, without_middle(word, kept));
    }
    let text = words.into_iter().map(|(_, word)| word).collect::<Vec<_>>().join(" ");
    if excess == 0 { text } else { without_middle_words(&text, max) }
}

fn without_middle(text: &str, max: usize) -> String {
    let chars: Vec<char> = text.chars().collect();
    let head = max.saturating_sub(1).div_ceil(2);
    let tail = max.saturating_sub(1) - head;
    chars[..head].iter().chain(&['…']).chain(&chars[chars.len() - tail..]).collect()
}

/// As [`without_middle`], cut between two words where one ends near by. The beginning keeps two thirds.
fn without_middle_words(text: &str, max: usize) -> String {
    let chars: Vec<char> = text.chars().collect();
    let room = max.saturating_sub(1);
    let (mut head, mut tail) = (room - room / 3, chars.len() - room / 3);
    if let Some(back) = chars[..head].iter().rev().take(BORDER).position(|c| *c == ' ') {
        head -= back;
    }
    if let Some(on) = chars[tail..].iter().take(BORDER).position(|c| *c == ' ') {
        tail += on;
    }
    chars[..head].iter().chain(&['…']).chain(&chars[tail..]).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_text_never_gets_longer_than_it_may_be(text in "([a-zé/]{0,60} ?){0,8}", max in 1usize..200) {
            let short = shorten(&text, max);
            prop_assert!(short.chars().count() <= max, "{short}");
            prop_assert!(text.chars().count() > max || short == text);
        }
    }

    #[test]
    fn a_long_name_loses_its_middle_and_the_sentence_stays() {
        let url = format!("https://git.example/{}/hello.git", "team/".repeat(40));
        let short = shorten(&format!("The server of {url} asks for credentials (HTTP 401)."), 80);
        assert!(
            short.starts_with("The server of https://git.") && short.ends_with("/hello.git asks for credentials (HTTP 401)."),
            "{short}"
        );
        assert_eq!(short.chars().count(), 80);
    }

    #[test]
    fn a_long_command_keeps_how_it_begins_and_how_it_ended() {
        let short = shorten(&format!("RUN npm ci && {}echo done ended with exit code 127.", "npm run x && ".repeat(30)), 90);
        assert!(short.starts_with("RUN npm ci && npm run x") && short.ends_with("ended with exit code 127."), "{short}");
        assert!(short.contains(" …"), "{short}");
    }
}
