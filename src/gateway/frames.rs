//! The frames of an HTTP/2 connection, followed as they come and go (RFC 9113 section 4.1).
//!
//! The parser judges what frames say; this only follows their heads, to see what a parser lets happen: a client that sends
//! frames which cost work and carry nothing (pings, settings, resets, priorities, empty data), a client that begins a
//! preface or a block of headers and does not go on, and requests that the parser itself refuses.

use std::sync::Arc;

use tokio::time::Instant;

use super::unheard::Unheard;

/// What an HTTP/2 client says first (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
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
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
/// Error codes (RFC 9113 section 7).
const NO_ERROR: u32 = 0;
const PROTOCOL_ERROR: u32 = 1;
const REFUSED_STREAM: u32 = 7;
/// A block that says nothing but the status is at most this long; ours also say which request they answer.
const BARE_STATUS: usize = 16;

/// What ends a connection before its parser sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Flaw {
    /// The client sends frames that only cost work.
    #[error("the client floods its connection with {0}")]
    Flood(&'static str),
    /// Something else than HTTP/2.
    #[error("the connection does not begin as HTTP/2 does")]
    Preface,
}

/// The head of a frame.
#[derive(Clone, Copy, Debug)]
struct Head {
    length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Head {
    const fn of([high, middle, low, kind, flags, a, b, c, d]: [u8; HEAD]) -> Self {
        Self {
            length: (high as usize) << 16 | (middle as usize) << 8 | low as usize,
            kind,
            flags,
            stream: u32::from_be_bytes([a & 0x7f, b, c, d]),
        }
    }

    const fn is_set(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Where in a frame the bytes of one direction are.
#[derive(Debug)]
enum State {
    Head { bytes: [u8; HEAD], have: usize },
    Payload { left: usize, data: bool },
}

impl State {
    const START: Self = Self::Head {
        bytes: [0; HEAD],
        have: 0,
    };

    /// Takes one piece off `bytes`: gives the head that is whole with it, and what came of a payload.
    fn step<'a>(&mut self, bytes: &mut &'a [u8]) -> (Option<Head>, &'a [u8]) {
        match self {
            Self::Payload { left, .. } => {
                let (came, rest) = bytes.split_at((*left).min(bytes.len()));
                *bytes = rest;
                *left -= came.len();
                if *left == 0 {
                    *self = Self::START;
                }
                (None, came)
            }
            Self::Head { bytes: head, have } => {
                let (came, rest) = bytes.split_at((HEAD - *have).min(bytes.len()));
                *bytes = rest;
                for (to, from) in head.iter_mut().skip(*have).zip(came) {
                    *to = *from;
                }
                *have += came.len();
                if *have < HEAD {
                    return (None, &[]);
                }
                let head = Head::of(*head);
                *self = match head.length {
                    0 => Self::START,
                    left => Self::Payload {
                        left,
                        data: head.kind == DATA,
                    },
                };
                (Some(head), &[])
            }
        }
    }

    const fn is_between(&self) -> bool {
        matches!(self, Self::Head { have: 0, .. })
    }
}

/// Follows what a client sends.
#[derive(Debug)]
pub(super) struct Frames {
    /// How much of the preface is still to come.
    preface: usize,
    state: State,
    /// In a block of headers that is not at its end.
    in_block: bool,
    /// The stream whose first block of headers is at its end with this frame.
    opens: Option<u32>,
    /// The stream that was opened last.
    opened: u32,
    empty: Allowance,
    resets: Allowance,
    unheard: Arc<Unheard>,
}

impl Frames {
    /// Requests that begin are told to `unheard`.
    pub(super) fn new(unheard: Arc<Unheard>) -> Self {
        Self {
            preface: PREFACE.len(),
            state: State::START,
            in_block: false,
            opens: None,
            opened: 0,
            empty: FRAMES,
            resets: RESETS,
            unheard,
        }
    }

    /// Follows bytes as they came. Says whether there was a moment in them at which nothing had to go on.
    ///
    /// # Errors
    /// [`Flaw`]: the connection must end.
    pub(super) fn advance(&mut self, bytes: &[u8], now: Instant) -> Result<bool, Flaw> {
        self.follow(bytes, now).inspect_err(|_| self.unheard.broke())
    }

    fn follow(&mut self, mut bytes: &[u8], now: Instant) -> Result<bool, Flaw> {
        let mut rested = false;
        while !bytes.is_empty() {
            if self.preface > 0 {
                bytes = self.begin(bytes)?;
            } else if let (Some(head), _) = self.state.step(&mut bytes) {
                self.frame(head, now)?;
            }
            if self.state.is_between()
                && let Some(stream) = self.opens.take()
            {
                self.opened = stream;
                self.unheard.opened();
            }
            rested |= !self.is_awaiting();
        }
        Ok(rested)
    }

    /// Takes the preface off, which is the same for everybody.
    fn begin<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Flaw> {
        let awaited = PREFACE.get(PREFACE.len() - self.preface..).unwrap_or_default();
        let (came, rest) = bytes.split_at(bytes.len().min(self.preface));
        if !awaited.starts_with(came) {
            return Err(Flaw::Preface);
        }
        self.preface -= came.len();
        Ok(rest)
    }

    fn frame(&mut self, head: Head, now: Instant) -> Result<(), Flaw> {
        if matches!(head.kind, HEADERS | CONTINUATION) {
            self.in_block = !head.is_set(END_HEADERS);
            let new = head.stream > self.opened;
            self.opens = (new && !self.in_block).then_some(head.stream);
        }
        match head.kind {
            // The parser bounds a block of headers; windows let something go on.
            HEADERS | CONTINUATION | WINDOW_UPDATE => Ok(()),
            DATA if head.length > 0 => {
                self.moved(head.length);
                Ok(())
            }
            RST_STREAM => self.resets.take(now).then_some(()).ok_or(Flaw::Flood("resets")),
            _ => self
                .empty
                .take(now)
                .then_some(())
                .ok_or(Flaw::Flood("frames that carry nothing")),
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
            _ if self.preface > 0 => true,
            State::Head { have, .. } => have > 0 || self.in_block,
            State::Payload { data, .. } => !data,
        }
    }
}

/// Follows what the gateway sends, to see what its parser answers by itself.
#[derive(Debug)]
pub(super) struct Sent {
    state: State,
    /// The frame under way, and what is known of its payload's beginning.
    frame: Option<(Head, [u8; 8], usize)>,
    unheard: Arc<Unheard>,
}

impl Sent {
    /// What the parser answers by itself is told to `unheard`.
    pub(super) const fn new(unheard: Arc<Unheard>) -> Self {
        Self {
            state: State::START,
            frame: None,
            unheard,
        }
    }

    /// Follows bytes as they went.
    pub(super) fn advance(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (head, payload) = self.state.step(&mut bytes);
            if let Some(head) = head {
                self.frame = matches!(head.kind, HEADERS | RST_STREAM | GOAWAY).then_some((head, [0; 8], 0));
            }
            if let Some((_, beginning, have)) = &mut self.frame {
                for (to, from) in beginning.iter_mut().skip(*have).zip(payload) {
                    *to = *from;
                    *have += 1;
                }
            }
            if self.state.is_between()
                && let Some((head, beginning, _)) = self.frame.take()
            {
                self.went(head, beginning);
            }
        }
    }

    fn went(&self, head: Head, [a, b, c, d, e, f, g, h]: [u8; 8]) {
        let (first, second) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
        match head.kind {
            RST_STREAM if first == PROTOCOL_ERROR => self.unheard.reset(),
            RST_STREAM if first == REFUSED_STREAM => self.unheard.refused(),
            GOAWAY if second != NO_ERROR => self.unheard.broke(),
            HEADERS if head.is_set(END_STREAM) && head.length <= BARE_STATUS => self.unheard.answered(),
            _ => {}
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
        let mut frames = Frames::new(Arc::default());
        frames.advance(PREFACE, Instant::now()).unwrap();
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
        assert!(Frames::new(Arc::default()).is_awaiting());
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
            let (mut went, mut went_in_pieces) = (Sent::new(Arc::default()), Sent::new(Arc::default()));
            went.advance(&bytes);
            let (mut rest, mut cuts) = (bytes.as_slice(), cuts.iter().cycle());
            while !rest.is_empty() {
                let (piece, left) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                pieces.advance(piece, now).unwrap();
                went_in_pieces.advance(piece);
                rest = left;
            }
            prop_assert_eq!(format!("{whole:?}"), format!("{pieces:?}"));
            prop_assert_eq!(format!("{went:?}"), format!("{went_in_pieces:?}"));
        }
    }
}
