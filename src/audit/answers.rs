//! The way of an answer from the writer to whoever waits for a record.
//!
//! In each lane one task gives the answers of a batch out, so that the writer wakes a lane once and not for every waiter.

use std::array;
use std::sync::{Arc, OnceLock, Weak};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use super::{Audit, AuditError, Inner, Receipt};
use crate::id::RequestId;
use crate::lane;

/// Who waits for a record, and for what.
#[derive(Debug)]
pub(crate) enum Reply {
    /// Nobody.
    None,
    /// Positions of the records.
    Seqs(oneshot::Sender<Result<Vec<u64>, AuditError>>),
    /// The receipt of an intent.
    Receipt(RequestId, oneshot::Sender<Result<Receipt, AuditError>>),
}

impl Reply {
    /// Whether an intent's waiter has gone: then the intent is not written.
    pub(crate) fn is_void(&self) -> bool {
        matches!(self, Self::Receipt(_, waiter) if waiter.is_closed())
    }
}

/// An answer on its way from the writer to the task that gives it out.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The lane in which somebody waits.
    pub(crate) lane: usize,
    pub(crate) reply: Reply,
    pub(crate) result: Result<Vec<u64>, AuditError>,
}

/// The tasks that give answers out, by number of their lane; 0 is that of everything outside of lanes.
#[derive(Debug)]
pub(crate) struct Answers([OnceLock<UnboundedSender<Vec<Answer>>>; lane::MOST + 1]);

impl Default for Answers {
    fn default() -> Self {
        Self(array::from_fn(|_| OnceLock::new()))
    }
}

impl Answers {
    /// The number of the caller's lane, in which answers are given out from here on. Must be called within a tokio runtime.
    pub(super) fn here(&self, audit: &Arc<Inner>) -> usize {
        let number = lane::number();
        if let Some(way) = self.0.get(number) {
            way.get_or_init(|| {
                let (way, batches) = unbounded_channel();
                tokio::spawn(give_out(Arc::downgrade(audit), batches));
                way
            });
        }
        number
    }

    /// Sends the answers of a batch on their way.
    pub(crate) fn send(&self, mut answers: Vec<Answer>) {
        answers.sort_by_key(|answer| answer.lane);
        while let Some(lane) = answers.last().map(|answer| answer.lane) {
            let of_lane = answers.split_off(answers.partition_point(|answer| answer.lane < lane));
            if let Some(way) = self.0.get(lane).and_then(OnceLock::get) {
                // Nobody listens any more only when the gateway itself has gone.
                let _ = way.send(of_lane);
            }
        }
    }
}

pub(super) async fn give_out(audit: Weak<Inner>, mut batches: UnboundedReceiver<Vec<Answer>>) {
    while let Some(batch) = batches.recv().await {
        for Answer { reply, result, .. } in batch {
            match reply {
                Reply::None => {}
                // A waiter that has gone needs no answer: its record stands.
                Reply::Seqs(waiter) => drop(waiter.send(result)),
                Reply::Receipt(request, waiter) => {
                    let Some(audit) = audit.upgrade().map(Audit) else {
                        continue;
                    };
                    let seq = |seqs: Vec<u64>| seqs.first().copied().unwrap_or_default();
                    let receipt = result.map(|seqs| Receipt::new(audit, request, seq(seqs)));
                    if let Err(Ok(receipt)) = waiter.send(receipt) {
                        // It was refused meanwhile, so nothing was sent to any tool.
                        receipt.not_sent();
                    }
                }
            }
        }
    }
}
