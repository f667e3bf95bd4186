//! Secrets that cannot be printed, and the redactor that masks them in every byte that leaves.

mod redactor;

pub use redactor::{Redactor, StreamRedactor};
pub use secrecy::{ExposeSecret, SecretString};
