//! One guarded way for a process to stop.
//!
//! SIGINT, SIGTERM, or a critical task that ends (by itself, with an error, or by panic) cancels one token. Every task
//! then finishes what it must within the deadline; what does not is dropped, named, and makes the exit status non-zero.
//! A second signal ends the process at once.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long blocking calls in flight may hold up the exit after the deadline.
const RUNTIME_GRACE: Duration = Duration::from_millis(500);

/// What the shell reports for a process that a second Ctrl-C ended.
const FORCED_EXIT_STATUS: i32 = 130;

#[derive(Debug, Default)]
struct Tasks {
    running: BTreeMap<u64, String>,
    next: u64,
    failure: Option<String>,
}

/// Starts tasks and stops them. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    token: CancellationToken,
    tracker: TaskTracker,
    tasks: Arc<Mutex<Tasks>>,
}

impl Shutdown {
    /// Nothing running, nothing asked to stop.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancelled when the process shall stop. Give children to whatever loops.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Resolves when the process shall stop.
    pub async fn requested(&self) {
        self.token.cancelled().await;
    }

    /// Whether the process shall stop.
    pub fn is_requested(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Asks every task to stop, as a signal would.
    pub fn request(&self) {
        self.token.cancel();
    }

    /// Asks every task to stop, and makes the exit status non-zero. The first reason is kept.
    pub fn fail(&self, reason: impl Into<String>) {
        let reason = reason.into();
        tracing::error!("stopping: {reason}");
        self.tasks().failure.get_or_insert(reason);
        self.token.cancel();
    }

    /// Runs a task without which the process is of no use: when it ends before it was asked to, by error, by panic, or
    /// just so, the process stops with a non-zero status.
    pub fn spawn_critical<F, E>(&self, name: &str, task: F) -> JoinHandle<()>
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Display + Send + 'static,
    {
        let name = name.to_owned();
        let shutdown = self.clone();
        self.track(&name.clone(), async move {
            match caught(task).await {
                Ok(Ok(())) if shutdown.is_requested() => {}
                Ok(Ok(())) => shutdown.fail(format!("{name} ended, which it never should")),
                Ok(Err(error)) => shutdown.fail(format!("{name} failed: {error:#}")),
                Err(()) => shutdown.fail(format!("{name} panicked; the panic is in the log above")),
            }
        })
    }

    /// Runs a task whose end concerns nobody else; a panic still stops the process, because it is a defect whose effects
    /// are unknown.
    pub fn spawn<F>(&self, name: &str, task: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let name = name.to_owned();
        let shutdown = self.clone();
        self.track(&name.clone(), async move {
            if caught(task).await.is_err() {
                shutdown.fail(format!("{name} panicked; the panic is in the log above"));
            }
        })
    }

    fn track<F>(&self, name: &str, task: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let id = {
            let mut tasks = self.tasks();
            tasks.next += 1;
            let id = tasks.next;
            tasks.running.insert(id, name.to_owned());
            id
        };
        let shutdown = self.clone();
        self.tracker.spawn(async move {
            task.await;
            shutdown.tasks().running.remove(&id);
        })
    }

    /// Cancels the token at the first SIGINT or SIGTERM and ends the process at the second.
    pub fn listen_for_signals(&self) -> std::io::Result<()> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let token = self.token.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if token.is_cancelled() {
                    tracing::error!("second signal: exiting at once");
                    std::process::exit(FORCED_EXIT_STATUS);
                }
                tracing::info!("stopping; a second signal ends the process at once");
                token.cancel();
            }
        });
        Ok(())
    }

    /// Waits until stopping was asked for, then at most `deadline` for the tasks. The error names what went wrong first,
    /// or else the tasks that did not finish.
    pub async fn wait(&self, deadline: Duration) -> Result<(), String> {
        self.token.cancelled().await;
        self.tracker.close();
        let drained = tokio::time::timeout(deadline, self.tracker.wait()).await.is_ok();
        let tasks = self.tasks();
        if let Some(failure) = &tasks.failure {
            return Err(failure.clone());
        }
        if !drained {
            let names: Vec<_> = tasks.running.values().map(String::as_str).collect();
            return Err(format!(
                "not finished {} s after being asked to stop: {}",
                deadline.as_secs(),
                names.join(", ")
            ));
        }
        Ok(())
    }

    fn tasks(&self) -> std::sync::MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn caught<F: Future>(task: F) -> Result<F::Output, ()> {
    use futures_catch::CatchUnwind;
    CatchUnwind(Box::pin(AssertUnwindSafe(task))).await
}

