//! The entities of one request: the subject with all her roles, the VO, and the chain of the resource.
//!
//! There is no global store of entities. The subject's part is prepared once and kept for as long as the versions it
//! was made from, and until the first of her roles ends; the resource's part is made for each request.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU64, Ordering};

use cedar_policy::{Context, Entities, Entity, EntityUid, RestrictedExpression};

use super::bucket::{Bucket, Rule};
use super::schema::{TYPES, declared, uid};
use crate::authenticate::{Source, Subject, Who};
use crate::clock::Timestamp;
use crate::id::{AssignmentId, MembershipId, PersonId, RoleId};
use crate::resource::Resource;
use crate::tool::Assurance;
use crate::tool::Tool;
use crate::vo::{Directory, Person, PersonState, Vo, VoState};

/// A role that the subject holds, with the rules that she holds through it.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) role: RoleId,
    pub(super) name: String,
    pub(super) assignment: AssignmentId,
}

/// The subject's part of a slice.
#[derive(Debug)]
pub(super) struct Prepared {
    /// Different for every subject that was ever prepared, so that a permit that is kept for one is never another's.
    pub(super) number: u64,
    pub(super) principal: EntityUid,
    pub(super) entities: Entities,
    pub(super) held: Vec<Held>,
    pub(super) person: Option<PersonId>,
    pub(super) membership: Option<MembershipId>,
    /// When the first of the roles ends by itself.
    pub(super) until: Option<Timestamp>,
}

/// What is prepared for one subject holds only for this.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct PreparedKey {
    pub(super) bucket: u64,
    pub(super) person: Option<(PersonId, i64)>,
    pub(super) membership: Option<MembershipId>,
    pub(super) vo_active: bool,
}

impl Prepared {
    /// Prepares the subject's part. `person` is her row of this moment.
    ///
    /// # Errors
    /// A sentence when Cedar does not take the entities.
    pub(super) fn new(
        directory: &Directory,
        level: &Vo,
        bucket: &Bucket,
        subject: &Subject,
        now: Timestamp,
    ) -> Result<Self, String> {
        let person = subject.as_person().and_then(|person| directory.person(person.id));
        let (held, until) = match person {
            Some(person) => roles_of(directory, level, person.id, now),
            None => (Vec::new(), None),
        };
        let principal = match (subject.who(), person) {
            (_, Some(person)) => person_uid(person.id),
            (Who::Service(name), _) => uid(&TYPES.service, name),
            (Who::Anonymous | Who::Person(_), None) => uid(&TYPES.anonymous, "anonymous"),
        };
        let mut entities = places(directory, level)?;
        entities.push(subject_entity(
            directory,
            subject,
            person.map(AsRef::as_ref),
            &principal,
            &held,
        )?);
        entities.extend(role_entities(directory, bucket, &held));
        let entities = Entities::from_entities(entities, None).map_err(|e| e.to_string())?;
        Ok(Self {
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            principal,
            entities,
            held,
            person: person.map(|person| person.id),
            membership: person
                .and_then(|person| directory.membership(level.id, person.id))
                .map(|m| m.id),
            until,
        })
    }

    /// The roles through which the subject holds `rule`.
    pub(super) fn through<'a>(&'a self, rule: &'a Rule) -> impl Iterator<Item = &'a Held> {
        self.held
            .iter()
            .filter(|held| rule.holders.contains_key(&held.role))
    }
}

static NUMBER: AtomicU64 = AtomicU64::new(1);

/// The roles that a person holds at `now` in the VO of the request and at the gateway's level, and when the first ends.
pub(super) fn roles_of(
    directory: &Directory,
    level: &Vo,
    person: PersonId,
    now: Timestamp,
) -> (Vec<Held>, Option<Timestamp>) {
    let gateway = Directory::gateway();
    // SECURITY: who is not a member of a VO holds none of its roles, whatever assignments are left.
    let here = (level.id != gateway && directory.is_member(level.id, person)).then_some(level.id);
    let mut until: Option<Timestamp> = None;
    let mut held = Vec::new();
    for vo in here.into_iter().chain([gateway]) {
        for assignment in directory.assignments(vo, person, now) {
            let Some(role) = directory.role(assignment.role).filter(|role| role.vo == vo) else {
                continue;
            };
            until = match (until, assignment.until) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            held.push(Held {
                role: role.id,
                name: role.name.clone(),
                assignment: assignment.id,
            });
        }
    }
    (held, until)
}

fn places(directory: &Directory, level: &Vo) -> Result<Vec<Entity>, String> {
    let gateway = uid(&TYPES.gateway, crate::vo::GATEWAY);
    let attributes = HashMap::from([
        ("name".into(), text(&level.name)),
        ("active".into(), flag(is_active(directory, level))),
    ]);
    let vo = Entity::new(vo_uid(level), attributes, HashSet::from([gateway.clone()]))
        .map_err(|e| e.to_string())?;
    Ok(vec![Entity::with_uid(gateway), vo])
}

