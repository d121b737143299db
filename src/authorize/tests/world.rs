//! A small world to decide in: two VOs, a wrapped job tool, the gateway's own tasks, and people.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::authenticate::{Personal, Scope, Session, SessionKind, Source, Subject, Who};
use crate::authorize::{Authorize, Chains};
use crate::clock::{HandClock, Timestamp};
use crate::id::{PersonId, RoleId, VoId};
use crate::record::Hash;
use crate::resource::Resource;
use crate::store::StoreError;
use crate::telemetry::Metrics;
use crate::tool::{
    Address, Audience, Creates, Delegation, FilterRule, Found, IdSource, Kind, Parameters, Place, ProxyKey,
    ProxyPolicy, ProxySettings, ResourceRef, ResourceRule, Routes, Target, Task, Tool, ToolTarget, VoRef,
    Whose,
};
use crate::vo::{
    Assignment, Ceiling, CeilingScope, CeilingTask, Condition, Directory, DirectoryHandle, Grant, Membership,
    OWN_TOOL, Person, PersonState, Role, Rows, SYSTEM_ADMINISTRATOR, VO_ADMINISTRATOR, Vo, VoState,
};

pub(super) const START: Timestamp = Timestamp::from_secs(1_700_000_000);

pub(super) fn id<T: From<uuid::Uuid>>(number: u128) -> T {
    T::from(uuid::Uuid::from_u128(number))
}

/// The wrapped tool's VO, another VO, and one that is not there.
pub(super) const IMENSE: u128 = 1;
pub(super) const AHE: u128 = 2;
pub(super) const NOWHERE: u128 = 3;

/// People: whoever asks, and two others.
pub(super) const JANE: u128 = 100;
pub(super) const JOHN: u128 = 101;

#[derive(Debug, Default)]
pub(super) struct Known(pub(super) HashMap<(String, String), Vec<Resource>>);

impl Chains for Known {
    fn chain<'a>(
        &'a self,
        vo: VoId,
        tool: &'a str,
        r: &'a ResourceRef,
    ) -> BoxFuture<'a, Result<Vec<Resource>, StoreError>> {
        Box::pin(async move {
            if r.id == "broken" {
                return Err(StoreError::Open("no answer".into()));
            }
            let found = self.0.get(&(r.kind.clone(), r.id.clone())).cloned();
            Ok(found.unwrap_or_else(|| vec![resource(vo, tool, &r.kind, &r.id, None)]))
        })
    }

    fn chains<'a>(
        &'a self,
        vo: VoId,
        tool: &'a str,
        kind: &'a str,
        ids: &'a [String],
    ) -> BoxFuture<'a, Result<HashMap<String, Vec<Resource>>, StoreError>> {
        Box::pin(async move {
            let mut chains = HashMap::new();
            for id in ids {
                let r = ResourceRef {
                    kind: kind.into(),
                    id: id.clone(),
                };
                chains.insert(id.clone(), self.chain(vo, tool, &r).await?);
            }
            Ok(chains)
        })
    }
}

pub(super) fn resource(vo: VoId, tool: &str, kind: &str, id: &str, owner: Option<u128>) -> Resource {
    Resource {
        vo,
        tool: tool.into(),
        kind: kind.into(),
        id: id.into(),
        generation: i64::from(owner.is_some()),
        owner: owner.map(self::id),
        parent: None,
        attributes: BTreeMap::new(),
    }
}

pub(super) struct World {
    pub(super) rows: Rows,
    pub(super) known: Known,
    pub(super) clock: Arc<HandClock>,
    next: u128,
}

impl World {
    pub(super) fn new() -> Self {
        let vo = |number: u128, name: &str| Vo {
            id: id(number),
            name: name.into(),
            state: VoState::Active,
            version: 1,
        };
        let mut world = Self {
            rows: Rows {
                vos: vec![vo(0, crate::vo::GATEWAY), vo(IMENSE, "imense"), vo(AHE, "ahe")],
                ..Rows::default()
            },
            known: Known::default(),
            clock: Arc::new(HandClock::new(START)),
            next: 1_000,
        };
        world.role(0, SYSTEM_ADMINISTRATOR);
        for vo in [IMENSE, AHE] {
            world.role(vo, VO_ADMINISTRATOR);
            world.role(vo, "scientist");
        }
        for (number, name) in [(JANE, "jane"), (JOHN, "john")] {
            world.person(number, name, IMENSE);
        }
        world
    }

    pub(super) fn number(&mut self) -> u128 {
        self.next += 1;
        self.next
    }

    pub(super) fn person(&mut self, number: u128, name: &str, home: u128) {
        self.rows.people.push(Person {
            id: id(number),
            username: name.into(),
            home: id(home),
            state: PersonState::Active,
            until: None,
            card: Hash::of(name.as_bytes()),
            version: 1,
        });
    }

