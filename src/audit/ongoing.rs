//! What is known of requests that have not ended yet, for whoever reads the log from the beginning: of so many at most.

use std::collections::{HashMap, VecDeque};

use crate::id::RequestId;

/// Most requests that are kept.
pub(super) const MOST: usize = 16_384;

/// Something for each request that has not ended. Those that never end must not fill the memory: of more than [`MOST`] the
/// one that began first is forgotten.
#[derive(Debug)]
pub(super) struct Ongoing<T> {
    kept: HashMap<RequestId, T>,
    /// As they began; some have ended since.
    order: VecDeque<RequestId>,
}

impl<T> Default for Ongoing<T> {
    fn default() -> Self {
        Self {
            kept: HashMap::new(),
            order: VecDeque::new(),
        }
    }
}

impl<T> Ongoing<T> {
    /// A request begins.
    pub(super) fn begin(&mut self, request: RequestId, about: T) {
        if self.kept.insert(request, about).is_none() {
            self.order.push_back(request);
        }
        while self.kept.len() > MOST {
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            self.kept.remove(&oldest);
        }
        // Those that ended are left out now and then, not each time: that is a walk over all.
        if self.order.len() > 2 * MOST {
            self.order.retain(|request| self.kept.contains_key(request));
        }
    }

    /// What is known of a request that goes on.
    pub(super) fn about(&self, request: RequestId) -> Option<&T> {
        self.kept.get(&request)
    }

    /// A request ends.
    pub(super) fn end(&mut self, request: RequestId) -> Option<T> {
        self.kept.remove(&request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_known_for_as_long_as_it_is_open_however_many_end_meanwhile() {
        let ids = crate::audit::testing::ids();
        let mut ongoing = Ongoing::default();
        let long: RequestId = ids.next().unwrap();
        ongoing.begin(long, "long");
        for _ in 0..3 * MOST {
            let short = ids.next().unwrap();
            ongoing.begin(short, "short");
            assert_eq!(ongoing.end(short), Some("short"));
        }
        assert_eq!(ongoing.about(long), Some(&"long"));
        assert!(ongoing.order.len() <= 2 * MOST);
    }

    #[test]
    fn of_too_many_open_requests_those_that_began_first_are_forgotten() {
        let ids = crate::audit::testing::ids();
        let mut ongoing = Ongoing::default();
        let made: Vec<RequestId> = (0..MOST + 2).map(|_| ids.next().unwrap()).collect();
        for request in &made {
            ongoing.begin(*request, ());
        }
        let known = |at: usize| ongoing.about(made[at]).is_some();
        assert_eq!(
            [known(0), known(1), known(2), known(MOST + 1)],
            [false, false, true, true]
        );
        assert_eq!((ongoing.kept.len(), ongoing.order.len()), (MOST, MOST));
    }
}
