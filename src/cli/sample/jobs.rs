//! The jobs of the sample tool: queued, run on a few slots, stopped within one image row of being told to.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};

use super::caller::Caller;
use super::otsu::segment;
use super::pgm::Image;

/// How many jobs run at once.
const SLOTS: usize = 2;
/// How many jobs, and how many pixels in all of them, are kept.
const MAX_JOBS: usize = 1_000;
const MAX_PIXELS: usize = 128 * 1024 * 1024;

/// Where a job stands.
#[derive(Clone, Debug)]
pub(super) enum State {
    /// Waiting for a slot.
    Queued,
    /// Being worked on.
    Running,
    /// Finished: threshold, part of the pixels that is foreground, mask as a PGM file.
    Done(u16, f64, Bytes),
    /// Terminated.
    Stopped,
}

impl State {
    const fn word(&self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done(..) => "done",
            Self::Stopped => "stopped",
        }
    }
}

/// What a job is made from.
#[derive(Debug)]
pub(super) struct Order {
    /// A name to know it by.
    pub(super) name: String,
    /// How often the image is smoothed first.
    pub(super) smooth: u32,
    /// The image.
    pub(super) image: Image,
    /// The proxy that came with the request.
    pub(super) caller: Option<Caller>,
}

/// One job.
#[derive(Debug)]
pub(super) struct Job {
    id: u64,
    name: String,
    smooth: u32,
    width: usize,
    height: usize,
    caller: Option<Caller>,
    permille: AtomicU32,
    stop: AtomicBool,
    state: watch::Sender<State>,
}

impl Job {
    /// Its number, from 1.
    #[must_use]
    pub(super) const fn id(&self) -> u64 {
        self.id
    }

    /// Where it stands now.
    #[must_use]
    pub(super) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// What the tool tells about it.
    #[must_use]
    pub(super) fn document(&self) -> Value {
        let state = self.state();
        let (threshold, foreground) = match &state {
            State::Done(threshold, foreground, _) => (Some(*threshold), Some(*foreground)),
            _ => (None, None),
        };
        json!({
            "id": self.id,
            "name": self.name,
            "state": state.word(),
            "progress": f64::from(self.permille.load(Ordering::Relaxed)) / 1_000.0,
            "width": self.width,
            "height": self.height,
            "smooth": self.smooth,
            "threshold": threshold,
            "foreground": foreground,
            "called_with": self.caller.as_ref().map(Caller::document),
        })
    }

    fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.state.send_if_modified(|state| {
            let open = matches!(state, State::Queued | State::Running);
            if open {
                *state = State::Stopped;
            }
            open
        });
    }

    /// The work itself, on a blocking thread.
    fn work(&self, image: Image) {
        let begun = self.state.send_if_modified(|state| {
            let queued = matches!(state, State::Queued);
            if queued {
                *state = State::Running;
            }
            queued
        });
        if !begun {
            return;
        }
        let found = segment(image, self.smooth, &mut |done| {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "0 to 1000"
            )]
            self.permille.store((done * 1_000.0) as u32, Ordering::Relaxed);
            !self.stop.load(Ordering::SeqCst)
        });
        let Some(found) = found else { return };
        self.permille.store(1_000, Ordering::Relaxed);
        let done = State::Done(
            found.threshold,
            found.foreground,
            Bytes::from(found.mask.encode()),
        );
        self.state.send_if_modified(|state| {
            let running = matches!(state, State::Running);
            if running {
                *state = done;
            }
            running
        });
    }
}

/// There is no room for another job.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many jobs are kept here: terminate some of them")]
pub(super) struct Full;

/// All jobs. Dropping it stops those that are not done.
#[derive(Debug)]
pub(super) struct Jobs {
    kept: Mutex<(u64, BTreeMap<u64, Arc<Job>>)>,
    slots: Arc<Semaphore>,
}

impl Default for Jobs {
    fn default() -> Self {
        Self {
            kept: Mutex::default(),
            slots: Arc::new(Semaphore::new(SLOTS)),
        }
    }
}

