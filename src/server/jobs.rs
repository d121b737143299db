//! Background jobs. Each runs on its own beat and ends with the server; none of them is on the path of a request.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Built, accounts, guesses, notify, standing};
use crate::audit::Audit;
use crate::clock::Timestamp;
use crate::id::RequestId;
use crate::lane::Lanes;
use crate::record::{ChangeEvent, Event};

/// How often mails are looked for.
const MAIL: Duration = Duration::from_millis(200);
/// How often sessions and proxies that ended are swept, and health is looked at.
const SWEEP: Duration = Duration::from_secs(1);
/// How often cards are looked for that have been kept for long enough.
const CARDS: Duration = Duration::from_secs(3_600);
/// How often old segments of the log are looked for.
const SEGMENTS: Duration = Duration::from_secs(3_600);
/// How often old segments are looked for that are to be compressed or moved.
const TIDY: Duration = Duration::from_secs(60);
/// How often the store is held against what the log says of it.
const STATE: Duration = Duration::from_secs(60);
/// How often the health of the log is looked at.
const HEALTH: Duration = Duration::from_millis(100);

/// How far the clock may be behind the newest record.
const BEHIND: Duration = Duration::from_secs(5);
/// For how long the gateway may have been stopped, as far as records are dropped.
const STOPPED: Duration = Duration::from_secs(86_400);
/// How far the wall clock may run away from the monotonic one.
const OFF: Duration = Duration::from_secs(30);

