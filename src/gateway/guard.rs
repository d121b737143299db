//! The bytes of a connection, judged before they are parsed.
//!
//! A parser repairs: it merges equal lengths, drops a length beside a coding, takes bare line feeds. The guard reads
//! every HTTP/1.1 head strictly (RFC 9112) before the parser sees it, and follows the bodies to find the next head. What
//! it refuses never reaches the parser: in its place comes one harmless request, which the listener marks with the
//! problem, so that the refusal is recorded and answered like any other; then the connection ends.
//!
//! It also keeps time: a head, a body and an answer must move on.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::config::Bounds;
use super::frames::{Frames, Sent};
use super::framing::{Length, Limits, check_lengths, shown};
use super::unheard::Unheard;
use crate::problem::{Kind, Problem};
use crate::tool::is_token;

/// What the parser gets instead of a refused head.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";
/// Longest line that tells the size of a chunk.
const CHUNK_LINE: usize = 64;
/// How much is held of what comes behind a request for another protocol.
const EARLY_BYTES: usize = 16 * 1024;
/// How much is still read after the last answer, so that a client that is still sending gets to read it.
const LINGER_BYTES: usize = 256 * 1024;
/// How long.
const LINGER_TIME: std::time::Duration = std::time::Duration::from_secs(2);

/// What the guard found, shared with whoever serves the requests.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    passed: AtomicU64,
    refused: OnceLock<(u64, Problem)>,
    /// How many requests were answered.
    answered: AtomicU64,
    /// The last answer switched the connection to another protocol.
    switched: AtomicBool,
    /// Whoever reads and waits for an answer.
    waiting: AtomicWaker,
}

impl Verdict {
    /// The request with this number has its answer.
    pub(super) fn answered(&self, number: u64, switched: bool) {
        self.switched.store(switched, Ordering::Release);
        self.answered.store(number.saturating_add(1), Ordering::Release);
        self.waiting.wake();
    }

    /// The problem of the request with this number (from 0) on its connection.
    pub(super) fn problem(&self, number: u64) -> Option<&Problem> {
        self.refused
            .get()
            .filter(|(at, _)| *at == number)
            .map(|(_, problem)| problem)
    }
}

/// Follows one direction of HTTP/1.1: heads and bodies.
#[derive(Debug)]
struct Framer {
    limits: Limits,
    state: State,
    verdict: Arc<Verdict>,
}

#[derive(Debug)]
enum State {
    /// In a head, of which this much was searched, its present line beginning at the second number.
    Head { searched: usize, line: usize },
    /// In a body with this much to come.
    Fixed(u64),
    /// In the line that tells a chunk's size.
    ChunkLine,
    /// In a chunk with this much to come, its line end included.
    Chunk(u64),
    /// In the trailers, of which this much came.
    Trailers(usize),
    /// Behind a request for another protocol: what comes next means nothing until that is answered.
    Asked,
}

impl State {
    const START: Self = Self::Head { searched: 0, line: 0 };
}

/// Why bytes do not pass.
enum Stop {
    /// A head that is refused.
    Head(Problem),
    /// A broken body; its request is under way already.
    Body,
}

impl Framer {
    fn new(limits: Limits, verdict: Arc<Verdict>) -> Self {
        Self {
            limits,
            state: State::START,
            verdict,
        }
    }

    const fn in_body(&self) -> bool {
        !matches!(self.state, State::Head { .. } | State::Asked)
    }

