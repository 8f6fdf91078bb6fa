//! How many instances are worked on at once, so that a hundred of them do not start a hundred
//! programs in one moment; and what hangs gives its turn away. What nobody waits for has turns of its own.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

/// How many have a turn at the same time. Each holds memory while it works, which the allocator keeps afterwards; more than
/// this are no faster on two cores.
const AT_ONCE: usize = 8;

/// How long a turn lasts. What takes longer waits for a server or a file system that does not
/// answer, goes on without a turn, and costs next to nothing while it waits.
const TURN: Duration = Duration::from_secs(1);

/// The turns of one daemon.
#[derive(Debug, Clone)]
pub(super) struct Turns {
    free: Arc<Semaphore>,
    length: Duration,
}

impl Default for Turns {
    fn default() -> Self {
        Turns {
            free: Arc::new(Semaphore::new(AT_ONCE)),
            length: TURN,
        }
    }
}

impl Turns {
    /// Turns of this length, of which there is none yet.
    pub(crate) fn closed(length: Duration) -> Turns {
        let free = Arc::new(Semaphore::new(0));
        Turns { free, length }
    }

    /// Lets that many more have a turn at the same time.
    pub(crate) fn open(&self, at_once: usize) {
        self.free.add_permits(at_once);
    }

    /// Does `work` when there is a turn.
    pub(crate) async fn take<T>(&self, work: impl Future<Output = T>) -> T {
        let turn = self.free.acquire().await;
        let mut work = pin!(work);
        match tokio::time::timeout(self.length, &mut work).await {
            Ok(done) => done,
            Err(_) => {
                drop(turn);
                work.await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn those_that_hang_starve_no_other() {
        let turns = Turns::default();
        for _ in 0..AT_ONCE {
            let turns = turns.clone();
            tokio::spawn(async move { turns.take(std::future::pending::<()>()).await });
        }
        tokio::task::yield_now().await;
        assert_eq!(turns.free.available_permits(), 0);
        let other = tokio::time::timeout(2 * TURN, turns.take(async { "done" }));
        assert_eq!(other.await, Ok("done"));
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_that_many_work_at_once() {
        let turns = Turns::default();
        for _ in 0..AT_ONCE {
            let turns = turns.clone();
            tokio::spawn(async move { turns.take(tokio::time::sleep(TURN / 2)).await });
        }
        tokio::task::yield_now().await;
        let other = tokio::time::timeout(TURN / 4, turns.take(async {}));
        assert!(other.await.is_err());
        turns.take(async {}).await;
    }

    #[tokio::test(start_paused = true)]
    async fn closed_turns_begin_when_they_are_opened() {
        let turns = Turns::closed(TURN);
        let early = tokio::time::timeout(10 * TURN, turns.take(async {}));
        assert!(early.await.is_err());
        turns.open(1);
        turns.take(async {}).await;
    }
}
