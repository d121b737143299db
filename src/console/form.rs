//! Forms: `application/x-www-form-urlencoded`, read strictly (URL standard section 5.1).

use http::header;
use http_body_util::BodyExt;
use zeroize::Zeroizing;

use crate::body::Body;
use crate::problem::{Kind, Problem};
use crate::secret::Secret;

/// Largest form, in bytes: two passwords of 1,024 bytes, percent-encoded, and a path.
pub(super) const LIMIT: usize = 16 * 1024;

/// The fields of a form.
#[derive(Debug)]
pub(super) struct Form(Vec<(String, Secret<String>)>);

impl Form {
    /// Reads the body of a request.
    pub(super) async fn read(request: http::Request<Body>) -> Result<Self, Problem> {
        let kind = request.headers().get(header::CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Err(malformed(
                "the body must be a form (`application/x-www-form-urlencoded`)",
            ));
        }
        let mut body = request.into_body();
        let mut whole = Zeroizing::new(Vec::new());
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| malformed("the form broke off"))?;
            let Ok(data) = frame.into_data() else { continue };
            if whole.len() + data.len() > LIMIT {
                return Err(Problem::new(
                    Kind::TooLarge,
                    format!("a form may have at most {LIMIT} bytes"),
                ));
            }
            whole.extend_from_slice(&data);
        }
        Self::parse(&whole).ok_or_else(|| malformed("the form is not well formed"))
    }

    fn parse(body: &[u8]) -> Option<Self> {
        let mut fields: Vec<(String, Secret<String>)> = Vec::new();
        for pair in body.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            let (name, value) = match pair.iter().position(|byte| *byte == b'=') {
                Some(at) => (pair.get(..at)?, pair.get(at + 1..)?),
                None => (pair, &[][..]),
            };
            let name = decoded(name)?;
            // A field that comes twice could be read in two ways.
            if fields.iter().any(|(known, _)| *known == name) {
                return None;
            }
            fields.push((name, Secret::new(decoded(value)?)));
        }
        Some(Self(fields))
    }

    /// A field that is not a secret; empty when it is not there.
    pub(super) fn text(&self, name: &str) -> &str {
        self.secret(name).map_or("", |secret| secret.expose())
    }

    /// A field.
    pub(super) fn secret(&self, name: &str) -> Option<&Secret<String>> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value)
    }
}

fn malformed(detail: &str) -> Problem {
    Problem::new(Kind::Malformed, detail)
}

fn decoded(text: &[u8]) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter().copied();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let pair = [rest.next()?, rest.next()?];
                let decoded = data_encoding::HEXLOWER_PERMISSIVE.decode(&pair).ok()?;
                *decoded.first()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_form_is_read_in_one_way_or_not_at_all() {
        let form = Form::parse(b"username=john&password=a+b%26c%C3%A4&to=%2F").unwrap();
        assert_eq!(form.text("username"), "john");
        assert_eq!(form.text("password"), "a b&cä");
        assert_eq!(form.text("to"), "/");
        assert_eq!(form.text("other"), "");
        for bad in [&b"a=1&a=2"[..], b"a=%zz", b"a=%f", b"a=%ff", b"a=\xff"] {
            assert!(Form::parse(bad).is_none(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_a_form_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = Form::parse(&bytes);
        }

        #[test]
        fn what_was_encoded_is_read_back(value in any::<String>()) {
            let body = format!("a={}&b=", crate::authenticate::percent(&value));
            let form = Form::parse(body.as_bytes()).unwrap();
            prop_assert_eq!(form.text("a"), value.as_str());
            prop_assert_eq!(form.text("b"), "");
        }
    }
}
