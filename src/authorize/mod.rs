//! May they: from a subject and a place to a [`Permit`] or a [`Denial`].
//!
//! Nothing is allowed that no task names and no grant allows. Roles are sets of grants, a grant is a role's hold on a
//! task under a condition, and Cedar decides: for every (VO, tool, task) there is one prebuilt set of a few policies,
//! and for every request a small slice of entities (the subject with her roles, the VO, the resource with its parents).
//!
//! Promises: whatever fails, refuses. Any error of evaluation is a denial and is counted as an alarm; a set that does
//! not fit its schema never replaces a good one; every decision says which policies and which role led to it.
//!
//! | file | holds |
//! | --- | --- |
//! | `narrow.rs` | what a personal access token takes away |
//! | `standing.rs` | what needs no policy: strangers, suspended people, wrong VO, no task |
//! | `bucket.rs`, `schema.rs`, `condition.rs`, `attributes.rs` | the policies of one task, generated and checked |
//! | `ceiling.rs` | whether the VO may grant the task at all |
//! | `slice.rs` | the entities of one request |
//! | `ruling.rs` | Cedar's answer, and what it means |
//! | `denial.rs` | the words of a refusal |

mod attributes;
mod bucket;
mod ceiling;
mod condition;
mod denial;
mod narrow;
mod permit;
mod ruling;
mod schema;
mod slice;
mod standing;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::BoxFuture;
use moka::sync::Cache;

pub use bucket::PolicyFlaw;
pub use ceiling::{Outside, outside, pin};
pub use condition::{At, ConditionError};
pub use permit::{Denial, Permit};

use bucket::{Bucket, Spot};
use denial::Refusal;
use ruling::Ruling;
use slice::{Prepared, PreparedKey, is_account};
use standing::{Standing, gateway_level, is_own, level, standing};

use crate::authenticate::{Subject, Who};
use crate::clock::{Clock, Timestamp};
use crate::id::{PersonId, VoId};
use crate::problem::{AsProblem, Kind, Problem};
use crate::record::DecisionEntry;
use crate::resource::{Resource, Resources};
use crate::store::StoreError;
use crate::telemetry::Metrics;
use crate::tool::{Assurance, Audience, Place, ResourceRef, Task, Tool};
use crate::vo::{
    Condition, Directory, DirectoryHandle, OWN_TOOL, PersonState, SYSTEM_ADMINISTRATOR, VO_ADMINISTRATOR, Vo,
};

/// Where owners and parents are looked up.
pub trait Chains: Send + Sync + fmt::Debug {
    /// A resource, then its parents, nearest first; at least one element, also for what is not known.
    fn chain<'a>(
        &'a self,
        vo: VoId,
        tool: &'a str,
        resource: &'a ResourceRef,
    ) -> BoxFuture<'a, Result<Vec<Resource>, StoreError>>;

    /// The same for many ids of one type.
    fn chains<'a>(
        &'a self,
        vo: VoId,
        tool: &'a str,
        kind: &'a str,
        ids: &'a [String],
    ) -> BoxFuture<'a, Result<HashMap<String, Vec<Resource>>, StoreError>>;
}

impl Chains for Resources {
    fn chain<'a>(
        &'a self,
        vo: VoId,
        tool: &'a str,
        resource: &'a ResourceRef,
    ) -> BoxFuture<'a, Result<Vec<Resource>, StoreError>> {
        Box::pin(self.chain(vo, tool, resource))
    }

    fn chains<'a>(
        &'a self,
        vo: VoId,
        tool: &'a str,
        kind: &'a str,
        ids: &'a [String],
    ) -> BoxFuture<'a, Result<HashMap<String, Vec<Resource>>, StoreError>> {
        Box::pin(self.chains(vo, tool, kind, ids))
    }
}

