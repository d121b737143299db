//! The `countersign` program: arguments in, exit code out.

/// What a request allocates is mostly small and freed at once, which this allocator does with less work than the
/// system's (`docs/concepts/performance.md` has the figures).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    countersign::cli::run()
}
