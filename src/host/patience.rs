//! Queries to file systems that may never respond.
//!
//! Accessing a path on a network file system that has lost its server blocks. To ask about many paths, ask here: the queries
//! run on threads that inherit the caller's rights, and those that don't finish in time are left out. A query that is still
//! pending is not started again, so a file system that hangs for days costs one thread per path and no more.
//!
//! This is not for work that must be done; it is for checks that are repeated later anyway.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// How long to wait for all answers together.
const PATIENCE: Duration = Duration::from_millis(500);

/// How many queries run at once; up to that many minus one may hang without blocking the rest.
const AT_ONCE: usize = 16;

/// How long to wait for the next answer before another thread helps out: almost always one thread is enough, and each more
/// costs its start and some memory.
const SLOW: Duration = Duration::from_millis(5);

/// The queries that are still pending.
#[derive(Debug)]
pub(crate) struct Questions<Q> {
    open: Arc<Mutex<BTreeSet<Q>>>,
}

impl<Q> Default for Questions<Q> {
    fn default() -> Self {
        Self {
            open: Arc::default(),
        }
    }
}

impl<Q: Ord + Clone + Send + 'static> Questions<Q> {
    /// Runs `answer` for each question; returns the answers that came within half a second.
    pub(crate) fn ask<A: Send + 'static>(
        &self,
        questions: impl IntoIterator<Item = Q>,
        answer: impl Fn(&Q) -> A + Send + Sync + 'static,
    ) -> BTreeMap<Q, A> {
        let mut queue: BTreeSet<Q> = questions.into_iter().collect();
        queue.retain(|question| !locked(&self.open).contains(question));
        let wanted = queue.len();
        let (queue, answer) = (Arc::new(Mutex::new(queue)), Arc::new(answer));
        let (tell, told) = mpsc::channel();
        let start = || {
            let (queue, answer) = (Arc::clone(&queue), Arc::clone(&answer));
            let (open, tell) = (Arc::clone(&self.open), tell.clone());
            let next = move || locked(&queue).pop_first();
            let asked = thread::Builder::new()
                .name("patience".into())
                .spawn(move || {
                    while let Some(question) = next() {
                        locked(&open).insert(question.clone());
                        let answered = answer(&question);
                        locked(&open).remove(&question);
                        if tell.send((question, answered)).is_err() {
                            // Nobody is waiting any more.
                            return;
                        }
                    }
                });
            // Without a thread, its questions stay unanswered.
            drop(asked);
        };
        let until = Instant::now() + PATIENCE;
        let mut answers = BTreeMap::new();
        let mut threads = 0;
        while answers.len() < wanted {
            if threads == 0 {
                start();
                threads = 1;
            }
            let left = until.saturating_duration_since(Instant::now());
            let can_grow = threads < wanted.min(AT_ONCE);
            match told.recv_timeout(if can_grow { left.min(SLOW) } else { left }) {
                Ok((question, answered)) => {
                    answers.insert(question, answered);
                }
                Err(RecvTimeoutError::Timeout) if can_grow && left > SLOW => {
                    start();
                    threads += 1;
                }
                Err(_) => break,
            }
        }
        answers
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Never comes back for the question 0.
    fn answer(question: &u32) -> u32 {
        match question {
            0 => loop {
                thread::park();
            },
            answered => answered * 10,
        }
    }

    #[test]
    fn what_hangs_keeps_no_other_waiting() {
        let answers = Questions::default().ask([0, 1, 2], answer);
        assert_eq!(answers, BTreeMap::from([(1, 10), (2, 20)]));
    }

    #[test]
    fn what_hangs_is_not_asked_again() {
        let questions = Questions::default();
        assert!(questions.ask([0], answer).is_empty());
        let began = Instant::now();
        assert_eq!(questions.ask([0, 1], answer), BTreeMap::from([(1, 10)]));
        assert!(began.elapsed() < PATIENCE, "it was waited for again");
    }

    #[test]
    fn more_questions_than_threads_are_all_answered() {
        let answers = Questions::default().ask(1..200, answer);
        assert_eq!(answers.len(), 199);
    }

    #[test]
    fn as_many_as_there_are_threads_may_hang_but_for_one() {
        let most = u32::try_from(AT_ONCE).expect("a small number");
        let hanging = move |question: &u32| match question {
            answered if *answered >= most - 1 => *answered,
            _ => answer(&0),
        };
        let answers = Questions::default().ask(0..2 * most, hanging);
        assert!(
            answers.keys().copied().eq(most - 1..2 * most),
            "{answers:?}"
        );
    }

    #[test]
    fn what_answers_at_once_takes_one_thread() {
        let threads = Questions::default().ask(0..50, |_| thread::current().id());
        let threads: Vec<_> = threads.into_values().collect();
        assert_eq!(threads.len(), 50);
        // The next one starts after a pause in which a loaded machine may let nothing run.
        let different = |pair: &[thread::ThreadId]| pair[0] != pair[1];
        assert!(threads.windows(2).filter(|pair| different(pair)).count() < 10);
    }
}
