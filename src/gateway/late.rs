//! Waiting for a key, without losing sight of whether somebody still may.

use std::future::Future;

use tokio::time::{Instant, timeout_at};

use crate::delegate::DelegateError;

/// Plans until there is a key, and at the latest `until` then; gives what was planned last. `made` gives what comes when a key is
/// made after its call.
///
/// SECURITY: whoever waited is decided again (`again`) before anything is planned with a key, so that no intent stands on an old
/// decision.
///
/// # Errors
/// That of `again`: then nothing is planned any more.
pub(super) async fn planned<P, T, E, M: Future<Output = ()>, A: Future<Output = Result<P, E>>>(
    mut permit: P,
    until: Instant,
    made: impl Fn() -> M,
    plan: impl Fn(&P) -> Result<T, DelegateError>,
    again: impl Fn(P) -> A,
) -> Result<(P, Result<T, DelegateError>), E> {
    loop {
        // Before the try: a key that is made in between is not missed.
        let made = made();
        let planned = plan(&permit);
        if !planned.as_ref().is_err_and(DelegateError::is_no_key) || timeout_at(until, made).await.is_err() {
            return Ok((permit, planned));
        }
        permit = again(permit).await?;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::time::Duration;

    use super::*;
    use crate::delegate::mint::MintError;

    const LONG: Duration = Duration::from_secs(60);
    const NO_KEY: DelegateError = DelegateError::Mint(MintError::NoKeyReady);

    /// Plans for decision 1, 2, … where a key is there from the `key_at`th try on, and decisions from the `refused_at`th on are
    /// refused. Gives what came of it, and which decisions were planned with a key.
    async fn tried(
        key_at: usize,
        refused_at: u32,
        patience: Duration,
    ) -> (Result<(u32, bool), &'static str>, Vec<u32>) {
        let (tries, signed) = (Cell::new(0), RefCell::new(Vec::new()));
        let plan = |permit: &u32| {
            tries.set(tries.get() + 1);
            match tries.get() >= key_at {
                true => {
                    signed.borrow_mut().push(*permit);
                    Ok(())
                }
                false => Err(NO_KEY),
            }
        };
        let again = |permit: u32| async move {
            match permit + 1 >= refused_at {
                true => Err("not allowed any more"),
                false => Ok(permit + 1),
            }
        };
        let until = Instant::now() + patience;
        let made = || tokio::time::sleep(Duration::from_millis(1));
        let done = planned(1, until, made, plan, again).await;
        let done = done.map(|(permit, planned)| (permit, planned.is_ok()));
        (done, signed.into_inner())
    }

    #[tokio::test]
    async fn whoever_lost_the_right_while_she_waited_for_a_key_is_refused_and_nothing_is_planned() {
        assert_eq!(
            tried(1, 99, LONG).await,
            (Ok((1, true)), vec![1]),
            "who did not wait is not asked again"
        );
        assert_eq!(
            tried(3, 99, LONG).await,
            (Ok((3, true)), vec![3]),
            "by the newest decision"
        );
        assert_eq!(tried(2, 2, LONG).await, (Err("not allowed any more"), Vec::new()));
        assert_eq!(tried(9, 4, LONG).await, (Err("not allowed any more"), Vec::new()));
    }

    #[tokio::test]
    async fn without_a_key_in_time_it_is_said_that_there_is_none() {
        let (done, signed) = tried(usize::MAX, u32::MAX, Duration::from_millis(20)).await;
        assert!(matches!(done, Ok((_, false))) && signed.is_empty());
    }
}
