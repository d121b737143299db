//! The in-memory snapshot that decisions are made from.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::Ceiling;
use crate::clock::Timestamp;
use crate::id::{AssignmentId, GrantId, MembershipId, PersonId, RoleId, UpstreamId, VoId};
use crate::problem::Kind;
use crate::record::Hash;

/// State of a person's account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PersonState {
    /// May sign in.
    Active,
    /// May do nothing until an administrator says otherwise.
    Suspended,
    /// Asked for, and not decided yet.
    Pending,
    /// Asked for, and refused.
    Rejected,
    /// Its time is over.
    Expired,
    /// Gone; kept for tracing.
    Ended,
}

impl PersonState {
    /// Why somebody in this state is let in nowhere; `None` for the one that is.
    ///
    /// SECURITY: the only place that says which states open anything.
    #[must_use]
    pub const fn refusal(self) -> Option<Kind> {
        match self {
            Self::Active => None,
            Self::Suspended => Some(Kind::Suspended),
            Self::Pending => Some(Kind::AccountPending),
            Self::Rejected => Some(Kind::AccountRejected),
            Self::Expired => Some(Kind::AccountExpired),
            Self::Ended => Some(Kind::AccountDeleted),
        }
    }

    /// The name in answers and records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Pending => "pending",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Ended => "deleted",
        }
    }
}

/// A person with an account. Name and mail are in her card, in the store, not here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// Opaque id.
    pub id: PersonId,
    /// The name she signs in with.
    pub username: String,
    /// Her account's home: only its administrators reset it (the gateway's id for the gateway itself).
    pub home: VoId,
    /// Account state, as it is stored; [`Person::standing`] is what it is at a moment.
    pub state: PersonState,
    /// When the account expires by itself.
    pub until: Option<Timestamp>,
    /// Hash of her present card.
    pub card: Hash,
    /// Version of the row.
    pub version: i64,
}

impl Person {
    /// The state of the account at `now`: it expires at its second, whether that was written down yet or not.
    #[must_use]
    pub fn standing(&self, now: Timestamp) -> PersonState {
        match (self.state, self.until) {
            (PersonState::Active, Some(until)) if now >= until => PersonState::Expired,
            (state, _) => state,
        }
    }
}

/// State of a VO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoState {
    /// Open.
    Active,
    /// Nothing is allowed in it.
    Suspended,
    /// The store holds something else than the log says, and what was in force before is not known: nothing is allowed in
    /// it (of the gateway's own level, nothing that needs a role). Never in the store.
    InDoubt,
}

/// A virtual organisation, or the gateway level itself ([`Directory::gateway`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vo {
    /// Id; the nil UUID is the gateway.
    pub id: VoId,
    /// Name.
    pub name: String,
    /// State.
    pub state: VoState,
    /// Version of its authorisation state; every change of roles, grants, members or tools raises it.
    pub version: i64,
}

/// A membership of a person in a VO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// Id.
    pub id: MembershipId,
    /// VO.
    pub vo: VoId,
    /// Person.
    pub person: PersonId,
}

/// A role of a VO (or of the gateway).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// Id.
    pub id: RoleId,
    /// VO.
    pub vo: VoId,
    /// Name.
    pub name: String,
}

/// A person's hold on a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Id.
    pub id: AssignmentId,
    /// VO.
    pub vo: VoId,
    /// Role.
    pub role: RoleId,
    /// Person.
    pub person: PersonId,
    /// When it ends by itself.
    pub until: Option<Timestamp>,
}

/// Under which condition a grant holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Condition {
    /// Always.
    Always,
    /// Only on the subject's own resources.
    Own,
    /// A Cedar expression over `principal`, `resource` and `context`.
    Cedar(String),
}

impl Condition {
    /// How it is written: `always`, `own`, or the expression.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Always => "always",
            Self::Own => "own",
            Self::Cedar(expression) => expression,
        }
    }

    /// Reads what [`Condition::as_str`] wrote.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text {
            "always" | "" => Self::Always,
            "own" => Self::Own,
            expression => Self::Cedar(expression.to_owned()),
        }
    }
}

/// A role's hold on a task of a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Id.
    pub id: GrantId,
    /// VO.
    pub vo: VoId,
    /// Role.
    pub role: RoleId,
    /// Tool name; `countersign` for the gateway's own tasks.
    pub tool: String,
    /// Task name.
    pub task: String,
    /// Condition.
    pub condition: Condition,
}

/// Where an upstream is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamAddress {
    /// Plain TCP: host and port.
    Tcp(String, u16),
    /// TLS: host and port; with the PEM of the authorities to trust (the system's when absent) and the name to expect.
    Tls {
        /// Host.
        host: String,
        /// Port.
        port: u16,
        /// PEM bundle of the authorities that may sign for it.
        ca: Option<String>,
        /// Name expected in its certificate, when it is not the host.
        name: Option<String>,
    },
    /// Unix socket.
    Unix(std::path::PathBuf),
}

