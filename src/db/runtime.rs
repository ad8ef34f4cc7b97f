//! The threads that the database's work runs on: those that callers wait for, and those that step back for them.

use std::time::Duration;

use diesel::{ConnectionError, ConnectionResult};
use diesel_async::pooled_connection::SetupCallback;
use futures_util::FutureExt;
#[cfg(target_os = "linux")]
use rustix::process::{getpriority_process, setpriority_process};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinError;

use super::DbError;

/// How much longer than its own deadline work is waited for.
const GRACE: Duration = Duration::from_millis(500);

/// Threads that drive connections; queries themselves wait on the database.
const DRIVERS: usize = 2;

/// By so much threads of the background are nicer than the process. More would be quieter for checks still, but the last flush of a
/// service that stops has four seconds, whatever else runs on the machine (docs/decisions/0011-flushes-step-back.md).
#[cfg(target_os = "linux")]
const NICER: i32 = 5;

/// A runtime of the database's own.
pub(super) struct OwnRuntime {
    handle: Handle,
    runtime: Option<Runtime>,
}

impl OwnRuntime {
    pub(super) fn foreground() -> Result<Self, DbError> {
        Self::start(Builder::new_multi_thread().worker_threads(DRIVERS).thread_name("quotad-db"))
    }

    /// One whose threads leave a core to whatever else wants it.
    pub(super) fn background() -> Result<Self, DbError> {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(1).thread_name("quotad-flush");
        step_back(&mut builder);
        Self::start(&mut builder)
    }

    fn start(builder: &mut Builder) -> Result<Self, DbError> {
        let runtime = builder.enable_all().build().map_err(|source| DbError::Runtime { source })?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// Opens connections here: what blocks of their work does so on these threads, whoever asks for it.
    pub(super) fn opening<C, F>(&self, open: impl Fn() -> F + Send + Sync + 'static) -> SetupCallback<C>
    where
        C: Send + 'static,
        F: Future<Output = ConnectionResult<C>> + Send + 'static,
    {
        let handle = self.handle.clone();
        Box::new(move |_| {
            let opened = handle.spawn(open());
            let broken = |error: JoinError| Err(ConnectionError::BadConnection(error.to_string()));
            async move { opened.await.unwrap_or_else(broken) }.boxed()
        })
    }

    /// Runs `work` here, and waits for it there, a moment longer than the deadline that it keeps itself: a SQLite statement
    /// that hangs on its disk can't be given up. It then goes on by itself.
    pub(super) async fn finish_within<T: Send + 'static>(
        &self,
        deadline: Duration,
        operation: &'static str,
        work: impl Future<Output = Result<T, DbError>> + Send + 'static,
    ) -> Result<T, DbError> {
        tokio::time::timeout(deadline.saturating_add(GRACE), self.finish(operation, work))
            .await
            .unwrap_or(Err(DbError::TimedOut { operation, deadline }))
    }

    /// Runs `work` here, and waits for it there.
    pub(super) async fn finish<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<T, DbError>> + Send + 'static,
    ) -> Result<T, DbError> {
        // A task that did not finish has panicked: the runtime outlives this call.
        self.handle.spawn(work).await.unwrap_or(Err(DbError::Broken { operation }))
    }
}

/// Linux has a niceness for each thread, which those that it starts inherit. Elsewhere it is the whole process's, and stays.
fn step_back(builder: &mut Builder) {
    #[cfg(target_os = "linux")]
    if let Ok(own) = getpriority_process(None) {
        builder.on_thread_start(move || {
            if let Err(error) = setpriority_process(None, own.saturating_add(NICER)) {
                tracing::debug!(%error, "flushes have the priority of checks");
            }
        });
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        // The last handle may be dropped by async code, where a runtime must not be waited for.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use diesel::QueryResult;

    use super::*;
    use crate::db::sqlite::{Connection, Repository};

    async fn niceness(connection: &mut Connection) -> QueryResult<Option<i32>> {
        connection.spawn_blocking(|_| Ok(getpriority_process(None).ok())).await
    }

    #[actix::test]
    async fn what_is_written_steps_back_and_what_is_read_does_not() {
        let own = getpriority_process(None).unwrap();
        let (foreground, background) = (OwnRuntime::foreground().unwrap(), OwnRuntime::background().unwrap());
        let asked = async || Ok(getpriority_process(None).unwrap());
        assert_eq!(foreground.finish("ask", asked()).await.unwrap(), own);
        let stepped_back = background.finish("ask", asked()).await.unwrap();
        assert_eq!(stepped_back, (own + NICER).min(19));

        let folder = tempfile::tempdir().unwrap();
        let repository = Repository::new(&folder.path().join("quotad.db"), 2, &background).unwrap();
        // Whoever asks first for the connection.
        assert_eq!(niceness(&mut repository.write().get().await.unwrap()).await, Ok(Some(stepped_back)));
        assert_eq!(niceness(&mut repository.read().get().await.unwrap()).await, Ok(Some(own)));
    }
}
