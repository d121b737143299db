//! What the authorisation state of a level (a VO, or the gateway itself) is, line by line, and its digest.
//!
//! A line has a kind, an id and the hash of everything in it that decides: so a list of lines holds no personal data and
//! no manifest, and two lists show what differs. What does not decide is in none: cards, counters, times of use, versions
//! of rows. Lines are sorted, so the order in which the store gives its rows does not matter.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;

use crate::id::{PersonId, VoId};
use crate::record::Hash;
use crate::tool::Registered;
use crate::vo::{Directory, Person, PersonState, Rows, UpstreamAddress, VoState};

/// Version of the way in which digests are made. A change of anything in this file is a new version, but for lines of a new
/// kind: where there is no such row yet, the digest stays what it was.
pub(super) const SCHEME: u8 = 2;

/// Everything that decisions are made from, as rows.
#[derive(Clone, Debug, Default)]
pub(super) struct Whole {
    pub(super) rows: Rows,
    pub(super) tools: Vec<Registered>,
    /// What is wrong with the store itself, so that none of its rows can be believed.
    pub(super) flaw: Option<String>,
}

/// One level.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Level {
    /// SECURITY: more than one for a kind and id where somebody wrote a row beside another: each that decides is in the digest.
    lines: BTreeMap<(&'static str, String), Vec<Hash>>,
}

impl Level {
    fn add(&mut self, kind: &'static str, id: impl ToString, fields: &[Option<&str>]) {
        let mut bytes = Vec::with_capacity(256);
        for field in fields {
            match field {
                None => bytes.push(0),
                Some(text) => {
                    bytes.push(1);
                    bytes.extend_from_slice(&(text.len() as u64).to_be_bytes());
                    bytes.extend_from_slice(text.as_bytes());
                }
            }
        }
        self.line(kind, id.to_string(), Hash::of(&bytes));
    }

    fn line(&mut self, kind: &'static str, id: String, hash: Hash) {
        let hashes = self.lines.entry((kind, id)).or_default();
        hashes.push(hash);
        hashes.sort_unstable();
    }

    /// Whether two rows have the same id. The gateway never writes such.
    pub(super) fn repeats(&self) -> bool {
        self.lines.values().any(|hashes| hashes.len() > 1)
    }

    /// All lines as text, one a line, in their order.
    pub(super) fn text(&self) -> String {
        let mut text = String::with_capacity(self.lines.len() * 120);
        for ((kind, id), hashes) in &self.lines {
            for hash in hashes {
                // Writing to a `String` cannot fail.
                let _ = writeln!(text, "{kind} {id} {hash}");
            }
        }
        text
    }

    /// The digest.
    pub(super) fn digest(&self, vo: VoId) -> Hash {
        digest_of(vo, &self.text())
    }

    /// What is different in `found`, by kind and id.
    pub(super) fn difference(&self, found: &Self) -> Vec<(&'static str, String, &'static str)> {
        let keys: BTreeSet<_> = self.lines.keys().chain(found.lines.keys()).collect();
        let differs = keys.into_iter().filter_map(|key| {
            let how = match (self.lines.get(key), found.lines.get(key)) {
                (_, Some(after)) if after.len() > 1 => "is there more than once",
                (Some(before), Some(after)) if before == after => return None,
                (Some(_), Some(_)) => "changed",
                (Some(_), None) => "removed",
                _ => "added",
            };
            Some((key.0, key.1.clone(), how))
        });
        differs.collect()
    }

    /// Reads what [`Level::text`] wrote.
    pub(super) fn parse(text: &str) -> Option<Self> {
        const KINDS: [&str; 9] = [
            "vo",
            "person",
            "membership",
            "role",
            "assignment",
            "grant",
            "upstream",
            "tool",
            "ceiling",
        ];
        let mut level = Self::default();
        for line in text.lines() {
            let mut parts = line.split(' ');
            let (kind, id, hash) = (parts.next()?, parts.next()?, parts.next()?);
            let kind = KINDS.into_iter().find(|known| *known == kind)?;
            level.line(kind, id.to_owned(), Hash::parse(hash)?);
        }
        Some(level)
    }
}

/// The digest of the level whose lines `text` holds.
pub(super) fn digest_of(vo: VoId, text: &str) -> Hash {
    Hash::of(format!("countersign state {SCHEME}\n{vo}\n{text}").as_bytes())
}

