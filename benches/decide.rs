//! Processor time of one decision: `cargo bench --bench decide`.
//!
//! One thread decides for a signed-in scientist: on her own job, on somebody else's, on a task without a resource, and on
//! the items of a list. Session, roles and grants are real; owners come from memory, since the store is measured
//! elsewhere. Time is the thread's own processor time. The bound of 60 us for a decision with a prepared slice is checked.

#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a bench reports to the terminal and stops at the first failure"
)]

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use countersign::authenticate::{Authenticate, Config, Cost, Journal, Opening, SignIn, Source, Subject};
use countersign::authorize::{Authorize, Chains};
use countersign::clock::SystemClock;
use countersign::id::{Ids, PersonId, SystemSource, VoId};
use countersign::resource::Resource;
use countersign::secret::Secret;
use countersign::store::{Db, StoreError};
use countersign::telemetry::Metrics;
use countersign::tool::{
    Address, Audience, Found, Kind, Manifest, Place, ResourceRef, Target, Task, Tool, VoRef,
};
use countersign::vo::{CardFields, Condition, Directory, DirectoryHandle, SCIENTIST, Vos};
use futures_util::future::BoxFuture;

/// Most microseconds of processor time for one decision.
const BOUND_US: f64 = 60.0;

const MANIFEST: &str = r#"
[tool]
name = "jobs"
upstream = "ce"
[[task]]
name = "submit job"
match = ["POST /jobs"]
kind = "create"
creates = { type = "job", id = "header:Location#last-segment", status = [201] }
[[task]]
name = "monitor job"
match = ["GET /jobs/{job:int}"]
kind = "read"
resource = { type = "job", id = "{job}" }
[[task]]
name = "list jobs"
match = ["GET /jobs"]
kind = "read"
filter = { type = "job", items = "/jobs", id = "/id" }
"#;

/// Job 7 is hers; every other belongs to nobody known.
#[derive(Debug)]
struct Jobs {
    owner: PersonId,
}

impl Jobs {
    fn job(&self, vo: VoId, id: &str) -> Vec<Resource> {
        let mut job = Resource::unknown(vo, "jobs", "job", id);
        job.owner = (id == "7").then_some(self.owner);
        vec![job]
    }
}

impl Chains for Jobs {
    fn chain<'a>(
        &'a self,
        vo: VoId,
        _: &'a str,
        resource: &'a ResourceRef,
    ) -> BoxFuture<'a, Result<Vec<Resource>, StoreError>> {
        Box::pin(async move { Ok(self.job(vo, &resource.id)) })
    }

    fn chains<'a>(
        &'a self,
        vo: VoId,
        _: &'a str,
        _: &'a str,
        ids: &'a [String],
    ) -> BoxFuture<'a, Result<HashMap<String, Vec<Resource>>, StoreError>> {
        Box::pin(async move { Ok(ids.iter().map(|id| (id.clone(), self.job(vo, id))).collect()) })
    }
}

struct Bench {
    authorize: Authorize,
    subject: Subject,
    vo: VoRef,
    tool: Arc<Tool>,
    rounds: u32,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let bench = bench(folder.path()).await;
    let own = bench.measure("her own job", "monitor job", Some("7"), true).await;
    bench
        .measure("somebody else's job", "monitor job", Some("8"), false)
        .await;
    bench
        .measure("a task without a resource", "submit job", None, true)
        .await;
    bench.measure_items().await;
    assert!(
        bench.rounds < 100 || own <= BOUND_US,
        "a decision takes {own:.1} us, more than {BOUND_US}"
    );
}

impl Bench {
    async fn measure(&self, name: &str, task: &str, job: Option<&str>, permitted: bool) -> f64 {
        let place = self.place(task, job);
        let decide = || self.authorize.decide(self.subject.clone(), place.clone());
        assert_eq!(decide().await.is_ok(), permitted, "{name}");
        let begun = processor_time();
        for _ in 0..self.rounds {
            let _ = black_box(decide().await);
        }
        let each = processor_time().saturating_sub(begun).as_secs_f64() * 1e6 / f64::from(self.rounds);
        println!("{name}: {each:.1} us each ({} decisions)", self.rounds);
        each
    }

