//! The `countersign` program: arguments in, exit code out.

fn main() -> std::process::ExitCode {
    countersign::cli::run()
}