impl Jobs {
    fn kept(&self) -> MutexGuard<'_, (u64, BTreeMap<u64, Arc<Job>>)> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a job and starts it as soon as a slot is free. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`Full`] when too many jobs or pixels are kept.
    pub(super) fn submit(&self, order: Order) -> Result<Arc<Job>, Full> {
        let Order {
            name,
            smooth,
            image,
            caller,
        } = order;
        let job = {
            let mut kept = self.kept();
            let pixels: usize = kept.1.values().map(|job| job.width * job.height).sum();
            if kept.1.len() >= MAX_JOBS || pixels + image.pixels.len() > MAX_PIXELS {
                return Err(Full);
            }
            kept.0 += 1;
            let job = Arc::new(Job {
                id: kept.0,
                name,
                smooth,
                width: image.width,
                height: image.height,
                caller,
                permille: AtomicU32::new(0),
                stop: AtomicBool::new(false),
                state: watch::Sender::new(State::Queued),
            });
            kept.1.insert(job.id, Arc::clone(&job));
            job
        };
        let (slots, queued) = (Arc::clone(&self.slots), Arc::clone(&job));
        tokio::spawn(async move {
            let mut state = queued.state.subscribe();
            let slot = tokio::select! {
                slot = slots.acquire_owned() => slot,
                _ = state.wait_for(|state| matches!(state, State::Stopped)) => return,
            };
            tokio::task::spawn_blocking(move || {
                queued.work(image);
                drop(slot);
            });
        });
        Ok(job)
    }

    /// The job with this number.
    #[must_use]
    pub(super) fn find(&self, id: u64) -> Option<Arc<Job>> {
        self.kept().1.get(&id).cloned()
    }

    /// All of them, oldest first.
    #[must_use]
    pub(super) fn list(&self) -> Vec<Arc<Job>> {
        self.kept().1.values().cloned().collect()
    }

    /// Stops the job and forgets it; its number is not given again. False when there is none.
    pub(super) fn terminate(&self, id: u64) -> bool {
        let job = self.kept().1.remove(&id);
        if let Some(job) = &job {
            job.stop();
        }
        job.is_some()
    }
}

impl Drop for Jobs {
    fn drop(&mut self) {
        for job in self.list() {
            job.stop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(smooth: u32) -> Order {
        let image = Image {
            width: 64,
            height: 64,
            max: 255,
            pixels: (0..64 * 64).map(|n| n % 256).collect(),
        };
        Order {
            name: "n".to_owned(),
            smooth,
            image,
            caller: None,
        }
    }

    async fn wait(job: &Job, word: &str) {
        job.state
            .subscribe()
            .wait_for(|state| state.word() == word)
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn a_job_is_done_with_a_mask_of_its_size() {
        let jobs = Jobs::default();
        let job = jobs.submit(order(0)).unwrap();
        wait(&job, "done").await;
        let State::Done(threshold, foreground, mask) = job.state() else {
            panic!("{:?}", job.state())
        };
        let mask = Image::parse(&mask).unwrap();
        assert_eq!((mask.width, mask.height, threshold), (64, 64, 127));
        assert!((foreground - 0.5).abs() < 1e-9);
        assert_eq!(job.document()["state"], "done");
    }

    #[tokio::test]
    async fn a_terminated_job_frees_its_slot_for_the_next() {
        let jobs = Jobs::default();
        let endless: Vec<_> = (0..SLOTS)
            .map(|_| jobs.submit(order(u32::MAX - 1)).unwrap())
            .collect();
        for job in &endless {
            wait(job, "running").await;
        }
        let next = jobs.submit(order(0)).unwrap();
        let never = jobs.submit(order(0)).unwrap();
        assert_eq!(next.document()["state"], "queued");
        assert!(jobs.terminate(never.id()));
        wait(&never, "stopped").await;
        assert!(jobs.terminate(endless[0].id()));
        assert!(!jobs.terminate(endless[0].id()));
        wait(&next, "done").await;
        assert_eq!(jobs.list().iter().map(|job| job.id()).collect::<Vec<_>>(), [2, 3]);
        let last = Arc::clone(&endless[1]);
        drop(jobs);
        wait(&last, "stopped").await;
    }

    #[tokio::test]
    async fn a_number_is_never_given_twice() {
        let jobs = Jobs::default();
        let first = jobs.submit(order(0)).unwrap().id();
        jobs.terminate(first);
        assert_eq!(jobs.submit(order(0)).unwrap().id(), first + 1);
    }

    #[tokio::test]
    async fn what_is_kept_is_bounded() {
        let jobs = Jobs::default();
        for _ in 0..MAX_JOBS {
            jobs.submit(order(0)).unwrap();
        }
        assert_eq!(jobs.submit(order(0)).unwrap_err(), Full);
        jobs.terminate(1);
        assert!(jobs.submit(order(0)).is_ok());
    }
}
