//! What was decided, by VO, tool and task. The request path counts without a lock and without making a string: the
//! counters of a task are found by its names in a map that only changes when a task is seen for the first time.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::timing::Histogram;

/// So many tasks are told apart; tasks that come later are counted together under this name.
const MOST: usize = 10_000;
const REST: &str = "(other)";
/// What a label says where there is nothing to name.
const NONE: &str = "none";

/// What was decided about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Permitted, and on record.
    Permit,
    /// Refused by a decision, or because it cannot be given authority.
    Deny,
    /// A credential was missing or not right.
    Challenge,
    /// Too many.
    Throttle,
    /// It could be read in more than one way, or is not served.
    Reject,
    /// Something of the gateway failed, so it was refused.
    Fail,
}

impl Decision {
    const ALL: [Self; 6] = [
        Self::Permit,
        Self::Deny,
        Self::Challenge,
        Self::Throttle,
        Self::Reject,
        Self::Fail,
    ];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Permit => "permit",
            Self::Deny => "deny",
            Self::Challenge => "challenge",
            Self::Throttle => "throttle",
            Self::Reject => "reject",
            Self::Fail => "fail",
        }
    }
}

/// Where a request was made, in names of things that exist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Where<'a> {
    /// The VO.
    pub vo: Option<&'a str>,
    /// The tool.
    pub tool: Option<&'a str>,
    /// The task.
    pub task: Option<&'a str>,
}

/// The counters of one task.
#[derive(Debug)]
struct Task([AtomicU64; Decision::ALL.len()]);

/// What a tool is watched for.
#[derive(Clone, Debug)]
struct Tool {
    answers: Histogram,
    failures: Arc<Mutex<HashMap<&'static str, u64>>>,
    tasks: HashMap<String, Arc<Task>>,
}

type Map = HashMap<String, HashMap<String, Tool>>;

#[derive(Default)]
pub(super) struct Requests {
    map: ArcSwap<Map>,
    /// INVARIANT: held while the map is copied, so that no counter is lost between two copies.
    adding: Mutex<usize>,
}

impl Requests {
    pub(super) fn decided(&self, at: Where<'_>, decision: Decision) {
        let count = |task: &Task| {
            if let Some(counter) = task.0.get(decision as usize) {
                counter.fetch_add(1, Ordering::Relaxed);
            }
        };
        let map = self.map.load();
        let known = find(&map, at).and_then(|tool| tool.tasks.get(at.task.unwrap_or(NONE)));
        // No name of a VO has a parenthesis, so this is there only when the map is full.
        let rest = || map.get(REST)?.get(REST)?.tasks.get(REST);
        match known.or_else(rest) {
            Some(task) => count(task),
            None => count(&self.add(at)),
        }
    }

    /// A tool's answer began after `time`. Only for tools whose requests were counted.
    pub(super) fn answered(&self, at: Where<'_>, time: Duration) {
        if let Some(tool) = find(&self.map.load(), at) {
            tool.answers.observe(time);
        }
    }

    /// A tool did not answer in order.
    pub(super) fn failed(&self, at: Where<'_>, reason: &'static str) {
        if let Some(tool) = find(&self.map.load(), at) {
            let mut failures = tool.failures.lock().unwrap_or_else(PoisonError::into_inner);
            *failures.entry(reason).or_insert(0) += 1;
        }
    }

    /// Makes the counters of a task that is seen for the first time.
    fn add(&self, at: Where<'_>) -> Arc<Task> {
        let mut known = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        let mut map = Map::clone(&self.map.load());
        let full = *known >= MOST;
        let name = |name: Option<&str>| if full { REST } else { name.unwrap_or(NONE) }.to_owned();
        let tool = map
            .entry(name(at.vo))
            .or_default()
            .entry(name(at.tool))
            .or_insert_with(|| Tool {
                answers: Histogram::long_times(),
                failures: Arc::default(),
                tasks: HashMap::new(),
            });
        let task = tool.tasks.entry(name(at.task)).or_insert_with(|| {
            *known += 1;
            Arc::new(Task(Default::default()))
        });
        let task = task.clone();
        self.map.store(Arc::new(map));
        task
    }

