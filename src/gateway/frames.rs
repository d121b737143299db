//! The frames of an HTTP/2 connection, counted as they come (RFC 9113 section 4.1).
//!
//! The parser judges what frames say; this only follows their heads, to see two things that a parser lets happen: a
//! client that sends frames which cost work and carry nothing (pings, settings, resets, priorities, empty data), and a
//! client that begins a preface or a block of headers and does not go on.

use tokio::time::Instant;

/// What an HTTP/2 client says first (RFC 9113 section 3.4).
const PREFACE: usize = 24;
/// Length, type, flags, stream.
const HEAD: usize = 9;
/// Frames that carry nothing: this many at once, then so many in a second.
const FRAMES: Allowance = Allowance::new(1_000.0, 100.0);
/// One more for this many bytes that carry something, in either direction: whoever moves data pings to measure the way.
const BYTES_PER_FRAME: f64 = 1_024.0;
/// Resets: browsers that leave a page reset many requests at once, floods do not stop.
const RESETS: Allowance = Allowance::new(500.0, 50.0);

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 0x4;

/// The client sends frames that only cost work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client floods its connection with {0}")]
pub(super) struct Flood(&'static str);

/// Follows what a client sends.
#[derive(Debug)]
pub(super) struct Frames {
    state: State,
    /// In a block of headers that is not at its end.
    in_block: bool,
    empty: Allowance,
    resets: Allowance,
}

#[derive(Debug)]
enum State {
    Preface(usize),
    Head { bytes: [u8; HEAD], have: usize },
    Payload { left: usize, data: bool },
}

impl State {
    const HEAD: Self = Self::Head {
        bytes: [0; HEAD],
        have: 0,
    };
}

impl Frames {
    pub(super) fn new() -> Self {
        Self {
            state: State::Preface(PREFACE),
            in_block: false,
            empty: FRAMES,
            resets: RESETS,
        }
    }

    /// Follows bytes as they came. Says whether there was a moment in them at which nothing had to go on.
    ///
    /// # Errors
    /// [`Flood`]: the connection must end.
    pub(super) fn advance(&mut self, mut bytes: &[u8], now: Instant) -> Result<bool, Flood> {
        let mut rested = false;
        while !bytes.is_empty() {
            let taken = match &mut self.state {
                State::Preface(left) | State::Payload { left, .. } => {
                    let taken = bytes.len().min(*left);
                    *left -= taken;
                    if *left == 0 {
                        self.state = State::HEAD;
                    }
                    taken
                }
                State::Head { bytes: head, have } => {
                    let taken = bytes.len().min(HEAD - *have);
                    for (to, from) in head.iter_mut().skip(*have).zip(bytes.iter().take(taken)) {
                        *to = *from;
                    }
                    *have += taken;
                    if *have == HEAD {
                        let head = *head;
                        self.begin(head, now)?;
                    }
                    taken
                }
            };
            bytes = bytes.get(taken..).unwrap_or_default();
            rested |= !self.is_awaiting();
        }
        Ok(rested)
    }

    fn begin(&mut self, head: [u8; HEAD], now: Instant) -> Result<(), Flood> {
        let [high, middle, low, kind, flags, ..] = head;
        let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        self.state = match length {
            0 => State::HEAD,
            left => State::Payload {
                left,
                data: kind == DATA,
            },
        };
        match kind {
            HEADERS | CONTINUATION => self.in_block = flags & END_HEADERS == 0,
            _ => {}
        }
        match kind {
            // The parser bounds a block of headers; windows let something go on.
            HEADERS | CONTINUATION | WINDOW_UPDATE => Ok(()),
            DATA if length > 0 => {
                self.moved(length);
                Ok(())
            }
            RST_STREAM => self.resets.take(now).then_some(()).ok_or(Flood("resets")),
            _ => self
                .empty
                .take(now)
                .then_some(())
                .ok_or(Flood("frames that carry nothing")),
        }
    }

    /// Bytes that carry something went in or out.
    pub(super) fn moved(&mut self, bytes: usize) {
        #[expect(clippy::cast_precision_loss, reason = "an allowance, not an account")]
        let bytes = bytes as f64;
        self.empty.add(bytes / BYTES_PER_FRAME);
    }

    /// Whether something began that has to go on: the preface, the head of a frame, a block of headers, a frame without
    /// data. What comes as data is for its reader to wait for.
    pub(super) const fn is_awaiting(&self) -> bool {
        match self.state {
            State::Preface(_) => true,
            State::Head { have, .. } => have > 0 || self.in_block,
            State::Payload { data, .. } => !data,
        }
    }
}

/// So many at once, then so many in a second.
#[derive(Debug)]
struct Allowance {
    most: f64,
    per_second: f64,
    left: f64,
    at: Option<Instant>,
}

impl Allowance {
    const fn new(most: f64, per_second: f64) -> Self {
        Self {
            most,
            per_second,
            left: most,
            at: None,
        }
    }

    fn take(&mut self, now: Instant) -> bool {
        if let Some(at) = self.at.replace(now) {
            self.add(now.saturating_duration_since(at).as_secs_f64() * self.per_second);
        }
        self.left -= 1.0;
        self.left >= 0.0
    }

    const fn add(&mut self, more: f64) {
        self.left = (self.left + more).min(self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    fn begun() -> Frames {
        let mut frames = Frames::new();
        frames
            .advance(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Instant::now())
            .unwrap();
        frames
    }

    #[test]
    fn a_flood_of_each_kind_is_seen_and_the_same_over_time_is_not() {
        for (name, sent, at_once) in [
            ("ping", frame(6, 0, &[0; 8]), 1_000),
            ("settings", frame(4, 0, &[]), 1_000),
            ("priority", frame(2, 0, &[0; 5]), 1_000),
            ("empty data", frame(DATA, 0, &[]), 1_000),
            ("unknown", frame(0xbe, 0, &[]), 1_000),
            ("reset", frame(RST_STREAM, 0, &[0; 4]), 500),
        ] {
            let (mut frames, mut now) = (begun(), Instant::now());
            let taken = (0..5_000)
                .take_while(|_| frames.advance(&sent, now).is_ok())
                .count();
            assert_eq!(taken, at_once, "{name}");
            let mut frames = begun();
            for _ in 0..5_000 {
                now += Duration::from_millis(20);
                frames.advance(&sent, now).unwrap();
            }
        }
    }

    #[test]
    fn who_moves_data_may_ping() {
        let (mut frames, now) = (begun(), Instant::now());
        for _ in 0..10_000 {
            frames.advance(&frame(DATA, 0, &[0; 4_096]), now).unwrap();
            frames.advance(&frame(6, 0, &[0; 8]), now).unwrap();
            frames.advance(&frame(WINDOW_UPDATE, 0, &[0; 4]), now).unwrap();
        }
    }

    #[test]
    fn what_began_and_does_not_go_on_is_awaited() {
        let now = Instant::now();
        assert!(Frames::new().is_awaiting());
        let mut frames = begun();
        assert!(!frames.is_awaiting());
        for (sent, awaiting) in [
            (frame(4, 0, &[0; 6]), false),
            (frame(HEADERS, 0, &[0; 10]), true),
            (frame(CONTINUATION, 0, &[0; 10]), true),
            (frame(CONTINUATION, END_HEADERS, &[0; 10]), false),
            (frame(HEADERS, END_HEADERS, &[0; 10])[..12].to_vec(), true),
            (vec![0; 7], false),
            (frame(DATA, 0, &[0; 10])[..12].to_vec(), false),
            (vec![0; 7], false),
            (vec![0], true),
        ] {
            frames.advance(&sent, now).unwrap();
            assert_eq!(frames.is_awaiting(), awaiting, "{sent:?}");
        }
    }

    proptest! {
        #[test]
        fn pieces_are_followed_like_the_whole(
            parts in prop::collection::vec((0_u8..12, any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)), 0..30),
            cuts in prop::collection::vec(1_usize..9, 1..20),
        ) {
            let bytes: Vec<u8> = parts.iter().flat_map(|(kind, flags, payload)| frame(*kind, *flags, payload)).collect();
            let now = Instant::now();
            let (mut whole, mut pieces) = (begun(), begun());
            whole.advance(&bytes, now).unwrap();
            let (mut rest, mut cuts) = (bytes.as_slice(), cuts.iter().cycle());
            while !rest.is_empty() {
                let (piece, left) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                pieces.advance(piece, now).unwrap();
                rest = left;
            }
            prop_assert_eq!(format!("{whole:?}"), format!("{pieces:?}"));
        }
    }
}
