//! Options after `--`.

/// The words of the command line.
pub(crate) struct Options(Vec<String>);

impl Options {
    /// Those of this process; or, if it is a child, what it is to be.
    pub(crate) fn read() -> Result<Self, Vec<String>> {
        let words: Vec<String> = std::env::args().skip(1).collect();
        match words.split_first() {
            Some((first, rest)) if first == "--child" => Err(rest.to_vec()),
            _ => Ok(Self(words)),
        }
    }

    /// `--NAME VALUE`.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        let at = self.0.iter().position(|word| word == name)?;
        self.0.get(at + 1).map(String::as_str)
    }

    /// `--NAME N`.
    pub(crate) fn number(&self, name: &str) -> Option<usize> {
        self.value(name).map(|text| text.parse().expect("a number"))
    }

    /// Whether `--NAME` stands there.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|word| word == name)
    }

    /// Whether it is measured: `cargo bench` says `--bench`. `cargo test --benches` runs a bench once, for its form only.
    pub(crate) fn measured(&self) -> bool {
        self.has("--bench")
    }
}
