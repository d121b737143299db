//! Templates of requests, `GET /jobs/{job:int}`, and the exact question whether two of them can match one request.

use http::Method;

use super::target::Target;

/// What a variable of a path accepts. Only canonical spellings: `042` is not an `int`, and a `uuid` is lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Variable {
    /// A whole number from 0 to 2^63 - 1 without leading zeros.
    Int,
    /// A UUID in lower-case 8-4-4-4-12 form (RFC 9562 section 4).
    Uuid,
    /// 1 to 128 ASCII letters, digits, `-`, `_` and `.`, beginning with a letter or digit.
    Slug,
    /// One segment that is not empty.
    Segment,
    /// One segment that is not empty and everything after it, joined by `/`. Only at the end.
    Rest,
}

impl Variable {
    const ALL: [(&'static str, Self); 5] = [
        ("int", Self::Int),
        ("uuid", Self::Uuid),
        ("slug", Self::Slug),
        ("segment", Self::Segment),
        ("rest", Self::Rest),
    ];

    /// Reads the name of a type.
    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, variable)| *variable)
    }

    /// Whether it accepts one decoded segment (for `rest`: as its first).
    #[must_use]
    pub fn accepts(self, segment: &str) -> bool {
        match self {
            Self::Int => {
                (segment == "0" || !segment.starts_with('0'))
                    && segment.bytes().all(|byte| byte.is_ascii_digit())
                    && segment.parse::<i64>().is_ok()
            }
            Self::Uuid => is_uuid(segment),
            Self::Slug => is_slug(segment),
            // Path parameters match only where a template writes them out.
            Self::Segment | Self::Rest => !segment.is_empty() && !segment.contains(';'),
        }
    }

    /// Whether it accepts whatever `other` accepts.
    fn covers(self, other: Self) -> bool {
        self == other
            || match self {
                Self::Rest => true,
                Self::Segment => other != Self::Rest,
                Self::Slug => matches!(other, Self::Int | Self::Uuid),
                Self::Int | Self::Uuid => false,
            }
    }

    /// A segment that both accept.
    fn common(self, other: Self) -> Option<&'static str> {
        const NIL: &str = "00000000-0000-0000-0000-000000000000";
        match (self, other) {
            (Self::Int, Self::Uuid) | (Self::Uuid, Self::Int) => None,
            (Self::Uuid, _) | (_, Self::Uuid) => Some(NIL),
            _ => Some("0"),
        }
    }
}

fn is_uuid(segment: &str) -> bool {
    segment.len() == 36
        && segment.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
        })
}

fn is_slug(segment: &str) -> bool {
    segment.len() <= 128
        && segment
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_alphanumeric())
        && segment
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// One part of a path template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A segment as it stands, decoded; the empty one is a trailing slash.
    Literal(String),
    /// A typed variable.
    Variable(String, Variable),
}

/// A method and a path template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    method: Method,
    parts: Vec<Part>,
}

/// Why a template cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TemplateError(String);

fn wrong<T>(message: impl Into<String>) -> Result<T, TemplateError> {
    Err(TemplateError(message.into()))
}