    /// How many of `bytes` may pass: whole heads and whatever belongs to bodies. The rest is to be shown again, with more.
    fn advance(&mut self, bytes: &[u8]) -> (usize, Option<Stop>) {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            match self.step(rest) {
                Ok(0) => break,
                Ok(passed) => at += passed,
                Err(stop) => return (at, Some(stop)),
            }
        }
        (at, None)
    }

    /// Passes one piece; 0 when more is needed.
    fn step(&mut self, rest: &[u8]) -> Result<usize, Stop> {
        match self.state {
            State::Head { searched, line } => self.head(rest, searched, line).map_err(Stop::Head),
            State::Fixed(left) => {
                let taken = take(left, rest);
                self.state = match left.saturating_sub(taken as u64) {
                    0 => State::START,
                    left => State::Fixed(left),
                };
                Ok(taken)
            }
            State::Chunk(left) => self.chunk(rest, left),
            State::ChunkLine => self.chunk_line(rest),
            State::Trailers(came) => self.trailer(rest, came),
            State::Asked => Ok(0),
        }
    }

    /// Whether the request for another protocol that came last still waits for its answer.
    fn is_asked(&self) -> bool {
        let Verdict { passed, answered, .. } = &*self.verdict;
        matches!(self.state, State::Asked)
            && answered.load(Ordering::Acquire) < passed.load(Ordering::Acquire)
    }

    fn head(&mut self, rest: &[u8], mut searched: usize, mut line: usize) -> Result<usize, Problem> {
        while let Some(feed) = rest
            .get(searched..)
            .and_then(|tail| tail.iter().position(|b| *b == b'\n'))
        {
            let end = searched + feed;
            if end == line || rest.get(end.wrapping_sub(1)) != Some(&b'\r') {
                return Err(malformed("a line of the head ends without CR LF"));
            }
            let empty = end - line == 1;
            (searched, line) = (end + 1, end + 1);
            if searched > self.limits.header_bytes {
                return Err(self.too_large());
            }
            if empty {
                let head = rest.get(..end.saturating_sub(1)).unwrap_or_default();
                self.state = judge(head, &self.limits)?;
                self.verdict.passed.fetch_add(1, Ordering::AcqRel);
                return Ok(end + 1);
            }
        }
        if rest.len() > self.limits.header_bytes {
            return Err(self.too_large());
        }
        self.state = State::Head {
            searched: rest.len(),
            line,
        };
        Ok(0)
    }

    fn too_large(&self) -> Problem {
        Problem::new(
            Kind::HeadersTooLarge,
            format!("the head is larger than {} bytes", self.limits.header_bytes),
        )
    }

    /// The size of a chunk (RFC 9112 section 7.1): hexadecimal digits, perhaps an extension, CR LF.
    fn chunk_line(&mut self, rest: &[u8]) -> Result<usize, Stop> {
        let line = match whole_line(rest, CHUNK_LINE)? {
            Some(line) => line,
            None => return Ok(0),
        };
        let digits = line.split(|b| *b == b';').next().unwrap_or_default();
        let size = std::str::from_utf8(digits)
            .ok()
            .filter(|text| (1..=15).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|text| u64::from_str_radix(text, 16).ok())
            .ok_or(Stop::Body)?;
        if line.iter().any(|b| b.is_ascii_control()) {
            return Err(Stop::Body);
        }
        self.state = if size == 0 {
            State::Trailers(0)
        } else {
            State::Chunk(size + 2)
        };
        Ok(line.len() + 2)
    }

    fn chunk(&mut self, rest: &[u8], left: u64) -> Result<usize, Stop> {
        let data = left.saturating_sub(2);
        if data > 0 {
            let taken = take(data, rest);
            self.state = State::Chunk(left - taken as u64);
            return Ok(taken);
        }
        match rest {
            [b'\r', b'\n', ..] => {
                self.state = State::ChunkLine;
                Ok(2)
            }
            [b'\r'] => Ok(0),
            _ => Err(Stop::Body),
        }
    }

    fn trailer(&mut self, rest: &[u8], came: usize) -> Result<usize, Stop> {
        let left = self.limits.header_bytes.saturating_sub(came);
        let line = match whole_line(rest, left)? {
            Some(line) => line,
            None => return Ok(0),
        };
        let passed = line.len() + 2;
        if line.is_empty() {
            self.state = State::START;
            return Ok(passed);
        }
        let (name, _) = field(line).map_err(|_| Stop::Body)?;
        // A length or coding after the fact could only confuse whoever reads on.
        if name.eq_ignore_ascii_case(b"content-length") || name.eq_ignore_ascii_case(b"transfer-encoding") {
            return Err(Stop::Body);
        }
        self.state = State::Trailers(came + passed);
        Ok(passed)
    }
}

fn take(left: u64, rest: &[u8]) -> usize {
    usize::try_from(left).unwrap_or(usize::MAX).min(rest.len())
}

/// The line that `rest` begins with, without its CR LF; `None` while it is not whole.
fn whole_line(rest: &[u8], longest: usize) -> Result<Option<&[u8]>, Stop> {
    match rest.iter().position(|b| *b == b'\n') {
        Some(end) if end <= longest => {
            let line = rest.get(..end).and_then(|line| line.strip_suffix(b"\r"));
            line.map(Some).ok_or(Stop::Body)
        }
        None if rest.len() <= longest => Ok(None),
        _ => Err(Stop::Body),
    }
}

fn malformed(detail: impl Into<String>) -> Problem {
    Problem::new(Kind::Malformed, detail)
}

