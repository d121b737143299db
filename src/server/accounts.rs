//! Accounts whose time is over: what decisions see at once is written down, and what they hold ends.

use std::sync::Arc;

use super::Built;
use crate::alert::{Happened, Notice};
use crate::delegate::{Which, Why};
use crate::id::RequestId;
use crate::record::{ChangeEvent, Event};
use crate::vo::{Person, PersonState};

/// Who did it, in mails.
const GATEWAY: &str = "the gateway, at the end that was set for it";

/// Ends what accounts hold whose time is over. What cannot be done now is found again at the next beat: such an account lets
/// nobody in meanwhile.
pub(super) async fn expire(built: &Built) {
    let (now, directory) = (built.ids.clock().now(), built.vos.handle().load());
    let over = |person: &&Arc<Person>| {
        person.state == PersonState::Active && person.standing(now) == PersonState::Expired
    };
    for person in directory.people().filter(over) {
        // One that cannot be ended keeps nobody else's open.
        if let Err(error) = expire_one(built, person).await {
            tracing::error!("the account person/{} cannot be ended: {error:#}", person.id);
        }
    }
}

async fn expire_one(built: &Built, person: &Person) -> anyhow::Result<()> {
    let request: RequestId = built.ids.next()?;
    let mut tx = built.states.begin().await?;
    let Some(change) = built.vos.lapse_person(&mut tx, person.id).await? else {
        return Ok(());
    };
    // SECURITY: what was minted for her is in others' hands.
    let which = Which::all_of(person.id);
    let revoked = built
        .delegate
        .revoke(&mut tx, &which, Why::Suspended, None)
        .await?;
    let directory = built.vos.handle().load();
    let home = directory
        .vo(person.home)
        .map_or(crate::vo::GATEWAY, |vo| vo.name.as_str());
    let notice = Notice {
        happened: Happened::Expired,
        person: person.id,
        username: &person.username,
        by_username: GATEWAY,
        vo_name: home,
        request,
    };
    built.alert.notify(&mut tx, person.home, &notice).await?;
    let reason = Happened::Expired.reason();
    let ended = built
        .authenticate
        .ending_all(person.id, None, reason, Some(request));
    let changes: Vec<_> = std::iter::once(change).chain(revoked.changes).collect();
    let mut ready = tx.ready(&changes).await?;
    ready.tx().applied(request, built.ids.clock().now()).await?;
    let (mut state, steps) = ready.records(request, true);
    let recorded = |change| {
        let state = std::mem::take(&mut state);
        Event::Change(Box::new(ChangeEvent {
            state,
            ..ChangeEvent::of(request, change)
        }))
    };
    let events = changes
        .into_iter()
        .map(recorded)
        .chain(steps)
        .chain(ended.iter().cloned().map(Event::SessionEnded))
        .collect();
    let signed = ready.moves();
    // INVARIANT: on record before it takes effect, and signed where it says what the state will be.
    let seqs = built.audit.write_all(events).await?;
    if let Some(last) = seqs.last().filter(|_| signed) {
        built.audit.signed(*last).await?;
    }
    ready.commit(request).await?;
    built.delegate.forget_proxies(&revoked.serials);
    if let Some(ended) = ended {
        ended
            .sessions
            .iter()
            .for_each(|session| built.delegate.end_session(*session));
        built.authenticate.end(&ended).await?;
    }
    Ok(())
}
