//! Power cuts, a disk that hangs and a disk that is full, below the built program: `tests/long/disk.c` stands between it
//! and the folder of its log, and says afterwards what would be left.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use crate::conformance::wire;
use crate::python::{PythonTool, wrap};
use crate::world::{World, read_answer, until};

/// A gateway whose log lies on such a disk, with a tool behind it.
struct Machine {
    world: World,
    token: String,
    library: String,
    tool: PythonTool,
}

impl Machine {
    fn new() -> Self {
        let mut world = World::start();
        world.admin().person("john", &["scientist"]);
        let tool = PythonTool::start(world.dir.path());
        wrap(&world, "probe", &tool.url(), "none");
        world.stop();
        // Small segments, so that there are many and the disk need not write zeros all the time.
        let settings = world.data().join("countersign.toml");
        let text = fs::read_to_string(&settings).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with("segment_bytes"));
        let text = lines.collect::<Vec<_>>().join("\n");
        fs::write(
            &settings,
            text.replace("[audit]\n", "[audit]\nsegment_bytes = 262144\n"),
        )
        .unwrap();
        // The address of the next start is another one, but the sign-in stays good.
        let token = world.token("john");
        let library = world.dir.path().join("disk.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/long/disk.c");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O2", "-o"])
            .arg(&library)
            .args([source, "-ldl"])
            .status();
        assert!(built.expect("cc is there (apt-get install gcc)").success());
        fs::create_dir(world.dir.path().join("control")).unwrap();
        Self {
            token,
            library: library.to_str().unwrap().to_owned(),
            world,
            tool,
        }
    }

    fn log(&self) -> PathBuf {
        self.world.data().join("log")
    }

    fn journal(&self) -> PathBuf {
        self.world.dir.path().join("journal")
    }

    fn control(&self, name: &str) -> PathBuf {
        self.world.dir.path().join("control").join(name)
    }

    /// Starts the gateway on the disk that forgets.
    fn start(&mut self, lies: bool) {
        let _ = fs::remove_file(self.journal());
        let (folder, journal, control) = (self.log(), self.journal(), self.world.dir.path().join("control"));
        let mut environment = vec![
            ("LD_PRELOAD", self.library.as_str()),
            ("DISK_FOLDER", folder.to_str().unwrap()),
            ("DISK_JOURNAL", journal.to_str().unwrap()),
            ("DISK_CONTROL", control.to_str().unwrap()),
        ];
        if lies {
            environment.push(("DISK_LIES", "1"));
        }
        self.world.serve_with(&environment);
    }

    /// Acts over one connection until it breaks or `enough` answers came in all; gives the ids of the requests that were
    /// answered with 200. An action's outcome is durable before the end of its answer.
    fn act(&self, acked: &Mutex<BTreeSet<String>>, enough: usize) {
        let mut tls = wire::connect(&self.world, "http/1.1");
        let request = format!(
            "POST /imense/probe/act HTTP/1.1\r\nHost: gw.localhost:{}\r\nAuthorization: Bearer {}\r\nContent-Length: 1\r\n\r\nx",
            self.world.port(),
            self.token
        );
        while acked.lock().unwrap().len() < enough {
            if tls.write_all(request.as_bytes()).is_err() || tls.flush().is_err() {
                return;
            }
            let mut bytes = Vec::new();
            let mut space = [0; 4096];
            loop {
                match tls.read(&mut space) {
                    Ok(count) if count > 0 => bytes.extend_from_slice(&space[..count]),
                    _ => return,
                }
                let answer = read_answer(&bytes);
                let length = answer
                    .header("content-length")
                    .and_then(|length| length.parse().ok());
                if answer.status != 0 && length.is_some_and(|length: usize| answer.body.len() >= length) {
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    acked.lock().unwrap().insert(answer.request_id());
                    break;
                }
            }
        }
    }

    /// Acts from four connections, kills the gateway once `enough` were answered, and gives all that were.
    fn act_until_killed(&mut self, enough: usize) -> BTreeSet<String> {
        let acked = Mutex::new(BTreeSet::new());
        let pid = self.world.pid().to_string();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| self.act(&acked, usize::MAX));
            }
            until("enough answers", || {
                (acked.lock().unwrap().len() >= enough).then_some(())
            });
            assert!(
                Command::new("kill")
                    .args(["-KILL", &pid])
                    .status()
                    .unwrap()
                    .success()
            );
        });
        self.world.kill();
        acked.into_inner().unwrap()
    }
}

/// A note of the journal: how to undo something.
struct Note {
    kind: u8,
    number: u64,
    inode: u64,
    offset: u64,
    size: u64,
    path: String,
    bytes: Vec<u8>,
}