impl Whole {
    /// All levels.
    pub(super) fn levels(&self) -> BTreeMap<VoId, Level> {
        let mut levels: BTreeMap<VoId, Level> = BTreeMap::new();
        let rows = &self.rows;
        for vo in &rows.vos {
            let state = match vo.state {
                VoState::Active => "active",
                VoState::Suspended => "suspended",
                VoState::InDoubt => "in_doubt",
            };
            let version = vo.version.to_string();
            let fields = [Some(vo.name.as_str()), Some(state), Some(&version)];
            levels.entry(vo.id).or_default().add("vo", vo.id, &fields);
        }
        self.add_people(&mut levels);
        for membership in &rows.memberships {
            let person = membership.person.to_string();
            let level = levels.entry(membership.vo).or_default();
            level.add("membership", membership.id, &[Some(&person)]);
        }
        for role in &rows.roles {
            let level = levels.entry(role.vo).or_default();
            level.add("role", role.id, &[Some(&role.name)]);
        }
        for held in &rows.assignments {
            let (role, person) = (held.role.to_string(), held.person.to_string());
            let until = held.until.map(|until| until.micros().to_string());
            let fields = [Some(role.as_str()), Some(&person), until.as_deref()];
            levels
                .entry(held.vo)
                .or_default()
                .add("assignment", held.id, &fields);
        }
        for grant in &rows.grants {
            let role = grant.role.to_string();
            let fields = [role.as_str(), &grant.tool, &grant.task, grant.condition.as_str()].map(Some);
            levels
                .entry(grant.vo)
                .or_default()
                .add("grant", grant.id, &fields);
        }
        for upstream in &rows.upstreams {
            let (ca, expected) = match &upstream.address {
                UpstreamAddress::Tls { ca, name, .. } => (ca.as_deref(), name.as_deref()),
                UpstreamAddress::Tcp(..) | UpstreamAddress::Unix(_) => (None, None),
            };
            let http2 = if upstream.http2 { "http/2" } else { "http/1.1" };
            let version = upstream.version.to_string();
            let fields = [
                Some(upstream.name.as_str()),
                Some(&upstream.url),
                ca,
                expected,
                Some(http2),
                Some(&version),
            ];
            let level = levels.entry(upstream.vo).or_default();
            level.add("upstream", upstream.id, &fields);
        }
        for ceiling in &rows.ceilings {
            let (scope, name) = ceiling.scope.parts();
            // Lists of texts always serialise.
            let kinds = serde_json::to_string(&ceiling.kinds).unwrap_or_default();
            let tasks = serde_json::to_string(&ceiling.tasks).unwrap_or_default();
            let fields = [scope, name, kinds.as_str(), tasks.as_str()].map(Some);
            let level = levels.entry(ceiling.vo).or_default();
            level.add("ceiling", ceiling.id, &fields);
        }
        for tool in &self.tools {
            let version = tool.version.to_string();
            let fields = [tool.name.as_str(), &version, &tool.manifest].map(Some);
            levels.entry(tool.vo).or_default().add("tool", tool.id, &fields);
        }
        // Rows of a VO that has ended decide nothing.
        let living: BTreeSet<VoId> = rows.vos.iter().map(|vo| vo.id).collect();
        levels.retain(|vo, _| living.contains(vo));
        levels
    }

    /// Accounts count in every level that they belong to: whoever changes one changes all of these.
    fn add_people(&self, levels: &mut BTreeMap<VoId, Level>) {
        for (person, belongs) in self.belonging() {
            if person.state == PersonState::Ended {
                continue;
            }
            let (home, state) = (person.home.to_string(), person.state.as_str());
            let until = person.until.map(|until| until.micros().to_string());
            let mut fields = [person.username.as_str(), &home, state].map(Some).to_vec();
            // Only where there is one: accounts that never end have the digests that they always had.
            fields.extend(until.as_deref().map(Some));
            for vo in belongs {
                levels.entry(vo).or_default().add("person", person.id, &fields);
            }
        }
    }

    /// Every account with the levels that it belongs to: its home, and where it is a member or holds a role. One that belongs
    /// to no living VO is the gateway's.
    pub(super) fn belonging(&self) -> Vec<(&Person, BTreeSet<VoId>)> {
        let living: HashSet<VoId> = self.rows.vos.iter().map(|vo| vo.id).collect();
        let mut bound: HashMap<PersonId, BTreeSet<VoId>> = HashMap::new();
        for membership in &self.rows.memberships {
            bound.entry(membership.person).or_default().insert(membership.vo);
        }
        for held in &self.rows.assignments {
            bound.entry(held.person).or_default().insert(held.vo);
        }
        let of = |person: &'_ Person| {
            let mut belongs = bound.get(&person.id).cloned().unwrap_or_default();
            belongs.insert(person.home);
            belongs.retain(|vo| living.contains(vo));
            if belongs.is_empty() {
                belongs.insert(Directory::gateway());
            }
            belongs
        };
        self.rows
            .people
            .iter()
            .map(|person| (person, of(person)))
            .collect()
    }

    /// A user name that two accounts have.
    pub(super) fn twice_named(&self) -> bool {
        let mut names = HashSet::new();
        let people = self.rows.people.iter();
        people
            .filter(|person| person.state != PersonState::Ended)
            .any(|person| !names.insert(&person.username))
    }

    /// What a line stands for, in words and ids: never a name of a person.
    pub(super) fn describe(&self, kind: &str, id: &str) -> Option<String> {
        let rows = &self.rows;
        let role_named = |role| {
            let role = rows.roles.iter().find(|known| known.id == role)?;
            Some(role.name.as_str())
        };
        match kind {
            "role" => {
                let role = rows.roles.iter().find(|role| role.id.to_string() == id)?;
                Some(role.name.clone())
            }
            "assignment" => {
                let held = rows.assignments.iter().find(|held| held.id.to_string() == id)?;
                let role = role_named(held.role).unwrap_or("unknown");
                Some(format!("role {role}, person {}", held.person))
            }
            "membership" => {
                let membership = rows
                    .memberships
                    .iter()
                    .find(|member| member.id.to_string() == id)?;
                Some(format!("person {}", membership.person))
            }
            "grant" => {
                let grant = rows.grants.iter().find(|grant| grant.id.to_string() == id)?;
                let role = role_named(grant.role).unwrap_or("unknown");
                Some(format!("role {role}, tool {}, task {}", grant.tool, grant.task))
            }
            "upstream" => {
                let upstream = rows.upstreams.iter().find(|known| known.id.to_string() == id)?;
                Some(upstream.name.clone())
            }
            "ceiling" => {
                let ceiling = rows.ceilings.iter().find(|known| known.id.to_string() == id)?;
                Some(format!("over {}: {}", ceiling.scope, ceiling.allows()))
            }
            "tool" => {
                let tool = self.tools.iter().find(|tool| tool.id.to_string() == id)?;
                Some(format!("{}, version {}", tool.name, tool.version))
            }
            "vo" => {
                let vo = rows.vos.iter().find(|vo| vo.id.to_string() == id)?;
                Some(format!("{}, version {}", vo.name, vo.version))
            }
            _ => None,
        }
    }
}
