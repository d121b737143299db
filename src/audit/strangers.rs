//! Refusals of strangers, summed: one record per problem, source network and minute, with exact totals.
//!
//! A flood must not fill the disk that fail-closed depends on: the table is bounded, and what does not fit is counted
//! under the source `other`.

use std::collections::HashMap;

use crate::clock::Timestamp;
use crate::id::RequestId;
use crate::record;

/// Rows of one minute. With one more per problem this stays far below 50 records a second.
const ROWS: usize = 1024;
const OTHER: &str = "other";
const MINUTE: i64 = 60_000_000;

/// The table of the present minute.
#[derive(Debug, Default)]
pub(crate) struct Strangers {
    minute: Timestamp,
    rows: HashMap<(String, String), (u64, RequestId)>,
}

impl Strangers {
    /// Counts one refusal. Gives the records of the minute before when this is the first of a new one.
    pub(crate) fn count(
        &mut self,
        now: Timestamp,
        problem: &str,
        source: &str,
        example: RequestId,
    ) -> Vec<record::Strangers> {
        let done = self.flush_before(now);
        let full = self.rows.len() >= ROWS;
        let key = (problem.to_owned(), source.to_owned());
        let key = if full && !self.rows.contains_key(&key) {
            (key.0, OTHER.to_owned())
        } else {
            key
        };
        self.rows.entry(key).or_insert((0, example)).0 += 1;
        done
    }

    /// The records of a minute that is over at `now`.
    pub(crate) fn flush_before(&mut self, now: Timestamp) -> Vec<record::Strangers> {
        let minute = Timestamp(now.0.div_euclid(MINUTE) * MINUTE);
        let done = if minute == self.minute {
            Vec::new()
        } else {
            self.flush()
        };
        self.minute = minute;
        done
    }

    /// The records of everything counted so far.
    pub(crate) fn flush(&mut self) -> Vec<record::Strangers> {
        let minute = self.minute;
        let record = |((problem, source), (count, example))| record::Strangers {
            problem,
            source,
            minute,
            count,
            example,
        };
        let mut done: Vec<_> = self.rows.drain().map(record).collect();
        done.sort_by(|a, b| (&a.problem, &a.source).cmp(&(&b.problem, &b.source)));
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::testing::ids;
    use std::collections::BTreeMap;
    use std::time::Duration;

    #[test]
    fn totals_are_exact_however_many_sources_there_are() {
        let ids = ids();
        let mut table = Strangers::default();
        let mut records = Vec::new();
        let start = Timestamp::from_secs(1_700_000_040);
        let mut sent: BTreeMap<&str, u64> = BTreeMap::new();
        for n in 0..5000_u64 {
            let now = start.plus(Duration::from_millis(n * 30));
            let problem = if n % 3 == 0 { "malformed" } else { "no_credential" };
            *sent.entry(problem).or_default() += 1;
            let source = format!("10.{}.{}.0/24", n % 2000 / 256, n % 256);
            records.extend(table.count(now, problem, &source, ids.next().unwrap()));
        }
        let per_minute = records.iter().filter(|record| record.minute == start).count();
        assert!(per_minute <= ROWS + 2, "{per_minute}");
        records.extend(table.flush());
        let mut written: BTreeMap<&str, u64> = BTreeMap::new();
        for record in &records {
            *written.entry(&record.problem).or_default() += record.count;
            assert_eq!(record.minute.0 % MINUTE, 0);
        }
        assert_eq!(written, sent);
        assert!(records.iter().any(|record| record.source == OTHER));
        assert!(table.flush().is_empty());
    }
}
