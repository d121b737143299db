//! One prebuilt, checked, immutable policy set for each (VO, tool, task).
//!
//! Roles are data: all grants of one task under one condition share one policy, whose principal is a `Grant` entity, and
//! the roles become children of that entity in the slice. So a bucket holds a handful of policies however many people,
//! roles and grants there are.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use cedar_policy::{EntityUid, Policy, PolicySet, Schema, ValidationMode, Validator, pst};

use super::schema::{TYPES, schema, uid};
use super::{attributes, ceiling, condition};
use crate::id::{GrantId, RoleId, ToolId, VoId};
use crate::record::Hash;
use crate::tool::{Audience, Task, Tool};
use crate::vo::{Condition, Directory, OWN_TOOL, SYSTEM_ADMINISTRATOR, Vo};

/// Most policies in one bucket: every one of them is evaluated for every request.
pub(super) const MOST_POLICIES: usize = 200;

/// A policy that could not be built or does not fit its schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyFlaw {
    /// VO by name.
    pub vo: String,
    /// Tool.
    pub tool: String,
    /// Task.
    pub task: String,
    /// Policy, where one is to blame.
    pub policy: Option<String>,
    /// What is wrong.
    pub message: String,
}

/// What a bucket was built from; another stamp means that it must be built again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) tool: ToolId,
    pub(super) tool_version: i64,
    pub(super) vo_version: i64,
    pub(super) gateway_version: i64,
}

/// Why a role holds a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// The task's audience names the role.
    Shipped,
    /// Grants under this condition.
    Granted(Condition),
}

/// One policy with the roles that hold it.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) policy: String,
    pub(super) why: Why,
    pub(super) holders: BTreeMap<RoleId, Option<GrantId>>,
    pub(super) grant: EntityUid,
}

impl Rule {
    /// Whether the rule holds whatever the resource and the context.
    pub(super) const fn is_unconditional(&self) -> bool {
        matches!(self.why, Why::Shipped | Why::Granted(Condition::Always))
    }
}

/// The policies of one task in one VO.
#[derive(Debug)]
pub(super) struct Bucket {
    /// Different for every bucket that was ever built, so that what is prepared for one is never used with another.
    pub(super) number: u64,
    pub(super) stamp: Stamp,
    pub(super) action: EntityUid,
    pub(super) policies: PolicySet,
    /// Ids of all policies, for the record.
    pub(super) considered: Vec<String>,
    pub(super) rules: Vec<Rule>,
    /// The `Grant` that opens the list as such, for tasks with a filter.
    pub(super) list: Option<EntityUid>,
    /// Whether a VO's own expression stands in it.
    pub(super) has_expressions: bool,
    /// The ceiling that the task is outside of, so that no grant of it holds.
    pub(super) outside: Option<ceiling::Outside>,
    /// Whether its policies come from a build without flaws.
    pub(super) sound: bool,
    pub(super) flaws: Vec<PolicyFlaw>,
}

/// What a bucket is for.
#[derive(Clone, Copy)]
pub(super) struct Spot<'a> {
    pub(super) directory: &'a Directory,
    pub(super) level: &'a Vo,
    pub(super) tool: &'a Tool,
    pub(super) task: &'a Task,
}

impl Spot<'_> {
    pub(super) fn stamp(&self) -> Stamp {
        Stamp {
            tool: self.tool.id,
            tool_version: self.tool.version,
            vo_version: self.level.version,
            gateway_version: self
                .directory
                .vo(Directory::gateway())
                .map_or(0, |gateway| gateway.version),
        }
    }

    fn flaw(&self, policy: Option<String>, message: impl Into<String>) -> PolicyFlaw {
        PolicyFlaw {
            vo: self.level.name.clone(),
            tool: self.tool.name.clone(),
            task: self.task.name.clone(),
            policy,
            message: message.into(),
        }
    }

    fn grant(&self, shape: &str) -> EntityUid {
        let (vo, tool, task) = (&self.level.name, &self.tool.name, &self.task.name);
        uid(&TYPES.grant, &format!("{vo}/{tool}/{task}/{shape}"))
    }

    /// SECURITY: only tasks of the gateway itself have an audience; a wrapped tool's are for holders of grants alone.
    pub(super) fn audience(&self) -> Option<Audience> {
        (self.tool.name == OWN_TOOL).then_some(self.task.audience)
    }

    fn policy_id(&self, shape: &str) -> String {
        format!("{}/{shape}", self.task.name)
    }
}