/// Starts all jobs.
pub(super) fn start(tasks: &mut JoinSet<()>, built: &Arc<Built>, stop: &CancellationToken) {
    let (alert, audit, receivers) = (built.alert.clone(), built.audit.clone(), built.receivers.clone());
    tasks.spawn(every(MAIL, stop.clone(), move || {
        let (alert, audit, receivers) = (alert.clone(), audit.clone(), receivers.clone());
        async move {
            let checkpoint = audit
                .checkpoint()
                .map(|checkpoint| checkpoint.note)
                .unwrap_or_default();
            let told = alert.room(audit.space(), &checkpoint).await;
            let late = alert.receivers(receivers.all()).await;
            if let Err(error) = told.and(late).and(alert.run_once(&checkpoint).await) {
                tracing::error!("mails cannot be handled: {error}");
            }
        }
    }));

    let (authenticate, delegate, audit) = (
        built.authenticate.clone(),
        built.delegate.clone(),
        built.audit.clone(),
    );
    let tools = built.tools.handle();
    tasks.spawn(every(SWEEP, stop.clone(), move || {
        delegate.make_keys_for(tools.load().of_all_vos());
        let (authenticate, delegate, audit) = (authenticate.clone(), delegate.clone(), audit.clone());
        async move {
            match authenticate.sweep().await {
                Ok(ended) => {
                    for ended in ended {
                        ended
                            .sessions
                            .iter()
                            .for_each(|session| delegate.end_session(*session));
                        // What cannot be written down is found again at the next beat.
                        if let Err(error) = audit.write(Event::SessionEnded(ended.clone())).await {
                            tracing::error!("the end of sessions cannot be recorded: {error}");
                        } else if let Err(error) = authenticate.end(&ended).await {
                            tracing::error!("the end of sessions cannot be stored: {error}");
                        }
                    }
                }
                Err(error) => tracing::error!("sessions cannot be swept: {error}"),
            }
            delegate.sweep();
        }
    }));

    let (alert, delegate) = (built.alert.clone(), built.delegate.clone());
    tasks.spawn(every(SWEEP, stop.clone(), move || {
        let (alert, in_use) = (alert.clone(), delegate.certificates());
        async move {
            if let Err(error) = alert.certificates(&in_use).await {
                tracing::error!("the end of certificates cannot be told: {error}");
            }
        }
    }));

    let expiring = built.clone();
    tasks.spawn(every(SWEEP, stop.clone(), move || {
        let built = expiring.clone();
        async move { accounts::expire(&built).await }
    }));
    let guessing = built.clone();
    tasks.spawn(every(SWEEP, stop.clone(), move || {
        let built = guessing.clone();
        async move { guesses::tell(&built).await }
    }));

    let forgetting = built.vos.clone();
    tasks.spawn(every(CARDS, stop.clone(), move || {
        let vos = forgetting.clone();
        async move {
            if let Err(error) = vos.forget_unconfirmed().await {
                tracing::error!("requests for accounts that were not confirmed stay: {error}");
            }
        }
    }));

    let keeper = built.clone();
    tasks.spawn(every(CARDS, stop.clone(), move || {
        let built = keeper.clone();
        async move {
            if let Err(error) = destroy_cards(&built).await {
                tracing::error!("old cards cannot be destroyed: {error:#}");
            }
        }
    }));

    if built.audit.tidies() {
        let (audit, ending) = (built.audit.clone(), stop.clone());
        tasks.spawn(every(TIDY, stop.clone(), move || {
            let (audit, stop) = (audit.clone(), ending.clone());
            async move { tidy_segments(&audit, &stop).await }
        }));
    }

    if let Some(keep) = built.audit.keep() {
        let (audit, clock, ending) = (built.audit.clone(), built.ids.clock().clone(), stop.clone());
        let begun = (clock.now(), clock.monotonic());
        tasks.spawn(every(SEGMENTS, stop.clone(), move || {
            let (audit, stop) = (audit.clone(), ending.clone());
            let now = (clock.now(), clock.monotonic());
            let wrong = wrong_time(begun, now, audit.vitals().newest_record);
            let before = believed(begun, now, audit.newest_found()).minus(keep);
            async move {
                match wrong {
                    None => drop_segments(&audit, before, &stop).await,
                    Some(why) => tracing::warn!("no records of the audit log are dropped: {why}"),
                }
            }
        }));
    }
    let looking = built.clone();
    let last = Arc::new(tokio::sync::Mutex::new(standing::Last::now(built)));
    tasks.spawn(every(STATE, stop.clone(), move || {
        let (built, last) = (looking.clone(), last.clone());
        async move {
            let looked = standing::look(&built).await;
            standing::tell(&built).await;
            let written = standing::write_if_due(&built, &mut *last.lock().await).await;
            if let Err(error) = looked.and(written) {
                tracing::error!("the authorisation state cannot be looked at: {error:#}");
            }
        }
    }));
    let telling = built.clone();
    tasks.spawn(every(SWEEP, stop.clone(), move || {
        let built = telling.clone();
        async move { standing::tell(&built).await }
    }));

    let (audit, health, db) = (built.audit.clone(), built.health.clone(), built.db.clone());
    let (delegate, clock) = (built.delegate.clone(), built.ids.clock().clone());
    let begun = (clock.now(), clock.monotonic());
    tasks.spawn(every(HEALTH, stop.clone(), move || {
        let (audit, health, db) = (audit.clone(), health.clone(), db.clone());
        let time = wrong_time(
            begun,
            (clock.now(), clock.monotonic()),
            audit.vitals().newest_record,
        );
        match time {
            None => health.up("clock"),
            Some(why) => health.down("clock", why),
        }
        if delegate.needs_key() {
            health.down("sealing_key", "the sealing key is not there, or opens nothing");
        } else {
            health.up("sealing_key");
        }
        async move {
            if audit.accepting() {
                health.up("audit");
            } else {
                health.down("audit", "the log cannot take a record");
            }
            match tokio::time::timeout(SWEEP, db.answers()).await {
                Ok(Ok(())) => health.up("store"),
                _ => health.down("store", "the store does not answer"),
            }
        }
    }));
}

/// Destroys the cards that were replaced longer ago than anybody can come with a proxy and ask whose it is.
async fn destroy_cards(built: &Built) -> anyhow::Result<()> {
    let now = built.ids.clock().now();
    // A proxy that was minted under such a card may have lived for some time after it.
    let kept = built.delegate.trace_period() + built.delegate.max_lifetime();
    let mut tx = built.db.begin_write().await?;
    let changes = built.vos.destroy_old_cards(&mut tx, now.minus(kept)).await?;
    if changes.is_empty() {
        return Ok(());
    }
    let request: RequestId = built.ids.next()?;
    tx.applied(request, now).await?;
    let events = changes
        .into_iter()
        .map(|change| Event::Change(Box::new(ChangeEvent::of(request, change))))
        .collect();
    // INVARIANT: on record before it takes effect.
    built.audit.write_all(events).await?;
    tx.commit().await?;
    built.db.scrub().await?;
    Ok(())
}

/// Compresses old segments of the log and moves them, as far as the settings ask.
async fn tidy_segments(audit: &Audit, stop: &CancellationToken) {
    while !stop.is_cancelled() {
        match audit.tidy_one().await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                tracing::error!("old segments of the audit log stay as they are: {error}");
                return;
            }
        }
    }
}