/// A task that a subject may do, as far as her roles say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// Tool.
    pub tool: String,
    /// Task.
    pub task: String,
    /// Under which of these conditions; any of them is enough.
    pub conditions: Vec<Condition>,
    /// Through which roles; empty for tasks that are everyone's.
    pub roles: Vec<String>,
}

/// Decides.
#[derive(Clone)]
pub struct Authorize(Arc<Inner>);

struct Inner {
    directory: DirectoryHandle,
    chains: Arc<dyn Chains>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    buckets: Cache<(VoId, String, String), Arc<Bucket>>,
    prepared: Cache<PreparedKey, Arc<Prepared>>,
    given: ruling::Given,
    mfa_for_admin: AtomicBool,
}

impl fmt::Debug for Authorize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authorize(..)")
    }
}

/// Most buckets and prepared subjects kept in memory.
const KEPT: u64 = 20_000;

impl Authorize {
    /// Decides over `directory`, with owners and parents from `chains`.
    #[must_use]
    pub fn new(
        directory: DirectoryHandle,
        chains: Arc<dyn Chains>,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
    ) -> Self {
        Self(Arc::new(Inner {
            directory,
            chains,
            clock,
            metrics,
            buckets: Cache::new(KEPT),
            prepared: Cache::new(KEPT),
            given: Cache::new(KEPT),
            mfa_for_admin: AtomicBool::new(false),
        }))
    }

    /// Whether the subject may do what the place names.
    ///
    /// # Errors
    /// A [`Denial`], whose problem tells 401 (nobody known asks for something private), 403 and 503 (the store does
    /// not answer). It is to be recorded before it is answered.
    pub async fn decide(&self, subject: Subject, place: Place) -> Result<Permit, Box<Denial>> {
        let directory = self.0.directory.load();
        let now = self.0.clock.now();
        let standing = match standing(&directory, &subject, &place, now) {
            Ok(standing) => standing,
            Err(kind) => return Err(self.refuse_early(&directory, kind, subject, place)),
        };
        let chain: Arc<[Resource]> = match self.chain(&directory, &standing, now).await {
            Ok(chain) => chain.into(),
            Err(error) => return Err(failed(&standing, &error, subject.clone(), place.clone())),
        };
        let ruling = match self.judge(&directory, &standing, &subject, now) {
            Ok(judge) => self.ruled(judge, &standing, &subject, &place, &chain),
            Err(error) => Ruling::of_error(standing.level.version, error),
        };
        self.alarm_of(&standing, &ruling);
        // SECURITY: last, so that a token can only take away.
        let ruling = narrow::narrowed(ruling, &subject, &standing, &place);
        let found = standing.found.clone();
        match ruling.refused {
            None => Ok(Permit::new(subject, place, found, chain, ruling.entry)),
            Some((kind, reason)) => {
                let refusal = Refusal {
                    kind,
                    reason,
                    would_allow: &ruling.entry.would_allow,
                };
                let problem = denial::problem(&refusal, &subject, &place, &chain);
                Err(Box::new(Denial {
                    problem,
                    decision: ruling.entry,
                    subject,
                    place,
                    chain,
                }))
            }
        }
    }

    /// What the policies say, and then whether the session has the assurance that is asked for: by the task or its tool, by
    /// the settings, or by the condition of a grant.
    fn ruled(
        &self,
        judge: ruling::Judge<'_>,
        standing: &Standing<'_>,
        subject: &Subject,
        place: &Place,
        chain: &Arc<[Resource]>,
    ) -> Ruling {
        let ruling = judge.rule(place, chain);
        let session = match subject.who() {
            // Jobs of the gateway are the gateway.
            Who::Service(_) => return ruling,
            Who::Person(_) | Who::Anonymous => subject.session(),
        };
        let asked_for = self.asked_for(standing, place);
        let Some(session) = session else {
            // SECURITY: who shows nothing is below every level but the lowest, however the policies came to let her in.
            return match ruling.refused.is_none() && asked_for > Assurance::Aal1 {
                true => ruling.without_credential(),
                false => ruling,
            };
        };
        let short = match &ruling.refused {
            None => session.assurance() < asked_for,
            // Only the session stands in the way: she is told, as for a setting.
            Some((kind, reason))
                if matches!(kind, Kind::ConditionNotMet | Kind::NotOwner) && *reason == kind.name() =>
            {
                session.assurance() < Assurance::Aal2 && judge.would_allow_raised(chain)
            }
            Some(_) => false,
        };
        if short {
            ruling.short_of_assurance()
        } else {
            ruling
        }
    }

