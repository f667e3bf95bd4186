//! What is run, by arguments and environment; an argument counts more.

use std::time::Duration;

use crate::fault::Fault;

pub const HELP: &str = "\
The campaign: workers on the real parts, faults at every stage, and the invariants checked from outside.

    make campaign                                                  everything, at full length
    scripts/parts run -- cargo test --test campaign -- OPTIONS     a part of it; without options the short form of `make test`

    --kills N          kill -9 of a worker at a random moment, N times, two workers         (KILLS)
    --matrix           every stage × every fault                                            (MATRIX=1)
    --turns N          two hosts, each cut from Redis by turns for longer than its lease, N times   (TURNS)
    --takeover         dead, stopped, frozen workers; jobs that kill workers; newer jobs    (TAKEOVER=1)
    --undelivered N    chatty builds while the dashboard is away, for N minutes             (UNDELIVERED)
    --secrets N        N secrets printed by builds in every way, and everything searched for them   (SECRETS)
    --only WORD        of the matrix and the take-overs only what has WORD in its name; `outages`: of the
                       matrix what is away for a time, which alone is worth another --outage-seconds   (ONLY)
    --seed N           what random numbers begin with; the same for each run unless given   (SEED)
    --rounds N         each case of the matrix N times                                      (ROUNDS)
    --outage-seconds N how long a part stays away                                           (OUTAGE_SECONDS)
    --at-once N        cases of the matrix that are brought to their stage at a time        (AT_ONCE)
    --parallel N       cases of the matrix at a time, those included that wait for an outage's end;
                       each has two workers and a Redis, about 100 MB                       (PARALLEL)

It prints a table, and for each miss one line with the seed. The workers' logs of a miss are kept in target/tmp/campaign.
Exit code 1: there was a miss.
";

#[derive(Debug, Clone)]
pub struct Options {
    pub kills: usize,
    pub turns: usize,
    pub matrix: bool,
    pub takeover: bool,
    /// How long the dashboard is away from chatty builds.
    pub undelivered: Duration,
    pub secrets: usize,
    pub only: String,
    pub seed: u64,
    pub rounds: usize,
    pub outage: Duration,
    pub at_once: usize,
    pub parallel: usize,
    /// Nothing in particular was asked for: the short form.
    pub short: bool,
}

impl Options {
    /// Whether what is called `name` is to be run.
    pub fn wants(&self, name: &str) -> bool {
        self.only.split(',').any(|word| name.contains(word))
    }
}

pub enum Asked {
    Run(Options),
    Help,
    /// `cargo test NAME`, and the name is not this one's.
    Nothing,
    Wrong(String),
}

pub fn read(arguments: impl Iterator<Item = String>, variable: impl Fn(&str) -> Option<String>) -> Asked {
    let mut values: Vec<(String, String)> = [
        "KILLS",
        "TURNS",
        "MATRIX",
        "TAKEOVER",
        "UNDELIVERED",
        "SECRETS",
        "ONLY",
        "SEED",
        "ROUNDS",
        "OUTAGE_SECONDS",
        "AT_ONCE",
        "PARALLEL",
    ]
    .iter()
    .filter_map(|name| variable(name).filter(|v| !v.is_empty()).map(|v| (name.to_lowercase().replace('_', "-"), v)))
    .collect();
    let mut arguments = arguments.peekable();
    while let Some(argument) = arguments.next() {
        match argument.strip_prefix("--") {
            Some("help") => return Asked::Help,
            // What `cargo test -- …` gives to all tests.
            Some("nocapture" | "quiet" | "show-output" | "include-ignored" | "exact") => {}
            Some(name) if name.starts_with("test-threads") => {
                if name == "test-threads" {
                    arguments.next();
                }
            }
            Some(name @ ("matrix" | "takeover")) => values.push((name.to_owned(), "1".to_owned())),
            Some(name) => match arguments.next() {
                Some(value) => values.push((name.to_owned(), value)),
                None => return Asked::Wrong(format!("--{name} wants a value")),
            },
            None if "campaign".contains(argument.as_str()) => {}
            None => return Asked::Nothing,
        }
    }
    match understand(&values) {
        Ok(options) => Asked::Run(options),
        Err(wrong) => Asked::Wrong(wrong),
    }
}

fn understand(values: &[(String, String)]) -> Result<Options, String> {
    let mut options = Options {
        kills: 0,
        turns: 0,
        matrix: false,
        takeover: false,
        undelivered: Duration::ZERO,
        secrets: 0,
        only: String::new(),
        seed: 1,
        rounds: 1,
        outage: Duration::from_secs(30),
        at_once: 4,
        parallel: 0,
        short: false,
    };
    for (name, value) in values {
        let number = || value.parse::<u64>().map_err(|_| format!("--{name} {value}: not a number"));
        let minutes = || match value.parse::<f64>() {
            Ok(minutes) if (0.0..10_000.0).contains(&minutes) => Ok(Duration::from_secs_f64(minutes * 60.0)),
            _ => Err(format!("--{name} {value}: no number of minutes")),
        };
        match name.as_str() {
            "kills" => options.kills = number()? as usize,
            "turns" => options.turns = number()? as usize,
            "matrix" => options.matrix = value != "0",
            "takeover" => options.takeover = value != "0",
            "undelivered" => options.undelivered = minutes()?,
            "secrets" => options.secrets = number()? as usize,
            "only" => options.only.clone_from(value),
            "seed" => options.seed = number()?,
            "rounds" => options.rounds = number()?.max(1) as usize,
            "outage-seconds" => options.outage = Duration::from_secs(number()?),
            "at-once" => options.at_once = number()?.max(1) as usize,
            "parallel" => options.parallel = number()? as usize,
            _ => return Err(format!("--{name} is not known")),
        }
    }
    let is_long = options.matrix || options.takeover || options.kills + options.turns + options.secrets > 0;
    options.short = !is_long && options.undelivered.is_zero();
    if options.short {
        // All its cases wait at the same time.
        options.parallel = Fault::all().len();
    }
    Ok(options)
}
