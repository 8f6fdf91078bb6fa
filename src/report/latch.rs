//! Reports each change of a condition once.

/// Remembers what is wrong with one thing, if anything is.
#[derive(Debug)]
pub(crate) struct Latch<T>(Option<T>);

/// What changed since the last look.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum News<'a, T> {
    /// Something is wrong, or wrong in a different way.
    Trouble(&'a T),
    /// What was wrong no longer is.
    Over(T),
}

impl<T> Default for Latch<T> {
    fn default() -> Latch<T> {
        Latch(None)
    }
}

impl<T: PartialEq> Latch<T> {
    /// Takes what is wrong now, and returns what to report.
    pub(crate) fn set(&mut self, now: Option<T>) -> Option<News<'_, T>> {
        if self.0 == now {
            return None;
        }
        let before = std::mem::replace(&mut self.0, now);
        match &self.0 {
            Some(trouble) => Some(News::Trouble(trouble)),
            None => before.map(News::Over),
        }
    }

    /// What was wrong at the last look.
    pub(crate) fn get(&self) -> Option<&T> {
        self.0.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_is_said_once() {
        let mut latch = Latch::default();
        assert_eq!(latch.set(None), None);
        assert_eq!(latch.set(Some(1)), Some(News::Trouble(&1)));
        assert_eq!(latch.set(Some(1)), None);
        assert_eq!(latch.set(Some(2)), Some(News::Trouble(&2)));
        assert_eq!(latch.set(None), Some(News::Over(2)));
        assert_eq!(latch.set(None), None);
    }
}