    /// The least assurance for the task of the place.
    fn asked_for(&self, standing: &Standing<'_>, place: &Place) -> Assurance {
        let (tool, task) = (standing.tool, &standing.found.task);
        let administers = is_own(place) && matches!(task.audience, Audience::Granted(_));
        let by_settings = match administers && self.0.mfa_for_admin.load(Ordering::Relaxed) {
            true => Assurance::Aal2,
            false => Assurance::Aal1,
        };
        tool.min_assurance.max(task.min_assurance).max(by_settings)
    }

    /// Asks for a second factor wherever somebody administers: for every task of the gateway's own that is not everybody's.
    #[must_use]
    pub fn requiring_mfa_for_admin(self, required: bool) -> Self {
        self.0.mfa_for_admin.store(required, Ordering::Relaxed);
        self
    }

    /// Which items of a list the subject of `permit` may see: one answer for each of `ids`, in their order.
    ///
    /// Every item is decided by itself, by the policies of the list's own task.
    ///
    /// # Errors
    /// The [`Problem`] to answer with when the owners cannot be looked up, or the list is not this task's.
    pub async fn visible(&self, permit: &Permit, kind: &str, ids: &[String]) -> Result<Vec<bool>, Problem> {
        let directory = self.0.directory.load();
        let now = self.0.clock.now();
        let place = permit.place();
        let fits = permit
            .found()
            .task
            .filter
            .as_ref()
            .is_some_and(|filter| filter.kind == kind);
        if !fits {
            let detail = format!("the task does not list things of the type `{kind}`");
            return Err(Problem::new(Kind::ToolAnswer, detail));
        }
        // SECURITY: who lost her standing since the permit sees nothing.
        let Ok(standing) = standing(&directory, permit.subject(), place, now) else {
            return Ok(vec![false; ids.len()]);
        };
        let chains = self
            .0
            .chains
            .chains(standing.level.id, &standing.tool.name, kind, ids)
            .await
            .map_err(|error| error.as_problem())?;
        let judge = self.judge(&directory, &standing, permit.subject(), now);
        Ok(ids
            .iter()
            .map(|id| match (&judge, chains.get(id)) {
                (Ok(judge), Some(chain)) if !chain.is_empty() => judge.allows_item(chain),
                _ => false,
            })
            .collect())
    }

    /// What the roles of `subject` allow in a VO (or at the gateway's level, for `None`), for "what may I do".
    ///
    /// `tools` are the VO's tools and the gateway's own. Conditions are not evaluated: they depend on the request.
    #[must_use]
    pub fn may(&self, subject: &Subject, vo: Option<VoId>, tools: &[Arc<Tool>]) -> Vec<Allowed> {
        let directory = self.0.directory.load();
        let Some(person) = subject.as_person() else {
            return Vec::new();
        };
        let now = self.0.clock.now();
        let tasks = tools
            .iter()
            .flat_map(|tool| tool.tasks.iter().map(move |task| (tool, task)));
        tasks
            .filter_map(|(tool, task)| {
                let place = listing_place(&directory, vo, tool, task)?;
                let standing = standing(&directory, subject, &place, now).ok()?;
                if !narrow::is_within(subject, &standing, &place) {
                    return None;
                }
                let bucket = self.bucket(spot(&directory, &standing)).ok()?;
                ruling::allowed(spot(&directory, &standing), &bucket, person.id, now)
            })
            .collect()
    }

