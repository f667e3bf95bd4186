//! Sends one deployment's journal: strictly in order, one post at a time, read from disk for each try, so that a thousand
//! deployments that wait for a dashboard hold no text in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::answer::Answer;
use super::batch::FLUSH_AFTER;
use super::client::Post;
use super::dashboard::{Dashboard, Pass};
use super::journal::{EndFate, EndNote, Item, Journal, Loaded, Position};
use super::pace::{Pace, jittered, random};
use super::patience::Patience;
use super::pieces::{Outgoing, Pieces, Refusal};
use super::refusals::{self, Extent, Refusals, status_post};
use super::{Delivery, Fence};
use crate::protocol::{Code, DeploymentId, DeploymentStatus, LogPost, LogType, Outcome, StatusPost};
use crate::queue::{Fenced, Gate, GateState, Telling};

/// What a report and its sender share.
pub struct Link {
    pub journal: Journal,
    /// There is more to send, or an end may be sent now.
    pub work: Notify,
    /// Lines began to gather.
    pub gathering: Notify,
    /// Ends up to this ordinal may be sent: their callers wait.
    pub armed: AtomicU64,
    pub progress: watch::Sender<Progress>,
    /// Held while a status or an end is posted: one at a time, in the order in which the fence was asked.
    pub speaking: tokio::sync::Mutex<()>,
    /// The dashboard was told CANCELLED though the disk had not taken it.
    pub cancel_told: AtomicBool,
    /// No further try; the one under way is waited for.
    pub pause: CancellationToken,
    /// Stop at once.
    pub kill: CancellationToken,
}

#[derive(Debug, Default)]
pub struct Progress {
    /// The newest end that has a fate.
    pub settled: Option<(u64, Delivery)>,
    /// The sender is gone; so ends every end that is not settled.
    pub over: Option<Delivery>,
}

pub struct Sender {
    pub id: DeploymentId,
    pub link: Arc<Link>,
    pub dashboard: Arc<Dashboard>,
    pub gate: Gate,
    pub fence: Arc<dyn Fence>,
    pub pace: Pace,
}

/// What the sender carries from one post to the next.
#[derive(Default)]
struct Course {
    /// A log item that is told in pieces, and where it ends in the journal.
    log: Option<(Pieces, Position)>,
    patience: Patience,
    /// Of the status or the end that is told now, or of the line that announces what may be left out.
    refusals: Refusals,
    /// How much of the end is told.
    extent: Extent,
    /// A post of the end had no answer: the dashboard may take it yet.
    end_on_its_way: bool,
    /// Not even a harmless line of this deployment is taken: what is refused is left out at once, so that its end has its turn.
    gives_up_lines: bool,
    /// Tries in a row that the dashboard, or the fence, gave no clear answer to.
    tries: u32,
    /// The last refusal, in words for the user.
    refusal: String,
    /// The gate's opening since which the attempt is known to be ours. Behind a later one it may be another worker's, and not even
    /// a line may be told then.
    trusted: u64,
}

/// Whether the sender goes on.
enum Next {
    On,
    Over(Delivery),
}

impl Sender {
    /// Runs until the journal is given up or `kill` trips. Whatever was gathered is on disk then.
    pub async fn run(mut self) {
        let link = Arc::clone(&self.link);
        let over = tokio::select! {
            biased;
            () = link.kill.cancelled() => Delivery::Stopped,
            over = self.send() => over,
            () = keep_flushed(&link) => Delivery::Stopped,
        };
        self.dashboard.leave(&self.id);
        blocking(&link, |link| link.journal.flush()).await;
        link.progress.send_modify(|p| p.over = Some(over));
    }

