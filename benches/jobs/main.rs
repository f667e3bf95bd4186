//! The whole job beside what a person would script (`git clone --depth 1`, `docker build`, `docker push` by the CLIs): same machine,
//! same parts, in turns. The worker is the release binary as a process, driven from the outside.
//!
//! ```text
//! scripts/parts run -- cargo bench --bench jobs                      all rows
//! scripts/parts run -- cargo bench --bench jobs -- tiny many         only these
//! scripts/parts run -- cargo bench --bench jobs -- cancel --rounds 20
//! ```
//! Rows: `idle`, `tiny`, `many`, `large`, `eight`, `cancel`, `refused`, `beside`, `buildpacks`. Ratios matter; the seconds are this machine's.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench prints, and a broken step ends it")]
#![allow(clippy::disallowed_methods, reason = "a bench reads its arguments and the rig's environment")]

mod bench_rig;
mod beside;
mod board;
mod buildpacks;
mod cancelling;
mod large;
mod memory;
mod refused;
mod script;
#[path = "../../tests/integration/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "shared with the tests, which need more of it")]
mod support;
mod table;
mod tap;
mod tiny;

use table::Table;

/// What was asked for on the command line.
struct Wanted {
    rows: Vec<String>,
    rounds: Option<usize>,
}

impl Wanted {
    fn read() -> Self {
        let mut wanted = Self { rows: Vec::new(), rounds: None };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--rounds" => wanted.rounds = arguments.next().and_then(|n| n.parse().ok()),
                // cargo's own
                flag if flag.starts_with('-') => {}
                row => wanted.rows.push(row.to_owned()),
            }
        }
        wanted
    }
    fn row(&self, name: &str) -> bool {
        self.rows.is_empty() || self.rows.iter().any(|row| row == name)
    }
    fn rounds(&self, default: usize) -> usize {
        self.rounds.unwrap_or(default)
    }
}

fn main() {
    let wanted = Wanted::read();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut table = Table::default();
    runtime.block_on(async {
        if wanted.row("idle") {
            memory::idle(&mut table).await;
        }
        if wanted.row("tiny") {
            tiny::one(&mut table, wanted.rounds(15)).await;
        }
        if wanted.row("many") {
            tiny::many(&mut table, wanted.rounds(3)).await;
        }
        if wanted.row("large") {
            large::large(&mut table, wanted.rounds(7)).await;
        }
        if wanted.row("eight") {
            memory::eight(&mut table).await;
        }
        if wanted.row("cancel") {
            cancelling::cancels(&mut table, wanted.rounds(10)).await;
        }
        if wanted.row("refused") {
            refused::refused(&mut table).await;
        }
        if wanted.row("beside") {
            beside::dead_hosts(&mut table, wanted.rounds(1)).await;
        }
        if wanted.row("buildpacks") {
            buildpacks::all(&mut table, wanted.rounds(7)).await;
        }
    });
    println!("\n{table}");
}