    pub(super) fn role(&mut self, vo: u128, name: &str) -> RoleId {
        let present = self
            .rows
            .roles
            .iter()
            .find(|role| role.vo == id(vo) && role.name == name);
        if let Some(role) = present {
            return role.id;
        }
        let role = Role {
            id: id(self.number()),
            vo: id(vo),
            name: name.into(),
        };
        self.rows.roles.push(role.clone());
        role.id
    }

    pub(super) fn join(&mut self, vo: u128, person: u128) {
        let membership = Membership {
            id: id(self.number()),
            vo: id(vo),
            person: id(person),
        };
        self.rows.memberships.push(membership);
    }

    /// Gives a person a role, and membership where she has none.
    pub(super) fn hold(&mut self, vo: u128, person: u128, role: &str, until: Option<Timestamp>) {
        let is_member = |m: &Membership| m.vo == id(vo) && m.person == id(person);
        if vo != 0 && !self.rows.memberships.iter().any(is_member) {
            self.join(vo, person);
        }
        let assignment = Assignment {
            id: id(self.number()),
            vo: id(vo),
            role: self.role(vo, role),
            person: id(person),
            until,
        };
        self.rows.assignments.push(assignment);
    }

    pub(super) fn grant(&mut self, vo: u128, role: &str, tool: &str, task: &str, when: &str) {
        let grant = Grant {
            id: id(self.number()),
            vo: id(vo),
            role: self.role(vo, role),
            tool: tool.into(),
            task: task.into(),
            condition: Condition::parse(when),
        };
        self.rows.grants.push(grant);
    }

    /// Sets a ceiling of the wrapped tool's VO.
    pub(super) fn ceiling(&mut self, scope: CeilingScope, kinds: Vec<String>, tasks: Vec<CeilingTask>) {
        let ceiling = Ceiling {
            id: id(self.number()),
            vo: id(IMENSE),
            scope,
            kinds,
            tasks,
        };
        self.rows.ceilings.push(ceiling);
    }

    pub(super) fn job(&mut self, number: &str, owner: Option<u128>, hospital: Option<&str>) {
        let mut job = resource(id(IMENSE), "jobs", "job", number, owner);
        if let Some(hospital) = hospital {
            job.attributes.insert("hospital".into(), hospital.into());
        }
        self.known.0.insert(("job".into(), number.into()), vec![job]);
    }

    pub(super) fn authorize(self) -> Authorize {
        Authorize::new(
            DirectoryHandle::new(Directory::build(self.rows)),
            Arc::new(self.known),
            self.clock,
            Metrics::new(),
        )
    }
}

pub(super) fn task(name: &str, kind: Kind) -> Task {
    Task::plain(name, &[], kind, Audience::Granted(&[]))
}

pub(super) fn tool(name: &str, tasks: Vec<Task>) -> Arc<Tool> {
    Arc::new(Tool {
        id: id(name.len() as u128),
        name: name.into(),
        version: 1,
        target: ToolTarget::Upstream("ce".into()),
        hosts: Vec::new(),
        delegation: Delegation::None,
        credential_header: None,
        myproxy: None,
        spool: None,
        renew: None,
        proxy: ProxySettings {
            lifetime: Duration::from_secs(3_600),
            policy: ProxyPolicy::InheritAll,
            path_length: None,
            key: ProxyKey::P256,
        },
        basic: false,
        min_assurance: crate::tool::Assurance::Aal1,
        strict: false,
        upstream_host_header: None,
        named: false,
        foreign_authorization: false,
        keep_cookies: true,
        case_insensitive: false,
        origins: Vec::new(),
        unique: Vec::new(),
        routes: Routes::default(),
        tasks: tasks.into_iter().map(Arc::new).collect(),
        manifest: String::new(),
    })
}

fn on(mut task: Task, kind: &str) -> Task {
    task.resource = Some(ResourceRule {
        kind: kind.into(),
        id: "{id}".into(),
    });
    task
}

/// The job tool of the story.
pub(super) fn jobs() -> Arc<Tool> {
    let mut submit = task("submit job", Kind::Create);
    submit.creates.push(Creates {
        kind: "job".into(),
        id: IdSource::Parameter("id".into()),
        items: None,
        status: vec![201],
        owner: Whose::Subject,
        when: None,
        parent: None,
        attributes: BTreeMap::from([
            ("hospital".into(), IdSource::Body("/hospital".into())),
            ("owner".into(), IdSource::Body("/owner".into())),
        ]),
    });
    let mut list = task("list jobs", Kind::Read);
    list.filter = Some(FilterRule {
        kind: "job".into(),
        items: "/jobs".into(),
        id: "/id".into(),
        totals: Vec::new(),
        limit: 1 << 20,
    });
    let mut monitor = on(task("monitor job", Kind::Read), "job");
    monitor.resolve = Some(crate::tool::Resolve {
        task: Arc::new(on(task("resolve:monitor job", Kind::Read), "job")),
        get: Vec::new(),
        kind: "batch".into(),
        id: "/batch".into(),
    });
    let terminate = on(task("terminate job", Kind::Delete), "job");
    // A manifest cannot make a task public; if one ever came to be, it would still need a grant.
    let mut forged = task("forged", Kind::Read);
    forged.audience = Audience::Everyone;
    tool("jobs", vec![submit, list, monitor, terminate, forged])
}

