//! What one build spawns: owned by the attempt's tracker, and awaited by the build itself before it returns.

use std::future::Future;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, Span};

/// Every task of one build. When `stop` trips, all of them end.
#[derive(Clone)]
pub struct BuildTasks {
    owner: TaskTracker,
    own: TaskTracker,
    /// The job's, so that what a task logs carries the deployment's id.
    span: Span,
    pub stop: CancellationToken,
}

impl BuildTasks {
    pub fn new(owner: &TaskTracker) -> Self {
        Self { owner: owner.clone(), own: TaskTracker::new(), span: Span::current(), stop: CancellationToken::new() }
    }
    pub fn spawn<F>(&self, task: F)
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        // the own tracker around the owner's: whoever has awaited the build finds the owner's empty too
        self.own.spawn(self.owner.track_future(task.instrument(self.span.clone())));
    }
    /// For file reads; the task ends by itself once its channel is closed.
    pub fn spawn_blocking(&self, task: impl FnOnce() + Send + 'static) {
        let (token, span) = (self.owner.token(), self.span.clone());
        self.own.spawn_blocking(move || {
            span.in_scope(task);
            drop(token);
        });
    }
    /// Stops all tasks and returns when the last one is gone.
    pub async fn end(self) {
        self.stop.cancel();
        self.own.close();
        self.own.wait().await;
    }
}

impl<F> hyper::rt::Executor<F> for BuildTasks
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        self.spawn(task);
    }
}
