//! Counts the outcomes of reading mutants.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Debug;

/// Outcome of reading a mutant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Refused with this kind of error.
    Refused(String),
    /// Decoded to the original bytes.
    Exact,
    /// Decoded to other bytes.
    Other,
}

impl Outcome {
    pub fn new<E: Error + Debug>(read: Result<Vec<u8>, E>, expected: &[u8]) -> Self {
        match read {
            Err(error) => Self::Refused(kind(&error)),
            Ok(read) if read == expected => Self::Exact,
            Ok(_) => Self::Other,
        }
    }
}

/// Returns the names of an error and its causes, without values: `Tile Index`, `Tensor Blob Truncated`.
fn kind(error: &impl Debug) -> String {
    let text = format!("{error:?}");
    let unquoted = text.split('"').step_by(2);
    let words = unquoted.flat_map(|part| part.split(|c: char| !c.is_alphanumeric()));
    let names = words.filter(|word| word.starts_with(|c: char| c.is_ascii_uppercase()));
    // Errors of other crates contain long messages.
    names.take_while(|&name| name != "Error").collect::<Vec<_>>().join(" ")
}

/// Prints the seed of the mutant with which a test fails.
pub struct Watched(pub u64);

impl Drop for Watched {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("with the mutant of seed {}", self.0);
        }
    }
}

/// Number of mutants per outcome.
#[derive(Default)]
pub struct Tally(BTreeMap<Outcome, usize>);

impl Tally {
    pub fn add(&mut self, outcome: Outcome) {
        *self.0.entry(outcome).or_default() += 1;
    }

    pub fn all(&self) -> usize {
        self.0.values().sum()
    }

    pub fn others(&self) -> usize {
        self.0.get(&Outcome::Other).copied().unwrap_or_default()
    }

    /// Prints the counts, the most frequent errors first.
    pub fn print(&self, what: &str) {
        let exact = self.0.get(&Outcome::Exact).copied().unwrap_or_default();
        let refused = self.all() - exact - self.others();
        println!(
            "{what}: {} mutants, {refused} refused, {exact} exact, {} other",
            self.all(),
            self.others()
        );
        let mut counts: Vec<_> = self.0.iter().collect();
        counts.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
        for (outcome, count) in counts {
            if let Outcome::Refused(kind) = outcome {
                println!("{count:>8} {kind}");
            }
        }
    }
}