    /// Checks the condition of a grant before it is stored: `always`, `own`, or a Cedar expression.
    ///
    /// # Errors
    /// [`ConditionError`], with the position where the text is not an expression.
    pub fn check_condition(
        &self,
        vo: VoId,
        tool: &Tool,
        task: &str,
        text: &str,
    ) -> Result<(), ConditionError> {
        let directory = self.0.directory.load();
        let no_task = || ConditionError::NoTask {
            tool: tool.name.clone(),
            task: task.to_owned(),
        };
        let task = tool.task(task).ok_or_else(no_task)?;
        let condition = Condition::parse(text);
        let text = match &condition {
            Condition::Always => return Ok(()),
            Condition::Own if task.resource.is_none() && task.filter.is_none() => {
                return Err(ConditionError::NothingToOwn(task.name.clone()));
            }
            Condition::Own => return Ok(()),
            Condition::Cedar(text) => text,
        };
        let grants = directory.grants(vo, &tool.name, &task.name);
        let mut others: Vec<&Condition> = grants.iter().map(|grant| &grant.condition).collect();
        others.sort_unstable();
        others.dedup();
        let room = bucket::MOST_POLICIES.saturating_sub(10);
        if others.len() >= room && !others.contains(&&condition) {
            return Err(ConditionError::TooMany(others.len()));
        }
        let level = directory
            .vo(vo)
            .cloned()
            .unwrap_or_else(|| gateway_level(&directory));
        let spot = Spot {
            directory: &directory,
            level: &level,
            tool,
            task,
        };
        bucket::check(spot, text)
    }

    /// Whether the VO may grant a task at all.
    ///
    /// # Errors
    /// [`Outside`], with the ceiling that forbids it.
    pub fn check_ceiling(&self, vo: VoId, tool: &Tool, task: &Task) -> Result<(), Box<Outside>> {
        match ceiling::outside(&self.0.directory.load(), vo, tool, task) {
            None => Ok(()),
            Some(outside) => Err(Box::new(outside)),
        }
    }

    /// Builds the buckets of a tool now, and says what does not fit. For a check before a tool or a grant goes live.
    #[must_use]
    pub fn flaws(&self, vo: VoId, tool: &Tool) -> Vec<PolicyFlaw> {
        let directory = self.0.directory.load();
        let Some(level) = directory.vo(vo) else {
            return Vec::new();
        };
        let built = tool.tasks.iter().map(|task| {
            let spot = Spot {
                directory: &directory,
                level,
                tool,
                task,
            };
            Bucket::build(spot).map_or_else(|flaw| vec![flaw], |bucket| bucket.flaws)
        });
        built.flatten().collect()
    }

    /// The resource of a request with its parents. Accounts come from the directory; other things of the gateway's own
    /// have no owner here.
    async fn chain(
        &self,
        directory: &Directory,
        standing: &Standing<'_>,
        now: Timestamp,
    ) -> Result<Vec<Resource>, StoreError> {
        let Some(resource) = &standing.found.resource else {
            return Ok(Vec::new());
        };
        let (level, tool) = (&standing.level, standing.tool);
        if is_account(tool, &resource.kind) {
            return Ok(vec![account(directory, level, resource, now)]);
        }
        if tool.name == OWN_TOOL {
            return Ok(vec![Resource::unknown(
                level.id,
                OWN_TOOL,
                &resource.kind,
                &resource.id,
            )]);
        }
        self.0.chains.chain(level.id, &tool.name, resource).await
    }