impl Bucket {
    /// Builds and checks the bucket. Policies that do not fit are left out (which can only deny) and stand in `flaws`.
    ///
    /// # Errors
    /// A [`PolicyFlaw`] when not even the core rules can be built.
    pub(super) fn build(spot: Spot<'_>) -> Result<Self, PolicyFlaw> {
        let schema = schema(spot.tool, spot.task).map_err(|message| spot.flaw(None, message))?;
        let rules = rules(spot);
        let list = (spot.task.filter.is_some() && !rules.is_empty()).then(|| spot.grant("list"));
        let (mut policies, mut flaws) = policies(spot, &rules, list.as_ref());
        if policies.len() > MOST_POLICIES {
            let message = format!("the task has more than {MOST_POLICIES} policies");
            return Err(spot.flaw(None, message));
        }
        flaws.extend(leave_out_what_does_not_fit(spot, &schema, &mut policies));
        // INVARIANT: a bucket without the core rules never comes to be; leaving out a `forbid` would allow.
        let core = CORE
            .policies()
            .chain(HOME.policies().filter(|_| spot.task.home_only));
        for rule in core {
            let id = rule.id().to_string();
            if !policies.contains_key(&id) {
                return Err(spot.flaw(Some(id), "a core rule does not fit the task's schema"));
            }
        }
        let considered = policies.keys().cloned().collect();
        let policies =
            PolicySet::from_policies(policies.into_values()).map_err(|e| spot.flaw(None, e.to_string()))?;
        Ok(Self {
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            stamp: spot.stamp(),
            action: uid(&TYPES.action, &spot.task.name),
            policies,
            considered,
            has_expressions: rules
                .iter()
                .any(|rule| matches!(rule.why, Why::Granted(Condition::Cedar(_)))),
            outside: ceiling::outside(spot.directory, spot.level.id, spot.tool, spot.task),
            rules,
            list,
            sound: flaws.is_empty(),
            flaws,
        })
    }

    /// The policies of this bucket with the holders of `newer`: a bad set never replaces a good one, while who holds
    /// what is always today's.
    pub(super) fn kept(&self, newer: Self) -> Self {
        Self {
            policies: self.policies.clone(),
            considered: self.considered.clone(),
            has_expressions: self.has_expressions || newer.has_expressions,
            sound: self.sound,
            ..newer
        }
    }

    /// The rule that a determining policy stands for.
    pub(super) fn rule(&self, policy: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.policy == policy)
    }
}

static NUMBER: AtomicU64 = AtomicU64::new(1);

/// How a condition is named in policy ids: `always`, `own`, or `when` with the start of the expression's hash.
fn shape_of(condition: &Condition) -> String {
    match condition {
        Condition::Always | Condition::Own => condition.as_str().to_owned(),
        Condition::Cedar(text) => {
            let hash = Hash::of(text.as_bytes()).to_string();
            format!("when {}", hash.get(..12).unwrap_or(&hash))
        }
    }
}

fn rules(spot: Spot<'_>) -> Vec<Rule> {
    let mut rules = Vec::new();
    let shipped = shipped(spot);
    if !shipped.is_empty() {
        rules.push(Rule {
            policy: spot.policy_id("shipped"),
            why: Why::Shipped,
            holders: shipped,
            grant: spot.grant("shipped"),
        });
    }
    let mut granted: BTreeMap<&Condition, BTreeMap<RoleId, Option<GrantId>>> = BTreeMap::new();
    for grant in spot
        .directory
        .grants(spot.level.id, &spot.tool.name, &spot.task.name)
    {
        // SECURITY: a grant of a VO holds for that VO's own roles, whatever a row says.
        if spot
            .directory
            .role(grant.role)
            .is_some_and(|role| role.vo == spot.level.id)
        {
            let holders = granted.entry(&grant.condition).or_default();
            holders.insert(grant.role, Some(grant.id));
        }
    }
    for (condition, holders) in granted {
        let shape = shape_of(condition);
        rules.push(Rule {
            policy: spot.policy_id(&shape),
            why: Why::Granted(condition.clone()),
            holders,
            grant: spot.grant(&shape),
        });
    }
    rules
}