    async fn send(&mut self) -> Delivery {
        let pause = self.link.pause.clone();
        let mut course = Course { trusted: self.gate.openings(), ..Course::default() };
        loop {
            let (pass, loaded) = tokio::select! {
                biased;
                // What was written before the pause is still sent; whoever paused waits for it only so long.
                () = pause.cancelled(), if !self.link.journal.has_more() => match self.link.journal.has_more() {
                    true => continue,
                    false => return Delivery::Stopped,
                },
                ready = self.ready(&mut course) => ready,
            };
            let opening = self.gate.openings();
            if opening != course.trusted {
                match self.ask_fence(Telling::Status).await {
                    Some(Fenced::Lost) => return Delivery::Lost,
                    Some(_) => course.trusted = opening,
                    None => {
                        drop(pass);
                        course.tries = course.tries.saturating_add(1);
                        self.rest(&course, &pause).await;
                        continue;
                    }
                }
            }
            let next = match loaded.item {
                Item::Log { kind, text } => self.send_log(&mut course, pass, kind, &text, loaded.after).await,
                Item::CutOut(m) => {
                    let text = format!(
                        "[slipway] {} lines ({} bytes) are missing here: the dashboard could not be reached and the log outgrew LOG_MAX_BYTES.",
                        m.lines, m.bytes
                    );
                    self.send_log(&mut course, pass, LogType::Warning, &text, loaded.after).await
                }
                Item::Unwritten(m) => {
                    let text = format!(
                        "[slipway] {} lines ({} bytes) are missing here: the worker could not write or read them on its disk.",
                        m.lines, m.bytes
                    );
                    self.send_log(&mut course, pass, LogType::Warning, &text, loaded.after).await
                }
                Item::Unreadable(bytes) => {
                    tracing::warn!(deployment_id = %self.id, bytes, "a part of the journal cannot be read");
                    let text = format!(
                        "[slipway] {bytes} bytes of the log are missing here: they cannot be read back from the worker's disk."
                    );
                    self.send_log(&mut course, pass, LogType::Warning, &text, loaded.after).await
                }
                Item::Status(status) => self.send_status(&mut course, pass, status, loaded.after).await,
                Item::End(end) => self.send_end(&mut course, pass, end, loaded.after).await,
            };
            if let Next::Over(delivery) = next {
                return delivery;
            }
            if course.tries > 0 {
                self.rest(&course, &pause).await;
            }
        }
    }

