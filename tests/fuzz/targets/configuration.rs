//! Any file is refused with reasons or loads; what loads is shown, and what is shown loads to the same configuration.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nvidia_sidecar::config::{Environment, load, render_effective};
use std::fs;

fuzz_target!(|text: &str| {
    let file = std::env::temp_dir().join(format!("nvidia-sidecar-fuzz-{}.yaml", std::process::id()));
    fs::write(&file, text).expect("a temporary file");
    let environment = Environment::default();
    let loaded = load(Some(&file), &environment);
    if let Ok(loaded) = &loaded {
        let shown = render_effective(&loaded.config);
        // Secrets are masked, and a mask is not the secret.
        if !shown.contains('…') && !shown.contains("***") {
            fs::write(&file, &shown).expect("a temporary file");
            let again = load(Some(&file), &environment).unwrap_or_else(|faults| panic!("{faults}\nof\n{shown}"));
            assert_eq!(again.config, loaded.config, "{shown}");
        }
    }
    let _ = fs::remove_file(&file);
});