impl Template {
    /// Reads `METHOD /path/{name:type}`; `{name}` alone is a `segment`.
    ///
    /// # Errors
    /// [`TemplateError`], in the form "must be ...", for what is not such a template.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let Some((method, path)) = text.split_once(' ') else {
            return wrong(format!(
                "has `{text}`; accepted: `METHOD /path`, e.g. `GET /jobs/{{job:int}}`"
            ));
        };
        let method = method_of(method)?;
        if path.contains('?') {
            return wrong(format!(
                "has `{text}`: not yet supported: a query in a template; name parameters with `query`"
            ));
        }
        let Some(inner) = path.strip_prefix('/') else {
            return wrong(format!("has `{text}`: the path must begin with `/`"));
        };
        let mut parts = Vec::new();
        if !inner.is_empty() {
            for part in inner.split('/') {
                parts.push(part_of(part, text)?);
            }
        }
        let template = Self { method, parts };
        template.check(text)?;
        Ok(template)
    }

    fn check(&self, text: &str) -> Result<(), TemplateError> {
        let last = self.parts.len().saturating_sub(1);
        let mut names = Vec::new();
        for (index, part) in self.parts.iter().enumerate() {
            match part {
                Part::Literal(literal) if literal.is_empty() && (index < last || index == 0) => {
                    return wrong(format!("has `{text}`: a segment is empty"));
                }
                Part::Variable(_, Variable::Rest) if index < last => {
                    return wrong(format!(
                        "has `{text}`: a `rest` variable must be the last segment"
                    ));
                }
                Part::Variable(name, _) if names.contains(&name) => {
                    return wrong(format!("has `{text}`: the variable `{name}` stands there twice"));
                }
                Part::Variable(name, _) => names.push(name),
                Part::Literal(_) => {}
            }
        }
        Ok(())
    }

    /// The method.
    #[must_use]
    pub const fn method(&self) -> &Method {
        &self.method
    }

    /// The parts of the path; empty for `/`.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The names of its variables, with what they accept.
    pub fn variables(&self) -> impl Iterator<Item = (&str, Variable)> {
        self.parts.iter().filter_map(|part| match part {
            Part::Variable(name, variable) => Some((name.as_str(), *variable)),
            Part::Literal(_) => None,
        })
    }

    /// Whether it matches whatever `other` matches.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        if self.method != other.method {
            return false;
        }
        let (mut left, mut right) = (self.parts.iter(), other.parts.iter());
        loop {
            match (left.next(), right.next()) {
                (None, None) => return true,
                (Some(Part::Variable(_, Variable::Rest)), Some(Part::Literal(literal))) => {
                    return Variable::Rest.accepts(literal) && right.all(is_plain);
                }
                (Some(Part::Variable(_, Variable::Rest)), Some(Part::Variable(..))) => {
                    return right.all(is_plain);
                }
                (Some(a), Some(b)) if part_covers(a, b) => {}
                _ => return false,
            }
        }
    }

    /// The same, with its literals in the one spelling that a tool knows which does not tell capital letters from small
    /// ones.
    #[must_use]
    pub(super) fn folded(&self) -> Self {
        let fold = |part: &Part| match part {
            Part::Literal(literal) => Part::Literal(fold_case(literal)),
            Part::Variable(..) => part.clone(),
        };
        Self {
            method: self.method.clone(),
            parts: self.parts.iter().map(fold).collect(),
        }
    }

    /// Whether a literal of it has path parameters (`;`).
    #[must_use]
    pub fn has_path_parameters(&self) -> bool {
        !self.parts.iter().all(is_plain)
    }

    /// A request that both templates match (as method and decoded path), or `None` when there is none.
    // INVARIANT: exact in both directions; `matching.rs` relies on at most one template matching a request.
    #[must_use]
    pub fn overlap(&self, other: &Self) -> Option<String> {
        if self.method != other.method {
            return None;
        }
        let mut path = String::new();
        let (mut left, mut right) = (self.parts.iter(), other.parts.iter());
        loop {
            let (a, b) = match (left.next(), right.next()) {
                (None, None) => break,
                (Some(a), Some(b)) => (a, b),
                _ => return None,
            };
            path.push('/');
            path.push_str(common(a, b)?);
            // After a `rest` everything that the other one still asks for is accepted.
            let open = match (is_rest(a), is_rest(b)) {
                (false, false) => continue,
                (true, true) => break,
                (true, false) => right,
                (false, true) => left,
            };
            for part in open {
                if !is_plain(part) {
                    return None;
                }
                path.push('/');
                path.push_str(sample(part));
            }
            break;
        }
        if path.is_empty() {
            path.push('/');
        }
        Some(format!("{} {path}", self.method))
    }
}

/// One spelling for all that differ by case: by way of capital letters, so that `\u{17F}` and `\u{212A}` fold as well.
pub(super) fn fold_case(text: &str) -> String {
    text.chars()
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
        .collect()
}

fn is_plain(part: &Part) -> bool {
    !matches!(part, Part::Literal(literal) if literal.contains(';'))
}

fn part_covers(a: &Part, b: &Part) -> bool {
    match (a, b) {
        (Part::Literal(a), Part::Literal(b)) => a == b,
        (Part::Literal(_), Part::Variable(..)) => false,
        (Part::Variable(_, variable), Part::Literal(literal)) => variable.accepts(literal),
        (Part::Variable(_, a), Part::Variable(_, b)) => a.covers(*b),
    }
}