/// Judges a whole head (without the empty line) and says what follows it.
fn judge(head: &[u8], limits: &Limits) -> Result<State, Problem> {
    // Exactly one CR goes with each LF; another one before it is a control character in that line.
    let head = head
        .strip_suffix(b"\n")
        .ok_or_else(|| malformed("the head begins with an empty line"))?;
    let mut lines = head
        .split(|b| *b == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    judge_request_line(lines.next().unwrap_or_default())?;
    let (mut lengths, mut codings, mut count) = (Vec::new(), Vec::new(), 0_usize);
    let mut upgrade = false;
    for line in lines {
        let (name, value) = field(line)?;
        count += 1;
        if name.eq_ignore_ascii_case(b"content-length") {
            lengths.push(value);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            codings.push(value);
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            upgrade = true;
        }
    }
    if count > limits.headers {
        return Err(Problem::new(
            Kind::HeadersTooLarge,
            format!("there are more than {} headers", limits.headers),
        ));
    }
    Ok(match check_lengths(&lengths, &codings)? {
        Length::Fixed(0) if upgrade => State::Asked,
        Length::Fixed(0) => State::START,
        Length::Fixed(left) => State::Fixed(left),
        Length::Chunked => State::ChunkLine,
    })
}

/// `METHOD SP target SP HTTP/1.1`, and nothing else (RFC 9112 section 3).
fn judge_request_line(line: &[u8]) -> Result<(), Problem> {
    let mut parts = line.split(|b| *b == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(malformed("the request line is not `METHOD target HTTP/1.1`"));
    };
    if method.is_empty() || !method.iter().all(|b| is_token(*b)) {
        return Err(malformed("the method is not a plain word"));
    }
    if version != b"HTTP/1.1" {
        return Err(malformed("this connection speaks HTTP/1.1 only"));
    }
    // A method that opens a tunnel changes how the parser reads on, so it ends here.
    if method == b"CONNECT" {
        return Err(Problem::new(
            Kind::MethodNotAllowed,
            "the method `CONNECT` is not served",
        ));
    }
    let plain = target.iter().all(|b| b.is_ascii_graphic()) && !target.contains(&b'#');
    if !plain || http::Uri::try_from(target).is_err() {
        return Err(Problem::new(
            Kind::BadTarget,
            "the target has characters that no target may have",
        ));
    }
    Ok(())
}

/// Name and value of a header line (RFC 9112 section 5): no space before the colon, no folding, no control characters.
fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Problem> {
    if line.first().is_some_and(|b| matches!(b, b' ' | b'\t')) {
        return Err(malformed("a header is folded over two lines"));
    }
    let colon = line
        .iter()
        .position(|b| *b == b':')
        .ok_or_else(|| malformed("a header line has no colon"))?;
    let (name, value) = line.split_at(colon);
    if name.is_empty() || !name.iter().all(|b| is_token(*b)) {
        let detail = format!(
            "a header has the name `{}`, which is not a plain word",
            shown(&String::from_utf8_lossy(name))
        );
        return Err(malformed(detail));
    }
    let value = value.get(1..).unwrap_or_default();
    if value.iter().any(|b| b.is_ascii_control() && *b != b'\t') {
        return Err(malformed("a header has a control character in its value"));
    }
    Ok((name, value.trim_ascii()))
}

/// A connection whose bytes are judged (HTTP/1.1) and whose peer must keep moving.
pub(super) struct Guard<S> {
    inner: S,
    framer: Option<Framer>,
    /// Over HTTP/2: what comes, and what goes.
    frames: Option<(Frames, Sent)>,
    bounds: Arc<Bounds>,
    /// Came, but may not pass yet.
    held: BytesMut,
    /// May pass.
    out: Bytes,
    /// Nothing more is read.
    ended: bool,
    /// A body is broken: after what may pass comes an error.
    broken: bool,
    /// While a head or a body is awaited: until when, and how much came since.
    reading: Option<(Pin<Box<Sleep>>, usize)>,
    writing: Option<Pin<Box<Sleep>>>,
    linger: Option<(Pin<Box<Sleep>>, usize)>,
}

impl<S> Guard<S> {
    /// A connection that speaks HTTP/1.1.
    pub(super) fn http1(inner: S, bounds: Arc<Bounds>, limits: Limits, verdict: Arc<Verdict>) -> Self {
        Self {
            framer: Some(Framer::new(limits, verdict)),
            ..Self::new(inner, bounds)
        }
    }

    /// A connection that speaks HTTP/2: its frames are judged by the parser, and counted here.
    pub(super) fn http2(inner: S, bounds: Arc<Bounds>, unheard: &Arc<Unheard>) -> Self {
        Self {
            frames: Some((Frames::new(unheard.clone()), Sent::new(unheard.clone()))),
            ..Self::new(inner, bounds)
        }
    }

    fn new(inner: S, bounds: Arc<Bounds>) -> Self {
        Self {
            inner,
            framer: None,
            frames: None,
            bounds,
            held: BytesMut::new(),
            out: Bytes::new(),
            ended: false,
            broken: false,
            reading: None,
            writing: None,
            linger: None,
        }
    }

    fn stop(&mut self, stop: Stop) {
        self.held.clear();
        self.ended = true;
        match (stop, &self.framer) {
            (Stop::Head(problem), Some(framer)) => {
                let number = framer.verdict.passed.load(Ordering::Acquire);
                let _ = framer.verdict.refused.set((number, problem));
                self.out = if self.out.is_empty() {
                    Bytes::from_static(STAND_IN)
                } else {
                    [&self.out, STAND_IN].concat().into()
                };
            }
            _ => self.broken = true,
        }
    }

    fn awaits_switch(&self) -> bool {
        self.framer
            .as_ref()
            .is_some_and(|framer| matches!(framer.state, State::Asked))
    }

    fn refused(&self) -> bool {
        self.framer
            .as_ref()
            .is_some_and(|framer| framer.verdict.refused.get().is_some())
    }

    /// Nothing came: is that for too long?
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let in_body = self.framer.as_ref().is_some_and(Framer::in_body);
        let in_head = match &self.frames {
            Some((frames, _)) => frames.is_awaiting(),
            None => !self.held.is_empty(),
        };
        let limit = match (in_body, in_head) {
            (true, _) => self.bounds.body_timeout,
            (false, true) => self.bounds.header_timeout,
            // Between two requests; the listener ends idle connections.
            (false, false) => {
                self.reading = None;
                return Poll::Pending;
            }
        };
        let (timer, _) = self
            .reading
            .get_or_insert_with(|| (Box::pin(tokio::time::sleep(limit)), 0));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the client is too slow",
        )))
    }

    /// Something came: a body must come at a least rate; a head has one deadline for all of it.
    fn moved(&mut self, bytes: usize) {
        let in_body = self.framer.as_ref().is_some_and(Framer::in_body);
        if let Some((timer, came)) = &mut self.reading {
            *came += bytes;
            // A deadline that passed unnoticed passed while nobody read: that delay was ours, not the client's.
            let ours = timer.deadline() <= Instant::now();
            if in_body && (ours || *came >= self.bounds.body_bytes) {
                *came = 0;
                timer.as_mut().reset(Instant::now() + self.bounds.body_timeout);
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Guard<S> {
    /// Reads straight into `buf`, and takes back what may not pass yet.
    fn read_through(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<bool>> {
        let before = buf.filled().len();
        if Pin::new(&mut self.inner).poll_read(cx, buf)?.is_pending() {
            return self.wait(cx).map_ok(|()| false);
        }
        let came = buf.filled().get(before..).unwrap_or_default();
        if came.is_empty() {
            self.ended = true;
            return Poll::Ready(Ok(true));
        }
        if let Some((frames, _)) = &mut self.frames {
            // What is awaited now began after that moment.
            if frames.advance(came, Instant::now()).map_err(io::Error::other)? {
                self.reading = None;
            }
        }
        let Some(framer) = &mut self.framer else {
            return Poll::Ready(Ok(true));
        };
        let was_body = framer.in_body();
        let bytes = came.len();
        let (passed, stop) = framer.advance(came);
        self.held
            .extend_from_slice(came.get(passed..).unwrap_or_default());
        if was_body && !framer.in_body() {
            self.reading = None;
        }
        buf.set_filled(before + passed);
        self.moved(bytes);
        if let Some(stop) = stop {
            self.stop(stop);
        }
        Poll::Ready(Ok(passed > 0))
    }

    /// Reads on to what is held.
    fn read_on(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let read = tokio_util::io::poll_read_buf(Pin::new(&mut self.inner), cx, &mut self.held);
        let bytes = match read {
            Poll::Pending => return self.wait(cx),
            Poll::Ready(read) => read?,
        };
        if bytes == 0 {
            // Half a head, and then nothing: there is no request to answer.
            self.held.clear();
            self.ended = true;
            return Poll::Ready(Ok(()));
        }
        self.moved(bytes);
        let Some(framer) = &mut self.framer else {
            return Poll::Ready(Ok(()));
        };
        let (passed, stop) = framer.advance(&self.held);
        if passed > 0 {
            self.out = self.held.split_to(passed).freeze();
            self.reading = None;
        }
        if let Some(stop) = stop {
            self.stop(stop);
        }
        Poll::Ready(Ok(()))
    }

    /// Waits for the answer to a request for another protocol, and holds what comes before it; then follows what was
    /// answered.
    fn wait_for_switch(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(framer) = &mut self.framer else {
            return Poll::Ready(Ok(()));
        };
        // Registered before the look: the parser takes a read that waits for one that the socket will wake.
        framer.verdict.waiting.register(cx.waker());
        if framer.is_asked() {
            if self.held.len() >= EARLY_BYTES {
                return Poll::Pending;
            }
            let read = tokio_util::io::poll_read_buf(Pin::new(&mut self.inner), cx, &mut self.held);
            if ready!(read)? == 0 {
                self.held.clear();
                self.ended = true;
            }
            return Poll::Ready(Ok(()));
        }
        if framer.verdict.switched.load(Ordering::Acquire) {
            // SECURITY: bytes that came before the switch were meant for whoever reads requests, or for whom they would
            // mislead; they are given to nobody.
            if !self.held.is_empty() {
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the client did not wait for the switch",
                )));
            }
            self.framer = None;
            return Poll::Ready(Ok(()));
        }
        framer.state = State::START;
        let (passed, stop) = framer.advance(&self.held);
        if passed > 0 {
            self.out = self.held.split_to(passed).freeze();
        }
        if let Some(stop) = stop {
            self.stop(stop);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (timer, left) = self
            .linger
            .get_or_insert_with(|| (Box::pin(tokio::time::sleep(LINGER_TIME)), LINGER_BYTES));
        let mut space = [0; 4096];
        while *left > 0 {
            let mut buf = ReadBuf::new(&mut space);
            match Pin::new(&mut self.inner).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => {
                    *left = left.saturating_sub(buf.filled().len())
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return timer.as_mut().poll(cx),
            }
        }
        Poll::Ready(())
    }

    /// Whoever gets data may ask for the state of the way.
    fn sent<'a>(&mut self, poll: &Poll<io::Result<usize>>, pieces: impl Iterator<Item = &'a [u8]>) {
        let (Poll::Ready(Ok(bytes)), Some((frames, sent))) = (poll, &mut self.frames) else {
            return;
        };
        frames.moved(*bytes);
        let mut left = *bytes;
        for piece in pieces {
            let went = piece.get(..left).unwrap_or(piece);
            sent.advance(went);
            left -= went.len();
        }
    }

    fn written<T>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.writing = None;
            return poll;
        }
        let limit = self.bounds.write_timeout;
        let timer = self
            .writing
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the client takes nothing",
        )))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Guard<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if !this.out.is_empty() {
                let size = this.out.len().min(buf.remaining());
                buf.put_slice(this.out.get(..size).unwrap_or_default());
                this.out.advance(size);
                return Poll::Ready(Ok(()));
            }
            if this.broken {
                let error = io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the chunks of a body are not well formed",
                );
                return Poll::Ready(Err(error));
            }
            if this.refused() {
                // The stand-in asks for the end of the connection; an end seen here would cut its answer off.
                return Poll::Pending;
            }
            if this.ended {
                return Poll::Ready(Ok(()));
            }
            if this.awaits_switch() {
                ready!(this.wait_for_switch(cx))?;
            } else if !this.held.is_empty() {
                ready!(this.read_on(cx))?;
            } else if ready!(this.read_through(cx, buf))? {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guard<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.inner).poll_write(cx, bytes);
        this.sent(&poll, std::iter::once(bytes));
        this.written(cx, poll)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.inner).poll_write_vectored(cx, bytes);
        this.sent(&poll, bytes.iter().map(|piece| &**piece));
        this.written(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.inner).poll_flush(cx);
        this.written(cx, poll)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.linger.is_none() {
            let poll = Pin::new(&mut this.inner).poll_shutdown(cx);
            ready!(this.written(cx, poll))?;
        }
        // A close with unread bytes is a reset, which may take the last answer away from the client.
        let Some(framer) = &this.framer else {
            return Poll::Ready(Ok(()));
        };
        if framer.in_body() || framer.verdict.refused.get().is_some() {
            ready!(this.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(any(test, feature = "fuzzing"))]
#[path = "guard_fuzz.rs"]
mod fuzz;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use fuzz::request_head as fuzz_request_head;

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