/// An address that a system administrator gave to one VO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Id.
    pub id: UpstreamId,
    /// VO.
    pub vo: VoId,
    /// Name.
    pub name: String,
    /// Where it is.
    pub address: UpstreamAddress,
    /// The URL as registered (`http://`, `https://`, `unix:`).
    pub url: String,
    /// Whether loopback, link-local and private addresses are meant (they are when the URL itself names one).
    pub allow_local: bool,
    /// Whether it is spoken to in HTTP/2 (over TLS by ALPN, else with prior knowledge).
    pub http2: bool,
    /// Version of the row.
    pub version: i64,
}

impl UpstreamAddress {
    /// Whether it is spoken to over TLS.
    #[must_use]
    pub const fn is_tls(&self) -> bool {
        matches!(self, Self::Tls { .. })
    }
}

/// An immutable snapshot of people, VOs, roles, grants and upstreams.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    people: HashMap<PersonId, Arc<Person>>,
    usernames: HashMap<String, PersonId>,
    /// The newest of the accounts that had a name and ended.
    past_usernames: HashMap<String, PersonId>,
    vos: HashMap<VoId, Arc<Vo>>,
    vo_names: BTreeMap<String, VoId>,
    memberships: HashMap<(VoId, PersonId), Membership>,
    roles: HashMap<RoleId, Arc<Role>>,
    assignments: HashMap<(VoId, PersonId), Vec<Assignment>>,
    grants: HashMap<(VoId, String, String), Vec<Grant>>,
    upstreams: HashMap<(VoId, String), Arc<Upstream>>,
    ceilings: HashMap<VoId, Vec<Ceiling>>,
}

/// The rows a [`Directory`] is built from; only those that have not ended.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// People, the ended ones included (tracing needs their names).
    pub people: Vec<Person>,
    /// VOs, the gateway included.
    pub vos: Vec<Vo>,
    /// Memberships.
    pub memberships: Vec<Membership>,
    /// Roles.
    pub roles: Vec<Role>,
    /// Assignments.
    pub assignments: Vec<Assignment>,
    /// Grants.
    pub grants: Vec<Grant>,
    /// Upstreams.
    pub upstreams: Vec<Upstream>,
    /// Ceilings.
    pub ceilings: Vec<Ceiling>,
}

impl Directory {
    /// Id of the gateway level.
    #[must_use]
    pub fn gateway() -> VoId {
        VoId::from(uuid::Uuid::nil())
    }

    /// Builds a snapshot.
    #[must_use]
    pub fn build(rows: Rows) -> Self {
        let mut directory = Self::default();
        for person in rows.people {
            if person.state != PersonState::Ended {
                directory.usernames.insert(person.username.clone(), person.id);
            } else if !person.username.is_empty() {
                let newest = directory.past_usernames.entry(person.username.clone());
                let newest = newest.or_insert(person.id);
                *newest = person.id.max(*newest);
            }
            directory.people.insert(person.id, Arc::new(person));
        }
        for vo in rows.vos {
            directory.vo_names.insert(vo.name.clone(), vo.id);
            directory.vos.insert(vo.id, Arc::new(vo));
        }
        for membership in rows.memberships {
            directory
                .memberships
                .insert((membership.vo, membership.person), membership);
        }
        for role in rows.roles {
            directory.roles.insert(role.id, Arc::new(role));
        }
        for assignment in rows.assignments {
            directory
                .assignments
                .entry((assignment.vo, assignment.person))
                .or_default()
                .push(assignment);
        }
        for grant in rows.grants {
            let key = (grant.vo, grant.tool.clone(), grant.task.clone());
            directory.grants.entry(key).or_default().push(grant);
        }
        for upstream in rows.upstreams {
            directory
                .upstreams
                .insert((upstream.vo, upstream.name.clone()), Arc::new(upstream));
        }
        for ceiling in rows.ceilings {
            directory.ceilings.entry(ceiling.vo).or_default().push(ceiling);
        }
        directory
    }

    /// A person by id, whatever her state.
    #[must_use]
    pub fn person(&self, id: PersonId) -> Option<&Arc<Person>> {
        self.people.get(&id)
    }

    /// A person by user name; not those whose account has ended.
    #[must_use]
    pub fn person_named(&self, username: &str) -> Option<&Arc<Person>> {
        self.usernames.get(username).and_then(|id| self.people.get(id))
    }

    /// The last person who had this user name and whose account has ended, where nobody has it now.
    #[must_use]
    pub fn person_once_named(&self, username: &str) -> Option<&Arc<Person>> {
        if self.usernames.contains_key(username) {
            return None;
        }
        self.past_usernames
            .get(username)
            .and_then(|id| self.people.get(id))
    }

    /// All people.
    pub fn people(&self) -> impl Iterator<Item = &Arc<Person>> {
        self.people.values()
    }

    /// A VO by id.
    #[must_use]
    pub fn vo(&self, id: VoId) -> Option<&Arc<Vo>> {
        self.vos.get(&id)
    }

    /// A VO by name (never the gateway level).
    #[must_use]
    pub fn vo_named(&self, name: &str) -> Option<&Arc<Vo>> {
        self.vo_names
            .get(name)
            .filter(|id| **id != Self::gateway())
            .and_then(|id| self.vos.get(id))
    }