/// Whether a VO, and the gateway above it, is open.
pub(super) fn is_active(directory: &Directory, level: &Vo) -> bool {
    let gateway = directory.vo(Directory::gateway());
    // A gateway's own level in doubt has no roles, which closes all that needs one; the VOs, and signing in, go on.
    let own = level.id == Directory::gateway() && level.state == VoState::InDoubt;
    (level.state == VoState::Active || own)
        && gateway.is_none_or(|gateway| gateway.state != VoState::Suspended)
}

fn subject_entity(
    directory: &Directory,
    subject: &Subject,
    person: Option<&Person>,
    principal: &EntityUid,
    held: &[Held],
) -> Result<Entity, String> {
    match (person, subject.who()) {
        (Some(person), _) => person_entity(directory, person, held),
        (None, Who::Service(_)) => {
            let attributes = HashMap::from([("active".into(), flag(true))]);
            Entity::new(principal.clone(), attributes, HashSet::new()).map_err(|e| e.to_string())
        }
        (None, _) => Ok(Entity::with_uid(principal.clone())),
    }
}

fn person_entity(directory: &Directory, person: &Person, held: &[Held]) -> Result<Entity, String> {
    let home = directory.vo(person.home).map_or("", |vo| vo.name.as_str());
    let attributes = HashMap::from([
        ("active".into(), flag(person.state == PersonState::Active)),
        ("home".into(), text(home)),
    ]);
    let roles = held.iter().map(|held| role_uid(directory, held)).collect();
    Entity::new(person_uid(person.id), attributes, roles).map_err(|e| e.to_string())
}

/// The subject's roles as children of the grants that name them.
fn role_entities(directory: &Directory, bucket: &Bucket, held: &[Held]) -> Vec<Entity> {
    let entities = held.iter().map(|held| {
        let rules = bucket
            .rules
            .iter()
            .filter(|rule| rule.holders.contains_key(&held.role));
        let mut grants: HashSet<EntityUid> = rules.map(|rule| rule.grant.clone()).collect();
        if let Some(list) = bucket.list.as_ref().filter(|_| !grants.is_empty()) {
            grants.insert(list.clone());
        }
        Entity::new_no_attrs(role_uid(directory, held), grants)
    });
    entities.collect()
}

/// The slice of one request: the subject's part, and the resource with its parents.
///
/// Gives the entity that the task acts on as well: the first of the chain, or the VO when there is none.
///
/// # Errors
/// A sentence when Cedar does not take the entities.
pub(super) fn slice(
    prepared: &Prepared,
    scene: Scene<'_>,
    chain: &[Resource],
) -> Result<(EntityUid, Entities), String> {
    let Some(first) = chain.first() else {
        return Ok((vo_uid(scene.level), prepared.entities.clone()));
    };
    let vo = vo_uid(scene.level);
    let mut entities = Vec::with_capacity(chain.len() + 1);
    let mut seen = HashSet::new();
    for (index, resource) in chain.iter().enumerate() {
        let own = resource_uid(resource);
        // A parent that is its own ancestor would be a cycle, which Cedar refuses; the nearest one counts.
        if !seen.insert(own.clone()) {
            continue;
        }
        let parent = chain
            .get(index + 1)
            .map(resource_uid)
            .filter(|p| !seen.contains(p));
        let parents = parent.into_iter().chain([vo.clone()]).collect();
        let attributes = attributes_of(resource, scene, &vo);
        entities.push(Entity::new(own, attributes, parents).map_err(|e| e.to_string())?);
    }
    if scene.has_expressions {
        entities.extend(owners(prepared, scene, chain)?);
    }
    let slice = prepared
        .entities
        .clone()
        .add_entities(entities, None)
        .map_err(|e| e.to_string())?;
    Ok((resource_uid(first), slice))
}

/// What a slice is made for.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) directory: &'a Directory,
    pub(super) level: &'a Vo,
    pub(super) tool: &'a Tool,
    pub(super) has_expressions: bool,
    pub(super) now: Timestamp,
}

/// The owners of a chain with all their roles, for expressions that look at them.
///
/// SECURITY: an entity or a membership that is missing makes `!(... in ...)` true, so owners come whole or not at all.
fn owners(prepared: &Prepared, scene: Scene<'_>, chain: &[Resource]) -> Result<Vec<Entity>, String> {
    let owners: HashSet<PersonId> = chain.iter().filter_map(|resource| resource.owner).collect();
    let mut entities = HashMap::new();
    for owner in owners.into_iter().filter(|owner| prepared.person != Some(*owner)) {
        let Some(person) = scene.directory.person(owner) else {
            continue;
        };
        let (held, _) = roles_of(scene.directory, scene.level, owner, scene.now);
        let entity = person_entity(scene.directory, person, &held)?;
        entities.insert(entity.uid(), entity);
    }
    Ok(entities.into_values().collect())
}

