//! What a client may send, to the byte: the rules of RFC 9110, 9112 and 9113 (and of `docs/`), each as a request on the
//! wire and what must become of it. The tables are `http1.rs`, `http2.rs` and `targets.rs`; to add a case, add a line.
//!
//! Every request carries a good session and, but for its one flaw, would be served: so a tool that saw nothing shows that
//! the flaw was refused. Behind every request stands another, the canary, which must not be taken for anything else than
//! what it is. At the end, what was refused is counted in the audit log.

mod http1;
mod http2;
mod targets;
pub(crate) mod tool;
pub(crate) mod wire;

use std::collections::BTreeMap;
use std::fs;

use self::tool::Tool;
use crate::world::World;

/// What must become of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// Answered with this status and problem, on record, unseen by the tool, and nothing behind it is read.
    Refused(u16, &'static str),
    /// Refused likewise, but it goes on for so long that the answer may be lost with the connection.
    Cut(u16, &'static str),
    /// Refused, but where it ends was never in doubt: what stands behind it is served as the request that it is.
    Declined(u16, &'static str),
    /// The body breaks while the request is under way: the tool gets no whole request, and nothing behind it is read.
    Broken,
    /// The connection (or stream) ends without an answer: HTTP could not even be parsed. The tool sees nothing; over HTTP/2
    /// it is on record.
    Ended,
    /// The tool gets exactly this request line (behind the path form's prefix) and body.
    Passed(&'static str, &'static str),
}

/// A gateway with one tool behind it, which John may use for everything.
struct Bench {
    world: World,
    tool: Tool,
    host: String,
    token: String,
    refused: BTreeMap<&'static str, u64>,
    wrong: Vec<String>,
}

const MANIFEST: &str = r#"
[tool]
name = "probe"
upstream = "probe"
hosts = ["probe.gw.localhost"]
delegation = "none"

[[task]]
name = "read"
match = ["GET /", "GET /{path:rest}"]
kind = "read"
query = "any"

[[task]]
name = "write"
match = ["POST /{path:rest}"]
kind = "update"
"#;

impl Bench {
    fn start() -> Self {
        let world = World::start();
        world.admin().person("john", &["scientist"]);
        let tool = Tool::start();
        let file = world.dir.path().join("probe.toml");
        fs::write(&file, MANIFEST).unwrap();
        let allow = ["upstream", "allow", "imense", "probe", &tool.url()];
        world.cli("admin", &allow).ok();
        world
            .cli("admin", &["tool", "add", "imense", file.to_str().unwrap()])
            .ok();
        let grant = ["grant", "add", "imense", "scientist", "probe", "read", "write"];
        world.cli("admin", &grant).ok();
        Self {
            host: format!("gw.localhost:{}", world.port()),
            token: world.token("john"),
            tool,
            world,
            refused: BTreeMap::new(),
            wrong: Vec::new(),
        }
    }

    /// Notes what is not as claimed; all of it is told at the end.
    fn expect(&mut self, what: &str, holds: bool, told: impl FnOnce() -> String) {
        if !holds {
            self.wrong.push(format!("{what}: {}", told()));
        }
    }

    /// Notes a refusal that was answered, to be found on record.
    fn note(&mut self, problem: &'static str) {
        *self.refused.entry(problem).or_default() += 1;
    }

    /// Stops the gateway and counts the refusals in its log.
    fn end(mut self) {
        self.world.stop();
        let records = self.world.records();
        for (problem, count) in std::mem::take(&mut self.refused) {
            let on_record: u64 = records
                .iter()
                .map(|record| &record["event"])
                .map(|event| match event["strangers"]["problem"] == problem {
                    true => event["strangers"]["count"].as_u64().unwrap(),
                    false => u64::from(event["refused"]["problem"] == problem),
                })
                .sum();
            self.expect("on record", on_record == count, || {
                format!("`{problem}` was answered {count} times and recorded {on_record} times")
            });
        }
        // An intent without its outcome would be a request that nobody knows the end of.
        let count = |name: &str| {
            records
                .iter()
                .filter(|record| record["event"].get(name).is_some())
                .count()
        };
        let (intents, outcomes) = (count("intent"), count("outcome"));
        self.expect("on record", intents == outcomes, || {
            format!("{intents} intents, {outcomes} outcomes")
        });
        let wrong = std::mem::take(&mut self.wrong);
        assert!(
            wrong.is_empty(),
            "{} are not as claimed:\n{}",
            wrong.len(),
            wrong.join("\n")
        );
    }
}

#[test]
fn every_request_over_http1_is_read_in_one_way_or_refused() {
    let mut bench = Bench::start();
    for case in http1::CASES {
        http1::check(&mut bench, case);
    }
    http1::large(&mut bench);
    bench.end();
}

#[test]
fn every_request_over_http2_is_read_in_one_way_or_refused() {
    let mut bench = Bench::start();
    for case in http2::CASES {
        http2::check(&mut bench, case);
    }
    http2::large(&mut bench);
    bench.end();
}

#[test]
fn every_spelling_of_a_target_is_the_canonical_one_or_refused_over_http1_and_http2() {
    let mut bench = Bench::start();
    targets::check(&mut bench);
    bench.end();
}