const fn is_rest(part: &Part) -> bool {
    matches!(part, Part::Variable(_, Variable::Rest))
}

fn common<'a>(a: &'a Part, b: &'a Part) -> Option<&'a str> {
    match (a, b) {
        (Part::Literal(a), Part::Literal(b)) => (a == b).then_some(a),
        (Part::Literal(literal), Part::Variable(_, variable))
        | (Part::Variable(_, variable), Part::Literal(literal)) => {
            variable.accepts(literal).then_some(literal)
        }
        (Part::Variable(_, a), Part::Variable(_, b)) => a.common(*b),
    }
}

fn sample(part: &Part) -> &str {
    match part {
        Part::Literal(literal) => literal,
        Part::Variable(_, variable) => variable.common(*variable).unwrap_or("0"),
    }
}

fn method_of(method: &str) -> Result<Method, TemplateError> {
    const ACCEPTED: &str = "accepted: GET (HEAD is matched by it), POST, PUT, PATCH, DELETE, OPTIONS, or another method in capital letters";
    match method {
        "CONNECT" | "TRACE" => wrong(format!(
            "has the method `{method}`, which is never served; {ACCEPTED}"
        )),
        "HEAD" => wrong("has the method `HEAD`; it is matched by the template with `GET`"),
        _ if !method.is_empty()
            && method.len() <= 32
            && method
                .bytes()
                .all(|byte| byte.is_ascii_uppercase() || byte == b'-') =>
        {
            Method::from_bytes(method.as_bytes())
                .map_err(|_| TemplateError(format!("has the method `{method}`; {ACCEPTED}")))
        }
        _ => wrong(format!("has the method `{method}`; {ACCEPTED}")),
    }
}

fn part_of(part: &str, text: &str) -> Result<Part, TemplateError> {
    if let Some(inner) = part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
        let (name, kind) = inner.split_once(':').unwrap_or((inner, "segment"));
        if !is_parameter(name) {
            return wrong(format!(
                "has `{text}`: the variable name `{name}` must be 1 to 40 ASCII letters, digits and `_`, beginning with a letter"
            ));
        }
        return match Variable::parse(kind) {
            Some(variable) => Ok(Part::Variable(name.to_owned(), variable)),
            None => wrong(format!(
                "has `{text}`: `{kind}` is not a type; accepted: int, uuid, slug, segment, rest"
            )),
        };
    }
    if part.contains(['{', '}']) {
        return wrong(format!(
            "has `{text}`: not yet supported: a variable that is only part of a segment"
        ));
    }
    if part.is_empty() {
        return Ok(Part::Literal(String::new()));
    }
    match Target::parse(&format!("/{part}")) {
        Ok(target) => Ok(Part::Literal(target.segments().concat())),
        Err(error) => wrong(format!("has `{text}`: in the segment `{part}`, {error}")),
    }
}

