//! `person.erase`: ends an account for good and destroys what names the person. For system administrators.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::operation::{Call, Nothing, Operation, SYSTEM, on_person, task};
use crate::api::{Api, problem};
use crate::clock::Timestamp;
use crate::id::PersonId;
use crate::problem::{Kind, Problem};
use crate::record::Event;
use crate::tool::{self, Task};
use crate::vo::Held;

/// What was erased.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PersonErased {
    /// Opaque id; all that is left.
    pub id: String,
    /// Cards that were destroyed.
    pub cards: usize,
    /// Mails that name her no more.
    pub mails: u64,
    /// Whether nothing of it is left in the files of store and outbox; if not, erase again.
    pub scrubbed: bool,
}

pub(in crate::api) struct Erase;

impl Operation for Erase {
    type Body = Nothing;
    type Answer = PersonErased;
    const SUMMARY: &'static str = "Ends an account for good and destroys what names the person";

    fn task() -> Task {
        on_person(task(
            "person.erase",
            "DELETE /api/v1/persons/{person:uuid}",
            tool::Kind::Delete,
            SYSTEM,
        ))
    }

    async fn run(api: &Api, call: &Call, _: Nothing) -> Result<PersonErased, Problem> {
        let person: PersonId = call.id_of("person")?;
        let held = api.vos.held(person).await.map_err(problem)?;
        let held =
            held.ok_or_else(|| Problem::new(Kind::NotFound, format!("there is no person `{person}`")))?;
        erasable(api, person, &held).await?;
        let words = words(&held);
        let mut tx = api.begin().await?;
        let mut changes = Vec::new();
        if held.until.is_none() {
            changes.push(api.vos.end_person(&mut tx, person).await.map_err(problem)?);
        }
        changes.push(api.vos.erase_person(&mut tx, person).await.map_err(problem)?);
        api.authenticate.erase(&mut tx, person).await.map_err(problem)?;
        api.providers.erase(&mut tx, person).await.map_err(problem)?;
        let wiped = api.alert.wipe(&mut tx, &words).await.map_err(problem)?;
        let ended = api.authenticate.ending_all(person, None, "erased", Some(call.id));
        let further = ended.iter().cloned().map(Event::SessionEnded).collect();
        api.commit_with(call, tx, changes, further).await?;
        if let Some(ended) = ended {
            api.end_recorded(&ended).await?;
        }
        // INVARIANT: from here on nothing names her; what is left is to clean up behind it.
        let files = api.alert.remove_files(&wiped).await;
        let store = api.db.scrub().await;
        if let Err(error) = &files {
            tracing::error!("mails of an erased account are left in the outbox folder: {error}");
        }
        if let Err(error) = &store {
            tracing::error!("traces of an erased account are left in the store's files: {error}");
        }
        Ok(PersonErased {
            id: person.to_string(),
            cards: held.cards.len(),
            mails: wiped.mails,
            scrubbed: files.is_ok() && store.is_ok(),
        })
    }
}

/// Refuses as long as she belongs anywhere, and as long as somebody may come with a proxy of hers and ask whose it is.
async fn erasable(api: &Api, person: PersonId, held: &Held) -> Result<(), Problem> {
    if held.is_bound() {
        let detail =
            "this person is still a member of a virtual organisation, or holds a role; end that first";
        return Err(Problem::new(Kind::Conflict, detail));
    }
    let proxies = api.delegate.held(person).await.map_err(problem)?;
    let sessions = api.authenticate.held(person).await.map_err(problem)?;
    let used = proxies
        .iter()
        .map(|proxy| proxy.not_after)
        .chain(sessions.iter().map(|session| session.seen))
        .max();
    let until = used.map(|used: Timestamp| used.plus(api.delegate.trace_period()));
    match until {
        Some(until) if api.now() < until => Err(Problem::new(
            Kind::Conflict,
            format!(
                "what this person did may be traced until {until} (`delegation.trace_period`); until then her card is kept"
            ),
        )),
        _ => Ok(()),
    }
}

/// Everything that names her.
fn words(held: &Held) -> BTreeSet<String> {
    let mut words = BTreeSet::from([held.username.clone()]);
    for card in &held.cards {
        words.insert(card.username.clone());
        words.insert(card.fields.name.clone());
        words.extend(card.fields.mail.clone());
    }
    words.retain(|word| !word.is_empty());
    words
}
