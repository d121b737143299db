//! Counting: when denials become an episode, and which episodes are mailed how.

use std::collections::BTreeMap;
use std::time::Duration;

use uuid::Uuid;

use super::mail::{Told, alert, digest};
use super::outbox::Letter;
use super::{AlertError, Denied, Inner};
use crate::clock::Timestamp;
use crate::id::{EpisodeId, PersonId, RequestId, VoId};
use crate::record::AlertEvent;
use crate::store::{StoreError, Tx, rows, run, tx_rows};
use crate::vo::{Directory, PersonState, SYSTEM_ADMINISTRATOR, VO_ADMINISTRATOR};

const HOUR: Duration = Duration::from_secs(3_600);
/// Most requests named in an event of the log.
const NAMED: usize = 100;

/// Once an episode is open, how often its denials are stored.
const STORED_EVERY: Duration = Duration::from_secs(1);

/// What denials are counted by: VO, person, tool, task.
pub(super) type Key = (VoId, PersonId, String, String);

/// An episode whose mail is not written yet.
#[derive(Clone, Debug)]
struct Episode {
    id: EpisodeId,
    vo: VoId,
    vo_name: String,
    person: PersonId,
    tool: String,
    task: String,
    first: Timestamp,
    last: Timestamp,
    count: i64,
    waits_for_digest: bool,
}

type EpisodeRow = (Uuid, Uuid, String, Uuid, String, String, i64, i64, i64, String);

impl From<EpisodeRow> for Episode {
    fn from(row: EpisodeRow) -> Self {
        let (id, vo, vo_name, person, tool, task, first, last, count, mail) = row;
        Self {
            id: id.into(),
            vo: vo.into(),
            vo_name,
            person: person.into(),
            tool,
            task,
            first: Timestamp(first),
            last: Timestamp(last),
            count,
            waits_for_digest: mail == "digest",
        }
    }
}

impl Inner {
    pub(super) async fn count(&self, denied: Denied) -> Result<Option<AlertEvent>, AlertError> {
        let tool = denied.tool.clone().unwrap_or_default();
        let key: Key = (denied.vo, denied.person, tool.clone(), denied.task.clone());
        if self
            .open
            .get(&key)
            .is_some_and(|last| denied.at.since(last) < STORED_EVERY)
        {
            return Ok(None);
        }
        let mut tx = self.db.begin_write().await?;
        take_turn(&mut tx, denied.vo).await?;
        let (vo, person, task) = (denied.vo.uuid(), denied.person.uuid(), denied.task.as_str());
        let new = run!(
            &mut tx,
            "INSERT INTO alert_denial (request, vo_id, person, tool, task, at, version)
             VALUES ($1, $2, $3, $4, $5, $6, 1) ON CONFLICT (request) DO NOTHING",
            denied.request.uuid(),
            vo,
            person,
            tool.as_str(),
            task,
            denied.at.micros()
        )?;
        if new == 0 {
            return Ok(None);
        }
        if self.goes_on(&mut tx, &denied, &tool).await? {
            tx.commit().await?;
            self.open.insert(key, denied.at);
            return Ok(None);
        }
        let counted: Vec<(Uuid, i64)> = tx_rows!(
            &mut tx,
            (Uuid, i64),
            "SELECT request, at FROM alert_denial
             WHERE vo_id = $1 AND person = $2 AND tool = $3 AND task = $4 AND episode IS NULL AND at > $5
             ORDER BY at, request",
            vo,
            person,
            tool.as_str(),
            task,
            denied.at.minus(self.config.window).micros()
        )?;
        if counted.len() < usize::try_from(self.config.threshold).unwrap_or(usize::MAX) {
            tx.commit().await?;
            return Ok(None);
        }
        let event = self.open(&mut tx, &denied, &tool, &counted).await?;
        tx.commit().await?;
        Ok(Some(event))
    }

    /// Whether an episode of this kind is open; then the denial belongs to it. One that was quiet for long enough ends.
    async fn goes_on(&self, tx: &mut Tx, denied: &Denied, tool: &str) -> Result<bool, StoreError> {
        let open = tx_rows!(
            &mut *tx,
            (Uuid, i64),
            "SELECT id, last_at FROM alert_episode
             WHERE vo_id = $1 AND person = $2 AND tool = $3 AND task = $4 AND ended_at IS NULL",
            denied.vo.uuid(),
            denied.person.uuid(),
            tool,
            denied.task.as_str()
        )?;
        let Some((id, last)) = open.into_iter().next() else {
            return Ok(false);
        };
        let last = Timestamp(last);
        if denied.at.since(last) >= self.config.window {
            run!(
                tx,
                "UPDATE alert_episode SET ended_at = $2, version = version + 1 WHERE id = $1",
                id,
                last.plus(self.config.window).micros()
            )?;
            return Ok(false);
        }
        run!(
            &mut *tx,
            "UPDATE alert_episode SET last_at = $2, count = count + 1, version = version + 1 WHERE id = $1",
            id,
            last.max(denied.at).micros()
        )?;
        run!(
            tx,
            "UPDATE alert_denial SET episode = $2, version = version + 1 WHERE request = $1",
            denied.request.uuid(),
            id
        )?;
        Ok(true)
    }