/// Some of the gateway's own tasks.
pub(super) fn own() -> Arc<Tool> {
    let with = |name: &str, audience| Task {
        audience,
        ..task(name, Kind::Update)
    };
    let mut reset = on(
        with(
            "user.reset_password",
            Audience::Granted(&[SYSTEM_ADMINISTRATOR, VO_ADMINISTRATOR]),
        ),
        "person",
    );
    reset.home_only = true;
    tool(
        OWN_TOOL,
        vec![
            with("session.create", Audience::Everyone),
            with("user.change_own_password", Audience::AnySession),
            with("session.list", Audience::AnyPerson),
            with("role.create", Audience::Granted(&[VO_ADMINISTRATOR])),
            with(
                "user.list",
                Audience::Granted(&[SYSTEM_ADMINISTRATOR, VO_ADMINISTRATOR]),
            ),
            with("upstream.allow", Audience::Granted(&[SYSTEM_ADMINISTRATOR])),
            reset,
        ],
    )
}

pub(super) fn place(vo: Option<u128>, tool: &Arc<Tool>, task: Option<&str>, resource: Option<&str>) -> Place {
    let found = task.map(|name| {
        let look_ups = tool.tasks.iter().filter_map(|task| task.resolve.as_ref());
        let mut all = tool.tasks.iter().chain(look_ups.map(|resolve| &resolve.task));
        let task = Arc::clone(all.find(|task| task.name == name).expect("a task of the tool"));
        let resource = task.resource.as_ref().map(|rule| ResourceRef {
            kind: rule.kind.clone(),
            id: resource.unwrap_or("7").into(),
        });
        Found {
            task,
            parameters: Parameters::new(),
            resource,
        }
    });
    let vo_ref = |number| VoRef {
        id: id(number),
        name: if number == IMENSE {
            "imense".into()
        } else {
            "ahe".into()
        },
    };
    Place {
        address: Address::Path,
        vo: vo.filter(|number| *number != NOWHERE).map(vo_ref),
        unknown_vo: vo.filter(|number| *number == NOWHERE).map(|_| "nowhere".into()),
        tool: Some(Arc::clone(tool)),
        found,
        method: http::Method::GET,
        target: Target::parse("/x").expect("a path"),
        host: "gw.example.org".into(),
    }
}

pub(super) fn stranger() -> Subject {
    Subject::for_test(Who::Anonymous, None, source())
}

/// A job of the gateway itself.
pub(super) fn service(name: &'static str) -> Subject {
    Subject::for_test(Who::Service(name), None, crate::authenticate::Source::Local)
}

pub(super) fn jane() -> Subject {
    signed_in(JANE, false, &["pwd"])
}

pub(super) fn signed_in(number: u128, must_change: bool, methods: &[&str]) -> Subject {
    let person: PersonId = id(number);
    let session = Session {
        id: id(9),
        person,
        kind: SessionKind::Token,
        created: START,
        expires: START.plus(Duration::from_secs(3_600)),
        methods: methods.iter().map(ToString::to_string).collect(),
        acr: if methods.contains(&"otp") { "aal2" } else { "aal1" }.into(),
        must_change,
        identity: None,
    };
    let row = Person {
        id: person,
        username: "from the session".into(),
        home: id(IMENSE),
        state: PersonState::Active,
        until: None,
        card: Hash::default(),
        version: 0,
    };
    Subject::for_test(Who::Person(Arc::new(row)), Some(Arc::new(session)), source())
}

/// Jane by one of her tokens.
pub(super) fn by_token(parts: &[&str], read_only: bool) -> Subject {
    let subject = jane();
    let session = subject.session().expect("a session");
    let scope = Scope {
        parts: parts.iter().map(|part| part.parse().expect("a part")).collect(),
        read_only,
        myproxy: false,
    };
    let personal = Personal {
        name: "nightly".into(),
        scope,
    };
    let session = Session {
        kind: SessionKind::Personal(Arc::new(personal)),
        ..Session::clone(session)
    };
    Subject::for_test(subject.who().clone(), Some(Arc::new(session)), source())
}

fn source() -> Source {
    Source::Ip("192.0.2.7".parse().expect("an address"))
}

/// Runs a future that never waits for anything outside.
pub(super) fn now<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime")
        .block_on(future)
}