    /// The bucket of a spot: the one at hand when it is of this version, else a new one.
    fn bucket(&self, spot: Spot<'_>) -> Result<Arc<Bucket>, PolicyFlaw> {
        let key = (spot.level.id, spot.tool.name.clone(), spot.task.name.clone());
        let present = self.0.buckets.get(&key);
        if let Some(bucket) = present.as_ref().filter(|bucket| bucket.stamp == spot.stamp()) {
            return Ok(Arc::clone(bucket));
        }
        let good = present.filter(|bucket| bucket.sound && bucket.stamp.tool == spot.tool.id);
        let built = match Bucket::build(spot) {
            Ok(bucket) => bucket,
            Err(flaw) => {
                self.alarm(&flaw);
                return Err(flaw);
            }
        };
        for flaw in &built.flaws {
            self.alarm(flaw);
        }
        let bucket = Arc::new(match good {
            Some(good) if !built.flaws.is_empty() => good.kept(built),
            _ => built,
        });
        self.0.buckets.insert(key, Arc::clone(&bucket));
        Ok(bucket)
    }

    fn alarm(&self, flaw: &PolicyFlaw) {
        self.0.metrics.policy_error(&flaw.tool);
        tracing::error!(
            vo.name = flaw.vo,
            tool.name = flaw.tool,
            task.name = flaw.task,
            policy.id = flaw.policy,
            "a policy does not fit: {}",
            flaw.message
        );
    }

    fn alarm_of(&self, standing: &Standing<'_>, ruling: &Ruling) {
        if ruling.entry.errors.is_empty() {
            return;
        }
        self.0.metrics.policy_error(&standing.tool.name);
        tracing::error!(
            tool.name = standing.tool.name,
            task.name = standing.found.task.name,
            "a policy could not be evaluated, so the request was denied"
        );
    }

    /// Bucket, prepared subject and context: all that a decision needs beside the resource.
    fn judge<'a>(
        &'a self,
        directory: &'a Directory,
        standing: &'a Standing<'a>,
        subject: &'a Subject,
        now: Timestamp,
    ) -> Result<ruling::Judge<'a>, String> {
        let bucket = self
            .bucket(spot(directory, standing))
            .map_err(|flaw| flaw.message)?;
        let vo_active = slice::is_active(directory, &standing.level);
        let row = subject.as_person().and_then(|person| directory.person(person.id));
        let key = PreparedKey {
            bucket: bucket.number,
            person: row.map(|person| (person.id, person.version)),
            membership: row
                .and_then(|person| directory.membership(standing.level.id, person.id))
                .map(|membership| membership.id),
            vo_active,
        };
        let at_hand = self
            .0
            .prepared
            .get(&key)
            .filter(|prepared| prepared.until.is_none_or(|until| now < until));
        let prepared = match at_hand {
            Some(prepared) => prepared,
            None => {
                let prepared = Arc::new(Prepared::new(directory, &standing.level, &bucket, subject, now)?);
                // Jobs of the gateway have no row and need no cache.
                if row.is_some() || subject.is_anonymous() {
                    self.0.prepared.insert(key, Arc::clone(&prepared));
                }
                prepared
            }
        };
        Ok(ruling::Judge {
            directory,
            standing,
            subject,
            bucket,
            prepared,
            given: &self.0.given,
            vo_active,
            now,
            raised: false,
        })
    }

    fn refuse_early(&self, directory: &Directory, kind: Kind, subject: Subject, place: Place) -> Box<Denial> {
        let active = |person: &crate::vo::Person| {
            let state = directory.person(person.id).map(|person| person.state);
            state == Some(PersonState::Active)
        };
        let vo_is = subject.as_person().is_none_or(|person| active(person));
        let refusal = Refusal {
            kind,
            reason: match kind {
                Kind::Suspended if vo_is => denial::SUSPENDED_VO,
                Kind::Suspended => denial::SUSPENDED_PERSON,
                _ => kind.name(),
            },
            would_allow: &[],
        };
        let problem = denial::problem(&refusal, &subject, &place, &[]);
        let version = level(directory, &place).map_or(0, |level| level.version);
        let path = subject.as_person().map(|person| format!("person/{}", person.id));
        Box::new(Denial {
            problem,
            decision: Arc::new(DecisionEntry {
                permit: false,
                reason: kind.name().into(),
                path: path.into_iter().collect(),
                policy_version: version,
                ..DecisionEntry::default()
            }),
            subject,
            place,
            chain: Arc::default(),
        })
    }
}

