//! PURE: whether what was told of one deployment is all that was kept, in order, and whether what was cut is said.
//!
//! A job prints `line <n> …` for n = 0, 1, 2 …; its log says `#7 line <n> …`.

const BROKE_OFF: &str = "the Docker Engine stops telling what the build prints";

/// What the dashboard was told, as it comes.
#[derive(Debug, Default)]
pub struct Story {
    pub statuses: Vec<String>,
    pub image: String,
    pub error: String,
    /// Lines of the step that were told.
    pub lines: u64,
    /// Lines that were said to be missing.
    pub missing: u64,
    /// The number that has to come next.
    next: u64,
    /// Said to be missing since the last numbered line.
    announced: u64,
    /// The Engine told nothing more of the log, and it was said: Docker Engine 20.10 does so where more than 1 MiB waits.
    pub broke_off: bool,
    wrong: Option<String>,
}

impl Story {
    pub fn status(&mut self, json: &serde_json::Value) {
        let status = json["status"].as_str().unwrap_or_default().to_owned();
        if self.ended() {
            self.is_wrong(format!("{status} came after the end"));
        }
        self.image = json["data"]["containerImageUri"].as_str().unwrap_or_default().to_owned();
        self.error = json["error"].as_str().unwrap_or_default().to_owned();
        self.statuses.push(status);
    }

    pub fn log(&mut self, text: &str) {
        if self.ended() {
            self.is_wrong("lines came after the end".to_owned());
        }
        for line in text.split('\n') {
            if let Some(missing) = announced(line) {
                self.announced += missing;
                self.missing += missing;
            } else if let Some(number) = numbered(line) {
                self.number(number);
            } else {
                self.broke_off |= line.contains(BROKE_OFF);
            }
        }
    }

    fn number(&mut self, number: u64) {
        // One line without a number may have been among them: the worker's own, for example.
        let others = (self.next + self.announced).wrapping_sub(number);
        if others > u64::from(self.announced > 0) {
            self.is_wrong(format!("line {number} came where line {} was due, {} said to be missing", self.next, self.announced));
        }
        (self.next, self.announced) = (number + 1, 0);
        self.lines += 1;
    }

    fn is_wrong(&mut self, what: String) {
        self.wrong.get_or_insert(what);
    }

    pub fn ended(&self) -> bool {
        self.statuses.last().is_some_and(|s| matches!(s.as_str(), "BUILDED" | "FAILED" | "CANCELLED"))
    }

    /// `printed`: how many lines the job's step prints.
    pub fn check(&self, printed: u64) -> Result<(), String> {
        if let Some(wrong) = &self.wrong {
            return Err(wrong.clone());
        }
        if self.statuses != ["BUILDING", "BUILDED"] {
            return Err(format!("its statuses are {:?} {}", self.statuses, self.error));
        }
        if self.next != printed && !self.broke_off {
            return Err(format!("its log ends with line {} of {printed}", self.next));
        }
        Ok(())
    }
}

fn numbered(line: &str) -> Option<u64> {
    let mut words = line.split(' ');
    let step = words.next()?;
    (step.starts_with('#') && words.next()? == "line").then(|| words.next()?.parse().ok()).flatten()
}

/// `[slipway] 12 lines (345 bytes) are missing here: …`
fn announced(line: &str) -> Option<u64> {
    let rest = line.strip_prefix("[slipway] ")?;
    let (count, rest) = rest.split_once(" lines (")?;
    rest.contains("are missing here").then(|| count.parse().ok()).flatten()
}
