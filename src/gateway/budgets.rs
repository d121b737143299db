//! What may be used in a time, or at once, over all requests: counted on across reloads.

use std::sync::Arc;

use super::judged::Judging;
use super::resolve::LookUps;
use super::strangers::Strangers;

/// The requests of strangers, the bodies that are held to be judged, the look-ups of parents; shared by all clones, so
/// that a reload gives nobody a second share.
#[derive(Clone, Default)]
pub struct Budgets {
    pub(super) strangers: Arc<Strangers>,
    pub(super) judging: Arc<Judging>,
    pub(super) look_ups: Arc<LookUps>,
}

impl std::fmt::Debug for Budgets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Budgets").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_is_the_same_budget() {
        let (one, other) = (Budgets::default(), Budgets::default());
        for (clone, same) in [(one.clone(), true), (other, false)] {
            assert_eq!(Arc::ptr_eq(&one.strangers, &clone.strangers), same);
            assert_eq!(Arc::ptr_eq(&one.judging, &clone.judging), same);
            assert_eq!(Arc::ptr_eq(&one.look_ups, &clone.look_ups), same);
        }
    }
}
