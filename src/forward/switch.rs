//! Switching a connection to another protocol (RFC 9110 section 7.8): the handshake with the tool.
//!
//! It has a connection of its own, which is never used for another request. The client is switched only after the tool
//! was, and only when the tool's word is the right one (RFC 6455 section 4.1); any other answer is a plain answer.

use data_encoding::BASE64;
use http::header::{
    CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use hyper::client::conn::http1;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;

use super::connect::Stream;
use super::error::ForwardError;
use super::response::UnfitAnswer;
use super::upstream::{Forward, Ready, broken, first_byte};
use crate::body::{self, Body};
use crate::tool::Upgrade;

/// What a server appends to the key (RFC 6455 section 1.3).
const WEBSOCKET_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What came of asking a tool to switch.
#[derive(Debug)]
pub enum Switched {
    /// It did: the head of the answer (101), and the connection, on which the other protocol has begun.
    Over(Box<Response<Body>>, Upgraded),
    /// It answered otherwise.
    Not(Box<Response<Body>>),
}

/// What the client asked for, to compare the answer with.
pub(super) struct Handshake {
    upgrade: Upgrade,
    accept: String,
    protocols: Vec<String>,
    extensions: Vec<String>,
}

impl Handshake {
    /// Of the client's headers.
    pub(super) fn asked(headers: &HeaderMap, upgrade: Upgrade) -> Self {
        let key = headers
            .get(SEC_WEBSOCKET_KEY)
            .map(HeaderValue::as_bytes)
            .unwrap_or_default();
        Self {
            upgrade,
            accept: accept(key),
            protocols: items(headers, &SEC_WEBSOCKET_PROTOCOL).collect(),
            // An extension is named before its parameters.
            extensions: items(headers, &SEC_WEBSOCKET_EXTENSIONS)
                .map(|item| name(&item).to_owned())
                .collect(),
        }
    }

    /// Whether the tool's answer switches to what was asked for, and to nothing else.
    fn check(&self, headers: &HeaderMap) -> Result<(), UnfitAnswer> {
        let mut upgrades = items(headers, &UPGRADE);
        let upgrade = upgrades.next();
        let fits = upgrade.is_some_and(|token| token.eq_ignore_ascii_case(self.upgrade.as_str()))
            && upgrades.next().is_none();
        if !fits {
            return Err(UnfitAnswer::WrongSwitch("Upgrade"));
        }
        if !items(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade")) {
            return Err(UnfitAnswer::WrongSwitch("Connection"));
        }
        let mut accepts = headers.get_all(SEC_WEBSOCKET_ACCEPT).iter();
        if accepts.next().is_none_or(|value| value != self.accept.as_str()) || accepts.next().is_some() {
            return Err(UnfitAnswer::WrongSwitch("Sec-WebSocket-Accept"));
        }
        if items(headers, &SEC_WEBSOCKET_PROTOCOL).any(|chosen| !self.protocols.contains(&chosen)) {
            return Err(UnfitAnswer::WrongSwitch("Sec-WebSocket-Protocol"));
        }
        let unasked = |chosen: String| !self.extensions.iter().any(|asked| asked == name(&chosen));
        if items(headers, &SEC_WEBSOCKET_EXTENSIONS).any(unasked) {
            return Err(UnfitAnswer::WrongSwitch("Sec-WebSocket-Extensions"));
        }
        Ok(())
    }
}

/// The answer to a key: SHA-1 is what the protocol says, and protects nothing (RFC 6455 section 1.3).
fn accept(key: &[u8]) -> String {
    let mut digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY);
    digest.update(key);
    digest.update(WEBSOCKET_GUID);
    BASE64.encode(digest.finish().as_ref())
}

fn items(headers: &HeaderMap, header: &HeaderName) -> impl Iterator<Item = String> {
    let items: Vec<String> = headers
        .get_all(header)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(|item| String::from_utf8_lossy(item.trim_ascii()).into_owned())
        .filter(|item| !item.is_empty())
        .collect();
    items.into_iter()
}

fn name(extension: &str) -> &str {
    extension.split(';').next().unwrap_or_default().trim()
}

impl Forward {
    /// Sends the handshake over a connection of its own.
    pub(super) async fn shake(
        &self,
        stream: Stream,
        handshake: Handshake,
        mut ready: Ready,
    ) -> Result<Switched, ForwardError> {
        let limits = self.limits();
        let shaken = http1::Builder::new()
            .max_headers(limits.count.saturating_add(1))
            .max_buf_size(limits.bytes.saturating_add(16 * 1024))
            .handshake(TokioIo::new(stream))
            .await;
        let (mut sender, connection) = shaken.map_err(|error| broken(Some(&error), &ready))?;
        // Ends with the answer's body, with the switched connection, or when nobody waits for either.
        tokio::spawn(connection.with_upgrades());
        let request = std::mem::take(&mut ready.request);
        let mut answer = first_byte(sender.send_request(request), &ready.progress, ready.limit)
            .await?
            .map_err(|error| broken(Some(&error), &ready))?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(Switched::Not(Box::new(self.answer(answer, &ready)?)));
        }
        handshake.check(answer.headers())?;
        let over = hyper::upgrade::on(&mut answer)
            .await
            .map_err(|error| broken(Some(&error), &ready))?;
        let mut headers = std::mem::take(answer.headers_mut());
        headers.remove(http::header::CONTENT_LENGTH);
        self.clean(&mut headers, &ready)?;
        headers.insert(UPGRADE, HeaderValue::from_static(handshake.upgrade.as_str()));
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        let mut head = Response::new(body::empty());
        *head.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *head.headers_mut() = headers;
        Ok(Switched::Over(Box::new(head), over))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn the_accept_value_is_that_of_the_standard() {
        // RFC 6455 section 1.3.
        assert_eq!(
            accept(b"dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }

    #[test]
    fn only_the_switch_that_was_asked_for_is_one() {
        let asked = headers(&[
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-protocol", "chat, superchat"),
            (
                "sec-websocket-extensions",
                "permessage-deflate; client_max_window_bits",
            ),
        ]);
        let handshake = Handshake::asked(&asked, Upgrade::WebSocket);
        let good = [
            ("upgrade", "WebSocket"),
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
            ("sec-websocket-protocol", "chat"),
            ("sec-websocket-extensions", "permessage-deflate"),
        ];
        assert_eq!(handshake.check(&headers(&good)), Ok(()));
        for (at, bad, wrong) in [
            (0, "h2c", "Upgrade"),
            (0, "websocket, h2c", "Upgrade"),
            (1, "close", "Connection"),
            (2, "s3pPLMBiTxaQ9kYGzzhZRbK+xOp=", "Sec-WebSocket-Accept"),
            (2, "", "Sec-WebSocket-Accept"),
            (3, "other", "Sec-WebSocket-Protocol"),
            (4, "x-other", "Sec-WebSocket-Extensions"),
        ] {
            let mut answer = good;
            answer[at].1 = bad;
            assert_eq!(
                handshake.check(&headers(&answer)),
                Err(UnfitAnswer::WrongSwitch(wrong)),
                "{bad}"
            );
        }
        for missing in 0..3 {
            let mut answer = good.to_vec();
            answer.remove(missing);
            assert!(handshake.check(&headers(&answer)).is_err(), "{missing}");
        }
        let twice = [&good[..], &good[2..3]].concat();
        assert!(handshake.check(&headers(&twice)).is_err());
    }
}
