//! The test post: a log post with an empty text. The dashboard's API refuses it with 400 and stores nothing of it, so it shows who
//! answers at API_URL and whether the key is accepted. An address that takes it takes everything, and its 200 acknowledges nothing.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::Mutex;

use super::answer::Answer;
use super::client::{Client, Post};
use crate::protocol::{DeploymentId, LogPost, LogType};

/// `Default`: nothing is known of who answers.
#[derive(Default)]
pub struct TestPost {
    /// It was refused since the dashboard was away last. While this holds no test post is sent.
    is_refused: AtomicBool,
    /// Test posts that were answered so far.
    asked: AtomicU64,
    last: Mutex<Option<Answer>>,
}

impl TestPost {
    /// Sends it. Callers that wait while another one sends it share that answer: an outage costs one test post, not one per sender.
    pub async fn send(&self, client: &Client) -> Answer {
        let asked = self.asked.load(Ordering::Acquire);
        let mut last = self.last.lock().await;
        if let Some(answer) = last.as_ref()
            && self.asked.load(Ordering::Acquire) != asked
        {
            return answer.clone();
        }
        let answer = post(client).await;
        match &answer {
            Answer::Taken | Answer::NotTheApi { .. } | Answer::Away { .. } => self.forget(),
            Answer::Invalid(_) | Answer::UnknownId | Answer::TooLarge | Answer::Failed(_) => {
                self.is_refused.store(true, Ordering::Release);
            }
            Answer::Denied(_) => {}
        }
        *last = Some(answer.clone());
        self.asked.fetch_add(1, Ordering::Release);
        answer
    }

    /// Before a post whose 200 counts, sends the test post where it is not known yet who answers. After the post would be too late: a
    /// BUILDED that is repeated because its 200 is not believed deploys twice.
    ///
    /// # Errors
    /// Why the post must not go out.
    pub async fn precede(&self, client: &Client) -> Result<(), Answer> {
        if self.is_refused.load(Ordering::Acquire) {
            return Ok(());
        }
        match self.send(client).await {
            Answer::Taken => Err(takes_everything()),
            answer @ (Answer::NotTheApi { .. } | Answer::Away { .. } | Answer::Denied(_)) => Err(answer),
            Answer::Invalid(_) | Answer::UnknownId | Answer::TooLarge | Answer::Failed(_) => Ok(()),
        }
    }

    /// The dashboard is away: when it comes back, something else may answer at its address.
    pub fn forget(&self) {
        self.is_refused.store(false, Ordering::Release);
    }
}

/// What an address is that takes the test post.
pub fn takes_everything() -> Answer {
    let why = "it takes an empty line, which the dashboard's API refuses with 400: check API_URL, and what answers there";
    Answer::NotTheApi { status: 200, why: why.to_owned() }
}

async fn post(client: &Client) -> Answer {
    match DeploymentId::parse("slipway-check") {
        Ok(nobody) => client.post(&nobody, Post::Log(&LogPost { text: String::new(), kind: LogType::Info })).await,
        Err(_) => Answer::Away { why: "the test post has no id".to_owned(), retry_after: None },
    }
}