    async fn measure_items(&self) {
        let place = self.place("list jobs", None);
        let permit = self
            .authorize
            .decide(self.subject.clone(), place)
            .await
            .expect("a permit");
        let ids: Vec<String> = (0..self.rounds).map(|id| id.to_string()).collect();
        let begun = processor_time();
        let shown = self
            .authorize
            .visible(&permit, "job", &ids)
            .await
            .expect("owners");
        let each = processor_time().saturating_sub(begun).as_secs_f64() * 1e6 / f64::from(self.rounds);
        assert_eq!(shown.iter().filter(|shown| **shown).count(), 1);
        println!("an item of a list: {each:.1} us each ({} items)", ids.len());
    }

    fn place(&self, task: &str, job: Option<&str>) -> Place {
        let task = Arc::clone(self.tool.task(task).expect("a task of the manifest"));
        place(Some(self.vo.clone()), &self.tool, task, job)
    }
}

fn place(vo: Option<VoRef>, tool: &Arc<Tool>, task: Arc<Task>, resource: Option<&str>) -> Place {
    let resource = task
        .resource
        .as_ref()
        .zip(resource)
        .map(|(rule, id)| ResourceRef {
            kind: rule.kind.clone(),
            id: id.to_owned(),
        });
    Place {
        address: if vo.is_some() {
            Address::Path
        } else {
            Address::Gateway
        },
        vo,
        unknown_vo: None,
        tool: Some(Arc::clone(tool)),
        found: Some(Found {
            task,
            parameters: Default::default(),
            resource,
        }),
        method: http::Method::GET,
        target: Target::parse("/jobs").expect("a target"),
        host: "gw.example.org".to_owned(),
    }
}

async fn bench(folder: &std::path::Path) -> Bench {
    let ids = Ids::new(SystemClock::shared(), Arc::new(SystemSource::new()));
    let db = Db::sqlite(&folder.join("store.db")).await.expect("a store");
    let vos = Vos::new(db.clone(), DirectoryHandle::default(), ids.clone());
    let (vo, john) = people(&db, &vos).await;
    let subject = sign_in(&db, &vos, &ids, john).await;
    let mut tool = Manifest::parse("jobs.toml", MANIFEST).expect("a manifest").tool;
    tool.version = 1;
    let directory = vos.handle();
    let authorize = Authorize::new(
        directory,
        Arc::new(Jobs { owner: john }),
        ids.clock().clone(),
        Metrics::new(),
    );
    // `cargo test --benches` runs this too: then a few times, for its form only.
    let rounds = if std::env::args().any(|argument| argument == "--bench") {
        20_000
    } else {
        20
    };
    Bench {
        authorize,
        subject,
        vo: VoRef {
            id: vo,
            name: "imense".to_owned(),
        },
        tool: Arc::new(tool),
        rounds,
    }
}

async fn people(db: &Db, vos: &Vos) -> (VoId, PersonId) {
    let card = CardFields {
        name: "John Smith".to_owned(),
        ..CardFields::default()
    };
    let gateway = Directory::gateway();
    let mut tx = db.begin_write().await.expect("a transaction");
    vos.establish(&mut tx).await.expect("the gateway");
    let (vera, _) = vos
        .add_person(&mut tx, gateway, "vera", &card)
        .await
        .expect("a person");
    let (vo, _) = vos.create_vo(&mut tx, "imense", vera).await.expect("a VO");
    let (john, _) = vos
        .add_person(&mut tx, vo, "jsmith", &card)
        .await
        .expect("a person");
    vos.join(&mut tx, vo, john).await.expect("a member");
    vos.assign(&mut tx, vo, SCIENTIST, john, None)
        .await
        .expect("a role");
    let own = ["monitor job".to_owned(), "list jobs".to_owned()];
    let always = ["submit job".to_owned()];
    vos.add_grants(&mut tx, vo, SCIENTIST, ("jobs", &own), &Condition::Own)
        .await
        .expect("grants");
    vos.add_grants(&mut tx, vo, SCIENTIST, ("jobs", &always), &Condition::Always)
        .await
        .expect("grants");
    tx.commit().await.expect("a commit");
    vos.load().await.expect("a snapshot");
    (vo, john)
}