    /// All VOs by name, without the gateway level.
    pub fn all_vos(&self) -> impl Iterator<Item = &Arc<Vo>> {
        self.vo_names
            .values()
            .filter(|id| **id != Self::gateway())
            .filter_map(|id| self.vos.get(id))
    }

    /// Whether the person is a member of the VO now.
    #[must_use]
    pub fn is_member(&self, vo: VoId, person: PersonId) -> bool {
        self.memberships.contains_key(&(vo, person))
    }

    /// A membership.
    #[must_use]
    pub fn membership(&self, vo: VoId, person: PersonId) -> Option<&Membership> {
        self.memberships.get(&(vo, person))
    }

    /// All members of a VO.
    pub fn members(&self, vo: VoId) -> impl Iterator<Item = &Membership> {
        self.memberships
            .values()
            .filter(move |membership| membership.vo == vo)
    }

    /// The VOs that a person is a member of.
    pub fn vos_of(&self, person: PersonId) -> impl Iterator<Item = VoId> {
        self.memberships
            .values()
            .filter(move |membership| membership.person == person)
            .map(|m| m.vo)
    }

    /// A role by id.
    #[must_use]
    pub fn role(&self, id: RoleId) -> Option<&Arc<Role>> {
        self.roles.get(&id)
    }

    /// A role of a VO by name.
    #[must_use]
    pub fn role_named(&self, vo: VoId, name: &str) -> Option<&Arc<Role>> {
        self.roles
            .values()
            .find(|role| role.vo == vo && role.name == name)
    }

    /// All roles of a VO.
    pub fn roles_of_vo(&self, vo: VoId) -> impl Iterator<Item = &Arc<Role>> {
        self.roles.values().filter(move |role| role.vo == vo)
    }

    /// The person's assignments in a VO (or at the gateway's level) that hold at `now`.
    pub fn assignments(
        &self,
        vo: VoId,
        person: PersonId,
        now: Timestamp,
    ) -> impl Iterator<Item = &Assignment> {
        self.assignments
            .get(&(vo, person))
            .into_iter()
            .flatten()
            .filter(move |assignment| assignment.until.is_none_or(|until| now < until))
    }

    /// All assignments of a VO.
    pub fn assignments_of_vo(&self, vo: VoId) -> impl Iterator<Item = &Assignment> {
        self.assignments
            .values()
            .flatten()
            .filter(move |assignment| assignment.vo == vo)
    }

    /// Everyone who holds the named role of a VO at `now`.
    #[must_use]
    pub fn holders(&self, vo: VoId, role: &str, now: Timestamp) -> Vec<PersonId> {
        let Some(role) = self.role_named(vo, role) else {
            return Vec::new();
        };
        let mut holders: Vec<PersonId> = self
            .assignments_of_vo(vo)
            .filter(|held| held.role == role.id && held.until.is_none_or(|until| now < until))
            .map(|held| held.person)
            .collect();
        holders.sort_unstable();
        holders.dedup();
        holders
    }

    /// The grants of one task of a tool in a VO.
    #[must_use]
    pub fn grants(&self, vo: VoId, tool: &str, task: &str) -> &[Grant] {
        self.grants
            .get(&(vo, tool.to_owned(), task.to_owned()))
            .map_or(&[], Vec::as_slice)
    }

    /// All grants of a VO.
    pub fn grants_of_vo(&self, vo: VoId) -> impl Iterator<Item = &Grant> {
        self.grants.values().flatten().filter(move |grant| grant.vo == vo)
    }

    /// An upstream of a VO by name.
    #[must_use]
    pub fn upstream(&self, vo: VoId, name: &str) -> Option<&Arc<Upstream>> {
        self.upstreams.get(&(vo, name.to_owned()))
    }

    /// What a VO may grant at all: a task has to be within each of these that is over its tool.
    #[must_use]
    pub fn ceilings(&self, vo: VoId) -> &[Ceiling] {
        self.ceilings.get(&vo).map_or(&[], Vec::as_slice)
    }

    /// All upstreams of a VO.
    pub fn upstreams_of_vo(&self, vo: VoId) -> impl Iterator<Item = &Arc<Upstream>> {
        self.upstreams.values().filter(move |upstream| upstream.vo == vo)
    }
}

/// The current [`Directory`], shared by everyone and swapped by whoever changes it.
#[derive(Clone, Debug, Default)]
pub struct DirectoryHandle(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    present: ArcSwap<Directory>,
    swapped: watch::Sender<()>,
}

impl DirectoryHandle {
    /// A handle on `directory`.
    #[must_use]
    pub fn new(directory: Directory) -> Self {
        Self(Arc::new(Shared {
            present: ArcSwap::from_pointee(directory),
            swapped: watch::Sender::default(),
        }))
    }

    /// The snapshot of this moment.
    #[must_use]
    pub fn load(&self) -> Arc<Directory> {
        self.0.present.load_full()
    }

    /// Puts a newer snapshot in place.
    pub fn swap(&self, directory: Directory) {
        self.0.present.store(Arc::new(directory));
        self.0.swapped.send_replace(());
    }

    /// Tells of every snapshot that is put in place from now on.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.0.swapped.subscribe()
    }
}
