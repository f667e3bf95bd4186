//! Secrets that cannot be printed, and the redactor that masks them in every byte that leaves.

mod active;
mod fetched;
mod forms;
mod patterns;
mod public;
mod redactor;

#[cfg(test)]
mod generated_tests;
#[cfg(test)]
mod tests;

pub use active::ActiveSecrets;
pub use fetched::FetchedSecrets;
pub use public::COMMON_VALUES;
pub use redactor::{Redactor, StreamRedactor};
pub use secrecy::{ExposeSecret, SecretString};

/// Shorter secrets are not masked: they would star out half of a log, and their places would tell them anyway.
pub const MIN_SECRET_CHARS: usize = 6;