fn notes(journal: &Path) -> Vec<Note> {
    let bytes = fs::read(journal).unwrap();
    let mut rest = bytes.as_slice();
    let mut notes = Vec::new();
    // The last note may have been cut off by the kill; then nothing had been written yet.
    while let Some((head, after)) = rest.split_at_checked(41) {
        let number = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().unwrap());
        let length = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().unwrap()) as usize;
        let (path, count) = (length(33), length(37));
        let Some((text, after)) = after.split_at_checked(path + count) else {
            break;
        };
        notes.push(Note {
            kind: head[0],
            number: number(1),
            inode: number(9),
            offset: number(17),
            size: number(25),
            path: String::from_utf8(text[..path].to_vec()).unwrap(),
            bytes: text[path..].to_vec(),
        });
        rest = after;
    }
    notes
}

/// What the disk makes of writes that were not synced.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// None of them is there.
    Lost,
    /// Some sectors are there, some are not, in no order; files end somewhere; of renamings the first few happened.
    Mixed(u64),
}

/// A number from 0 to `below` - 1 that hangs on nothing but these.
fn chance(seed: u64, one: u64, two: u64, below: u64) -> u64 {
    let mut x = seed ^ one.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ two.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    for _ in 0..3 {
        x = (x ^ (x >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb);
    }
    (x ^ (x >> 32)) % below
}

const SECTOR: u64 = 512;

/// Makes of a folder what a power cut would have left of it. Gives how many writes were not synced.
fn cut(folder: &Path, journal: &Path, fate: Fate) -> usize {
    let notes = notes(journal);
    let mut files: BTreeMap<u64, u64> = BTreeMap::new();
    let mut folders = 0;
    for note in &notes {
        match note.kind {
            b'S' => drop(files.insert(note.inode, note.offset)),
            b'D' => folders = note.offset,
            _ => {}
        }
    }
    let synced = |note: &Note| match note.kind {
        b'W' | b'F' | b'T' => files.get(&note.inode).is_some_and(|upto| note.number < *upto),
        _ => note.number < folders,
    };
    let open: Vec<&Note> = notes
        .iter()
        .filter(|note| !matches!(note.kind, b'S' | b'D') && !synced(note))
        .collect();
    let paths: BTreeMap<u64, PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (fs::metadata(&path).unwrap().ino(), path))
        .collect();
    // From which note on a file does not grow any more, or a folder does not change.
    let first_lost = |kinds: &[u8], inode: Option<u64>| -> u64 {
        let all: Vec<u64> = open
            .iter()
            .filter(|note| kinds.contains(&note.kind) && inode.is_none_or(|inode| inode == note.inode))
            .map(|note| note.number)
            .collect();
        match fate {
            Fate::Lost => 0,
            Fate::Mixed(seed) => {
                let at = chance(seed, inode.unwrap_or(0), 1, all.len() as u64 + 1);
                all.get(at as usize).copied().unwrap_or(u64::MAX)
            }
        }
    };
    for note in open.iter().rev() {
        let Some(path) = paths.get(&note.inode) else {
            continue;
        };
        if matches!(note.kind, b'W' | b'F' | b'T') {
            let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
            if note.kind != b'W' {
                if note.number >= first_lost(b"FT", Some(note.inode)) {
                    file.write_all_at(&note.bytes, note.offset).unwrap();
                }
                continue;
            }
            undo_write(&file, note, &open, fate);
            // What a write added to a file is there up to some write, and not beyond it.
            if note.number >= first_lost(b"W", Some(note.inode)) && file.metadata().unwrap().len() > note.size
            {
                file.set_len(note.size).unwrap();
            }
        }
    }
    let lost = first_lost(b"COR", None);
    for note in open.iter().rev().filter(|note| note.number >= lost) {
        match note.kind {
            b'C' => drop(fs::remove_file(&note.path)),
            b'O' => fs::write(&note.path, &note.bytes).unwrap(),
            b'R' => drop(fs::rename(
                String::from_utf8_lossy(&note.bytes).as_ref(),
                &note.path,
            )),
            _ => {}
        }
    }
    open.iter().filter(|note| note.kind == b'W').count()
}

/// Puts back what a write overwrote, sector by sector: of each sector some of the first writes happened.
fn undo_write(file: &fs::File, note: &Note, open: &[&Note], fate: Fate) {
    let end = note.offset + note.bytes.len() as u64;
    let mut at = note.offset;
    while at < end {
        let sector = at / SECTOR;
        let next = ((sector + 1) * SECTOR).min(end);
        let lost = match fate {
            Fate::Lost => true,
            Fate::Mixed(seed) => {
                let touching: Vec<u64> = open
                    .iter()
                    .filter(|other| other.kind == b'W' && other.inode == note.inode)
                    .filter(|other| {
                        let last = other.offset + (other.bytes.len() as u64).max(1) - 1;
                        (other.offset / SECTOR..=last / SECTOR).contains(&sector)
                    })
                    .map(|other| other.number)
                    .collect();
                let kept = chance(seed, note.inode, sector + 2, touching.len() as u64 + 1);
                touching.iter().position(|number| *number == note.number) >= Some(kept as usize)
            }
        };
        if lost {
            let old = &note.bytes[(at - note.offset) as usize..(next - note.offset) as usize];
            file.write_all_at(old, at).unwrap();
        }
        at = next;
    }
}

