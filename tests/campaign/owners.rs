//! PURE: whether one host at a time spoke for a deployment, and none for an attempt after a newer one had begun.

use std::collections::HashMap;
use std::time::Instant;

use super::record::{OF_LOST_HOST, Told, What, numbered};

/// An attempt, as the dashboard saw it.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    pub host: String,
    pub began: Instant,
    /// It was told as BUILDING. Else it only tells the end that the attempt before it had stored.
    pub builds: bool,
}

/// The attempts at one deployment, in order. An attempt begins with its BUILDING, or with the word that the one before it ended on
/// a host that is gone; until the next one begins nobody but its host may tell anything.
pub fn attempts(told: &[Told]) -> Result<Vec<Attempt>, String> {
    let (mut attempts, mut runs) = (Vec::<Attempt>::new(), HashMap::<&str, usize>::new());
    for post in told {
        let builds = matches!(&post.what, What::Status { status, .. } if status == "BUILDING");
        let takes_over = matches!(&post.what, What::Log(text) if text.contains(OF_LOST_HOST));
        match attempts.last() {
            Some(current) if !builds && !takes_over => {
                if current.host != post.host {
                    return Err(format!("{} spoke for an attempt of {}: {:?}", post.host, current.host, post.what));
                }
            }
            _ => attempts.push(Attempt { host: post.host.clone(), began: post.at, builds }),
        }
        match &post.what {
            What::Log(text) => {
                for (run, n) in text.split('\n').filter_map(numbered) {
                    let attempt = *runs.entry(run).or_insert(attempts.len());
                    if attempt != attempts.len() {
                        return Err(format!("line {n} of an older attempt, number {attempt}, came in number {}", attempts.len()));
                    }
                }
            }
            What::Status { image, .. } => {
                let builds = attempts.iter().filter(|a| a.builds).count();
                if let Some(of) = attempt_of(image).filter(|of| *of < builds) {
                    return Err(format!("the image of attempt {of} was told in attempt {builds}"));
                }
            }
        }
    }
    Ok(attempts)
}

/// `<repository>:<deployment>-<attempt>@<digest>`.
fn attempt_of(image: &str) -> Option<usize> {
    image.split_once('@')?.0.rsplit_once('-')?.1.parse().ok()
}
