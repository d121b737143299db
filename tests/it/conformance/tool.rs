//! A tool that keeps the bytes that reach it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A request as the tool got it.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    /// The head, without the empty line.
    pub(crate) head: String,
    /// The body, without what frames it.
    pub(crate) body: Vec<u8>,
    /// Whether it came to its end.
    pub(crate) whole: bool,
}

impl Got {
    /// The request line without the version.
    pub(crate) fn line(&self) -> &str {
        let line = self.head.lines().next().unwrap_or_default();
        line.strip_suffix(" HTTP/1.1").unwrap_or(line)
    }

    /// All values of a header.
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        self.head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .filter(|(header, _)| header.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .collect()
    }
}

/// A tool on a port of its own; it lives as long as the test's process.
pub(crate) struct Tool {
    port: u16,
    got: Arc<Mutex<Vec<Got>>>,
}

impl Tool {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let got = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&got);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || serve(stream, &kept));
            }
        });
        Self { port, got }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What reached it since the last call.
    pub(crate) fn take(&self) -> Vec<Got> {
        std::mem::take(&mut *self.got.lock().unwrap())
    }
}

fn serve(mut stream: TcpStream, kept: &Mutex<Vec<Got>>) {
    let mut bytes = Vec::new();
    loop {
        let Some(end) = find(&mut stream, &mut bytes, b"\r\n\r\n") else {
            if !bytes.is_empty() {
                let head = String::from_utf8_lossy(&bytes).into_owned();
                kept.lock().unwrap().push(Got {
                    head,
                    body: Vec::new(),
                    whole: false,
                });
            }
            return;
        };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        bytes.drain(..end + 4);
        let mut got = Got {
            head,
            body: Vec::new(),
            whole: false,
        };
        got.whole = body(&mut stream, &mut bytes, &mut got).is_some();
        let whole = got.whole;
        // Kept before it is answered, so that whoever has the answer finds it here.
        kept.lock().unwrap().push(got);
        if !whole
            || stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                .is_err()
        {
            return;
        }
    }
}

fn body(stream: &mut TcpStream, bytes: &mut Vec<u8>, got: &mut Got) -> Option<()> {
    if let Some(length) = got.values("content-length").first() {
        let length: usize = length.parse().ok()?;
        while bytes.len() < length {
            more(stream, bytes)?;
        }
        got.body = bytes.drain(..length).collect();
    } else if !got.values("transfer-encoding").is_empty() {
        loop {
            let end = find(stream, bytes, b"\r\n")?;
            let line = String::from_utf8_lossy(&bytes[..end]).into_owned();
            bytes.drain(..end + 2);
            let size = usize::from_str_radix(line.split(';').next()?.trim(), 16).ok()?;
            if size == 0 {
                while find(stream, bytes, b"\r\n")? > 0 {
                    let end = find(stream, bytes, b"\r\n")?;
                    bytes.drain(..end + 2);
                }
                bytes.drain(..2);
                return Some(());
            }
            while bytes.len() < size + 2 {
                more(stream, bytes)?;
            }
            got.body.extend(bytes.drain(..size));
            bytes.drain(..2);
        }
    }
    Some(())
}

fn find(stream: &mut TcpStream, bytes: &mut Vec<u8>, what: &[u8]) -> Option<usize> {
    loop {
        if let Some(at) = bytes.windows(what.len()).position(|window| window == what) {
            return Some(at);
        }
        more(stream, bytes)?;
    }
}

fn more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<()> {
    let mut space = [0; 16 * 1024];
    let count = stream.read(&mut space).ok().filter(|count| *count > 0)?;
    bytes.extend_from_slice(&space[..count]);
    Some(())
}