/// Drops what the log has kept for long enough, a part at a time.
async fn drop_segments(audit: &Audit, before: Timestamp, stop: &CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => return,
        () = audit.indexed() => {}
    }
    while !stop.is_cancelled() {
        match audit.drop_older(before).await {
            Ok(Some(dropped)) => tracing::info!(
                records = dropped.records,
                epochs = dropped.epochs,
                files = dropped.total,
                "old records of the audit log were dropped"
            ),
            Ok(None) => return,
            Err(error) => {
                tracing::error!("old records of the audit log cannot be dropped: {error}");
                return;
            }
        }
    }
}

/// The time by which records are old: no later than what the log itself makes likely. A clock that is a year ahead when the
/// gateway starts would otherwise make everything old at once.
fn believed(
    begun: (Timestamp, Duration),
    now: (Timestamp, Duration),
    newest_found: Option<Timestamp>,
) -> Timestamp {
    let begun_at = newest_found.map_or(begun.0, |newest| newest.plus(STOPPED));
    now.0.min(begun_at.plus(now.1.saturating_sub(begun.1)))
}

/// Why the wall clock cannot be right: it is behind the newest record, or drifted away from the monotonic clock.
fn wrong_time(
    begun: (Timestamp, Duration),
    now: (Timestamp, Duration),
    newest_record: Timestamp,
) -> Option<&'static str> {
    if now.0.plus(BEHIND) < newest_record {
        return Some("the clock is behind the log's newest record");
    }
    let should_be = begun.0.plus(now.1.saturating_sub(begun.1));
    let off = now.0.since(should_be).max(should_be.since(now.0));
    (off > OFF).then_some("the clock was stepped by more than 30 seconds")
}

/// Tells the service manager that the gateway is alive, where it wants to know. While a lane hangs, it is told nothing.
pub(super) fn start_watchdog(tasks: &mut JoinSet<()>, lanes: &Arc<Lanes>, gone: &CancellationToken) {
    let Some(beat) = notify::watchdog() else {
        return;
    };
    // When the gateway ends, its lanes do too.
    let lanes = Arc::downgrade(lanes);
    tasks.spawn(every(beat, gone.clone(), move || {
        let answers = lanes.upgrade().map(|lanes| lanes.answer());
        async move {
            if let Some(answers) = answers {
                answers.await;
                notify::alive();
            }
        }
    }));
}

/// Runs `job` on its beat until the server stops; a run that takes longer than the beat delays the next one.
async fn every<F: Future<Output = ()>>(beat: Duration, stop: CancellationToken, job: impl Fn() -> F) {
    let mut ticks = tokio::time::interval(beat);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => job().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_a_year_ahead_at_the_start_does_not_make_everything_old() {
        let (day, year) = (Duration::from_secs(86_400), Duration::from_secs(365 * 86_400));
        let newest = Timestamp::from_secs(1_795_262_400);
        let begun = (newest.plus(year), Duration::from_secs(9));
        assert_eq!(believed(begun, begun, Some(newest)), newest.plus(day));
        let later = (begun.0.plus(day), begun.1 + day);
        assert_eq!(believed(begun, later, Some(newest)), newest.plus(day * 2));
        // One that is right is believed, and so is that of a log without records.
        let begun = (newest.plus(Duration::from_secs(60)), Duration::from_secs(9));
        let later = (begun.0.plus(year), begun.1 + year);
        assert_eq!(believed(begun, later, Some(newest)), later.0);
        assert_eq!(believed(begun, later, None), later.0);
    }

    #[test]
    fn a_clock_that_cannot_be_right_is_seen() {
        let at = |secs: i64| Timestamp::from_secs(1_000 + secs);
        let mono = Duration::from_secs;
        let begun = (at(0), mono(50));
        let wrong = |wall, clock, newest| wrong_time(begun, (at(wall), mono(clock)), at(newest)).is_some();
        assert!(!wrong(100, 150, 99));
        assert!(!wrong(100, 150, 105), "five seconds are borne");
        assert!(wrong(100, 150, 106));
        assert!(!wrong(130, 150, 0) && !wrong(70, 150, 0));
        assert!(wrong(131, 150, 0), "stepped forward");
        assert!(wrong(69, 150, 0), "stepped back");
    }
}
