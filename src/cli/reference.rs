//! `docs/reference/cli.md`, made from the command line itself.

use clap::{Arg, Command};

/// The whole page.
pub(super) fn page(mut root: Command) -> String {
    root.build();
    let mut page = String::from(
        "# The command line\n\n\
         <!-- Made from the program by a test; COUNTERSIGN_BLESS=1 cargo test --lib cli::tests writes it. -->\n\n",
    );
    let (about, _) = text(&root);
    page.push_str(&format!("{about}\n\n"));
    page.push_str(
        "Every command takes `--json`: data as one JSON document on standard output, a failure as one on standard error \
         (`error`, `hint`, `exit_code`, `problem`). `countersign COMMAND --help` shows what stands here.\n",
    );
    for command in root.get_subcommands() {
        describe(command, "countersign", &mut page);
    }
    page
}

fn describe(command: &Command, parent: &str, page: &mut String) {
    if command.is_hide_set() || command.get_name() == "help" {
        return;
    }
    let name = format!("{parent} {}", command.get_name());
    let group = command.has_subcommands();
    let (about, examples) = text(command);
    page.push_str(&format!(
        "\n{} {name}\n\n{about}\n",
        if parent == "countersign" { "##" } else { "###" }
    ));
    if !group {
        let usage = command.clone().render_usage().to_string();
        page.push_str(&format!(
            "\n```\n{}\n```\n",
            usage
                .trim_start_matches("Usage: ")
                .replace(" [OPTIONS]", " [OPTION...]")
        ));
        let listed =
            |arg: &&Arg| !arg.is_hide_set() && !matches!(arg.get_id().as_str(), "json" | "help" | "version");
        let arguments: Vec<String> = command.get_arguments().filter(listed).map(argument).collect();
        if !arguments.is_empty() {
            page.push_str(&format!("\n{}\n", arguments.join("\n")));
        }
    }
    if !examples.is_empty() {
        page.push_str(&format!("\n```sh\n{}\n```\n", examples.join("\n")));
    }
    for inner in command.get_subcommands() {
        describe(inner, &name, page);
    }
}

/// What a command's help says, and its examples.
pub(super) fn text(command: &Command) -> (String, Vec<String>) {
    let about = command
        .get_long_about()
        .or_else(|| command.get_about())
        .map(ToString::to_string)
        .unwrap_or_default();
    let (about, examples) = about.split_once("Examples:").unwrap_or((&about, ""));
    let examples = examples
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect();
    (about.trim().to_owned(), examples)
}

fn argument(arg: &Arg) -> String {
    let values = arg
        .get_value_names()
        .unwrap_or_default()
        .iter()
        .map(|name| name.as_str())
        .collect::<Vec<_>>()
        .join(" ");
    let takes = arg.get_action().takes_values();
    let mut line = match (arg.get_long(), takes) {
        (None, _) => format!("- `{values}`"),
        (Some(long), true) => format!("- `--{long} {values}`"),
        (Some(long), false) => format!("- `--{long}`"),
    };
    if let Some(short) = arg.get_short() {
        line.push_str(&format!(" (`-{short}`)"));
    }
    let help = arg
        .get_long_help()
        .or_else(|| arg.get_help())
        .map(ToString::to_string)
        .unwrap_or_default();
    line.push_str(&format!(": {}.", help.replace('\n', " ").trim_end_matches('.')));
    let possible: Vec<String> = arg
        .get_possible_values()
        .iter()
        .map(|value| format!("`{}`", value.get_name()))
        .collect();
    if takes && !possible.is_empty() {
        line.push_str(&format!(" One of {}.", possible.join(", ")));
    }
    let defaults: Vec<String> = arg
        .get_default_values()
        .iter()
        .map(|value| value.to_string_lossy().into_owned())
        .collect();
    if takes && !defaults.is_empty() {
        line.push_str(&format!(" Default: `{}`.", defaults.join(" ")));
    }
    if let Some(variable) = arg.get_env() {
        line.push_str(&format!(" Also from `{}`.", variable.to_string_lossy()));
    }
    line
}
