//! How long proxies may live in a VO, and those of a role's holders. A limit shortens, and never lengthens.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::json;
use uuid::Uuid;

use crate::id::{PersonId, RoleId, VoId};
use crate::record::Change;
use crate::store::{Db, StoreError, Tx, rows, run};
use crate::vo::Role;

use super::{Delegate, DelegateError};

/// The shortest limit that can be set: a proxy has to outlive its handing over.
const LEAST: Duration = Duration::from_secs(300);

/// All limits: of a VO (no role), and of roles.
#[derive(Debug, Default)]
pub(super) struct Limits(HashMap<(VoId, Option<RoleId>), Duration>);

impl Limits {
    pub(super) async fn load(db: &Db) -> Result<Self, StoreError> {
        let rows = rows!(
            db,
            (Uuid, Uuid, i64),
            "SELECT vo_id, role, seconds FROM proxy_limit"
        )?;
        let limits = rows.into_iter().map(|(vo, role, seconds)| {
            let role = (!role.is_nil()).then(|| RoleId::from(role));
            let limit = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
            ((VoId::from(vo), role), limit)
        });
        Ok(Self(limits.collect()))
    }

    /// The shortest of the VO's limit and those of `roles`.
    fn shortest(&self, vo: VoId, roles: impl Iterator<Item = RoleId>) -> Option<Duration> {
        let of = |role| self.0.get(&(vo, role)).copied();
        roles.map(Some).chain([None]).filter_map(of).min()
    }
}

impl Delegate {
    /// How long a proxy lives at most in a VO, whoever holds it.
    pub(super) fn longest(&self, vo: VoId) -> Duration {
        let limit = self.keys.load().limits.shortest(vo, std::iter::empty());
        limit.map_or(self.config.max_lifetime, |limit| {
            limit.min(self.config.max_lifetime)
        })
    }

    /// How long a person's proxy lives at most. Where several of her roles have a limit, the shortest holds: a role can be
    /// given to somebody to shorten what she gets.
    pub(super) fn longest_for(&self, vo: VoId, person: PersonId) -> Duration {
        let (keys, directory, now) = (self.keys.load(), self.directory.load(), self.ids.clock().now());
        let roles = directory.assignments(vo, person, now).map(|held| held.role);
        let limit = keys.limits.shortest(vo, roles);
        limit.map_or(self.config.max_lifetime, |limit| {
            limit.min(self.config.max_lifetime)
        })
    }

    /// The limits of a VO: its own (no role), and those of its roles.
    #[must_use]
    pub fn limits(&self, vo: VoId) -> Vec<(Option<RoleId>, Duration)> {
        let keys = self.keys.load();
        let limits = keys.limits.0.iter();
        limits
            .filter(|((of, _), _)| *of == vo)
            .map(|((_, role), limit)| (*role, *limit))
            .collect()
    }

    /// Limits how long proxies live in a VO, or those of a role's holders; without `limit` they are as others again. After the
    /// commit, [`Delegate::load`] takes it into use.
    ///
    /// # Errors
    /// [`DelegateError::Limit`] when it is shorter than five minutes.
    pub async fn set_limit(
        &self,
        tx: &mut Tx,
        vo: VoId,
        role: Option<&Role>,
        limit: Option<Duration>,
    ) -> Result<Change, DelegateError> {
        if limit.is_some_and(|limit| limit < LEAST) {
            return Err(DelegateError::Limit);
        }
        let id = role.map(|role| role.id);
        let key = id.map_or_else(Uuid::nil, |id| id.uuid());
        let before = self.keys.load().limits.0.get(&(vo, id)).copied();
        match limit {
            None => run!(
                tx,
                "DELETE FROM proxy_limit WHERE vo_id = $1 AND role = $2",
                vo.uuid(),
                key
            )?,
            Some(limit) => run!(
                tx,
                "INSERT INTO proxy_limit (vo_id, role, version, seconds) VALUES ($1, $2, 1, $3) \
                 ON CONFLICT (vo_id, role) DO UPDATE SET seconds = $3, version = proxy_limit.version + 1",
                vo.uuid(),
                key,
                i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            )?,
        };
        let shown = |limit: Option<Duration>| {
            let role = role.map(|role| role.name.as_str());
            json!({ "role": role, "lifetime": limit.map(|limit| limit.as_secs()) })
        };
        Ok(Change {
            action: "proxy_limit.set".to_owned(),
            kind: "proxy_limit".to_owned(),
            target: id.map_or_else(|| vo.to_string(), |id| id.to_string()),
            vo,
            person: None,
            before: Some(shown(before)),
            after: Some(shown(limit)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_of_all_limits_that_apply_holds() {
        let id = |n: u128| Uuid::from_u128(n);
        let (vo, student, guest) = (VoId::from(id(1)), RoleId::from(id(2)), RoleId::from(id(3)));
        let hours = |n: u64| Duration::from_secs(n * 3_600);
        let limits = Limits(HashMap::from([
            ((vo, None), hours(8)),
            ((vo, Some(student)), hours(2)),
            ((vo, Some(guest)), hours(12)),
        ]));
        let shortest = |vo, roles: &[RoleId]| limits.shortest(vo, roles.iter().copied());
        assert_eq!(shortest(vo, &[]), Some(hours(8)));
        assert_eq!(shortest(vo, &[guest]), Some(hours(8)));
        assert_eq!(shortest(vo, &[guest, student]), Some(hours(2)));
        assert_eq!(shortest(VoId::from(id(9)), &[student]), None);
    }
}