    /// Everything in the order of its names.
    fn sorted(&self) -> Vec<(String, String, Tool)> {
        let map = self.map.load();
        let mut all: Vec<_> = map
            .iter()
            .flat_map(|(vo, tools)| {
                tools
                    .iter()
                    .map(|(name, tool)| (vo.clone(), name.clone(), tool.clone()))
            })
            .collect();
        all.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        all
    }
}

fn find<'m>(map: &'m Map, at: Where<'_>) -> Option<&'m Tool> {
    map.get(at.vo.unwrap_or(NONE))?.get(at.tool.unwrap_or(NONE))
}

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Requests(..)")
    }
}

/// `requests`.
#[derive(Debug)]
pub(super) struct Decisions(pub(super) Arc<Requests>);

impl EncodeMetric for Decisions {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (vo, name, tool) in self.0.sorted() {
            let mut tasks: Vec<_> = tool.tasks.iter().collect();
            tasks.sort_by_key(|(task, _)| *task);
            for (task, counters) in tasks {
                for (decision, counter) in Decision::ALL.iter().zip(&counters.0) {
                    let count = counter.load(Ordering::Relaxed);
                    // Permits and denials are there from the first request on, so that their rates begin at zero.
                    if count == 0 && !matches!(decision, Decision::Permit | Decision::Deny) {
                        continue;
                    }
                    let labels = [
                        ("vo", vo.as_str()),
                        ("tool", name.as_str()),
                        ("task", task.as_str()),
                        ("decision", decision.as_str()),
                    ];
                    encoder
                        .encode_family(&labels)?
                        .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
                }
            }
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }
}

/// `tool_answer_seconds`.
#[derive(Debug)]
pub(super) struct Answers(pub(super) Arc<Requests>);

impl EncodeMetric for Answers {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (vo, name, tool) in self.0.sorted().iter().filter(|(_, name, _)| name != NONE) {
            let labels = [("vo", vo.as_str()), ("tool", name.as_str())];
            tool.answers.encode_into(&mut encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

/// `tool_failures`.
#[derive(Debug)]
pub(super) struct Failures(pub(super) Arc<Requests>);

impl EncodeMetric for Failures {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (vo, name, tool) in self.0.sorted() {
            let failures = tool
                .failures
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            let mut failures: Vec<_> = failures.into_iter().collect();
            failures.sort_unstable();
            for (reason, count) in failures {
                let labels = [("vo", vo.as_str()), ("tool", name.as_str()), ("reason", reason)];
                encoder
                    .encode_family(&labels)?
                    .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
            }
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn past_the_limit_tasks_are_counted_together() {
        let requests = Requests::default();
        *requests.adding.lock().unwrap() = MOST;
        for task in ["a", "b"] {
            let at = Where {
                vo: Some("imense"),
                tool: Some("jobs"),
                task: Some(task),
            };
            requests.decided(at, Decision::Permit);
        }
        let map = requests.map.load();
        assert_eq!(map.len(), 1);
        let task = &map[REST][REST].tasks[REST];
        assert_eq!(task.0[Decision::Permit as usize].load(Ordering::Relaxed), 2);
    }

    #[test]
    fn no_count_is_lost_while_tasks_are_added() {
        let requests = Arc::new(Requests::default());
        std::thread::scope(|scope| {
            for thread in 0..4_usize {
                let requests = requests.clone();
                scope.spawn(move || {
                    for number in 0..200_usize {
                        let task = format!("t{}", (number * 7 + thread) % 50);
                        let at = Where {
                            vo: Some("imense"),
                            tool: Some("jobs"),
                            task: Some(&task),
                        };
                        requests.decided(at, Decision::Deny);
                    }
                });
            }
        });
        let map = requests.map.load();
        let tasks = map["imense"]["jobs"].tasks.values();
        let sum: u64 = tasks
            .map(|task| task.0[Decision::Deny as usize].load(Ordering::Relaxed))
            .sum();
        assert_eq!(sum, 800);
    }
}
