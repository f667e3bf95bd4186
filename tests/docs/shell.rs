//! The commands in a block of shell: words, quotes, substitutions, continued lines. No more of the language than the documents use.

/// One command, as its words; quotes are taken away. What a substitution holds stands behind it as commands of its own.
pub type Command = Vec<String>;

/// Every simple command of a text, in order.
pub fn commands(text: &str) -> Result<Vec<Command>, String> {
    let mut reader = Reader { left: text.chars().peekable(), commands: Vec::new(), words: Vec::new(), word: None };
    reader.read()?;
    Ok(reader.commands)
}

struct Reader<'t> {
    left: std::iter::Peekable<std::str::Chars<'t>>,
    commands: Vec<Command>,
    words: Command,
    word: Option<String>,
}

impl Reader<'_> {
    fn read(&mut self) -> Result<(), String> {
        while let Some(c) = self.left.next() {
            match c {
                '\\' if self.left.peek() == Some(&'\n') => drop(self.left.next()),
                '\\' => {
                    let next = self.left.next().unwrap_or_default();
                    self.push(next);
                }
                '\'' => {
                    let quoted = self.until('\'')?;
                    self.word.get_or_insert_default().push_str(&quoted);
                }
                '"' => {
                    let quoted = self.until('"')?;
                    self.substitutions_of(&quoted)?;
                    self.word.get_or_insert_default().push_str(&quoted);
                }
                '$' if self.left.peek() == Some(&'(') => {
                    self.left.next();
                    let inner = self.until(')')?;
                    self.commands.extend(commands(&inner)?);
                    self.word.get_or_insert_default().push_str(&format!("$({inner})"));
                }
                '#' if self.word.is_none() => while self.left.next_if(|c| *c != '\n').is_some() {},
                '>' | '<' => {
                    // The file of a redirection is a word of the command.
                    self.end_word();
                }
                ' ' | '\t' => self.end_word(),
                '\n' | ';' | '&' | '|' => self.end_command(),
                c => self.push(c),
            }
        }
        self.end_command();
        Ok(())
    }

    fn push(&mut self, c: char) {
        self.word.get_or_insert_default().push(c);
    }

    fn until(&mut self, end: char) -> Result<String, String> {
        let mut quoted = String::new();
        loop {
            match self.left.next() {
                Some(c) if c == end => return Ok(quoted),
                Some(c) => quoted.push(c),
                None => return Err(format!("a {end} is missing")),
            }
        }
    }

    fn substitutions_of(&mut self, quoted: &str) -> Result<(), String> {
        let mut rest = quoted;
        while let Some((_, inner)) = rest.split_once("$(") {
            let (inner, after) = inner.split_once(')').ok_or("a ) is missing")?;
            self.commands.extend(commands(inner)?);
            rest = after;
        }
        Ok(())
    }

    fn end_word(&mut self) {
        self.words.extend(self.word.take());
    }

    fn end_command(&mut self) {
        self.end_word();
        if !self.words.is_empty() {
            self.commands.push(std::mem::take(&mut self.words));
        }
    }
}

#[test]
fn a_block_is_read_as_a_shell_reads_it() {
    let block = "a 'b c' # d\ne --f \\\n  g && h > .env; redis-cli RPUSH q \"$(cat job.json)\"\n";
    let read = commands(block).unwrap();
    let expected: [&[&str]; 5] = [
        &["a", "b c"],
        &["e", "--f", "g"],
        &["h", ".env"],
        &["cat", "job.json"],
        &["redis-cli", "RPUSH", "q", "$(cat job.json)"],
    ];
    assert_eq!(read, expected.map(|words| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>()));
    assert!(commands("a 'b").is_err());
}
