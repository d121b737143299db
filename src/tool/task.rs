//! What a manifest says, checked: [`Tool`] and [`Task`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::matching::{RouteError, Routes};
use super::{Assurance, Audience, Delegation, Demands, Kind, MyProxy, ProxySettings, Resolve};
use crate::id::ToolId;

/// A wrapped tool (or the gateway's own reserved tool).
#[derive(Clone, Debug)]
pub struct Tool {
    /// Id of the registration; nil for the gateway's own.
    pub id: ToolId,
    /// Name.
    pub name: String,
    /// Version of the registration.
    pub version: i64,
    /// Where its requests go.
    pub target: ToolTarget,
    /// Host names for browsers.
    pub hosts: Vec<String>,
    /// How it is given authority.
    pub delegation: Delegation,
    /// Header for the `static` credential (`Authorization` by default).
    pub credential_header: Option<String>,
    /// Settings of its proxies.
    pub proxy: ProxySettings,
    /// Whether its assertions name the person (her user name), and not only her opaque id.
    pub named: bool,
    /// The MyProxy server that is filled for it.
    pub myproxy: Option<MyProxy>,
    /// The folder of the settings in which it finds its proxy as a file.
    pub spool: Option<String>,
    /// How the proxies that it keeps for jobs are renewed.
    pub renew: Option<Renew>,
    /// Whether the account password by HTTP Basic is accepted.
    pub basic: bool,
    /// How sure it must be who asks, for every task.
    pub min_assurance: Assurance,
    /// Whether the outcome of every task is awaited.
    pub strict: bool,
    /// Whether `Host` is the upstream's (`true`) or the public one (`false`); `None`: by address (tools.md).
    pub upstream_host_header: Option<bool>,
    /// Whether `Authorization` in foreign schemes is passed on.
    pub foreign_authorization: bool,
    /// Whether the tool's cookies are kept on its own host.
    pub keep_cookies: bool,
    /// Whether it does not tell capital letters in paths and ids from small ones.
    pub case_insensitive: bool,
    /// Origins that may use it by CORS.
    pub origins: Vec<String>,
    /// Types of resource whose ids are never shared.
    pub unique: Vec<String>,
    /// Its tasks, in the manifest's order.
    pub tasks: Vec<Arc<Task>>,
    /// The same tasks as a tree of their templates; made from `tasks` by [`Routes::build`].
    pub routes: Routes,
    /// The manifest's text, as registered; empty for the gateway's own tool.
    pub manifest: String,
}

/// `renew = "arc"`: the tool is an ARC computing element, which keeps proxies for jobs as *delegations*. The gateway signs each
/// when it is made, and again before it ends, for as long as a job lives by it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Renew {
    /// What the paths of its REST interface begin with: `/arex/rest/1.0`.
    pub base: String,
    /// Type of the delegations.
    pub delegation: String,
    /// Type of the jobs.
    pub job: String,
    /// The task that makes jobs: who may not do it any more has nothing renewed.
    pub task: String,
}

/// Where a tool's requests go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolTarget {
    /// An upstream of the VO, by name.
    Upstream(String),
    /// A service inside the gateway, by name (`api`, `console`).
    Local(&'static str),
}

/// The query parameter that holds the reason of a task that asks for one.
pub const REASON: &str = "reason";