/// A real session: one-time password, own password, token.
async fn sign_in(db: &Db, vos: &Vos, ids: &Ids, john: PersonId) -> Subject {
    let config = Config {
        cost: Cost {
            memory_kib: 64,
            passes: 1,
            lanes: 1,
        },
        ..Config::default()
    };
    let authenticate = Authenticate::open(db.clone(), vos.handle(), ids.clone(), config)
        .await
        .expect("the service");
    let home = vos.handle().load().person(john).expect("john").home;
    let one_time = authenticate.one_time_password().await.expect("a password");
    let mut tx = db.begin_write().await.expect("a transaction");
    let first = authenticate
        .first_password(&mut tx, john, home, one_time)
        .await
        .expect("stored");
    tx.commit().await.expect("a commit");

    let subject = session(&authenticate, ids, &first).await;
    let own = Secret::new("four horses graze by the river".to_owned());
    let new = authenticate
        .new_password(&subject, None, &own, &[])
        .await
        .expect("a good password");
    let mut tx = db.begin_write().await.expect("a transaction");
    let request = ids.next().expect("an id");
    let changed = authenticate
        .change_password(&mut tx, new, request)
        .await
        .expect("changed");
    tx.commit().await.expect("a commit");
    if let Some(ended) = changed.ended {
        authenticate.forget(&ended).await.expect("forgotten");
    }
    session(&authenticate, ids, &own).await
}

async fn session(authenticate: &Authenticate, ids: &Ids, password: &Secret<String>) -> Subject {
    let asked = SignIn {
        username: "jsmith",
        password,
        code: None,
        opening: Opening::Token,
        source: Source::Local,
        request: ids.next().expect("an id"),
    };
    let signed_in = authenticate.sign_in(asked).await.expect("an answer");
    let opened = authenticate
        .begin(signed_in.result.expect("the right password"))
        .await
        .expect("a session");
    let (head, ()) = http::Request::builder()
        .header("authorization", format!("Bearer {}", opened.token.expose()))
        .body(())
        .expect("a head")
        .into_parts();
    let change = Task {
        audience: Audience::AnySession,
        ..task("user.change_own_password")
    };
    let tool = Arc::new(Tool::own(vec![change.clone()]).expect("a tool"));
    let place = place(None, &tool, Arc::new(change), None);
    let journal = Journal {
        request: ids.next().expect("an id"),
        write: &|_| Box::pin(std::future::ready(Ok(()))),
    };
    authenticate
        .subject(&head, &place, Source::Local, &journal)
        .await
        .expect("john")
}

fn task(name: &str) -> Task {
    Task {
        name: name.to_owned(),
        matches: vec!["POST /api/v1/me/password".to_owned()],
        kind: Kind::Update,
        audience: Audience::Granted(&[]),
        resource: None,
        creates: Vec::new(),
        filter: None,
        deletes: false,
        query: None,
        demands: countersign::tool::Demands::default(),
        within: None,
        resolve: None,
        sensitive: Vec::new(),
        min_assurance: countersign::tool::Assurance::Aal1,
        strict: false,
        recorded: countersign::tool::Recorded::default(),
        reasoned: false,
        max_body: None,
        timeout: None,
        upgrade: Vec::new(),
        home_only: false,
        tokens: countersign::tool::TokenRule::default(),
        local: Some("api"),
    }
}

/// Processor time of this thread (the first field of its schedule statistics, in nanoseconds).
fn processor_time() -> Duration {
    let text =
        std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux with schedule statistics");
    let nanos = text
        .split_whitespace()
        .next()
        .and_then(|field| field.parse().ok());
    Duration::from_nanos(nanos.expect("a number"))
}