    /// Between two tries.
    async fn rest(&self, course: &Course, pause: &CancellationToken) {
        let wait = jittered(self.pace.base, self.pace.cap, course.tries.saturating_sub(1), random());
        tokio::select! {
            () = pause.cancelled() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }

    /// Waits until there is something to send and it may be sent. The item is read last: nothing of it is held while waiting.
    async fn ready(&mut self, course: &mut Course) -> (Pass, Loaded) {
        loop {
            while !self.link.journal.has_more() {
                self.link.work.notified().await;
            }
            self.gate.open().await;
            let pass = self.dashboard.enter().await;
            if self.gate.state() != GateState::Open {
                continue;
            }
            let until = course.log.as_ref().map(|(_, after)| *after);
            match blocking(&self.link, move |link| link.journal.read(until)).await {
                Some(Ok(Some(Loaded { item: Item::End(end), after }))) => {
                    if !self.link.journal.is_current(end.ordinal) || end.ordinal <= self.link.armed.load(Ordering::Acquire) {
                        return (pass, Loaded { item: Item::End(end), after });
                    }
                    // Nobody has asked for this end yet (a restart found it): what is behind it waits for the word.
                    drop(pass);
                    self.link.work.notified().await;
                }
                Some(Ok(Some(loaded))) => return (pass, loaded),
                Some(Ok(None)) => {}
                Some(Err(e)) => {
                    drop(pass);
                    tracing::error!(deployment_id = %self.id, error = %e, "the journal cannot be read; tried again");
                    tokio::time::sleep(self.pace.cap).await;
                }
                None => std::future::pending().await,
            }
        }
    }

    async fn send_log(&self, course: &mut Course, pass: Pass, kind: LogType, text: &str, after: Position) -> Next {
        let (mut pieces, after) = course.log.take().unwrap_or_else(|| (Pieces::whole(text.len()), after));
        let post = match pieces.next(text, &course.refusal) {
            Some(Outgoing::Text(part)) => LogPost { text: part.to_owned(), kind },
            Some(Outgoing::Announcement(words)) => LogPost { text: words, kind: LogType::Warning },
            None => {
                self.told(after, None).await;
                return Next::On;
            }
        };
        let answer = self.dashboard.post(pass, &self.id, Post::Log(&post)).await;
        if let Next::Over(delivery) = self.weigh(course, &answer) {
            return Next::Over(delivery);
        }
        let refusal = match answer {
            Answer::Taken => {
                course.gives_up_lines = false;
                course.refusals.over();
                pieces.taken();
                Refusal::Again
            }
            Answer::Failed(_) | Answer::Invalid(_) | Answer::TooLarge if course.gives_up_lines => pieces.leave_out(),
            Answer::Failed(status) | Answer::Invalid(status) => {
                course.refusal = format!("The dashboard answers {status}");
                self.weigh_line(course, &pieces, &answer).await;
                pieces.refused(text)
            }
            Answer::TooLarge => {
                course.refusal = "The dashboard answers 413 (too large)".to_owned();
                self.weigh_line(course, &pieces, &answer).await;
                let was_announcing = pieces.is_announcing();
                let refusal = pieces.too_large(text);
                if !was_announcing && !pieces.is_announcing() {
                    // It is cut: the parts need not wait.
                    course.tries = 0;
                }
                refusal
            }
            Answer::Denied(_) | Answer::UnknownId | Answer::Away { .. } | Answer::NotTheApi { .. } => Refusal::Again,
        };
        if let Refusal::LeftOut(bytes) = refusal {
            course.tries = 0;
            tracing::warn!(deployment_id = %self.id, bytes, ?answer, "the dashboard refuses this log text for good; it is left out");
        }
        if pieces.next(text, "").is_none() {
            self.told(after, None).await;
        } else {
            course.log = Some((pieces, after));
        }
        Next::On
    }

    /// A post of this deployment is refused. `true`: something shows that the refusal is its own.
    async fn note_refusal(&self, course: &mut Course) -> bool {
        let health = self.dashboard.health_beside(&self.id).await;
        course.refusals.note(Instant::now(), health)
    }

    /// A line is refused. Where the harmless one that announces it is refused too, and that is believed, all lines are given up.
    async fn weigh_line(&self, course: &mut Course, pieces: &Pieces, answer: &Answer) {
        self.note_refusal(course).await;
        if pieces.is_announcing() && course.refusals.believe(refusal_of(answer), &self.pace) {
            tracing::warn!(deployment_id = %self.id, ?answer, "the dashboard refuses every line of this deployment; they are left out");
            course.gives_up_lines = true;
        }
    }

    async fn send_status(&self, course: &mut Course, pass: Pass, status: DeploymentStatus, after: Position) -> Next {
        // A status after a cancel would bring the deployment back to life.
        if self.link.journal.is_cancelled() {
            self.told(after, None).await;
            return Next::On;
        }
        let link = Arc::clone(&self.link);
        // Not held while the disk is waited for: a cancel has to get past.
        let speaking = link.speaking.lock().await;
        match self.ask_fence(Telling::Status).await {
            Some(Fenced::Stored) => {}
            Some(Fenced::Cancelled | Fenced::Superseded { .. } | Fenced::Stands(_) | Fenced::Lost) => {
                drop(speaking);
                self.told(after, None).await;
                return Next::On;
            }
            None => {
                course.tries = course.tries.saturating_add(1);
                return Next::On;
            }
        }
        let answer = self.dashboard.post(pass, &self.id, Post::Status(&StatusPost { status, error: None, data: None })).await;
        drop(speaking);
        if let Next::Over(delivery) = self.weigh(course, &answer) {
            return Next::Over(delivery);
        }
        match answer {
            Answer::Taken => {
                course.refusals.over();
                self.told(after, None).await;
            }
            Answer::Invalid(_) | Answer::TooLarge | Answer::Failed(_) => {
                self.note_refusal(course).await;
                if course.refusals.believe(refusal_of(&answer), &self.pace) {
                    tracing::warn!(deployment_id = %self.id, ?status, ?answer, "the dashboard refuses this status for good; it is left out");
                    course.tries = 0;
                    self.told(after, None).await;
                }
            }
            Answer::Denied(_) | Answer::UnknownId | Answer::Away { .. } | Answer::NotTheApi { .. } => {}
        }
        Next::On
    }

    async fn send_end(&self, course: &mut Course, pass: Pass, end: EndNote, after: Position) -> Next {
        if !self.link.journal.is_current(end.ordinal) {
            self.told(after, None).await;
            return Next::On;
        }
        let cancels = matches!(end.outcome, Outcome::Cancelled { .. });
        let link = Arc::clone(&self.link);
        let speaking = link.speaking.lock().await;
        if cancels && link.cancel_told.load(Ordering::Acquire) {
            drop(speaking);
            return self.finish(&end, after, Delivery::Delivered).await;
        }
        match self.ask_fence(Telling::End).await {
            Some(Fenced::Lost) => return self.finish(&end, after, Delivery::Lost).await,
            Some(Fenced::Cancelled | Fenced::Superseded { .. }) if !cancels => {
                drop(speaking);
                return self.finish(&end, after, Delivery::Cancelled).await;
            }
            Some(_) => {}
            None => {
                course.tries = course.tries.saturating_add(1);
                return Next::On;
            }
        }
        let answer = self.dashboard.post(pass, &self.id, Post::Status(&status_post(&end.outcome, course.extent))).await;
        drop(speaking);
        course.end_on_its_way |= matches!(answer, Answer::Away { .. } | Answer::NotTheApi { .. });
        if let Next::Over(delivery) = self.weigh(course, &answer) {
            return self.finish(&end, after, delivery).await;
        }
        match answer {
            Answer::Taken => {
                // A later end is told whole again.
                (course.extent, course.refusals) = (Extent::Whole, Refusals::default());
                self.finish(&end, after, Delivery::Delivered).await
            }
            Answer::Invalid(status) | Answer::Failed(status) => self.end_refused(course, &end, after, &answer, status).await,
            Answer::TooLarge => self.end_refused(course, &end, after, &answer, 413).await,
            Answer::Denied(_) | Answer::UnknownId | Answer::Away { .. } | Answer::NotTheApi { .. } => Next::On,
        }
    }

    /// The end is told with less, or given up, once it is sure that it alone is refused.
    async fn end_refused(&self, course: &mut Course, end: &EndNote, after: Position, answer: &Answer, status: u16) -> Next {
        let is_alone = self.note_refusal(course).await;
        if is_alone && !course.end_on_its_way && matches!(end.outcome, Outcome::Builded { .. }) {
            // A newer deployment of the service need not wait for this one. What the fence says counts before the next try.
            self.ask_fence(Telling::RefusedEnd).await;
        }
        if !course.refusals.believe(refusal_of(answer), &self.pace) {
            return Next::On;
        }
        course.tries = 0;
        if let Some(less) = course.extent.less(&end.outcome) {
            tracing::warn!(deployment_id = %self.id, status, told = ?less, "the dashboard refuses the end of this deployment while it takes other posts; it is told with less");
            course.extent = less;
            return Next::On;
        }
        tracing::error!(deployment_id = %self.id, code = %Code::ReportRefused, status, "the dashboard refuses the end of {} for good, however little of it is told: it goes to the dead letter list [{}]", self.id, Code::ReportRefused);
        self.finish(end, after, Delivery::Refused { status }).await
    }

    /// The end has a fate: it is kept on disk first, then the caller learns of it.
    async fn finish(&self, end: &EndNote, after: Position, delivery: Delivery) -> Next {
        match delivery {
            Delivery::Delivered => self.told(after, Some(EndFate::Delivered(end.ordinal))).await,
            Delivery::Cancelled => self.told(after, Some(EndFate::Voided(end.ordinal))).await,
            // Refused: a start before the dead letter list has it tells it once more.
            Delivery::Refused { .. } | Delivery::Lost | Delivery::Stopped => {}
        }
        self.link.progress.send_modify(|p| p.settled = Some((end.ordinal, delivery.clone())));
        match delivery {
            Delivery::Delivered | Delivery::Cancelled => Next::On,
            Delivery::Refused { .. } | Delivery::Lost | Delivery::Stopped => Next::Over(delivery),
        }
    }

    /// What an answer means for the tries to come, whatever was posted.
    fn weigh(&self, course: &mut Course, answer: &Answer) -> Next {
        match answer {
            Answer::UnknownId => {
                course.tries = course.tries.saturating_add(1);
                if course.patience.unknown(Instant::now(), self.dashboard.taken(), self.pace.refuse_after) {
                    tracing::error!(
                        deployment_id = %self.id,
                        code = %Code::ReportRefused,
                        "the dashboard answers 404 to {} while it takes others: its end goes to the dead letter list [{}]",
                        self.id,
                        Code::ReportRefused
                    );
                    return Next::Over(Delivery::Refused { status: 404 });
                }
                return Next::On;
            }
            Answer::Failed(_) | Answer::Invalid(_) | Answer::TooLarge => course.tries = course.tries.saturating_add(1),
            // The circuit waits for these, for all senders together.
            Answer::Taken | Answer::Denied(_) | Answer::Away { .. } | Answer::NotTheApi { .. } => course.tries = 0,
        }
        course.patience.over();
        Next::On
    }

    /// `None`: Redis did not say.
    async fn ask_fence(&self, telling: Telling) -> Option<Fenced> {
        let asked: Result<Fenced, ()> = tokio::time::timeout(self.pace.fence_timeout, self.fence.may_post(telling)).await.ok()?;
        // Frozen between the answer and here for longer than the lease: what it said may not be true any more.
        asked.ok().filter(|_| self.gate.state() == GateState::Open)
    }

    async fn told(&self, after: Position, end: Option<EndFate>) {
        blocking(&self.link, move |link| link.journal.told(after, end)).await;
    }
}

/// Writes what has gathered when it is [`FLUSH_AFTER`] old.
async fn keep_flushed(link: &Arc<Link>) {
    loop {
        link.gathering.notified().await;
        tokio::time::sleep(FLUSH_AFTER).await;
        if blocking(link, |link| link.journal.flush()).await == Some(true) {
            link.work.notify_one();
        }
    }
}

/// Runs `work` where it may wait for the disk. `None`: the runtime is shutting down.
async fn blocking<T: Send + 'static>(link: &Arc<Link>, work: impl FnOnce(&Link) -> T + Send + 'static) -> Option<T> {
    let link = Arc::clone(link);
    tokio::task::spawn_blocking(move || work(&link)).await.ok()
}

fn refusal_of(answer: &Answer) -> refusals::Refusal {
    match answer {
        Answer::Failed(_) => refusals::Refusal::Unclear,
        _ => refusals::Refusal::OfTheBody,
    }
}
