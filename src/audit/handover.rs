//! What the writer hands the index: records that are durable, so that they need not be read back and parsed.

use std::sync::Mutex;

use super::index::Facts;
use super::queue::held;
use crate::clock::Timestamp;

/// Most records that wait for the index; it reads further ones from the segments.
const MOST: usize = 16_384;
/// Most bytes that their events may take as JSON.
const MOST_BYTES: usize = 32 << 20;

/// A durable record and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Handed {
    /// Position in the log.
    pub(crate) seq: u64,
    /// Number of its segment.
    pub(crate) segment: u64,
    /// Offset of its frame in the segment.
    pub(crate) offset: u64,
    /// When the writer took it.
    pub(crate) time: Timestamp,
    /// What it is found by.
    pub(super) facts: Facts,
}

#[derive(Debug, Default)]
struct Waiting {
    records: Vec<Handed>,
    bytes: usize,
}

/// Records on their way from the writer to the index, in order.
#[derive(Debug, Default)]
pub(crate) struct Handover(Mutex<Waiting>);

impl Handover {
    /// Hands records over, each with the bytes that its event takes. What there is no room for is left out.
    pub(crate) fn give(&self, records: impl Iterator<Item = (Handed, usize)>) {
        let mut waiting = held(&self.0);
        for (record, bytes) in records {
            if waiting.records.len() < MOST && waiting.bytes + bytes <= MOST_BYTES {
                waiting.bytes += bytes;
                waiting.records.push(record);
            }
        }
    }

    /// Takes everything that was handed over.
    pub(crate) fn take(&self) -> Vec<Handed> {
        std::mem::take(&mut *held(&self.0)).records
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(seq: u64) -> Handed {
        Handed {
            seq,
            segment: 0,
            offset: 0,
            time: Timestamp(0),
            facts: Facts::default(),
        }
    }

    #[test]
    fn an_index_that_does_not_come_costs_no_more_memory_than_there_is_room_for() {
        let handover = Handover::default();
        let many = MOST as u64 + 10;
        let small = |seq| (record(seq), 100);
        handover.give((0..many / 2).map(small));
        handover.give((many / 2..many).map(small));
        let taken: Vec<u64> = handover.take().iter().map(|record| record.seq).collect();
        assert_eq!(taken, (0..MOST as u64).collect::<Vec<_>>());
        handover.give([small(many)].into_iter());
        assert_eq!(handover.take(), [record(many)]);
        assert_eq!(handover.take(), []);
        handover.give((0..3).map(|seq| (record(seq), MOST_BYTES / 2)));
        assert_eq!(handover.take(), [record(0), record(1)]);
    }
}