/// One named thing that a tool can do; the unit of permission.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// Name: printable ASCII, at most 64.
    pub name: String,
    /// Method and path template, as written: `GET /jobs/{job:int}`.
    pub matches: Vec<String>,
    /// Kind.
    pub kind: Kind,
    /// Who may do it without a grant. [`Audience::Granted`] with no role for every task of a wrapped tool.
    pub audience: Audience,
    /// What it acts on.
    pub resource: Option<ResourceRule>,
    /// What it makes.
    pub creates: Vec<Creates>,
    /// How its list is narrowed to what the subject may see.
    pub filter: Option<FilterRule>,
    /// Whether it retires the id of its resource.
    pub deletes: bool,
    /// Named query parameters; `None` means any.
    pub query: Option<Vec<String>>,
    /// What a request must show besides method and path.
    pub demands: Demands,
    /// The task that this one is a deliberate narrowing of.
    pub within: Option<String>,
    /// How the parent of its resource is asked for where it is not known.
    pub resolve: Option<Resolve>,
    /// Parameters that stand in records as keyed HMAC.
    pub sensitive: Vec<String>,
    /// How sure it must be who asks; the tool may ask for more.
    pub min_assurance: Assurance,
    /// Whether its outcome is always awaited.
    pub strict: bool,
    /// What its records hold beside the intent.
    pub recorded: Recorded,
    /// For the gateway's own tasks: it edits by hand who may do what, and takes a reason in its query ([`REASON`]).
    pub reasoned: bool,
    /// Largest request body in bytes; no limit when absent.
    pub max_body: Option<u64>,
    /// Time to the first byte of the answer.
    pub timeout: Option<Duration>,
    /// Protocols that a connection may be switched to.
    pub upgrade: Vec<Upgrade>,
    /// For the gateway's own tasks: only the home of the account that the task acts on may do it.
    pub home_only: bool,
    /// For the gateway's own tasks: which local service serves it (`api`, `console`); `None` for wrapped tools.
    pub local: Option<&'static str>,
    /// For the gateway's own tasks: whether a personal access token may do it at all.
    pub tokens: TokenRule,
}

/// Whether a personal access token may do a task, where its scope covers it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenRule {
    /// It may.
    #[default]
    May,
    /// Never: the task makes or takes away what people and tokens show to prove who they are.
    Never,
    /// To itself alone: the parameter of the path that names it. Its scope need not cover that.
    Itself(&'static str),
}

impl Task {
    /// A task of a wrapped tool that takes no query and does nothing but what it is named for.
    #[must_use]
    pub fn plain(name: impl Into<String>, matches: &[&str], kind: Kind, audience: Audience) -> Self {
        Self {
            name: name.into(),
            matches: matches.iter().map(|text| (*text).to_owned()).collect(),
            kind,
            audience,
            resource: None,
            creates: Vec::new(),
            filter: None,
            deletes: false,
            query: Some(Vec::new()),
            demands: Demands::default(),
            within: None,
            resolve: None,
            sensitive: Vec::new(),
            min_assurance: Assurance::Aal1,
            strict: false,
            recorded: Recorded::default(),
            reasoned: false,
            max_body: None,
            timeout: None,
            upgrade: Vec::new(),
            home_only: false,
            local: None,
            tokens: TokenRule::May,
        }
    }
}

/// What the records of a task hold beside the intent, which every request has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Whether a request that the tool answered has an outcome.
    pub outcome: bool,
    /// Whether the outcome has the digests of both bodies.
    pub digest: bool,
}

impl Default for Recorded {
    fn default() -> Self {
        Self {
            outcome: true,
            digest: false,
        }
    }
}

/// A protocol that a task may switch its connection to (RFC 9110 section 7.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Upgrade {
    /// WebSocket (RFC 6455).
    WebSocket,
}

impl Upgrade {
    /// The name in manifests, and in `Upgrade` headers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
        }
    }

    /// Reads a name, in the spelling of manifests.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        (name == Self::WebSocket.as_str()).then_some(Self::WebSocket)
    }
}

/// `resource = { type = "job", id = "{job}" }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceRule {
    /// Type.
    pub kind: String,
    /// One parameter, `{job}`, or a fixed text for the only one of its type.
    pub id: String,
}

impl ResourceRule {
    /// The parameter that holds the id; `None` when the id is fixed.
    #[must_use]
    pub fn parameter(&self) -> Option<&str> {
        self.id.strip_prefix('{').and_then(|id| id.strip_suffix('}'))
    }
}

/// Whose a created thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The subject's.
    Subject,
    /// Nobody's.
    Nobody,
}

/// Where an id stands in an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdSource {
    /// `header:NAME` or `header:NAME#last-segment`.
    Header {
        /// Header name, lower case.
        name: String,
        /// Whether only the last path segment counts.
        last_segment: bool,
    },
    /// `header:NAME#after-last-slash`: what follows the last `/` of its value, wherever that stands.
    HeaderEnd(String),
    /// `body:/pointer`, a JSON pointer (RFC 6901) into the answer, or `/pointer` for short; with `items`, into the item.
    Body(String),
    /// A parameter of the request, `{name}` (a PUT to a chosen id).
    Parameter(String),
}

