//! One target under libFuzzer: `COUNTERSIGN_FUZZ_TARGET` says which (see `countersign::fuzz::TARGETS`).
#![no_main]

use std::sync::LazyLock;

use countersign::fuzz::Target;
use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("COUNTERSIGN_FUZZ_TARGET").unwrap_or_default();
    Target::named(&name).unwrap_or_else(|| panic!("COUNTERSIGN_FUZZ_TARGET is no target: `{name}`"))
});

fuzz_target!(|data: &[u8]| {
    (TARGET.run)(data);
});