/// Whether `name` may name a variable of a path.
pub(super) fn is_parameter(name: &str) -> bool {
    (1..=40).contains(&name.len())
        && name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_spelling_of_a_variable_is_accepted() {
        for (variable, yes, no) in [
            (
                Variable::Int,
                vec!["0", "7", "42", "9223372036854775807"],
                vec![
                    "",
                    "042",
                    "00",
                    "+7",
                    "-7",
                    "7.0",
                    "0x7",
                    "\u{664}",
                    "9223372036854775808",
                    " 7",
                    "1_0",
                ],
            ),
            (
                Variable::Uuid,
                vec!["0191d1a2-7c1f-7a3b-8b1c-0123456789ab"],
                vec![
                    "0191D1A2-7c1f-7a3b-8b1c-0123456789ab",
                    "0191d1a27c1f7a3b8b1c0123456789ab",
                    "{0191d1a2}",
                    "",
                ],
            ),
            (
                Variable::Slug,
                vec!["a", "A.b-c_d", "1.2.840.10008"],
                vec!["", ".a", "-a", "a b", "a:b", "a~", "caf\u{e9}"],
            ),
            (Variable::Segment, vec!["a b", "caf\u{e9}", ":"], vec![""]),
        ] {
            for segment in yes {
                assert!(variable.accepts(segment), "{variable:?} refuses {segment:?}");
            }
            for segment in no {
                assert!(!variable.accepts(segment), "{variable:?} accepts {segment:?}");
            }
        }
    }

    #[test]
    fn broken_templates_are_refused_with_what_is_accepted() {
        for (text, says) in [
            ("/jobs", "accepted: `METHOD /path`"),
            ("get /jobs", "method `get`"),
            ("HEAD /jobs", "matched by the template with `GET`"),
            ("TRACE /jobs", "never served"),
            ("GET jobs", "must begin with `/`"),
            ("GET  /jobs", "must begin with `/`"),
            ("GET /jobs?all=1", "not yet supported"),
            ("GET //jobs", "a segment is empty"),
            ("GET /jobs//", "a segment is empty"),
            ("GET /{a:rest}/b", "must be the last"),
            ("GET /{a}/{a}", "twice"),
            ("GET /{a:float}", "accepted: int, uuid, slug, segment, rest"),
            ("GET /{1a}", "variable name `1a`"),
            ("GET /{a}.zip", "part of a segment"),
            ("GET /a%2fb", "encoded slash"),
            ("GET /..", "dot segment"),
        ] {
            let error = Template::parse(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn a_wider_template_covers_the_narrower_and_not_the_other_way_round() {
        for (wide, narrow) in [
            ("GET /{r:rest}", "GET /a/b/{n:int}"),
            ("GET /{r:rest}", "GET /a/"),
            ("GET /{r:rest}", "GET /{n:int}/{s:rest}"),
            ("GET /jobs/{j}", "GET /jobs/{j:slug}"),
            ("GET /jobs/{j:slug}", "GET /jobs/{j:int}"),
            ("GET /jobs/{j:slug}", "GET /jobs/new"),
            ("GET /{a}/{b}", "GET /jobs/{b:uuid}"),
        ] {
            let (wide, narrow) = (Template::parse(wide).unwrap(), Template::parse(narrow).unwrap());
            assert!(wide.covers(&narrow) && wide.covers(&wide), "{wide:?} {narrow:?}");
            assert!(!narrow.covers(&wide), "{wide:?} {narrow:?}");
        }
        for (a, b) in [
            ("GET /{r:rest}", "POST /a"),
            ("GET /{r:rest}", "GET /"),
            ("GET /{r:rest}", "GET /a;v=1"),
            ("GET /{r:rest}", "GET /a/b;v=1"),
            ("GET /a/{x:int}", "GET /b/{x:int}"),
        ] {
            let (a, b) = (Template::parse(a).unwrap(), Template::parse(b).unwrap());
            assert!(!a.covers(&b), "{a:?} {b:?}");
        }
    }

    #[test]
    fn an_overlap_shows_a_request_that_both_match() {
        for (a, b, witness) in [
            (
                "GET /jobs/{job:int}",
                "GET /jobs/{name:slug}",
                Some("GET /jobs/0"),
            ),
            ("GET /jobs/{job:int}", "GET /jobs/new", None),
            ("GET /jobs/{job}", "GET /jobs/new", Some("GET /jobs/new")),
            ("GET /jobs/{job}", "POST /jobs/new", None),
            ("GET /jobs/{job}", "GET /jobs/", None),
            ("GET /{a:int}", "GET /{b:uuid}", None),
            ("GET /a/{r:rest}", "GET /a", None),
            ("GET /a/{r:rest}", "GET /a/", None),
            ("GET /a/{r:rest}", "GET /a/b/c/", Some("GET /a/b/c/")),
            ("GET /{r:rest}", "GET /a/{s:rest}", Some("GET /a/0")),
            ("GET /", "GET /", Some("GET /")),
            ("GET /a;v=1", "GET /{x}", None),
            ("GET /a/b;v=1", "GET /a/{x:rest}", None),
            ("GET /a/b;v=1", "GET /{x:rest}", None),
            ("GET /a;v=1/{y}", "GET /a;v=1/{x:rest}", Some("GET /a;v=1/0")),
        ] {
            let (a, b) = (Template::parse(a).unwrap(), Template::parse(b).unwrap());
            assert_eq!(a.overlap(&b).as_deref(), witness);
            assert_eq!(b.overlap(&a).as_deref(), witness);
        }
    }
}