/// `FutureExt::catch_unwind`, the only thing this crate would need the `futures` crate for.
mod futures_catch {
    use std::future::Future;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::pin::Pin;
    use std::task::{Context, Poll};

    pub(super) struct CatchUnwind<F>(pub(super) Pin<Box<AssertUnwindSafe<F>>>);

    impl<F: Future> Future for CatchUnwind<F> {
        type Output = Result<F::Output, ()>;

        fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
            let future = self.0.as_mut();
            match catch_unwind(AssertUnwindSafe(|| future.poll(context))) {
                Ok(Poll::Pending) => Poll::Pending,
                Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
                Err(_) => Poll::Ready(Err(())),
            }
        }
    }
}

/// The body of a long-running `main`: a runtime, signals, `build` (which starts the tasks and returns), then waiting and
/// draining for at most `deadline`.
///
/// A `build` that fails, a failed critical task and an overrun deadline end with status 1, after the error was logged.
pub fn run<F, Fut, E>(deadline: Duration, build: F) -> ExitCode
where
    F: FnOnce(Shutdown) -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: Display,
{
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start the async runtime");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(async {
        let shutdown = Shutdown::new();
        if let Err(error) = shutdown.listen_for_signals() {
            return Err(format!("cannot listen for signals: {error}"));
        }
        // A signal while building stops the building: it may be waiting for an RPC that never answers.
        tokio::select! {
            biased;
            built = build(shutdown.clone()) => {
                if let Err(error) = built {
                    shutdown.fail(format!("{error:#}"));
                }
            }
            () = shutdown.requested() => {}
        }
        shutdown.wait(deadline).await
    });
    runtime.shutdown_timeout(RUNTIME_GRACE);
    match outcome {
        Ok(()) => {
            tracing::info!("stopped");
            ExitCode::SUCCESS
        }
        Err(reason) => {
            tracing::error!("stopped: {reason}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn tasks_finish_what_they_must() {
        let shutdown = Shutdown::new();
        let token = shutdown.token();
        shutdown.spawn_critical("follower", async move {
            token.cancelled().await;
            Ok::<_, String>(())
        });
        shutdown.request();
        assert_eq!(shutdown.wait(DEADLINE).await, Ok(()));
    }

    #[tokio::test]
    async fn a_critical_task_that_ends_stops_the_process() {
        let shutdown = Shutdown::new();
        shutdown.spawn_critical("follower", async { Ok::<_, String>(()) });
        let reason = shutdown.wait(DEADLINE).await.expect_err("it ended");
        assert!(reason.contains("follower"), "{reason}");

        let shutdown = Shutdown::new();
        shutdown.spawn_critical("signer", async { Err("disk full") });
        assert_eq!(
            shutdown.wait(DEADLINE).await,
            Err("signer failed: disk full".to_owned())
        );
    }

    #[tokio::test]
    async fn a_panic_in_any_task_stops_the_process_with_its_name() {
        let shutdown = Shutdown::new();
        shutdown.spawn("counter", async { panic!("defect") });
        let reason = shutdown.wait(DEADLINE).await.expect_err("it panicked");
        assert!(reason.contains("counter panicked"), "{reason}");
    }

    #[tokio::test]
    async fn what_does_not_stop_is_named() {
        let shutdown = Shutdown::new();
        shutdown.spawn("stubborn", std::future::pending());
        shutdown.request();
        let reason = shutdown.wait(Duration::ZERO).await.expect_err("it does not stop");
        assert!(reason.contains("stubborn"), "{reason}");
    }

    #[test]
    fn run_reports_a_build_that_fails() {
        let status = run(DEADLINE, |_| async { Err::<(), _>("no configuration") });
        assert_eq!(format!("{status:?}"), format!("{:?}", ExitCode::FAILURE));
        let status = run(DEADLINE, |shutdown| async move {
            shutdown.request();
            Ok::<_, String>(())
        });
        assert_eq!(format!("{status:?}"), format!("{:?}", ExitCode::SUCCESS));
    }
}
