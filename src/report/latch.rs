//! What was last said of one thing, so that each change of it is said once.

/// Remembers what is out of order with one thing, where anything is.
#[derive(Debug)]
pub(crate) struct Latch<T>(Option<T>);

/// What is new since it was last looked at.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum News<'a, T> {
    /// Something is out of order, or in another way than before.
    Trouble(&'a T),
    /// What was out of order is not any more.
    Over(T),
}

impl<T> Default for Latch<T> {
    fn default() -> Latch<T> {
        Latch(None)
    }
}

impl<T: PartialEq> Latch<T> {
    /// Takes in what is out of order now; gives what of that is to be said.
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

    /// What was out of order when it was last looked at.
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