/// How many of these requests lack their intent or their outcome.
fn missing(world: &World, acked: &BTreeSet<String>) -> usize {
    let records = world.records();
    let of = |name: &str| -> BTreeSet<String> {
        let events = records.iter().map(|record| &record["event"][name]["request"]);
        events.filter_map(|id| id.as_str().map(str::to_owned)).collect()
    };
    let (intents, outcomes) = (of("intent"), of("outcome"));
    acked
        .iter()
        .filter(|id| !intents.contains(*id) || !outcomes.contains(*id))
        .count()
}

fn rounds() -> u64 {
    if std::env::var_os("COUNTERSIGN_LONG").is_some() {
        200
    } else {
        3
    }
}

#[test]
fn after_a_power_cut_everything_that_was_acknowledged_is_there() {
    let mut machine = Machine::new();
    let mut acked = BTreeSet::new();
    let mut undone = 0;
    let mut round = 0;
    // Until there was something to undo: a kill may come when all is on the disk.
    while round < rounds() || (undone == 0 && round < 10 * rounds()) {
        machine.start(false);
        acked.extend(machine.act_until_killed(20 + 10 * (round as usize % 7)));
        let fate = if round % 3 == 0 {
            Fate::Lost
        } else {
            Fate::Mixed(round)
        };
        undone += cut(&machine.log(), &machine.journal(), fate);
        machine.world.serve();
        let lost = missing(&machine.world, &acked);
        assert_eq!(
            lost,
            0,
            "{lost} of {} acknowledged requests are gone after {fate:?} in round {round}",
            acked.len()
        );
        let damaged = |record: &serde_json::Value| {
            let damage = record["event"]["recovery"]["damage"].as_array();
            damage.is_some_and(|damage| !damage.is_empty())
        };
        assert!(
            !machine.world.records().iter().any(damaged),
            "damage after {fate:?} in round {round}"
        );
        machine.world.verify().ok();
        machine.world.stop();
        round += 1;
    }
    // Else nothing was tried.
    assert!(
        undone > 0 && acked.len() >= 20 * rounds() as usize,
        "{undone} writes undone, {} answers",
        acked.len()
    );
}

#[test]
fn a_disk_that_says_it_has_written_and_has_not_is_found_out() {
    let mut machine = Machine::new();
    machine.start(true);
    let acked = machine.act_until_killed(40);
    cut(&machine.log(), &machine.journal(), Fate::Lost);
    machine.world.serve();
    assert!(
        missing(&machine.world, &acked) > 0,
        "this test would not notice a writer without fsync"
    );
}

#[test]
fn while_the_disk_hangs_or_is_full_requests_are_refused_in_time_and_afterwards_all_goes_on() {
    let mut machine = Machine::new();
    machine.start(false);
    let url = format!("{}/imense/probe/act", machine.world.base());
    let bearer = format!("Authorization: Bearer {}", machine.token);
    let act = |world: &World| world.curl(&["-X", "POST", "-H", &bearer, "--data", "x", &url]);
    let ready = |world: &World| {
        let url = format!("http://{}/ready", world.operations());
        crate::world::curl(None, &[&url]).status
    };
    for trouble in ["hang", "full"] {
        act(&machine.world).expect(200);
        let seen = machine.tool.seen().len();
        fs::write(machine.control(trouble), "").unwrap();
        let refused = act(&machine.world);
        assert_eq!(refused.status, 503, "{trouble}: {}", refused.text());
        assert_eq!(refused.problem(), "log_unavailable", "{trouble}");
        until("red", || (ready(&machine.world) == 503).then_some(()));
        // One may have been on its way to the disk; what came while it was known to fail did not reach the tool.
        assert_eq!(machine.tool.seen().len(), seen, "{trouble}");
        fs::remove_file(machine.control(trouble)).unwrap();
        until("green", || (ready(&machine.world) == 200).then_some(()));
        until("service again", || {
            (act(&machine.world).status == 200).then_some(())
        });
    }
    let acked: BTreeSet<String> = [act(&machine.world).expect(200).request_id()].into();
    assert_eq!(missing(&machine.world, &acked), 0);
    machine.world.stop();
    machine.world.verify().ok();
}
