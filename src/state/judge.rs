//! What the store holds against what the log says: which levels are in doubt, and what decisions are made from meanwhile.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::json;

use super::level::{Level, Whole};
use crate::id::{PersonId, VoId};
use crate::record::{Change, Hash, StateForeignChange};
use crate::vo::{Directory, Person, PersonState, Vo, VoState};

/// Most differences that are told one by one.
const TOLD: usize = 100;

/// A level whose rows are not what the log says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// VO; the gateway's id for its own level.
    pub vo: VoId,
    /// Its name, where there is one.
    pub name: String,
    /// The digest that the log says.
    pub known: Option<Hash>,
    /// The digest of what the store holds.
    pub found: Option<Hash>,
    /// Whether decisions are made from what was in force before; otherwise nothing is allowed.
    pub kept: bool,
    /// What differs, in words and ids; at most 100.
    pub difference: Vec<String>,
    /// How much differs.
    pub count: u64,
}

impl Doubt {
    /// The change that takes what the store holds for what it must hold.
    #[must_use]
    pub fn accepted(&self, reason: &str) -> Change {
        Change {
            action: "state.accept".into(),
            kind: "state".into(),
            target: self.name.clone(),
            vo: self.vo,
            person: None,
            before: Some(json!({ "digest": self.known })),
            after: Some(json!({
                "digest": self.found, "reason": reason, "difference": self.difference, "count": self.count,
            })),
        }
    }

    /// Its record.
    #[must_use]
    pub fn record(&self) -> StateForeignChange {
        StateForeignChange {
            vo: self.vo,
            known: self.known,
            found: self.found,
            effect: if self.kept { "last_good" } else { "refused" }.into(),
            difference: self.difference.clone(),
            count: self.count,
        }
    }
}

/// What `found` is worth when the log says `known`. `good` is what was in force until now; `kept` gives the lines of a level
/// as they were, where nothing is in force yet.
pub(super) fn judge(
    known: &BTreeMap<VoId, Hash>,
    found: Whole,
    good: Option<&Whole>,
    lines: &dyn Fn(VoId) -> Option<Level>,
) -> (Whole, BTreeMap<VoId, Doubt>) {
    let levels = found.levels();
    let digests: BTreeMap<VoId, Hash> = levels
        .iter()
        .map(|(vo, level)| (*vo, level.digest(*vo)))
        .collect();
    let all: BTreeSet<VoId> = known.keys().chain(digests.keys()).copied().collect();
    let doubted: Vec<VoId> = all
        .into_iter()
        .filter(|vo| {
            known.get(vo) != digests.get(vo)
                || found.flaw.is_some()
                || levels.get(vo).is_some_and(Level::repeats)
        })
        .collect();
    if doubted.is_empty() {
        return (found, BTreeMap::new());
    }
    let good_levels = good.map(Whole::levels).unwrap_or_default();
    let mut doubts = BTreeMap::new();
    for vo in doubted {
        // What is in force counts only if it is what the log says.
        let before = good_levels
            .get(&vo)
            .filter(|level| known.get(&vo) == Some(&level.digest(vo)) && !level.repeats());
        let kept = before.is_some();
        let before = before.cloned().or_else(|| lines(vo));
        let (mut difference, mut count) = told(before.as_ref(), levels.get(&vo), &found, good);
        if let Some(flaw) = &found.flaw {
            difference.insert(0, flaw.clone());
            difference.truncate(TOLD);
            count += 1;
        }
        let doubt = Doubt {
            vo,
            name: name(vo, &found, good),
            known: known.get(&vo).copied(),
            found: digests.get(&vo).copied(),
            kept,
            difference,
            count,
        };
        doubts.insert(vo, doubt);
    }
    let whole = composed(found, good, &doubts);
    (whole, doubts)
}

fn name(vo: VoId, found: &Whole, good: Option<&Whole>) -> String {
    if vo == Directory::gateway() {
        return "gateway".into();
    }
    let places = good.into_iter().chain([found]);
    let mut vos = places.flat_map(|whole| &whole.rows.vos);
    let known = vos.find(|known| known.id == vo);
    known.map_or_else(|| vo.to_string(), |known| known.name.clone())
}