/// The shipped roles that the task's audience names, each at its own level.
fn shipped(spot: Spot<'_>) -> BTreeMap<RoleId, Option<GrantId>> {
    let Some(Audience::Granted(names)) = spot.audience() else {
        return BTreeMap::new();
    };
    let at = |name: &str| -> Option<VoId> {
        if name != SYSTEM_ADMINISTRATOR {
            return Some(spot.level.id);
        }
        // SECURITY: an account of a VO is reset by that VO's administrators, not by the gateway's.
        (!spot.task.home_only || spot.level.id == Directory::gateway()).then(Directory::gateway)
    };
    names
        .iter()
        .filter_map(|name| spot.directory.role_named(at(name)?, name))
        .map(|role| (role.id, None))
        .collect()
}

type Policies = BTreeMap<String, Policy>;

fn policies(spot: Spot<'_>, rules: &[Rule], list: Option<&EntityUid>) -> (Policies, Vec<PolicyFlaw>) {
    let (mut policies, mut flaws) = (Policies::new(), Vec::new());
    let mut keep = |id: String, policy: Result<Policy, String>| match policy {
        Ok(policy) => {
            policies.insert(id, policy);
        }
        Err(message) => flaws.push(spot.flaw(Some(id), message)),
    };
    for policy in CORE.policies() {
        keep(policy.id().to_string(), Ok(policy.clone()));
    }
    if spot.task.home_only {
        for policy in HOME.policies() {
            keep(policy.id().to_string(), Ok(policy.clone()));
        }
    }
    let audience = match spot.audience() {
        Some(Audience::Everyone) => Some("everyone"),
        Some(Audience::AnySession) => Some("any-session"),
        Some(Audience::AnyPerson) => Some("any-person"),
        Some(Audience::Granted(_)) | None => None,
    };
    if let Some(shape) = audience {
        let id = spot.policy_id(shape);
        keep(id.clone(), generate(spot, shape, &id, None, None));
    }
    // SECURITY: only the gateway's own service looks parents up; no grant can name such a task.
    if spot.tool.is_look_up(&spot.task.name) {
        let id = spot.policy_id("look-up");
        keep(id.clone(), generate(spot, "look-up", &id, None, None));
    }
    for rule in rules {
        let (shape, when) = match &rule.why {
            Why::Shipped | Why::Granted(Condition::Always) => ("always", None),
            Why::Granted(Condition::Own) => ("own", None),
            Why::Granted(Condition::Cedar(text)) => ("always", Some(text.as_str())),
        };
        let policy = generate(spot, shape, &rule.policy, Some(&rule.grant), when);
        keep(rule.policy.clone(), policy);
    }
    if let Some(grant) = list {
        let id = spot.policy_id("list");
        keep(id.clone(), generate(spot, "list", &id, Some(grant), None));
    }
    (policies, flaws)
}

/// A policy from one of the shipped shapes: never by putting text together.
fn generate(
    spot: Spot<'_>,
    shape: &str,
    id: &str,
    grant: Option<&EntityUid>,
    when: Option<&str>,
) -> Result<Policy, String> {
    let mut body = SHAPES.get(shape).cloned().ok_or("no such shape")?;
    body.id = id.into();
    body.annotations.insert("id".into(), id.into());
    body.action = pst::ActionConstraint::Eq(entity(&uid(&TYPES.action, &spot.task.name))?);
    if let Some(grant) = grant {
        let slots = HashMap::from([(pst::SlotId::Principal, entity(grant)?)]);
        body.principal = body.principal.link(&slots).map_err(|e| e.to_string())?;
    }
    if let Some(text) = when {
        let expression = condition::expression(text).map_err(|e| e.to_string())?;
        body.try_add_clause(pst::Clause::When(expression.into()))
            .map_err(|e| e.to_string())?;
    }
    let body = pst::StaticPolicy::try_from(body).map_err(|e| e.to_string())?;
    Policy::from_pst(body.into()).map_err(|e| e.to_string())
}

