//! The helper thread: makes zero-filled spare segments, signs and stores checkpoints, watches the free space.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::Space;
use super::blocks;
use super::checkpoint::Checkpoint;
use super::key::LogKey;
use super::queue::{Shared, held};
use super::segment::HEADER;
use crate::record::{Event, Hash};

/// Spares held ready.
const SPARES: usize = 2;
/// What comes instead of a number in the name of the reserved one.
const RESERVED: &str = "reserved";
const TICK: Duration = Duration::from_secs(1);
/// After each piece of a spare that is not urgent: some 80 MiB a second are more than the log grows.
const PAUSE: Duration = Duration::from_millis(1);

/// The keeper's side of the conversation with the writer.
#[derive(Debug)]
pub(crate) struct Keeper {
    shared: Arc<Shared>,
    key: LogKey,
    name: String,
    state: Mutex<State>,
    bell: Condvar,
}

#[derive(Debug, Default)]
struct State {
    spares: VecDeque<PathBuf>,
    /// The one that is used when there is no other.
    reserved: Option<PathBuf>,
    made: u64,
    head: Option<(u64, Hash)>,
    /// Whether somebody waits until its checkpoint is durable.
    awaited: bool,
    /// Whether the last one could not be stored: said once, not at each attempt.
    failing: bool,
    /// Size of the newest checkpoint in `checkpoints`.
    stored: u64,
    stop: bool,
}

impl State {
    fn wants(&self) -> bool {
        self.spares.len() < SPARES || self.reserved.is_none()
    }
}

/// Why the thread woke.
struct Woken {
    wanted: bool,
    stop: bool,
    timed_out: bool,
}

impl Keeper {
    pub(crate) fn new(shared: Arc<Shared>, key: LogKey, name: String) -> Self {
        Self {
            shared,
            key,
            name,
            state: Mutex::default(),
            bell: Condvar::new(),
        }
    }

