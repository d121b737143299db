//! Reads what the tests need out of Markdown.

use std::collections::BTreeSet;

/// Lines with whether they stand in a fenced block, and its info string.
fn lines(text: &str) -> Vec<(Option<String>, &str)> {
    let mut fence: Option<String> = None;
    let mut found = Vec::new();
    for line in text.lines() {
        if let Some(info) = line.trim_start().strip_prefix("```") {
            fence = if fence.is_some() {
                None
            } else {
                Some(info.trim().to_owned())
            };
            continue;
        }
        found.push((fence.clone(), line));
    }
    assert!(fence.is_none(), "a fenced block does not end");
    found
}

/// The fenced blocks whose info string begins with `info`.
pub(super) fn blocks(text: &str, info: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open: Option<String> = None;
    for line in text.lines() {
        match line.trim_start().strip_prefix("```") {
            Some(_) if open.is_some() => found.extend(open.take()),
            Some(other) if other.trim().split(' ').next() == Some(info) => open = Some(String::new()),
            // A block of another kind is skipped by opening and closing it elsewhere.
            Some(_) => {}
            None => {
                if let Some(block) = &mut open {
                    block.push_str(line);
                    block.push('\n');
                }
            }
        }
    }
    found
}

/// The targets of inline links outside of code.
pub(super) fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (fence, line) in lines(text) {
        if fence.is_some() {
            continue;
        }
        let plain: String = line.split('`').step_by(2).collect::<Vec<_>>().join("code");
        for part in plain.split("](").skip(1) {
            let target = part.split(')').next().unwrap_or_default();
            found.push(target.split(' ').next().unwrap_or_default().to_owned());
        }
    }
    found
}

/// The anchors of all headings, as they are made from the words.
pub(super) fn headings(text: &str) -> BTreeSet<String> {
    let plain = |title: &str| -> String {
        let kept = title.trim().to_lowercase();
        kept.chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect()
    };
    let titles = lines(text)
        .into_iter()
        .filter(|(fence, line)| fence.is_none() && line.starts_with('#'));
    titles
        .map(|(_, line)| plain(line.trim_start_matches('#')))
        .collect()
}

/// Everything that stands in single backticks outside of blocks; of a list in one pair, each word.
pub(super) fn ticked(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (fence, line) in lines(text) {
        if fence.is_none() {
            found.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    found
}

/// The command lines of our program: in blocks and in backticks, as words after `countersign`.
pub(super) fn commands(text: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut before = String::new();
    for (fence, line) in lines(text) {
        if fence
            .as_deref()
            .is_some_and(|info| matches!(info, "" | "sh" | "text"))
        {
            // A line that goes on after a backslash is one line.
            before.push_str(line.trim_end_matches('\\'));
            if line.ends_with('\\') {
                continue;
            }
            found.extend(command(&std::mem::take(&mut before)));
        } else if fence.is_none() {
            found.extend(line.split('`').skip(1).step_by(2).filter_map(command));
        }
    }
    found
}

/// The words after the program's name, if the line runs it (perhaps after `$`, `sudo` with options, or variables).
fn command(line: &str) -> Option<Vec<String>> {
    let line = line.trim().trim_start_matches("$ ");
    let line = line
        .strip_prefix("cargo run -- ")
        .map(|rest| format!("countersign {rest}"))
        .unwrap_or(line.to_owned());
    let words = words(&line);
    let at = words
        .iter()
        .position(|word| word == "countersign" || word.ends_with("/bin/countersign"))?;
    let harmless = |word: &String| {
        word == "sudo"
            || word == "-u"
            || word == "countersign"
            || word.contains('=')
            || word.starts_with("ExecStart")
    };
    if !words[..at].iter().all(harmless) {
        return None;
    }
    // `sudo -u countersign countersign serve`
    let at = if words.get(at + 1).is_some_and(|next| next == "countersign") {
        at + 1
    } else {
        at
    };
    let mut rest = Vec::new();
    for word in &words[at + 1..] {
        if matches!(word.as_str(), "&" | "|" | "<" | ">" | "&&" | "#" | "->") || word.starts_with('#') {
            break;
        }
        rest.push(word.clone());
    }
    // `countersign COMMAND --help` stands for all of them.
    let placeholder = |word: &String| word.bytes().all(|b| b.is_ascii_uppercase());
    rest.first()
        .is_some_and(|first| !placeholder(first))
        .then_some(rest)
}

/// Words as a shell sees them: quotes keep spaces, brackets of a synopsis go.
fn words(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    let (mut word, mut quote, mut any) = (String::new(), None, false);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.push(c),
            (None, '\'' | '"') => (quote, any) = (Some(c), true),
            (None, ' ') => {
                if any || !word.is_empty() {
                    found.push(std::mem::take(&mut word));
                }
                any = false;
            }
            (None, '[' | ']') => {}
            (None, c) => word.push(c),
        }
    }
    if any || !word.is_empty() {
        found.push(word);
    }
    found
}

/// The rows of the tables below the heading that ends in `` `name` `` (or is `name`): key, and what is accepted.
pub(super) fn rows(text: &str, heading: &str) -> Vec<(String, String)> {
    let begins = |line: &str| line.starts_with('#') && line.trim_start_matches('#').trim() == heading;
    let mut below = text.lines().skip_while(|line| !begins(line));
    assert!(below.next().is_some(), "there is no heading {heading}");
    below
        .take_while(|line| !line.starts_with('#'))
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|row| {
            let (key, rest) = row.split_once("` | ")?;
            Some((key.to_owned(), rest.to_owned()))
        })
        .collect()
}

#[test]
fn commands_links_and_headings_are_found() {
    let text = "# A `b` heading\n\nSee [x](y.md#z) and `countersign audit verify --data D`.\n\n```\n$ sudo -u countersign \
                countersign user add imaging john \\\n  --name 'John Smith' # why\ncurl x\n```\n";
    assert_eq!(links(text), ["y.md#z"]);
    assert!(headings(text).contains("a-b-heading"));
    let found: Vec<String> = commands(text).iter().map(|words| words.join("|")).collect();
    assert_eq!(
        found,
        ["audit|verify|--data|D", "user|add|imaging|john|--name|John Smith"]
    );
}
