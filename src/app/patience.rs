//! A connection that is given up when it stands still.
//!
//! Actix limits the time of a connection's first head alone: a later head that never ends, or an answer that nobody takes,
//! would hold its connection for ever.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// Fails when nothing could be written for one to two spans of time, whatever is sent meanwhile. A healthy connection never waits
/// for so long: its answers come sooner, and what is idle is closed sooner.
#[derive(Debug)]
pub struct Patient<S> {
    stream: S,
    span: Duration,
    /// The end of the span that runs.
    end: Pin<Box<Sleep>>,
    /// Whether something was written in it.
    moved: bool,
}

impl<S> Patient<S> {
    pub fn new(stream: S, span: Duration) -> Self {
        // A connection that has just come has a whole span before it.
        Self { stream, span, end: Box::pin(tokio::time::sleep(span)), moved: true }
    }

    /// What is asked while the stream makes no progress.
    fn look(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        while self.end.as_mut().poll(context).is_ready() {
            if !std::mem::take(&mut self.moved) {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the connection stood still"));
            }
            self.end.set(tokio::time::sleep(self.span));
        }
        Ok(())
    }

    fn or_still<T>(&mut self, context: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match poll {
            Poll::Pending => self.look(context).map_or_else(|error| Poll::Ready(Err(error)), |()| Poll::Pending),
            ready => ready,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        this.or_still(context, read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.moved |= matches!(written, Poll::Ready(Ok(1..)));
        this.or_still(context, written)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::clock::Stopwatch;

    const SPAN: Duration = Duration::from_millis(200);

    #[tokio::test]
    async fn bytes_that_are_never_answered_do_not_keep_it() {
        let (mut client, server) = tokio::io::duplex(64);
        let mut server = Patient::new(server, SPAN);
        let trickle = tokio::spawn(async move {
            while client.write_all(b"x").await.is_ok() {
                tokio::time::sleep(SPAN / 20).await;
            }
        });
        let watch = Stopwatch::start();
        let failed = loop {
            if let Err(error) = server.read_u8().await {
                break error;
            }
        };
        assert_eq!(failed.kind(), io::ErrorKind::TimedOut);
        assert!(watch.elapsed() >= 2 * SPAN, "a whole span after the first");
        drop(server);
        trickle.await.unwrap();
    }

    #[tokio::test]
    async fn an_answer_that_nobody_takes_does_not_keep_it() {
        let (_client, server) = tokio::io::duplex(64);
        let mut server = Patient::new(server, SPAN);
        let failed = server.write_all(&[0; 65]).await.unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn one_that_is_written_to_now_and_then_goes_on() {
        let (mut client, server) = tokio::io::duplex(64);
        let mut server = Patient::new(server, SPAN);
        for _ in 0..10 {
            assert!(tokio::time::timeout(SPAN / 2, server.read_u8()).await.is_err(), "it waits");
            server.write_all(b"x").await.unwrap();
            client.read_u8().await.unwrap();
        }
    }
}