fn attributes_of(
    resource: &Resource,
    scene: Scene<'_>,
    vo: &EntityUid,
) -> HashMap<String, RestrictedExpression> {
    let mut attributes = HashMap::from([
        ("vo".into(), RestrictedExpression::new_entity_uid(vo.clone())),
        ("kind".into(), text(&resource.kind)),
        ("id".into(), text(&resource.id)),
    ]);
    // INVARIANT: an owner that no longer is a row of the directory is left out, so that a slice holds every entity
    // that its attributes name.
    if let Some(owner) = resource
        .owner
        .filter(|owner| scene.directory.person(*owner).is_some())
    {
        attributes.insert(
            "owner".into(),
            RestrictedExpression::new_entity_uid(person_uid(owner)),
        );
    }
    if is_account(scene.tool, &resource.kind) {
        if let Some(home) = resource.attributes.get("home") {
            attributes.insert("home".into(), text(home));
        }
        if let Some(elsewhere) = resource.attributes.get("elsewhere") {
            attributes.insert("elsewhere".into(), flag(elsewhere != "false"));
        }
        return attributes;
    }
    for name in declared(scene.tool) {
        if let Some(value) = resource.attributes.get(name) {
            attributes.insert(name.to_owned(), text(value));
        }
    }
    attributes
}

/// Whether a resource of this type is a person's account: `person`, of the gateway's own tool.
pub(super) fn is_account(tool: &Tool, kind: &str) -> bool {
    tool.name == crate::vo::OWN_TOOL && kind == "person"
}

/// What the core rules read in the context of every request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stands {
    /// Whether the VO and the gateway are open.
    pub(super) vo_active: bool,
    /// Whether the VO may grant the task at all.
    pub(super) within_ceiling: bool,
}

impl Stands {
    fn pairs(self) -> [(String, RestrictedExpression); 2] {
        [
            ("vo_active".into(), flag(self.vo_active)),
            ("within_ceiling".into(), flag(self.within_ceiling)),
        ]
    }
}

/// The context of a request that only the shipped policies look at. Reading a time and an address in Cedar costs more
/// than the decision, and no shipped policy asks for them: one that did would fail, which denies.
///
/// # Errors
/// A sentence when Cedar does not take it.
pub(super) fn short_context(stands: Stands) -> Result<Context, String> {
    Context::from_pairs(stands.pairs()).map_err(|e| e.to_string())
}

/// The context of a request, with all that a VO's own expression may look at; `raised` as it were with a second factor.
///
/// # Errors
/// A sentence when Cedar does not take it.
pub(super) fn context(
    subject: &Subject,
    stands: Stands,
    now: Timestamp,
    raised: bool,
) -> Result<Context, String> {
    let session = subject.session();
    let mut methods: Vec<&str> = session
        .map(|session| session.methods.iter().map(String::as_str).collect())
        .unwrap_or_default();
    let mut acr = session.map_or("", |session| session.acr.as_str());
    if raised {
        methods.extend(["otp", "mfa"]);
        acr = Assurance::Aal2.as_str();
    }
    let held = RestrictedExpression::new_record([
        ("acr".to_owned(), text(acr)),
        (
            "amr".to_owned(),
            RestrictedExpression::new_set(methods.iter().map(|method| text(method))),
        ),
    ])
    .map_err(|error| error.to_string())?;
    let ip = match subject.source() {
        Source::Ip(ip) => ip,
        Source::Local => IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    let asked = [
        ("now".into(), RestrictedExpression::new_datetime(cedar_time(now))),
        (
            "mfa".into(),
            flag(methods.iter().any(|method| SECOND_FACTORS.contains(method))),
        ),
        ("session".into(), held),
        ("source".into(), RestrictedExpression::new_ip(ip.to_string())),
    ];
    Context::from_pairs(asked.into_iter().chain(stands.pairs())).map_err(|e| e.to_string())
}

/// Methods that stand for a second factor (RFC 8176 section 2).
const SECOND_FACTORS: &[&str] = &["mfa", "otp", "hwk", "swk"];

/// A moment as Cedar reads it: RFC 3339 with exactly three digits of fraction; years 0 to 9999.
fn cedar_time(at: Timestamp) -> String {
    let at = at.to_offset();
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        at.year().clamp(0, 9_999),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second(),
        at.millisecond()
    )
}

fn vo_uid(level: &Vo) -> EntityUid {
    uid(&TYPES.vo, &level.name)
}

fn person_uid(person: PersonId) -> EntityUid {
    uid(&TYPES.person, &person.to_string())
}

fn role_uid(directory: &Directory, held: &Held) -> EntityUid {
    let vo = directory.role(held.role).and_then(|role| directory.vo(role.vo));
    let vo = vo.map_or(crate::vo::GATEWAY, |vo| vo.name.as_str());
    uid(&TYPES.role, &format!("{vo}/{}", held.name))
}

fn resource_uid(resource: &Resource) -> EntityUid {
    uid(&TYPES.resource, &format!("{}/{}", resource.kind, resource.id))
}

fn text(value: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(value.to_owned())
}

fn flag(value: bool) -> RestrictedExpression {
    RestrictedExpression::new_bool(value)
}