fn entity(uid: &EntityUid) -> Result<pst::EntityUID, String> {
    let kind = uid.type_name();
    let name =
        pst::Name::qualified(kind.namespace_components(), kind.basename()).map_err(|e| e.to_string())?;
    Ok(pst::EntityUID {
        ty: pst::EntityType::from_name(name),
        eid: uid.id().unescaped().into(),
    })
}

fn leave_out_what_does_not_fit(spot: Spot<'_>, schema: &Schema, policies: &mut Policies) -> Vec<PolicyFlaw> {
    let validator = Validator::new(schema.clone());
    let mut flaws = Vec::new();
    let ids: BTreeSet<String> = policies.keys().cloned().collect();
    for id in ids {
        let Some(policy) = policies.get(&id) else { continue };
        if let Err(message) = fits(&validator, policy) {
            policies.remove(&id);
            flaws.push(spot.flaw(Some(id), message));
        }
    }
    flaws
}

fn fits(validator: &Validator, policy: &Policy) -> Result<(), String> {
    let set = PolicySet::from_policies([policy.clone()]).map_err(|e| e.to_string())?;
    let result = validator.validate(&set, ValidationMode::Strict);
    match result.validation_errors().next() {
        None => Ok(()),
        Some(error) => Err(error.to_string()),
    }
}

/// Checks a condition for a task: parses it, builds its policy, and validates that against the task's schema.
pub(super) fn check(spot: Spot<'_>, text: &str) -> Result<(), condition::ConditionError> {
    let expression = condition::expression(text)?;
    attributes::check(spot.tool, spot.task, &expression)?;
    let invalid = condition::ConditionError::Invalid;
    let schema = schema(spot.tool, spot.task).map_err(invalid)?;
    let grant = spot.grant("when");
    let policy =
        generate(spot, "always", &spot.policy_id("when"), Some(&grant), Some(text)).map_err(invalid)?;
    fits(&Validator::new(schema), &policy).map_err(|message| {
        let id = format!("for policy `{}`, ", spot.policy_id("when"));
        invalid(message.replace(&id, ""))
    })
}

static CORE: LazyLock<PolicySet> = LazyLock::new(|| shipped_file(include_str!("../../policies/core.cedar")));
static HOME: LazyLock<PolicySet> = LazyLock::new(|| shipped_file(include_str!("../../policies/home.cedar")));

/// The shapes of `policies/grants.cedar` by id.
static SHAPES: LazyLock<HashMap<String, pst::Template>> = LazyLock::new(|| {
    let file = shipped_file(include_str!("../../policies/grants.cedar"));
    let templates = file
        .templates()
        .filter_map(|template| Some((template.id().to_string(), template.to_pst().ok()?)));
    let statics = file.policies().filter_map(|policy| match policy.to_pst().ok()? {
        pst::Policy::Static(body) => Some((policy.id().to_string(), body.body().clone())),
        _ => None,
    });
    templates.chain(statics).collect()
});

/// Reads a shipped file, each policy under its `@id`.
#[expect(
    clippy::expect_used,
    reason = "the files are part of the program, and a test reads each of them"
)]
fn shipped_file(text: &str) -> PolicySet {
    let parsed: PolicySet = text.parse().expect("a shipped policy file");
    let mut named = PolicySet::new();
    for policy in parsed.policies() {
        let id = policy
            .annotation("id")
            .expect("a shipped policy has an id")
            .parse();
        named
            .add(policy.new_id(id.expect("an id")))
            .expect("ids are different");
    }
    for template in parsed.templates() {
        let id = template
            .annotation("id")
            .expect("a shipped shape has an id")
            .parse();
        named
            .add_template(template.new_id(id.expect("an id")))
            .expect("ids are different");
    }
    named
}