fn told(
    before: Option<&Level>,
    after: Option<&Level>,
    found: &Whole,
    good: Option<&Whole>,
) -> (Vec<String>, u64) {
    let nothing = Level::default();
    let after = after.unwrap_or(&nothing);
    let Some(before) = before else {
        return (
            vec!["what was there before is not known in single lines".into()],
            0,
        );
    };
    let differs = before.difference(after);
    let count = differs.len() as u64;
    let words = differs.into_iter().take(TOLD).map(|(kind, id, how)| {
        let places = [Some(found), good];
        let about = places
            .into_iter()
            .flatten()
            .find_map(|whole| whole.describe(kind, &id));
        match about {
            Some(about) => format!("{kind} {id} {how} ({about})"),
            None => format!("{kind} {id} {how}"),
        }
    });
    (words.collect(), count)
}

/// `found` where the log agrees; elsewhere what was in force, or the bare level in which nothing is allowed.
fn composed(found: Whole, good: Option<&Whole>, doubts: &BTreeMap<VoId, Doubt>) -> Whole {
    let kept = |vo: &VoId| doubts.get(vo).is_some_and(|doubt| doubt.kept);
    let people = people(&found, good, doubts);
    let sure = |vo: &VoId| !doubts.contains_key(vo);
    let mut whole = found;
    whole.rows.people = people;
    whole.rows.vos.retain(|vo| !kept(&vo.id));
    for vo in &mut whole.rows.vos {
        if !sure(&vo.id) {
            vo.state = VoState::InDoubt;
            // What is prepared from it must not be taken for the level that had this version, which comes back perhaps.
            vo.version = vo.version.saturating_neg();
        }
    }
    // Who was a member is told that the VO is in doubt; nothing else of such a level is taken into memory.
    whole.rows.memberships.retain(|row| !kept(&row.vo));
    whole.rows.roles.retain(|row| sure(&row.vo));
    whole.rows.assignments.retain(|row| sure(&row.vo));
    whole.rows.grants.retain(|row| sure(&row.vo));
    whole.rows.upstreams.retain(|row| sure(&row.vo));
    whole.rows.ceilings.retain(|row| sure(&row.vo));
    whole.tools.retain(|row| sure(&row.vo));
    let gateway = Directory::gateway();
    // A gateway's level that the store no longer has.
    if doubts.contains_key(&gateway) && !kept(&gateway) && !whole.rows.vos.iter().any(|vo| vo.id == gateway) {
        whole.rows.vos.push(Vo {
            id: gateway,
            name: crate::vo::GATEWAY.into(),
            state: VoState::InDoubt,
            version: 0,
        });
    }
    let Some(good) = good else {
        return whole;
    };
    macro_rules! keep {
        ($($table:ident),*) => {$(
            whole.rows.$table.extend(good.rows.$table.iter().filter(|row| kept(&row.vo)).cloned());
        )*};
    }
    keep!(memberships, roles, assignments, grants, upstreams, ceilings);
    whole
        .rows
        .vos
        .extend(good.rows.vos.iter().filter(|vo| kept(&vo.id)).cloned());
    whole
        .tools
        .extend(good.tools.iter().filter(|tool| kept(&tool.vo)).cloned());
    whole
}

/// Accounts: as found where a level that is not in doubt vouches for them, else as they were.
///
/// SECURITY: an account that only levels in doubt name, and that was not in force before, may have been made by whoever
/// changed the store.
fn people(found: &Whole, good: Option<&Whole>, doubts: &BTreeMap<VoId, Doubt>) -> Vec<Person> {
    let in_force: HashMap<PersonId, Person> = good
        .map(Whole::belonging)
        .unwrap_or_default()
        .into_iter()
        .filter(|(_, belongs)| {
            belongs
                .iter()
                .any(|vo| doubts.get(vo).is_some_and(|doubt| doubt.kept))
        })
        .map(|(person, _)| (person.id, person.clone()))
        .collect();
    let mut people = Vec::with_capacity(found.rows.people.len());
    for (person, belongs) in found.belonging() {
        let vouched = belongs.iter().any(|vo| !doubts.contains_key(vo));
        // Without anything in force, the level refuses everything, and the account can do nothing by itself.
        let bare = belongs
            .iter()
            .any(|vo| doubts.get(vo).is_some_and(|doubt| !doubt.kept));
        let ended = person.state == PersonState::Ended;
        if !in_force.contains_key(&person.id) && (vouched || bare || ended) {
            people.push(person.clone());
        }
    }
    people.extend(in_force.into_values());
    people
}
