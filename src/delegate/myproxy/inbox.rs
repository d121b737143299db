//! What has come so far, and the whole pieces in it.

use super::{CERTIFICATE_MAX, CHAIN_MAX, LINE_MAX, MESSAGE_MAX, Unfit};
use crate::delegate::pkcs10;

/// Collects bytes as they come. Each question takes a whole piece off the front, or says that more must come (`None`), or
/// that nothing acceptable will ever come of it.
///
/// INVARIANT: it never holds more than one piece at its longest and what came with it in one go.
#[derive(Default)]
pub struct Inbox(Vec<u8>);

impl std::fmt::Debug for Inbox {
    /// What is in it may be a pass phrase.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Inbox({} bytes)", self.0.len())
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.0);
    }
}

impl Inbox {
    /// Puts in what has come.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.0.capacity() - self.0.len() < bytes.len() {
            // Growing in place would leave a copy behind.
            let mut grown = Vec::with_capacity((self.0.len() + bytes.len()).next_power_of_two().max(1024));
            grown.extend_from_slice(&self.0);
            zeroize::Zeroize::zeroize(&mut self.0);
            self.0 = grown;
        }
        self.0.extend_from_slice(bytes);
    }

    /// Whether nothing is left.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first byte, which stays.
    #[must_use]
    pub fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// Takes one byte off.
    pub fn byte(&mut self) -> Option<u8> {
        let first = self.peek()?;
        self.take(1);
        Some(first)
    }

    /// Takes a message off, without its NUL. The NUL bytes that old and new servers send on their own are skipped.
    ///
    /// # Errors
    /// [`Unfit::TooLong`].
    pub fn message(&mut self) -> Result<Option<Vec<u8>>, Unfit> {
        while self.peek() == Some(0) {
            self.take(1);
        }
        let within = self.0.get(..=MESSAGE_MAX).unwrap_or(&self.0);
        let end = within.iter().position(|byte| *byte == 0);
        let message = within.get(..end.unwrap_or(within.len())).unwrap_or_default();
        if message
            .split(|byte| *byte == b'\n')
            .any(|line| line.len() > LINE_MAX)
        {
            return Err(Unfit::TooLong);
        }
        match end {
            Some(end) => {
                let message = self.take(end);
                self.take(1);
                Ok(Some(message))
            }
            None if self.0.len() > MESSAGE_MAX => Err(Unfit::TooLong),
            None => Ok(None),
        }
    }

    /// Takes a certification request off.
    ///
    /// # Errors
    /// [`Unfit::Der`].
    pub fn request(&mut self) -> Result<Option<Vec<u8>>, Unfit> {
        let length = sequence(&self.0, pkcs10::LONGEST)?;
        Ok(length
            .filter(|length| *length <= self.0.len())
            .map(|length| self.take(length)))
    }

    /// Takes a chain off: a byte that counts the certificates, then these.
    ///
    /// # Errors
    /// [`Unfit::Count`], [`Unfit::Der`].
    pub fn chain(&mut self) -> Result<Option<Vec<Vec<u8>>>, Unfit> {
        let Some(count) = self.peek() else {
            return Ok(None);
        };
        if !(1..=CHAIN_MAX).contains(&count) {
            return Err(Unfit::Count(count));
        }
        let (mut at, mut chain) = (1, Vec::new());
        for _ in 0..count {
            let rest = self.0.get(at..).unwrap_or_default();
            let Some(certificate) = sequence(rest, CERTIFICATE_MAX)?.and_then(|length| rest.get(..length))
            else {
                return Ok(None);
            };
            chain.push(certificate.to_vec());
            at += certificate.len();
        }
        self.take(at);
        Ok(Some(chain))
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        let length = length.min(self.0.len());
        let taken = self.0.get(..length).unwrap_or_default().to_vec();
        let left = self.0.len() - length;
        self.0.copy_within(length.., 0);
        if let Some(gone) = self.0.get_mut(left..) {
            zeroize::Zeroize::zeroize(gone);
        }
        self.0.truncate(left);
        taken
    }
}

/// The length of the SEQUENCE that `bytes` begin with, head included (X.690 section 8.1.3, the shortest form); `None`
/// while too little is there to say.
fn sequence(bytes: &[u8], longest: usize) -> Result<Option<usize>, Unfit> {
    let (head, length) = match bytes {
        [] | [0x30] | [0x30, 0x81 | 0x82] | [0x30, 0x82, _] => return Ok(None),
        [0x30, short @ 0..=0x7f, ..] => (2, usize::from(*short)),
        [0x30, 0x81, length, ..] if *length >= 0x80 => (3, usize::from(*length)),
        [0x30, 0x82, high, low, ..] if *high > 0 => (4, usize::from(u16::from_be_bytes([*high, *low]))),
        _ => return Err(Unfit::Der),
    };
    let length = head + length;
    if length > longest {
        return Err(Unfit::Der);
    }
    Ok(Some(length))
}