    /// Takes over the whole spares that are there, and removes the rest of earlier runs.
    pub(crate) fn adopt_spares(&self) -> io::Result<()> {
        let mut state = held(&self.state);
        for entry in fs::read_dir(&self.shared.config.folder)? {
            let path = entry?.path();
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default()
                .to_owned();
            let Some(number) = name.strip_prefix("spare-") else {
                continue;
            };
            let whole = self.is_whole(&path)?;
            if whole && number == RESERVED {
                state.reserved = Some(path);
            } else if whole && state.spares.len() < SPARES {
                state.made = state.made.max(number.parse().unwrap_or(0));
                state.spares.push_back(path);
            } else {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// Whether a spare has the right size and was never begun: it got its name only after its zeros were synced.
    fn is_whole(&self, path: &Path) -> io::Result<bool> {
        use std::os::unix::fs::FileExt;
        let named = path.extension().is_none();
        if !named || fs::metadata(path)?.len() != self.shared.config.segment_bytes {
            return Ok(false);
        }
        let mut block = vec![0; HEADER];
        File::open(path)?.read_exact_at(&mut block, 0)?;
        Ok(block.iter().all(|byte| *byte == 0))
    }

    /// A zero-filled file to become the next segment; made on the spot when none is ready.
    pub(crate) fn spare(&self) -> io::Result<PathBuf> {
        let ready = held(&self.state).spares.pop_front();
        self.bell.notify_one();
        match ready {
            Some(path) => Ok(path),
            None => self.make_spare(self.shared.config.segment_bytes, &|| {}),
        }
    }

    /// Whether there is a spare to go on with.
    pub(crate) fn has_spare(&self) -> bool {
        !held(&self.state).spares.is_empty()
    }

    /// The reserved file, for when there is no spare and none can be made. Where it is in use already, or a start finds it
    /// used, a smaller one is made of what room is left.
    pub(crate) fn reserved(&self) -> Option<PathBuf> {
        let ready = held(&self.state).reserved.take();
        let whole = self.shared.config.segment_bytes;
        // INVARIANT: never under the name of the reserve, which this thread's neighbour may be making now: its zeros would go
        // over the records.
        ready.or_else(|| {
            [whole / 2, whole / 4]
                .into_iter()
                .find_map(|bytes| self.make_spare(bytes, &|| {}).ok())
        })
    }

    /// A file of `bytes` zeros under a name that nobody else uses. `between` is called after each piece.
    fn make_spare(&self, bytes: u64, between: &dyn Fn()) -> io::Result<PathBuf> {
        let number = {
            let mut state = held(&self.state);
            state.made += 1;
            state.made
        };
        self.make(&number.to_string(), bytes, between)
    }

    fn make(&self, name: &str, bytes: u64, between: &dyn Fn()) -> io::Result<PathBuf> {
        let path = self.shared.config.folder.join(format!("spare-{name}"));
        let temporary = path.with_extension("tmp");
        let made = self
            .zeros(&temporary, bytes, between)
            .and_then(|()| fs::rename(&temporary, &path));
        if made.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        made.map(|()| path)
    }

    fn zeros(&self, path: &Path, bytes: u64, between: &dyn Fn()) -> io::Result<()> {
        blocks::zeros(path, bytes, || {
            between();
            match held(&self.state).stop {
                true => Err(io::Error::new(
                    io::ErrorKind::Interrupted,
                    "the log is being closed",
                )),
                false => Ok(()),
            }
        })
    }

    /// Asks for a checkpoint of a head of which every record is durable; with `awaited` for a durable one.
    pub(crate) fn checkpoint(&self, size: u64, root: Hash, awaited: bool) {
        let mut state = held(&self.state);
        state.head = Some((size, root));
        state.awaited |= awaited;
        drop(state);
        self.bell.notify_one();
    }

    /// Signs and stores the first checkpoint of a run, durably, before anything can be acknowledged: from then on records
    /// without any checkpoint are damage.
    pub(crate) fn sign_first(&self, size: u64, root: Hash) -> io::Result<()> {
        self.sign_durably(size, root)
    }

    fn sign_durably(&self, size: u64, root: Hash) -> io::Result<()> {
        self.sign(size, root)?;
        let folder = &self.shared.config.folder;
        for name in ["checkpoints", "checkpoint"] {
            File::open(folder.join(name))?.sync_all()?;
        }
        super::writer::sync_folder(folder)?;
        self.shared.signed.send_replace(size);
        Ok(())
    }

    /// Signs what is to be signed. False when there was nothing.
    fn sign_head(&self) -> bool {
        let (head, awaited) = {
            let mut state = held(&self.state);
            (state.head.take(), std::mem::take(&mut state.awaited))
        };
        let Some((size, root)) = head else { return false };
        let signed = match awaited {
            true => self.sign_durably(size, root),
            false => self.sign(size, root),
        };
        let failed = signed.is_err();
        let said = std::mem::replace(&mut held(&self.state).failing, failed);
        if let Err(error) = signed {
            if !said {
                tracing::error!("checkpoint of size {size} not stored: {error}");
            }
            self.retry((size, root), awaited);
        }
        true
    }

    /// Ends the thread after the last checkpoint was stored.
    pub(crate) fn stop(&self) {
        held(&self.state).stop = true;
        self.bell.notify_one();
    }

    /// The thread.
    pub(crate) fn run(&self) {
        let mut outside_due = self.shared.newest.load().is_some();
        let mut outside = self.newest();
        let mut last_tick = self.shared.ids.clock().monotonic();
        // Said once, not at each attempt.
        let mut short = false;
        loop {
            let Woken {
                wanted,
                stop,
                timed_out,
            } = self.wait();
            let now = self.shared.ids.clock().monotonic();
            let ticked = timed_out || now.saturating_sub(last_tick) >= TICK;
            if ticked {
                last_tick = now;
            }
            outside_due |= self.sign_head() || self.newest() > outside;
            if outside_due && (ticked || stop) {
                outside = self.newest();
                outside_due = !self.store_outside();
            }
            if stop {
                return;
            }
            if ticked {
                self.look_at_space();
            }
            if wanted && !self.replenish(&mut short) {
                std::thread::sleep(TICK / 4);
            }
        }
    }

    fn wait(&self) -> Woken {
        let mut state = held(&self.state);
        let mut timed_out = false;
        while !(state.head.is_some() || state.stop || state.wants() || timed_out) {
            let (again, timeout) = self
                .bell
                .wait_timeout(state, TICK)
                .unwrap_or_else(PoisonError::into_inner);
            state = again;
            timed_out = timeout.timed_out();
        }
        Woken {
            wanted: state.wants(),
            stop: state.stop,
            timed_out,
        }
    }

    fn retry(&self, head: (u64, Hash), awaited: bool) {
        if !held(&self.state).stop {
            std::thread::sleep(TICK / 4);
        }
        let mut state = held(&self.state);
        state.head.get_or_insert(head);
        state.awaited |= awaited;
    }

    /// Size of the newest checkpoint.
    fn newest(&self) -> u64 {
        self.shared.newest.load().as_ref().map_or(0, |newest| newest.size)
    }

    /// Makes a spare. False when there is none to be had now.
    fn replenish(&self, short: &mut bool) -> bool {
        if self.shared.space_left() == Space::Stopped {
            return false;
        }
        let spares = held(&self.state).spares.len() < SPARES;
        let bytes = self.shared.config.segment_bytes;
        let between = || {
            // Whoever waits for a checkpoint does not wait for this.
            if held(&self.state).awaited {
                self.sign_head();
            }
            // With another spare at hand the disk is the writer's.
            if self.has_spare() {
                std::thread::sleep(PAUSE);
            }
        };
        let made = if spares {
            self.make_spare(bytes, &between)
        } else {
            self.make(RESERVED, bytes, &between)
        };
        match made {
            Ok(path) => {
                let mut state = held(&self.state);
                if spares {
                    state.spares.push_back(path);
                } else {
                    state.reserved = Some(path);
                }
                *short = false;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                if !std::mem::replace(short, true) {
                    tracing::warn!("no spare segment could be made: {error}");
                }
            }
        }
        !*short
    }

    fn sign(&self, size: u64, root: Hash) -> io::Result<()> {
        let checkpoint = Checkpoint::sign(&self.key, &self.name, self.shared.epoch, size, root)
            .map_err(|error| io::Error::other(error.to_string()))?;
        let stored = self.store(&checkpoint);
        // SECURITY: it leaves the machine whether or not there is room for it here: that is when it is needed most.
        self.shared.newest.store(Some(Arc::new(checkpoint)));
        stored?;
        let now = self.shared.ids.clock().monotonic().as_micros();
        let signed = &self.shared.meters.signed;
        signed.store(i64::try_from(now).unwrap_or(i64::MAX), Ordering::Relaxed);
        Ok(())
    }

    /// Puts a checkpoint behind the others and makes it the newest.
    fn store(&self, checkpoint: &Checkpoint) -> io::Result<()> {
        let folder = &self.shared.config.folder;
        if held(&self.state).stored < checkpoint.size {
            append(&folder.join("checkpoints"), &format!("{}\n", checkpoint.note))?;
            held(&self.state).stored = checkpoint.size;
        }
        replace(&folder.join("checkpoint"), checkpoint.note.as_bytes())
    }

    /// Writes the newest checkpoint to the file elsewhere. False when it has to be tried again.
    fn store_outside(&self) -> bool {
        let (Some(path), Some(newest)) = (&self.shared.config.outside, self.shared.newest.load_full()) else {
            return true;
        };
        match replace(path, newest.note.as_bytes()) {
            Ok(()) => true,
            Err(error) => {
                tracing::error!("checkpoint not stored in `{}`: {error}", path.display());
                false
            }
        }
    }

    /// Looks how much room there is, and writes it down when that is another state than before.
    pub(crate) fn look_at_space(&self) {
        let config = &self.shared.config;
        let Ok(stat) = rustix::fs::statvfs(&config.folder) else {
            return;
        };
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        let space = if free < config.stop_free_bytes {
            Space::Stopped
        } else if free < config.min_free_bytes {
            Space::Low
        } else {
            Space::Ok
        };
        let before = self.shared.space_left();
        self.shared.set_space(space, free);
        if space != before {
            tracing::warn!(free_bytes = free, "room for the audit log: {}", space.as_str());
            self.shared.must(Event::LogDegraded(self.shared.degraded()));
        }
    }
}

/// Appends to a file all of `text` or nothing.
fn append(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    let before = file.metadata()?.len();
    let written = file.write_all(text.as_bytes());
    if written.is_err() {
        // A half note would make the rest of the file unreadable.
        file.set_len(before)?;
    }
    written
}

/// Replaces a small file by another in one step.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    fs::write(&temporary, bytes)?;
    fs::rename(&temporary, path)
}
