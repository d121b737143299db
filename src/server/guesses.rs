//! Telling people that somebody tries codes of theirs: each time a record, and a mail to the person herself.

use super::Built;
use crate::alert::{Happened, Notice};
use crate::authenticate::Guessed;
use crate::id::RequestId;
use crate::record::{ChangeEvent, Event};
use crate::vo::GATEWAY;

/// Tells whoever was not told yet. What fails is found again at the next beat.
pub(super) async fn tell(built: &Built) {
    let told = async {
        for guessed in built.authenticate.guessed().await? {
            tell_one(built, guessed).await?;
        }
        anyhow::Ok(())
    };
    if let Err(error) = told.await {
        tracing::error!("wrong codes cannot be told of: {error:#}");
    }
}

async fn tell_one(built: &Built, guessed: Guessed) -> anyhow::Result<()> {
    let mut tx = built.db.begin_write().await?;
    if !built.authenticate.told_of(&mut tx, guessed).await? {
        return Ok(());
    }
    let directory = built.vos.handle().load();
    let Some(person) = directory.person(guessed.person) else {
        // Who is gone is told nothing.
        return Ok(tx.commit().await?);
    };
    let request: RequestId = built.ids.next()?;
    let home = directory.vo(person.home);
    let notice = Notice {
        happened: match guessed.is_end() {
            true => Happened::CodesStopped,
            false => Happened::WrongCodes,
        },
        person: person.id,
        username: &person.username,
        by_username: "somebody who is not known",
        vo_name: home.map_or(GATEWAY, |vo| vo.name.as_str()),
        request,
    };
    built.alert.notify_person(&mut tx, person.home, &notice).await?;
    tx.applied(request, built.ids.clock().now()).await?;
    let change = ChangeEvent::of(request, guessed.change(person));
    // INVARIANT: on record before it is told.
    built
        .audit
        .write_all(vec![Event::Change(Box::new(change))])
        .await?;
    Ok(tx.commit().await?)
}