/// `creates = { type, id, status, owner, when, parent, attributes }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Creates {
    /// Type.
    pub kind: String,
    /// Where the id stands.
    pub id: IdSource,
    /// For several of one kind: JSON pointer of the list whose items hold the id.
    pub items: Option<String>,
    /// Statuses on which something was made.
    pub status: Vec<u16>,
    /// Whose it is.
    pub owner: Whose,
    /// JSON pointer and the text it must equal, else nothing was made; with `items`, of each item.
    pub when: Option<(String, String)>,
    /// Parent: type and where its id stands. A parent is never owned through a child.
    pub parent: Option<(String, IdSource)>,
    /// Attributes: name and where the value stands.
    pub attributes: BTreeMap<String, IdSource>,
}

/// `filter = { type, items, id, totals }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterRule {
    /// Type of the items.
    pub kind: String,
    /// JSON pointer of the list.
    pub items: String,
    /// JSON pointer of the id within an item.
    pub id: String,
    /// JSON pointers of totals to correct.
    pub totals: Vec<String>,
    /// Largest answer in bytes.
    pub limit: u64,
}

impl Tool {
    /// The gateway's own tool, whose tasks are its API, login and console.
    ///
    /// # Errors
    /// [`RouteError`] for a template that cannot be read, or two tasks that one request could match.
    pub fn own(tasks: Vec<Task>) -> Result<Self, RouteError> {
        let tasks: Vec<Arc<Task>> = tasks.into_iter().map(Arc::new).collect();
        Ok(Self {
            id: ToolId::from(uuid::Uuid::nil()),
            name: crate::vo::OWN_TOOL.to_owned(),
            version: 0,
            target: ToolTarget::Local("api"),
            hosts: Vec::new(),
            delegation: Delegation::None,
            credential_header: None,
            myproxy: None,
            spool: None,
            renew: None,
            proxy: ProxySettings::default(),
            named: false,
            basic: false,
            min_assurance: Assurance::Aal1,
            strict: false,
            upstream_host_header: None,
            foreign_authorization: false,
            keep_cookies: false,
            case_insensitive: false,
            origins: Vec::new(),
            unique: Vec::new(),
            routes: Routes::build(&tasks, false)?,
            tasks,
            manifest: String::new(),
        })
    }

    /// A task by name.
    #[must_use]
    pub fn task(&self, name: &str) -> Option<&Arc<Task>> {
        self.tasks.iter().find(|task| task.name == name)
    }

    /// Whether `name` is that of a look-up of a parent, which only the gateway's own service does.
    #[must_use]
    pub fn is_look_up(&self, name: &str) -> bool {
        self.tasks
            .iter()
            .filter_map(|task| task.resolve.as_ref())
            .any(|resolve| resolve.task.name == name)
    }

    /// The types of resource that its tasks act on, make, list or name as parents.
    #[must_use]
    pub fn kinds(&self) -> BTreeSet<&str> {
        self.tasks.iter().flat_map(|task| task.kinds()).collect()
    }
}

impl Task {
    /// What a request must show besides method and path, in words for an administrator.
    #[must_use]
    pub fn shown(&self) -> Vec<String> {
        let mut words = self.demands.shown();
        words.extend(self.within.iter().map(|wider| format!("within {wider}")));
        if self.min_assurance > Assurance::Aal1 {
            words.push(format!("assurance {}", self.min_assurance));
        }
        let parent = self.resolve.iter();
        words.extend(
            parent.map(|resolve| format!("parent {} by {}", resolve.kind, resolve.task.matches.concat())),
        );
        words
    }

    /// The types of resource that it acts on, makes, lists or names as parents.
    pub fn kinds(&self) -> impl Iterator<Item = &str> {
        let made = self.creates.iter().flat_map(|made| {
            let parent = made.parent.iter().map(|(kind, _)| kind.as_str());
            parent.chain([made.kind.as_str()])
        });
        let acted = self.resource.iter().map(|rule| rule.kind.as_str());
        let listed = self.filter.iter().map(|rule| rule.kind.as_str());
        let above = self.resolve.iter().map(|resolve| resolve.kind.as_str());
        acted.chain(made).chain(listed).chain(above)
    }
}