fn spot<'a>(directory: &'a Directory, standing: &'a Standing<'a>) -> Spot<'a> {
    Spot {
        directory,
        level: &standing.level,
        tool: standing.tool,
        task: &standing.found.task,
    }
}

/// A denial because the owners cannot be looked up.
fn failed(standing: &Standing<'_>, error: &StoreError, subject: Subject, place: Place) -> Box<Denial> {
    let problem = error.as_problem();
    Box::new(Denial {
        decision: Arc::new(DecisionEntry {
            permit: false,
            reason: problem.kind.name().into(),
            policy_version: standing.level.version,
            ..DecisionEntry::default()
        }),
        problem,
        subject,
        place,
        chain: Arc::default(),
    })
}

/// A person's account as a resource: her own, with its home, and whether she administers something outside it.
fn account(directory: &Directory, level: &Vo, resource: &ResourceRef, now: Timestamp) -> Resource {
    let mut account = Resource::unknown(level.id, OWN_TOOL, &resource.kind, &resource.id);
    let by_id = resource.id.parse::<PersonId>().ok();
    let person = by_id
        .and_then(|id| directory.person(id))
        .or_else(|| directory.person_named(&resource.id));
    let Some(person) = person else {
        return account;
    };
    account.owner = Some(person.id);
    if let Some(home) = directory.vo(person.home) {
        account.attributes.insert("home".into(), home.name.clone());
    } else if person.home == Directory::gateway() {
        account
            .attributes
            .insert("home".into(), crate::vo::GATEWAY.into());
    }
    let elsewhere = administers_elsewhere(directory, person.id, person.home, now);
    account
        .attributes
        .insert("elsewhere".into(), elsewhere.to_string());
    account
}

/// Whether the person holds an administrative role outside her home: a shipped one, or one with a grant on the
/// gateway's own tasks.
fn administers_elsewhere(directory: &Directory, person: PersonId, home: VoId, now: Timestamp) -> bool {
    let places = directory.all_vos().map(|vo| vo.id).chain([Directory::gateway()]);
    places.filter(|vo| *vo != home).any(|vo| {
        directory.assignments(vo, person, now).any(|assignment| {
            let name = directory.role(assignment.role).map(|role| role.name.as_str());
            matches!(name, Some(SYSTEM_ADMINISTRATOR | VO_ADMINISTRATOR))
                || directory
                    .grants_of_vo(vo)
                    .any(|grant| grant.role == assignment.role && grant.tool == OWN_TOOL)
        })
    })
}

/// A place that stands for a task as such, for "what may I do".
fn listing_place(
    directory: &Directory,
    vo: Option<VoId>,
    tool: &Arc<Tool>,
    task: &Arc<Task>,
) -> Option<Place> {
    let vo = match vo {
        Some(vo) => Some(directory.vo(vo)?),
        None => None,
    };
    let place = Place {
        address: crate::tool::Address::Gateway,
        vo: vo.map(|vo| crate::tool::VoRef {
            id: vo.id,
            name: vo.name.clone(),
        }),
        unknown_vo: None,
        tool: Some(Arc::clone(tool)),
        found: Some(crate::tool::Found {
            task: Arc::clone(task),
            parameters: crate::tool::Parameters::new(),
            resource: None,
        }),
        method: http::Method::GET,
        target: crate::tool::Target::parse("/").ok()?,
        host: String::new(),
    };
    // A wrapped tool belongs to a VO, so there is nothing to list for it at the gateway's level.
    (place.vo.is_some() || is_own(&place)).then_some(place)
}
