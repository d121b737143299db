//! Forms with a file: `multipart/form-data` (RFC 7578), read strictly.

use http::header;
use http_body_util::BodyExt;

use crate::body::Body;
use crate::problem::{Kind, Problem};

/// Most fields of a form.
const FIELDS: usize = 10;

/// The fields of a form, a file as its content.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parts(Vec<(String, Vec<u8>)>);

impl Parts {
    /// Reads the body of a request of at most `limit` bytes.
    pub(super) async fn read(request: http::Request<Body>, limit: usize) -> Result<Self, Problem> {
        let kind = request.headers().get(header::CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let boundary = boundary(kind)
            .ok_or_else(|| malformed("the body must be a form (`multipart/form-data`)"))?
            .to_owned();
        let mut body = request.into_body();
        let mut whole = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| malformed("the form broke off"))?;
            let Ok(data) = frame.into_data() else { continue };
            if whole.len() + data.len() > limit {
                let detail = format!("this form may have at most {limit} bytes");
                return Err(Problem::new(Kind::TooLarge, detail));
            }
            whole.extend_from_slice(&data);
        }
        Self::parse(&whole, &boundary).ok_or_else(|| malformed("the form is not well formed"))
    }

    fn parse(body: &[u8], boundary: &str) -> Option<Self> {
        let delimiter = format!("\r\n--{boundary}");
        let mut rest = body.strip_prefix(delimiter.get(2..)?.as_bytes())?;
        let mut fields: Vec<(String, Vec<u8>)> = Vec::new();
        loop {
            if let Some(end) = rest.strip_prefix(b"--") {
                return matches!(end, b"" | b"\r\n").then_some(Self(fields));
            }
            rest = rest.strip_prefix(b"\r\n")?;
            let at = position(rest, delimiter.as_bytes())?;
            let (part, after) = (rest.get(..at)?, rest.get(at + delimiter.len()..)?);
            let head = position(part, b"\r\n\r\n")?;
            let (name, content) = (name(part.get(..head)?)?, part.get(head + 4..)?);
            // A field that comes twice could be read in two ways.
            if fields.len() == FIELDS || fields.iter().any(|(known, _)| *known == name) {
                return None;
            }
            fields.push((name, content.to_vec()));
            rest = after;
        }
    }

    /// A field; empty when it is not there.
    pub(super) fn bytes(&self, name: &str) -> &[u8] {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map_or(&[], |(_, value)| value.as_slice())
    }

    /// A field that is text; empty when it is none.
    pub(super) fn text(&self, name: &str) -> &str {
        std::str::from_utf8(self.bytes(name)).unwrap_or_default()
    }
}

/// The boundary that a content type names: letters, digits and what else browsers put there, at most 70.
fn boundary(kind: &str) -> Option<&str> {
    let (kind, parameters) = kind.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let value = parameters.trim().strip_prefix("boundary=")?;
    let value = value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'))
        .unwrap_or(value);
    let fits = (1..=70).contains(&value.len())
        && value
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"'()+_,-./:=?".contains(&byte));
    fits.then_some(value)
}

/// The name of a part, from its head.
fn name(head: &[u8]) -> Option<String> {
    let head = std::str::from_utf8(head).ok()?;
    let mut named = head.split("\r\n").filter_map(|line| {
        let (header, value) = line.split_once(':')?;
        let named = header.trim().eq_ignore_ascii_case("content-disposition");
        named.then(|| value.trim())
    });
    let (Some(disposition), None) = (named.next(), named.next()) else {
        return None;
    };
    let rest = disposition.strip_prefix("form-data; name=\"")?;
    let (name, _) = rest.split_once('"')?;
    let fits = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    fits.then(|| name.to_owned())
}

fn position(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

fn malformed(detail: &str) -> Problem {
    Problem::new(Kind::Malformed, detail)
}

/// Bytes as the body of a form whose boundary is `b`: what is read is written again and reads back the same.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz_form(data: &[u8]) {
    let Some(parts) = Parts::parse(data, "b") else {
        return;
    };
    let mut body = Vec::new();
    for (name, content) in &parts.0 {
        let head = format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n");
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--b--");
    assert_eq!(Parts::parse(&body, "b").as_ref(), Some(&parts));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn part(name: &str, more: &str, content: &[u8]) -> Vec<u8> {
        let head = format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"{more}\r\n\r\n");
        [head.as_bytes(), content, b"\r\n"].concat()
    }

    #[test]
    fn a_form_with_a_file_is_read_in_one_way_or_not_at_all() {
        let file = "; filename=\"proxy.der\"\r\nContent-Type: application/octet-stream";
        let body = [
            part("query", "", b""),
            part("file", file, b"\x30\x82\r\n--"),
            b"--b--\r\n".to_vec(),
        ]
        .concat();
        let parts = Parts::parse(&body, "b").unwrap();
        assert_eq!(
            (parts.text("query"), parts.bytes("file")),
            ("", &b"\x30\x82\r\n--"[..])
        );
        assert_eq!(parts.bytes("other"), b"");
        let twice = [part("a", "", b"1"), part("a", "", b"2"), b"--b--".to_vec()].concat();
        let cut = &body[..body.len() - 5];
        let nameless = b"--b\r\nContent-Type: text/plain\r\n\r\nx\r\n--b--".to_vec();
        for bad in [&twice[..], cut, &nameless, b"", b"--b--x", b"x--b--"] {
            assert_eq!(Parts::parse(bad, "b"), None, "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn a_boundary_is_what_browsers_send() {
        assert_eq!(
            boundary("multipart/form-data; boundary=----WebKitFormBoundaryAbC"),
            Some("----WebKitFormBoundaryAbC")
        );
        assert_eq!(boundary("multipart/form-data; boundary=\"a b\""), None);
        assert_eq!(boundary("multipart/form-data"), None);
        assert_eq!(boundary("application/x-www-form-urlencoded; boundary=a"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_a_form_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in "[ -~]{0,60}") {
            let _ = Parts::parse(&bytes, "b");
            let _ = boundary(&kind);
        }

        #[test]
        fn what_was_sent_is_read_back(content in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assume!(position(&content, b"\r\n--b").is_none());
            let body = [part("file", "; filename=\"x\"", &content), b"--b--".to_vec()].concat();
            let parts = Parts::parse(&body, "b").unwrap();
            prop_assert_eq!(parts.bytes("file"), content.as_slice());
        }
    }
}