    async fn open(
        &self,
        tx: &mut Tx,
        denied: &Denied,
        tool: &str,
        counted: &[(Uuid, i64)],
    ) -> Result<AlertEvent, AlertError> {
        let id: EpisodeId = self.ids.next()?;
        let count = i64::try_from(counted.len()).unwrap_or(i64::MAX);
        let first = counted.first().map_or(denied.at.micros(), |(_, at)| *at);
        let last = counted.last().map_or(denied.at.micros(), |(_, at)| *at);
        run!(
            &mut *tx,
            "INSERT INTO alert_episode
                 (id, vo_id, vo_name, person, tool, task, started_at, last_at, count, mail, version)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'due', 1)",
            id.uuid(),
            denied.vo.uuid(),
            denied.vo_name.as_str(),
            denied.person.uuid(),
            tool,
            denied.task.as_str(),
            first,
            last,
            count
        )?;
        for (request, _) in counted {
            run!(
                &mut *tx,
                "UPDATE alert_denial SET episode = $2, version = version + 1 WHERE request = $1",
                *request,
                id.uuid()
            )?;
        }
        Ok(AlertEvent {
            episode: id,
            vo: denied.vo,
            person: denied.person,
            tool: denied.tool.clone(),
            task: denied.task.clone(),
            count: u32::try_from(count).unwrap_or(u32::MAX),
            requests: counted
                .iter()
                .take(NAMED)
                .map(|(id, _)| RequestId::from(*id))
                .collect(),
        })
    }

    /// Writes the mails of all episodes that have none yet, as far as the hour's limit of their VO allows.
    pub(super) async fn write_due_mails(&self, now: Timestamp, checkpoint: &str) -> Result<(), AlertError> {
        let waiting: Vec<Episode> = rows!(
            &self.db,
            EpisodeRow,
            "SELECT id, vo_id, vo_name, person, tool, task, started_at, last_at, count, mail
             FROM alert_episode WHERE mail <> 'mailed' ORDER BY started_at, id LIMIT 1000"
        )?
        .into_iter()
        .map(Episode::from)
        .collect();
        let mut by_vo: BTreeMap<VoId, Vec<Episode>> = BTreeMap::new();
        for episode in waiting {
            by_vo.entry(episode.vo).or_default().push(episode);
        }
        for (vo, episodes) in by_vo {
            self.write_mails_of(vo, &episodes, now, checkpoint).await?;
        }
        Ok(())
    }

    async fn write_mails_of(
        &self,
        vo: VoId,
        episodes: &[Episode],
        now: Timestamp,
        checkpoint: &str,
    ) -> Result<(), AlertError> {
        let mut told = Vec::with_capacity(episodes.len());
        for episode in episodes {
            told.push(self.tell(episode).await?);
        }
        let recipients = self.administrators(vo, now).await?;
        let mut tx = self.db.begin_write().await?;
        take_turn(&mut tx, vo).await?;
        let mut left = usize::try_from(self.config.mails_per_hour).unwrap_or(usize::MAX);
        left = left.saturating_sub(self.mails_within(&mut tx, vo, "alert", now).await?);
        left = left.saturating_sub(self.mails_within(&mut tx, vo, "digest", now).await?);
        // Once some wait for a digest, all later ones go into it, so that mails tell what happened in its order.
        let one_by_one = if episodes.iter().any(|episode| episode.waits_for_digest) {
            0
        } else {
            left
        };
        for (episode, told) in episodes.iter().zip(&told).take(one_by_one) {
            if mark(&mut tx, episode, "mailed").await? {
                let (subject, body) = alert(told, self.config.window, checkpoint);
                self.post(
                    &mut tx,
                    vo,
                    "alert",
                    &Letter {
                        to: recipients.clone(),
                        subject,
                        body,
                    },
                )
                .await?;
                left = left.saturating_sub(1);
            }
        }
        let later = episodes.get(one_by_one..).unwrap_or(&[]);
        let told = told.get(one_by_one..).unwrap_or(&[]);
        let state = if left > 0 { "mailed" } else { "digest" };
        let mut marked = Vec::new();
        for (episode, told) in later.iter().zip(told) {
            if (left > 0 || !episode.waits_for_digest) && mark(&mut tx, episode, state).await? {
                marked.push(told.clone());
            }
        }
        if left > 0 && !marked.is_empty() {
            let (subject, body) = digest(&marked, checkpoint);
            self.post(
                &mut tx,
                vo,
                "digest",
                &Letter {
                    to: recipients,
                    subject,
                    body,
                },
            )
            .await?;
        }
        Ok(tx.commit().await?)
    }

    /// How many mails of a kind were written for the VO in the last hour.
    pub(super) async fn mails_within(
        &self,
        tx: &mut Tx,
        vo: VoId,
        kind: &str,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        let found = tx_rows!(
            tx,
            (Uuid,),
            "SELECT id FROM mail WHERE vo_id = $1 AND kind = $2 AND at > $3 LIMIT 1000",
            vo.uuid(),
            kind,
            now.minus(HOUR).micros()
        )?;
        Ok(found.len())
    }

    /// An episode in readable words: name and user name from the card, the requests from the counted denials.
    async fn tell(&self, episode: &Episode) -> Result<Told, AlertError> {
        let card = self.vos.card(episode.person).await?;
        let (name, username) = match card {
            Some(card) => (card.fields.name, card.username),
            None => (String::new(), episode.person.to_string()),
        };
        let requests = rows!(
            &self.db,
            (Uuid,),
            "SELECT request FROM alert_denial WHERE episode = $1 ORDER BY at, request LIMIT 1000",
            episode.id.uuid()
        )?;
        Ok(Told {
            vo: episode.vo_name.clone(),
            name,
            username,
            tool: Some(episode.tool.clone()).filter(|tool| !tool.is_empty()),
            task: episode.task.clone(),
            count: u32::try_from(episode.count).unwrap_or(u32::MAX),
            first: episode.first,
            last: episode.last,
            requests: requests.into_iter().map(|(id,)| id.into()).collect(),
        })
    }

    /// Addresses of the VO's administrators; where there is none, of the gateway's.
    pub(super) async fn administrators(&self, vo: VoId, now: Timestamp) -> Result<Vec<String>, AlertError> {
        let of_the_vo = if vo == Directory::gateway() {
            Vec::new()
        } else {
            self.addresses(vo, VO_ADMINISTRATOR, now).await?
        };
        if of_the_vo.is_empty() {
            self.system_administrators(now).await
        } else {
            Ok(of_the_vo)
        }
    }

    /// Addresses of the gateway's administrators.
    pub(super) async fn system_administrators(&self, now: Timestamp) -> Result<Vec<String>, AlertError> {
        self.addresses(Directory::gateway(), SYSTEM_ADMINISTRATOR, now)
            .await
    }

    async fn addresses(&self, vo: VoId, role: &str, now: Timestamp) -> Result<Vec<String>, AlertError> {
        let directory = self.vos.handle().load();
        let active = |id: &PersonId| {
            let person = directory.person(*id);
            person.is_some_and(|person| person.standing(now) == PersonState::Active)
        };
        let mut holders = directory.holders(vo, role, now);
        // SECURITY: who left the VO is told nothing of it, whatever assignments are left.
        holders.retain(|id| active(id) && (vo == Directory::gateway() || directory.is_member(vo, *id)));
        let mut addresses: Vec<String> = self.vos.mail_of(&holders).await?.into_values().collect();
        addresses.sort_unstable();
        addresses.dedup();
        Ok(addresses)
    }

    /// Forgets denials that no count and no mail will look at again. The audit log holds them for good.
    pub(super) async fn forget(&self, now: Timestamp) -> Result<(), AlertError> {
        let oldest = now
            .minus(2 * self.config.window.max(self.config.give_up))
            .micros();
        let old = rows!(
            &self.db,
            (Uuid,),
            "SELECT request FROM alert_denial WHERE at < $1 ORDER BY at LIMIT 500",
            oldest
        )?;
        if old.is_empty() {
            return Ok(());
        }
        let mut tx = self.db.begin_write().await?;
        for (request,) in old {
            run!(&mut tx, "DELETE FROM alert_denial WHERE request = $1", request)?;
        }
        Ok(tx.commit().await?)
    }
}

/// Takes the VO's turn: until the transaction ends nobody else counts or mails for it, on either engine.
pub(super) async fn take_turn(tx: &mut Tx, vo: VoId) -> Result<(), StoreError> {
    run!(
        tx,
        "INSERT INTO alert_turn (vo_id, version) VALUES ($1, 1)
         ON CONFLICT (vo_id) DO UPDATE SET version = alert_turn.version + 1",
        vo.uuid()
    )
    .map(|_| ())
}

/// Marks an episode, unless another run was faster.
async fn mark(tx: &mut Tx, episode: &Episode, state: &str) -> Result<bool, StoreError> {
    let before = if episode.waits_for_digest { "digest" } else { "due" };
    let changed = run!(
        tx,
        "UPDATE alert_episode SET mail = $2, version = version + 1 WHERE id = $1 AND mail = $3",
        episode.id.uuid(),
        state,
        before
    )?;
    Ok(changed == 1)
}
