//! The TCP stream under TLS: bounds what a peer can send before it has shown who it is, and ends connections whose peer
//! does not take what it asked for.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// Much more than a handshake with the largest certificate that is accepted. TLS itself would buffer 64 KiB.
const LARGEST_HANDSHAKE_BYTES: usize = 20 * 1024;

/// A stream whose reads fail when a handshake gets too large, and whose writes fail when none made progress for a while.
/// The time for reading is not bounded here: handshake and HTTP bound it.
#[derive(Debug)]
pub(super) struct GuardedStream<S> {
    stream: S,
    handshake_left: Option<usize>,
    write_limit: Duration,
    write_deadline: Option<Pin<Box<Sleep>>>,
}

impl<S> GuardedStream<S> {
    pub(super) fn new(stream: S, write_limit: Duration) -> Self {
        Self {
            stream,
            handshake_left: Some(LARGEST_HANDSHAKE_BYTES),
            write_limit,
            write_deadline: None,
        }
    }

    /// From now on HTTP bounds what is read.
    pub(super) fn handshake_done(&mut self) {
        self.handshake_left = None;
    }

    fn watch<T>(&mut self, context: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.write_deadline = None;
            return outcome;
        }
        let limit = self.write_limit;
        let deadline = self.write_deadline.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(deadline.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer stopped reading")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for GuardedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.handshake_left == Some(0) {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the handshake is too large",
            )));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if let Some(left) = &mut self.handshake_left {
            *left = left.saturating_sub(buffer.filled().len() - before);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for GuardedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, outcome)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(context);
        self.watch(context, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_shutdown(context);
        self.watch(context, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(context, buffers);
        self.watch(context, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_peer_that_does_not_read_is_given_up() {
        let (ours, _theirs) = tokio::io::duplex(16);
        let mut guarded = GuardedStream::new(ours, Duration::from_millis(20));
        guarded.write_all(&[0; 16]).await.expect("fits");
        let error = guarded.write_all(&[0; 16]).await.expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_handshake_that_grows_is_cut_and_what_comes_after_one_is_not() {
        let (mut theirs, ours) = tokio::io::duplex(4 * LARGEST_HANDSHAKE_BYTES);
        theirs
            .write_all(&vec![0; 3 * LARGEST_HANDSHAKE_BYTES])
            .await
            .expect("fits");
        let mut guarded = GuardedStream::new(ours, Duration::from_secs(60));
        let mut read = vec![0; LARGEST_HANDSHAKE_BYTES];
        guarded.read_exact(&mut read).await.expect("a handshake's size");
        let error = guarded
            .read_exact(&mut read)
            .await
            .expect_err("no handshake is so large");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        guarded.handshake_done();
        guarded.read_exact(&mut read).await.expect("not a handshake any more");
    }

    #[tokio::test]
    async fn progress_starts_the_clock_again() {
        let (ours, mut theirs) = tokio::io::duplex(16);
        let mut guarded = GuardedStream::new(ours, Duration::from_secs(60));
        let mut taken = [0; 64];
        let (written, read) = tokio::join!(guarded.write_all(&[7; 64]), theirs.read_exact(&mut taken));
        written.expect("taken");
        read.expect("read");
        assert_eq!(taken, [7; 64]);
        assert!(
            guarded.write_deadline.is_none(),
            "the clock still runs after everything was taken"
        );
    }
}
