//! A stream of a server's messages with a bound on each of them and on all together.
//!
//! A message says in its header how long it is (PostgreSQL's "Message Formats"), and who reads it makes room for as
//! much before it is there. What answers may be any user's process, so that a header that says more than any answer to
//! our questions has is an error before it is believed.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The longest message, in bytes, header included: the longest text that is asked for is a line of a file.
pub(super) const LARGEST: u32 = 1 << 20;

/// How much all messages of one login may have, in bytes.
const LARGEST_OF_ALL: u64 = 16 << 20;

/// How many messages one login may have; a row is one, and the least of them takes some hundred bytes of memory.
const MOST: u32 = 100_000;

/// A header: the kind of the message, and its length without that byte.
const HEADER: usize = 5;

#[derive(Debug)]
pub(super) struct Bounded<S> {
    stream: S,
    count: Count,
    refusal: Refusal,
}

/// What was refused, for who only learns that the connection has ended.
pub(super) type Refusal = Arc<OnceLock<String>>;

impl<S> Bounded<S> {
    pub(crate) fn new(stream: S) -> Bounded<S> {
        Bounded {
            stream,
            count: Count::default(),
            refusal: Refusal::default(),
        }
    }

    pub(crate) fn refusal(&self) -> Refusal {
        Arc::clone(&self.refusal)
    }
}

/// What has come so far.
#[derive(Debug, Default)]
struct Count {
    header: [u8; HEADER],
    /// How many bytes of the header are there.
    begun: usize,
    /// How many bytes of the message are still to come behind its header.
    rest: u32,
    bytes: u64,
    messages: u32,
}

impl Count {
    /// Takes in what comes next.
    fn take(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        if self.bytes > LARGEST_OF_ALL {
            return Err(refused(format!("more than {LARGEST_OF_ALL} bytes in all")));
        }
        while let [first, after @ ..] = bytes {
            if self.rest > 0 {
                let skipped = bytes.len().min(self.rest as usize);
                self.rest = self.rest.saturating_sub(skipped as u32);
                bytes = bytes.get(skipped..).unwrap_or_default();
                continue;
            }
            self.header[self.begun] = *first;
            self.begun += 1;
            bytes = after;
            if self.begun == HEADER {
                self.begun = 0;
                self.begin()?;
            }
        }
        Ok(())
    }

    fn begin(&mut self) -> io::Result<()> {
        let [_, length @ ..] = self.header;
        let length = u32::from_be_bytes(length);
        if length >= LARGEST {
            return Err(refused(format!("a message of {length} bytes")));
        }
        // The length counts itself.
        let body = length.checked_sub(4);
        self.rest = body.ok_or_else(|| refused(format!("a message of {length} bytes")))?;
        self.messages += 1;
        if self.messages > MOST {
            return Err(refused(format!("more than {MOST} messages")));
        }
        Ok(())
    }
}

fn refused(what: String) -> io::Error {
    let why = format!("the server answers with {what}, which no PostgreSQL does here");
    io::Error::new(io::ErrorKind::InvalidData, why)
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        let new = buffer.filled().get(before..).unwrap_or_default();
        if let Err(error) = this.count.take(new) {
            // Nothing of it reaches who would make room for it.
            buffer.set_filled(before);
            // The first one counts; nothing is read after it.
            let _first = this.refusal.set(error.to_string());
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
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
    #![expect(clippy::unwrap_used, reason = "a test that panics has failed")]
    use tokio::io::AsyncReadExt;

    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[kind], length.to_be_bytes().as_slice(), body].concat()
    }

    async fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        Bounded::new(bytes).read_to_end(&mut all).await?;
        Ok(all)
    }

    #[tokio::test]
    async fn messages_pass_as_they_are_however_they_are_cut() {
        let long = vec![7; LARGEST as usize - 5];
        let bytes = [
            message(b'R', &[0; 4]),
            message(b'Z', b"I"),
            message(b'D', &long),
            message(b'1', b""),
        ]
        .concat();
        assert_eq!(read(&bytes).await.unwrap(), bytes);
        for size in [1, 3, 5, 4096] {
            let mut count = Count::default();
            assert!(
                bytes.chunks(size).all(|part| count.take(part).is_ok()),
                "{size}"
            );
            assert_eq!((count.messages, count.rest, count.begun), (4, 0, 0));
        }
    }

    #[tokio::test]
    async fn a_length_that_no_answer_has_is_refused_before_it_is_believed() {
        for length in [0, 3, LARGEST, i32::MAX as u32, u32::MAX] {
            let bytes = [b"D".as_slice(), &length.to_be_bytes()].concat();
            let after_one = [message(b'Z', b"I"), bytes.clone()].concat();
            for bytes in [bytes, after_one] {
                let error = read(&bytes).await.unwrap_err();
                assert_eq!(
                    error.kind(),
                    io::ErrorKind::InvalidData,
                    "{length}: {error}"
                );
            }
        }
    }

    #[tokio::test]
    async fn answers_without_end_come_to_an_end() {
        let long = message(b'D', &vec![0; 1 << 19]).repeat(33);
        let error = read(&long).await.unwrap_err().to_string();
        assert!(error.contains("bytes in all"), "{error}");
        let many = message(b'D', &[0, 0]).repeat(100_001);
        let error = read(&many).await.unwrap_err().to_string();
        assert!(error.contains("more than 100000 messages"), "{error}");
    }
}
